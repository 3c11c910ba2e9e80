//! Pickle, as far as a checkpoint needs it: a machine that knows data and a handful of constructors, and runs nothing.
//!
//! Opcodes as documented in CPython's `pickletools`. Lists, tuples and dictionaries lie in one arena and refer to each other
//! by number, so that no nesting, cycle or sharing in a hostile file costs more than its bytes, or recurses.

use std::collections::HashMap;
use std::rc::Rc;

use super::super::Checked;

/// One value; containers are [`Node`]s of the machine's arena.
#[derive(Clone, Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// Known to be a number, and that is all that is asked of it.
    Float,
    Text(Rc<str>),
    /// A class or function by its full name, one of [`KNOWN`].
    Global(&'static str),
    Node(usize),
    Storage(Rc<Storage>),
    Tensor(Rc<TensorRef>),
}

#[derive(Debug)]
enum Node {
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
}

/// The type of a storage's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F16,
    Bf16,
    F32,
    F64,
    /// No weight: a counter, say. Its size in bytes.
    Other(usize),
}

impl Element {
    pub fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Other(size) => size,
        }
    }
}

/// Elements in a file, which tensors are views of.
#[derive(Debug)]
pub(super) struct Storage {
    pub key: Rc<str>,
    pub element: Element,
    pub elements: usize,
    /// The first element of this storage in the one that the file holds: legacy files have views of storages.
    pub start: usize,
}

/// A tensor, not yet read. Offset and strides count elements.
#[derive(Debug)]
pub(super) struct TensorRef {
    pub storage: Rc<Storage>,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// Everything that a state dict names. `collections.OrderedDict` and its like make an empty dictionary, the `_rebuild`
/// functions a view of a storage, storages say their element's type, and the rest is never looked into.
const KNOWN: [&str; 27] = [
    "collections.OrderedDict",
    "collections.defaultdict",
    "builtins.dict",
    "__builtin__.dict",
    "torch.Size",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch._tensor._rebuild_from_type_v2",
    "torch.nn.parameter.Parameter",
    "torch.nn.parameter.Buffer",
    "torch.FloatStorage",
    "torch.HalfStorage",
    "torch.BFloat16Storage",
    "torch.DoubleStorage",
    "torch.LongStorage",
    "torch.IntStorage",
    "torch.ShortStorage",
    "torch.CharStorage",
    "torch.ByteStorage",
    "torch.BoolStorage",
    "torch.cuda.FloatStorage",
    "torch.cuda.HalfStorage",
    "torch.cuda.BFloat16Storage",
    "torch.cuda.DoubleStorage",
    "torch.cuda.LongStorage",
    "torch.device",
];

fn element(global: &str) -> Option<Element> {
    Some(match global.rsplit('.').next()? {
        "FloatStorage" => Element::F32,
        "HalfStorage" => Element::F16,
        "BFloat16Storage" => Element::Bf16,
        "DoubleStorage" => Element::F64,
        "LongStorage" => Element::Other(8),
        "IntStorage" => Element::Other(4),
        "ShortStorage" => Element::Other(2),
        "CharStorage" | "ByteStorage" | "BoolStorage" => Element::Other(1),
        _ => return None,
    })
}

/// What a run leaves: the value at STOP, in its arena.
#[derive(Debug)]
pub(super) struct Heap {
    nodes: Vec<Node>,
    pub root: Value,
    /// Every storage that it names.
    pub storages: Vec<Rc<Storage>>,
}

impl Heap {
    pub fn dict(&self, value: &Value) -> Option<&[(Value, Value)]> {
        match value {
            Value::Node(i) => match &self.nodes[*i] {
                Node::Dict(items) => Some(items),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn list(&self, value: &Value) -> Option<&[Value]> {
        match value {
            Value::Node(i) => match &self.nodes[*i] {
                Node::List(items) | Node::Tuple(items) => Some(items),
                Node::Dict(_) => None,
            },
            _ => None,
        }
    }

    /// A container's number, by which a walk knows where it has been.
    pub fn id(value: &Value) -> Option<usize> {
        match value {
            Value::Node(i) => Some(*i),
            _ => None,
        }
    }
}

/// Runs the pickle at the beginning of `bytes`; gives its value and its length.
pub(super) fn load(bytes: &[u8]) -> Checked<(Heap, usize)> {
    let mut machine = Machine {
        bytes,
        at: 0,
        stack: vec![],
        marks: vec![],
        memo: HashMap::new(),
        nodes: vec![],
        storages: vec![],
        copied: 0,
    };
    loop {
        let at = machine.at;
        match machine.step() {
            Ok(false) => {}
            Ok(true) => break,
            Err(what) => return Err(format!("its pickle, at byte {at}: {what}")),
        }
    }
    let root = machine.pop().map_err(|what| format!("its pickle, at its end: {what}"))?;
    let length = machine.at;
    Ok((Heap { nodes: machine.nodes, root, storages: machine.storages }, length))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack at the open MARKs.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    nodes: Vec<Node>,
    storages: Vec<Rc<Storage>>,
    /// Items copied from lists into dictionaries: one list can be named again and again.
    copied: usize,
}

impl<'a> Machine<'a> {
    fn take(&mut self, count: usize) -> Checked<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        if count > rest.len() {
            return Err(format!("cut short: {count} bytes should follow, but {} do", rest.len()));
        }
        self.at += count;
        Ok(&rest[..count])
    }

    fn array<const N: usize>(&mut self) -> Checked<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as many as asked for"))
    }

    fn byte(&mut self) -> Checked<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Checked<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn line(&mut self) -> Checked<&'a str> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&b| b == b'\n').ok_or("cut short: a line has no end")?;
        self.at += length + 1;
        text(rest[..length].strip_suffix(b"\r").unwrap_or(&rest[..length]))
    }

    fn pop(&mut self) -> Checked<Value> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err("takes a value where there is none".into());
        }
        Ok(self.stack.pop().expect("above the mark"))
    }

    fn top(&self) -> Checked<&Value> {
        self.stack.last().ok_or_else(|| "takes a value where there is none".into())
    }

    fn pop_mark(&mut self) -> Checked<Vec<Value>> {
        let height = self.marks.pop().ok_or("closes a list that was not opened")?;
        if height > self.stack.len() {
            return Err("closes a list that was taken away".into());
        }
        Ok(self.stack.split_off(height))
    }

    fn pop_pairs(&mut self) -> Checked<Vec<(Value, Value)>> {
        let items = self.pop_mark()?;
        if items.len() % 2 != 0 {
            return Err("a dictionary with a key that has no value".into());
        }
        let mut items = items.into_iter();
        Ok(std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect())
    }

    fn push_node(&mut self, node: Node) {
        self.stack.push(Value::Node(self.nodes.len()));
        self.nodes.push(node);
    }

    fn push_text(&mut self, bytes: &[u8]) -> Checked<()> {
        self.stack.push(Value::Text(text(bytes)?.into()));
        Ok(())
    }

    fn top_list(&mut self) -> Checked<&mut Vec<Value>> {
        match self.top()?.clone() {
            Value::Node(i) => match &mut self.nodes[i] {
                Node::List(items) => Ok(items),
                other => Err(format!("appends to {}", other.kind())),
            },
            other => Err(format!("appends to {}", other.kind())),
        }
    }

    fn top_dict(&mut self) -> Checked<&mut Vec<(Value, Value)>> {
        match self.top()?.clone() {
            Value::Node(i) => match &mut self.nodes[i] {
                Node::Dict(items) => Ok(items),
                other => Err(format!("sets items of {}", other.kind())),
            },
            other => Err(format!("sets items of {}", other.kind())),
        }
    }

    fn memo_put(&mut self, key: u32) -> Checked<()> {
        let value = self.top()?.clone();
        self.memo.insert(key, value);
        Ok(())
    }

    fn memo_get(&mut self, key: u32) -> Checked<()> {
        let value =
            self.memo.get(&key).ok_or_else(|| format!("refers to value {key}, which was not kept"))?;
        self.stack.push(value.clone());
        Ok(())
    }

    /// One opcode; true at STOP.
    fn step(&mut self) -> Checked<bool> {
        let number = |line: &str| line.trim().parse().map_err(|_| format!("{line:?} is no number"));
        match self.byte()? {
            0x80 => match self.byte()? {
                0..=5 => {}
                version => return Err(format!("pickle protocol {version}, but 0 to 5 are known")),
            },
            0x95 => {
                self.take(8)?;
            }
            b'.' => return Ok(true),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => self.stack.push(self.top()?.clone()),
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'I' => {
                let line = self.line()?;
                self.stack.push(match line {
                    "00" => Value::Bool(false),
                    "01" => Value::Bool(true),
                    _ => Value::Int(number(line)?),
                });
            }
            b'L' => {
                let line = self.line()?;
                self.stack.push(Value::Int(number(line.strip_suffix('L').unwrap_or(line))?));
            }
            b'J' => {
                let v = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(v.into()));
            }
            b'K' => {
                let v = self.byte()?;
                self.stack.push(Value::Int(v.into()));
            }
            b'M' => {
                let v = u16::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(v.into()));
            }
            0x8a => {
                let length = usize::from(self.byte()?);
                self.long(length)?;
            }
            0x8b => {
                let length = self.u32()? as usize;
                self.long(length)?;
            }
            b'F' => {
                self.line()?;
                self.stack.push(Value::Float);
            }
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Float);
            }
            b'X' | b'T' => {
                let length = self.u32()? as usize;
                let bytes = self.take(length)?;
                self.push_text(bytes)?;
            }
            0x8c | b'U' => {
                let length = usize::from(self.byte()?);
                let bytes = self.take(length)?;
                self.push_text(bytes)?;
            }
            0x8d => {
                let length = u64::from_le_bytes(self.array()?);
                let bytes =
                    self.take(usize::try_from(length).map_err(|_| "a string of impossible length")?)?;
                self.push_text(bytes)?;
            }
            b'V' => {
                let line = self.line()?;
                self.push_text(line.as_bytes())?;
            }
            b'S' => {
                let line = self.line()?;
                let inner = line.get(1..line.len().saturating_sub(1)).unwrap_or_default();
                self.push_text(inner.as_bytes())?;
            }
            b')' => self.push_node(Node::Tuple(vec![])),
            b't' => {
                let items = self.pop_mark()?;
                self.push_node(Node::Tuple(items));
            }
            count @ 0x85..=0x87 => {
                let mut items = (0..count - 0x84).map(|_| self.pop()).collect::<Checked<Vec<_>>>()?;
                items.reverse();
                self.push_node(Node::Tuple(items));
            }
            b']' => self.push_node(Node::List(vec![])),
            b'l' => {
                let items = self.pop_mark()?;
                self.push_node(Node::List(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.top_list()?.push(item);
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.top_list()?.extend(items);
            }
            b'}' => self.push_node(Node::Dict(vec![])),
            b'd' => {
                let items = self.pop_pairs()?;
                self.push_node(Node::Dict(items));
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.top_dict()?.push((key, value));
            }
            b'u' => {
                let items = self.pop_pairs()?;
                self.top_dict()?.extend(items);
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => self.global(&module, &name)?,
                _ => return Err("a class whose name is no text".into()),
            },
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.reduce(&callable, &arguments)?;
            }
            b'b' => {
                // Attributes of a dictionary: a state dict's versions of its modules. Nothing here has use for them.
                self.pop()?;
                self.top_dict().map_err(|_| "sets attributes of what is no dictionary")?;
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = Rc::new(self.storage(&id)?);
                self.storages.push(storage.clone());
                self.stack.push(Value::Storage(storage));
            }
            b'p' => {
                let key = number(self.line()?)?;
                self.memo_put(u32::try_from(key).map_err(|_| format!("place {key} for a value"))?)?;
            }
            b'q' => {
                let key = self.byte()?;
                self.memo_put(key.into())?;
            }
            b'r' => {
                let key = self.u32()?;
                self.memo_put(key)?;
            }
            0x94 => self.memo_put(self.memo.len() as u32)?,
            b'g' => {
                let key = number(self.line()?)?;
                self.memo_get(u32::try_from(key).map_err(|_| format!("place {key} of a value"))?)?;
            }
            b'h' => {
                let key = self.byte()?;
                self.memo_get(key.into())?;
            }
            b'j' => {
                let key = self.u32()?;
                self.memo_get(key)?;
            }
            opcode => {
                return Err(format!(
                    "opcode {opcode:#04x}, which no state dict needs and which is not carried out"
                ));
            }
        }
        Ok(false)
    }

    /// A little-endian integer. Those beyond 64 bits are only ever magic numbers and seeds; they become 0.
    fn long(&mut self, length: usize) -> Checked<()> {
        let bytes = self.take(length)?;
        let value = if length > 8 {
            0
        } else {
            let sign = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
            let mut all = [sign; 8];
            all[..length].copy_from_slice(bytes);
            i64::from_le_bytes(all)
        };
        self.stack.push(Value::Int(value));
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Checked<()> {
        let full = format!("{module}.{name}");
        let Some(known) = KNOWN.iter().find(|k| **k == full) else {
            let shown: String = full.chars().take(80).collect();
            return Err(format!(
                "it needs {shown:?}, which is code or an object, not weights; it is not carried out. Save the state dict \
                 alone: torch.save(net.state_dict(), path)"
            ));
        };
        self.stack.push(Value::Global(known));
        Ok(())
    }

    fn items(&self, value: &Value, what: &str) -> Checked<&[Value]> {
        match value {
            Value::Node(i) => match &self.nodes[*i] {
                Node::Tuple(items) | Node::List(items) => Ok(items),
                Node::Dict(_) => Err(format!("{what} is a dictionary, not a tuple")),
            },
            other => Err(format!("{what} is {}, not a tuple", other.kind())),
        }
    }

    fn reduce(&mut self, callable: &Value, arguments: &Value) -> Checked<()> {
        let Value::Global(callable) = callable else {
            return Err(format!("calls {}, not one of the known functions", callable.kind()));
        };
        let items = self.items(arguments, "the arguments")?;
        match *callable {
            "collections.OrderedDict" | "collections.defaultdict" | "builtins.dict" | "__builtin__.dict" => {
                // Old Pythons give an OrderedDict's items as a list of pairs.
                let pairs = match items.first() {
                    Some(list @ Value::Node(_)) if self.items(list, "").is_ok() => self
                        .items(list, "the items")?
                        .iter()
                        .map(|pair| match self.items(pair, "an item")? {
                            [key, value] => Ok((key.clone(), value.clone())),
                            other => Err(format!("an item of {} values, not 2", other.len())),
                        })
                        .collect::<Checked<Vec<_>>>()?,
                    _ => vec![],
                };
                self.copied += pairs.len();
                if self.copied > self.bytes.len() {
                    return Err("more items than its bytes can hold".into());
                }
                self.push_node(Node::Dict(pairs));
            }
            "torch.Size" | "torch.device" => {
                let value = items.first().cloned().unwrap_or(Value::None);
                self.stack.push(value);
            }
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" => {
                let tensor = self.tensor(items)?;
                self.stack.push(Value::Tensor(tensor.into()));
            }
            "torch._utils._rebuild_parameter" => match items.first() {
                Some(Value::Tensor(tensor)) => {
                    let tensor = Value::Tensor(tensor.clone());
                    self.stack.push(tensor);
                }
                _ => return Err("a parameter that is no tensor".into()),
            },
            "torch._tensor._rebuild_from_type_v2" => match items {
                [function @ Value::Global(_), _, arguments, ..] => {
                    let (function, arguments) = (function.clone(), arguments.clone());
                    // The inner function is not this one again: a chain of them would recurse.
                    if matches!(function, Value::Global("torch._tensor._rebuild_from_type_v2")) {
                        return Err("a tensor rebuilt by rebuilding".into());
                    }
                    self.reduce(&function, &arguments)?;
                }
                _ => return Err("a tensor's subclass without its function and arguments".into()),
            },
            other => return Err(format!("calls {other}, which is not carried out")),
        }
        Ok(())
    }

    /// `(storage, offset, size, stride, ...)`
    fn tensor(&self, items: &[Value]) -> Checked<TensorRef> {
        let [Value::Storage(storage), offset, shape, strides, ..] = items else {
            return Err("a tensor without storage, offset, size and stride".into());
        };
        let numbers = |value, what| {
            let items = self.items(value, what)?;
            // PyTorch allows 64 dimensions; weights have 4.
            if items.len() > 8 {
                return Err(format!("a tensor of {} dimensions", items.len()));
            }
            items.iter().map(|v| natural(v, what)).collect::<Checked<Vec<_>>>()
        };
        let (shape, strides) = (numbers(shape, "a tensor's size")?, numbers(strides, "a tensor's stride")?);
        if shape.len() != strides.len() {
            return Err(format!("a tensor of {} dimensions with {} strides", shape.len(), strides.len()));
        }
        let offset = natural(offset, "a tensor's offset")?;
        Ok(TensorRef { storage: storage.clone(), offset, shape, strides })
    }

    /// `("storage", class, key, location, elements)`, and in legacy files `None` or `(key, offset, elements)` of a view.
    fn storage(&self, id: &Value) -> Checked<Storage> {
        let items = self.items(id, "a storage's description")?;
        let [Value::Text(kind), Value::Global(class), Value::Text(key), _, elements, rest @ ..] = items
        else {
            return Err("a storage whose description is not that of PyTorch".into());
        };
        if &**kind != "storage" {
            return Err(format!("a persistent object of kind {kind:?}, not a storage"));
        }
        let element = element(class).ok_or_else(|| format!("{class} is no storage of numbers"))?;
        let whole = natural(elements, "a storage's length")?;
        let (start, elements) = match rest.first() {
            None | Some(Value::None) => (0, whole),
            Some(view) => match self.items(view, "a storage's view")? {
                [_, start, elements] => {
                    (natural(start, "a view's offset")?, natural(elements, "a view's length")?)
                }
                _ => return Err("a storage's view that is not one of PyTorch".into()),
            },
        };
        if start.checked_add(elements).is_none_or(|end| end > whole) {
            return Err(format!("a view of elements {start} + {elements} of a storage of {whole}"));
        }
        Ok(Storage { key: key.clone(), element, elements, start })
    }
}

fn natural(value: &Value, what: &str) -> Checked<usize> {
    match value {
        Value::Int(v) => usize::try_from(*v).map_err(|_| format!("{what} is {v}")),
        other => Err(format!("{what} is {}, not a number", other.kind())),
    }
}

fn text(bytes: &[u8]) -> Checked<&str> {
    std::str::from_utf8(bytes).map_err(|_| "a text that is not UTF-8".into())
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::Float => "a number",
            Self::Text(_) => "a text",
            Self::Global(name) => name,
            Self::Node(_) => "a list or dictionary",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

impl Node {
    fn kind(&self) -> &'static str {
        match self {
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
        }
    }
}
