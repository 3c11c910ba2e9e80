//! The transformers: what of them is known before any pixel is, and the tiles of pixels that go through the rest.

use candle_core::Result;

use super::added;
use super::arrange::{Arranged, ArrangedLook, Form, Source};
use super::fold::Matrix;
use super::residual::{Map, Norm, Sums};
use crate::kernels::matrix::{Panels, Rows, Start, product};
use crate::kernels::rows::{self, After};
use crate::kernels::simd::Level;
use crate::kernels::strassen::Halved;
use crate::kernels::{Lines, Shared, Target, View, pixels, share, share_map};
use crate::nn::attention::SpatialTransformer;
use crate::progress::Progress;

const EPS: f32 = 1e-5;
/// Hidden channels of the feed-forward that a tile has at once.
const CHUNK: usize = 256;

/// Pixels of a tile: enough that weights stream by seldom, and enough tiles to share out.
fn tile(level: Level, pixels: usize) -> usize {
    pixels.div_ceil(16).clamp(16, if level.tiles() { 128 } else { 112 })
}

/// `cross{i}` but for the style.
#[derive(Debug)]
pub(super) struct Transformer {
    form: Form,
    /// What looks are made of.
    source: Source,
    channels: usize,
    inner: usize,
    hidden: usize,
    heads: usize,
    classes: usize,
    norm: Norm,
    proj_in: Panels,
    proj_in_bias: Vec<f32>,
    attn1: Option<SelfAttention>,
    /// Queries and output of the cross-attention when unfolded; the bias holds the norm's.
    to_q: Option<(Panels, Vec<f32>)>,
    to_out: Option<(Panels, Vec<f32>)>,
    /// The GEGLU's Linear behind a norm without affine part, when not of low rank, and its bias, in panels' order.
    ff1: Option<Wide>,
    ff1_bias: Vec<f32>,
    /// proj_out times the second Linear, cut along the hidden channels.
    ff2: Vec<Panels>,
    proj_out: Panels,
    out_bias: Vec<f32>,
    /// Of the map that it is for.
    pixels: usize,
}

/// The GEGLU's Linear, the widest of the products.
#[derive(Debug)]
enum Wide {
    Panels(Panels),
    /// For tall tiles.
    Halved(Halved),
}

impl Wide {
    /// The transpose of `weight (2 hidden, k)`, in the order of `geglu_column`, for tiles of `rows` rows.
    fn new(level: Level, weight: &Matrix, rows: usize) -> Self {
        let (k, hidden) = (weight.columns, weight.rows / 2);
        let (columns, source) = (geglu_columns(level, hidden), geglu_column(level, hidden));
        let view = weight.view().transposed();
        // By halves a product is half as deep: below that, adding its results up takes what it saves.
        match !level.lowers() && hidden.is_multiple_of(2 * level.lanes()) && k >= 48 && rows >= 48 {
            true => Self::Halved(Halved::pack_columns(level, k, columns, view, source)),
            false => Self::Panels(Panels::pack_columns(level, k, columns, view, source)),
        }
    }
}

#[derive(Debug)]
struct SelfAttention {
    /// From normed channels (times 1 / deviation) or from the normed inner width, whichever is narrower.
    qkv: Panels,
    from_channels: bool,
    constant: Vec<f32>,
    bias: Vec<f32>,
    to_out: Panels,
    out_bias: Vec<f32>,
}

/// What a style makes of a transformer.
#[derive(Debug)]
pub(super) enum Look {
    LowRank(Box<LowRank>),
    Folded { keys: Panels, bias: Vec<f32>, values: Panels },
    Unfolded { heads: Vec<(Panels, Panels)> },
}

#[derive(Debug)]
pub(super) struct LowRank {
    keys: Panels,
    keys_constant: Vec<f32>,
    keys_bias: Vec<f32>,
    before: Triangle,
    behind: Triangle,
    ff1: Wide,
    /// In panels' order.
    ff1_constant: Vec<f32>,
    residual: Panels,
    out_bias: Vec<f32>,
}

/// A triangular matrix whose product with (u, 1) has the length of the centred inner channels.
#[derive(Debug)]
struct Triangle {
    /// Columns of one panel each, from their first row that is not zero.
    panels: Vec<(usize, usize, Panels)>,
    constant: Vec<f32>,
}

impl Triangle {
    /// `centred (inner, rank + 1)`, the last column being that of the constant.
    fn new(level: Level, centred: &Matrix) -> Self {
        // Variances are small differences to a product of bfloat16.
        let level = level.exact();
        let l = centred.triangle();
        let n = l.columns;
        let rank = n - 1;
        let width = 2 * level.lanes();
        let panels = (0..n)
            .step_by(width)
            .filter(|first| *first < rank)
            .map(|first| {
                let columns = width.min(n - first);
                let b = View::rows(&l.data[first * n + first..], n);
                (first, columns, Panels::pack(level, rank - first, columns, b))
            })
            .collect();
        Self { panels, constant: l.row(rank).to_vec() }
    }

    /// `1 / sqrt(variance + eps)` of `out.len()` rows of `u`.
    fn inverse_deviation(
        &self,
        level: Level,
        u: &[f32],
        row: usize,
        inner: usize,
        scratch: &mut Lines,
        out: &mut [f32],
    ) {
        let n = self.constant.len();
        let y = scratch.room(out.len() * n);
        if self.panels.iter().map(|p| p.1).sum::<usize>() < n {
            // A rank that fills its panels: the constant's own column is in none.
            for y in y.chunks_exact_mut(n) {
                y[n - 1] = self.constant[n - 1];
            }
        }
        let mut target = Target::from(&mut *y);
        for (first, columns, panels) in &self.panels {
            let start = Start::Bias(&self.constant[*first..][..*columns]);
            let mut out_part = target.part(*first);
            product(out.len(), Rows::new(&u[*first..], row), panels.as_ref(), start, &mut out_part, n);
        }
        rows::inverse_deviation(level, y, n, inner as f32, EPS, out);
    }
}

/// For panels of GEGLU: column `j` of the laid-out matrix is which of the Linear's, a register of the first half beside
/// one of the second.
fn geglu_column(level: Level, hidden: usize) -> impl Fn(usize) -> Option<usize> + Sync {
    let lanes = level.lanes();
    move |j| {
        let unit = j / (2 * lanes) * lanes + j % lanes;
        (unit < hidden).then_some(unit + j / lanes % 2 * hidden)
    }
}

fn geglu_columns(level: Level, hidden: usize) -> usize {
    2 * hidden.next_multiple_of(level.lanes())
}

fn geglu_order(level: Level, hidden: usize, bias: &[f32]) -> Vec<f32> {
    let column = geglu_column(level, hidden);
    (0..geglu_columns(level, hidden)).map(|j| column(j).map_or(0.0, |c| bias[c])).collect()
}

/// The transpose of a Linear's weight, laid out.
fn pack(level: Level, weight: &Matrix) -> Panels {
    Panels::pack(level, weight.columns, weight.rows, weight.view().transposed())
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    v: Lines,
    u: Lines,
    u_lowered: Lines,
    x: Lines,
    normed: Lines,
    logits: Lines,
    q: Lines,
    o: Lines,
    g: Lines,
    h: Lines,
    lowered: Lines,
    p: Lines,
    deviations: Lines,
}

impl Transformer {
    /// For maps of `pixels`.
    pub fn new(level: Level, t: &SpatialTransformer, classes: usize, pixels: usize) -> Result<Self> {
        let a = Arranged::<Matrix>::new(t, classes)?;
        let (inner, channels, hidden) = (a.inner, a.channels, a.hidden);
        let attn1 = a.attn1.map(|s| SelfAttention {
            qkv: pack(level, &s.qkv),
            from_channels: s.from_channels,
            constant: s.constant,
            bias: s.bias,
            to_out: pack(level, &s.to_out),
            out_bias: s.out_bias,
        });
        let ff1 = a.ff1.map(|ff1| Wide::new(level, &ff1, tile(level, pixels)));
        let ff2 = (0..hidden)
            .step_by(CHUNK)
            .map(|first| {
                let view = View { data: &a.ff2.data[first..], row: 1, column: hidden };
                Panels::pack(level, CHUNK.min(hidden - first), channels, view)
            })
            .collect();
        let packed = |(weight, bias): (Matrix, Vec<f32>)| (pack(level, &weight), bias);
        Ok(Self {
            form: a.form,
            source: Source::new(t, a.form),
            channels,
            inner,
            hidden,
            heads: a.heads,
            classes,
            norm: Norm::new(&t.norm)?,
            proj_in: pack(level, &a.proj_in),
            proj_in_bias: a.proj_in_bias,
            attn1,
            to_q: a.to_q.map(packed),
            to_out: a.to_out.map(packed),
            ff1,
            ff1_bias: geglu_order(level, hidden, &a.ff1_bias),
            ff2,
            proj_out: pack(level, &a.proj_out),
            out_bias: a.out_bias,
            pixels,
        })
    }

    /// What `style (n, s)` makes of it.
    pub fn look(&self, level: Level, style: &Matrix) -> Result<Look> {
        let a = match ArrangedLook::new(&self.source, self.form, style)? {
            ArrangedLook::LowRank(look) => look,
            ArrangedLook::Folded { keys, bias, values } => {
                let values = Panels::pack(level, values.rows, self.inner, values.view());
                return Ok(Look::Folded { keys: pack(level, &keys), bias, values });
            }
            ArrangedLook::Unfolded { keys: k, values: v } => {
                let width = self.inner / self.heads;
                let head = |h: usize| {
                    let keys = View { data: &k.data[h * width..], row: 1, column: self.inner };
                    let values = View::rows(&v.data[h * width..], self.inner);
                    (Panels::pack(level, width, k.rows, keys), Panels::pack(level, v.rows, width, values))
                };
                return Ok(Look::Unfolded { heads: (0..self.heads).map(head).collect() });
            }
        };
        let (behind, constant) = a.behind.split_last();
        let (behind, constant) = self.less_last(&behind, constant);
        let behind = Matrix::beside(&[&behind, &Matrix::new(self.inner, 1, constant)]);
        let (ff1, ff1_constant) = self.less_last(&a.ff1, a.ff1_constant);
        let (residual, residual_constant) = self.less_last(&a.residual, a.residual_constant);
        Ok(Look::LowRank(Box::new(LowRank {
            keys: pack(level, &a.keys),
            keys_constant: a.keys_constant,
            keys_bias: a.keys_bias,
            before: Triangle::new(level, &a.before),
            behind: Triangle::new(level, &behind),
            ff1: Wide::new(level, &ff1, tile(level, self.pixels)),
            ff1_constant: geglu_order(level, self.hidden, &ff1_constant),
            residual: pack(level, &residual),
            out_bias: added(&self.out_bias, &residual_constant),
        })))
    }

    /// `m (.., channels + heads n)`, whose last columns multiply probabilities, and the column of the constant: as a head's
    /// probabilities sum to one, its last class can be left out if the others' columns are less its and the constant is more.
    fn less_last(&self, m: &Matrix, mut constant: Vec<f32>) -> (Matrix, Vec<f32>) {
        let columns = m.columns - self.heads;
        let mut data = Vec::with_capacity(m.rows * columns);
        for (row, constant) in m.data.chunks_exact(m.columns).zip(&mut constant) {
            let (channels, heads) = row.split_at(self.channels);
            data.extend_from_slice(channels);
            for head in heads.chunks_exact(self.classes) {
                let (others, last) = head.split_at(self.classes - 1);
                *constant += last[0];
                data.extend(others.iter().map(|v| v - last[0]));
            }
        }
        (Matrix::new(m.rows, columns, data), constant)
    }

    /// Multiply-adds times two that are done for a map of `pixels`.
    pub fn flops(&self, pixels: usize) -> f64 {
        let (c, i, keys) = (self.channels, self.inner, self.heads * self.classes);
        let behind = |width: usize| width * (2 * self.hidden + c) + self.hidden * c;
        let rank = c + keys - self.heads;
        let cross = match self.form {
            Form::LowRank => c * (c / 2 + keys) + rank * rank / 2 + behind(rank),
            Form::Folded => i * c + 2 * i * keys + behind(i),
            Form::Unfolded => i * c + 2 * i * (i + self.classes) + behind(i),
        };
        let own = match &self.attn1 {
            Some(a) => 3 * i * if a.from_channels { c } else { i } + 2 * pixels * i + i * i,
            None => 0,
        };
        2.0 * pixels as f64 * (cross + own) as f64
    }

    pub fn run(&self, level: Level, look: &Look, x: &Map, progress: Progress) -> crate::Result<Map> {
        let pixels = x.side * x.side;
        let affine = self.norm.affine(&x.sums, pixels);
        let mut y = vec![0.0; x.data.len()];
        let out = Shared::new(&mut y);
        let rows = tile(level, pixels);
        let (attended, rest) = match &self.attn1 {
            Some(attention) => {
                let done = self.attend(level, attention, x, &affine, progress)?;
                (Some(done), progress.part(0.7, 1.0))
            }
            None => (None, progress),
        };
        let sums = share_map(pixels.div_ceil(rows), rest, Scratch::default, |scratch, task| {
            let first = task * rows;
            let count = rows.min(pixels - first);
            let input = &x.data[first * self.channels..][..count * self.channels];
            // SAFETY: each task has pixels of its own.
            let mut out = unsafe { out.from(first * self.channels) };
            match look {
                Look::LowRank(look) => self.low_rank(level, look, input, &affine, scratch, &mut out),
                _ => {
                    match &attended {
                        Some((x1, qkv)) => self.behind_attention(x1, qkv, first, count, scratch),
                        None => self.enter(level, input, &affine, scratch),
                    }
                    self.full_rank(level, look, input, scratch, &mut out);
                }
            }
            Sums::of(out.slice(0, count * self.channels), self.channels)
        })?;
        Ok(Map { side: x.side, data: y, sums: Sums::total(sums) })
    }

    /// Normed channels to the inner width, in `scratch.x`.
    fn enter(
        &self,
        level: Level,
        input: &[f32],
        (scale, shift): &(Vec<f32>, Vec<f32>),
        scratch: &mut Scratch,
    ) {
        let v = scratch.v.room(input.len());
        rows::affine(level, input, scale, shift, After::Nothing, v);
        let count = input.len() / self.channels;
        let x = scratch.x.room(count * self.inner);
        let start = Start::Bias(&self.proj_in_bias);
        product(count, Rows::new(v, self.channels), self.proj_in.as_ref(), start, &mut x.into(), self.inner);
    }

    /// Self-attention up to the product with W_o: the inner channels, with W_o's bias, and the heads' outputs, rows of three times
    /// the inner width.
    fn attend(
        &self,
        level: Level,
        attention: &SelfAttention,
        x: &Map,
        affine: &(Vec<f32>, Vec<f32>),
        progress: Progress,
    ) -> crate::Result<(Vec<f32>, Vec<f32>)> {
        let (pixels, inner) = (x.side * x.side, self.inner);
        let (mut x1, mut qkv) = (vec![0.0; pixels * inner], vec![0.0; pixels * 3 * inner]);
        let (x1_out, qkv_out) = (Shared::new(&mut x1), Shared::new(&mut qkv));
        let rows = tile(level, pixels);
        share(pixels.div_ceil(rows), progress.part(0.0, 0.1), Scratch::default, |scratch, task| {
            let first = task * rows;
            let count = rows.min(pixels - first);
            let input = &x.data[first * self.channels..][..count * self.channels];
            self.enter(level, input, affine, scratch);
            let x = &mut scratch.x[..count * inner];
            let normed = scratch.normed.room(count * inner);
            rows::normalize(level, x, inner, EPS, normed);
            // SAFETY: each task has pixels of its own.
            let (mut qkv, mut x1) = unsafe { (qkv_out.from(first * 3 * inner), x1_out.from(first * inner)) };
            if attention.from_channels {
                let deviations = scratch.deviations.room(count);
                rows::deviations(level, x, inner, EPS, deviations);
                let v = Rows::new(&scratch.v, self.channels);
                let start = Start::Bias(&attention.constant);
                product(count, v, attention.qkv.as_ref(), start, &mut qkv, 3 * inner);
                rows::scale_rows(
                    level,
                    qkv.slice(0, count * 3 * inner),
                    3 * inner,
                    3 * inner,
                    deviations,
                    &attention.bias,
                );
            } else {
                let start = Start::Bias(&attention.bias);
                product(count, Rows::new(normed, inner), attention.qkv.as_ref(), start, &mut qkv, 3 * inner);
            }
            for (to, from) in x1.slice(0, count * inner).chunks_exact_mut(inner).zip(x.chunks_exact(inner)) {
                for ((t, v), b) in to.iter_mut().zip(from).zip(&attention.out_bias) {
                    *t = v + b;
                }
            }
        })?;
        pixels::attention(level, &mut qkv, self.heads, inner / self.heads, progress.part(0.1, 0.7))?;
        Ok((x1, qkv))
    }

    /// Adds the heads' outputs through W_o, in `scratch.x`.
    fn behind_attention(&self, x1: &[f32], qkv: &[f32], first: usize, count: usize, scratch: &mut Scratch) {
        let inner = self.inner;
        let x = scratch.x.room(count * inner);
        x.copy_from_slice(&x1[first * inner..][..count * inner]);
        let attention = self.attn1.as_ref().expect("called with self-attention alone");
        let o = Rows::new(&qkv[first * 3 * inner..], 3 * inner);
        product(count, o, attention.to_out.as_ref(), Start::Keep, &mut x.into(), inner);
    }

    /// Cross-attention and feed-forward on `scratch.x`.
    fn full_rank(&self, level: Level, look: &Look, input: &[f32], scratch: &mut Scratch, out: &mut Target) {
        let (inner, keys) = (self.inner, self.heads * self.classes);
        let count = input.len() / self.channels;
        let x = &mut scratch.x[..count * inner];
        let normed = scratch.normed.room(count * inner);
        let logits = scratch.logits.room(count * keys);
        let ones = scratch.deviations.room(count);
        ones.fill(1.0);
        rows::normalize(level, x, inner, EPS, normed);
        match look {
            Look::Folded { keys: folded, bias, values } => {
                let all = Rows::new(normed, inner);
                product(count, all, folded.as_ref(), Start::Zero, &mut (&mut *logits).into(), keys);
                let p = scratch.p.room(count * keys);
                rows::softmax(level, logits, keys, self.classes, ones, bias, p, keys, self.classes);
                let p = Rows::new(p, keys);
                product(count, p, values.as_ref(), Start::Keep, &mut (&mut *x).into(), inner);
            }
            Look::Unfolded { heads } => {
                let ((to_q, bias), (to_out, out_bias)) =
                    self.to_q.as_ref().zip(self.to_out.as_ref()).expect("made with this form");
                let q = scratch.q.room(count * inner);
                let start = Start::Bias(bias);
                product(count, Rows::new(normed, inner), to_q.as_ref(), start, &mut (&mut *q).into(), inner);
                let o = scratch.o.room(count * inner);
                let width = inner / self.heads;
                let zeros = vec![0.0; self.classes];
                for (h, (k, v)) in heads.iter().enumerate() {
                    let (logits, n) = (&mut logits[..count * self.classes], self.classes);
                    let p = scratch.p.room(count * n);
                    let q = Rows::new(&q[h * width..], inner);
                    product(count, q, k.as_ref(), Start::Zero, &mut (&mut *logits).into(), n);
                    rows::softmax(level, logits, n, n, ones, &zeros, p, n, n);
                    let mut o = Target::from(&mut o[h * width..]);
                    product(count, Rows::new(p, n), v.as_ref(), Start::Zero, &mut o, inner);
                }
                rows::scale_rows(level, x, inner, inner, ones, out_bias);
                product(
                    count,
                    Rows::new(o, inner),
                    to_out.as_ref(),
                    Start::Keep,
                    &mut (&mut *x).into(),
                    inner,
                );
            }
            Look::LowRank(_) => unreachable!("has a path of its own"),
        }
        rows::normalize(level, x, inner, EPS, normed);
        self.begin(input, &self.out_bias, out);
        let c = self.channels;
        product(count, Rows::new(x, inner), self.proj_out.as_ref(), Start::Keep, out, c);
        let ff1 = self.ff1.as_ref().expect("made with this form");
        let normed = Rows::new(normed, inner);
        self.feed_forward(
            level,
            count,
            normed,
            ff1,
            None,
            &scratch.deviations,
            &mut scratch.g,
            &mut scratch.h,
            &mut scratch.lowered,
            out,
        );
    }

    fn low_rank(
        &self,
        level: Level,
        look: &LowRank,
        input: &[f32],
        (scale, shift): &(Vec<f32>, Vec<f32>),
        scratch: &mut Scratch,
        out: &mut Target,
    ) {
        let (c, n, keys) = (self.channels, self.classes, self.heads * self.classes);
        let (count, rank) = (input.len() / c, c + keys - self.heads);
        let v = scratch.v.room(input.len());
        rows::affine(level, input, scale, shift, After::Nothing, v);
        let u = scratch.u.room(count * rank);
        for (u, v) in u.chunks_exact_mut(rank).zip(v.chunks_exact(c)) {
            u[..c].copy_from_slice(v);
        }
        let deviations = scratch.deviations.room(count);
        look.before.inverse_deviation(level, v, c, self.inner, &mut scratch.normed, deviations);
        let v = Rows::new(v, c);
        let logits = scratch.logits.room(count * keys);
        let start = Start::Bias(&look.keys_constant);
        product(count, v, look.keys.as_ref(), start, &mut (&mut *logits).into(), keys);
        rows::softmax(level, logits, keys, n, deviations, &look.keys_bias, &mut u[c..], rank, n - 1);
        look.behind.inverse_deviation(level, u, rank, self.inner, &mut scratch.normed, deviations);
        self.begin(input, &look.out_bias, out);
        // For both products that take it; by halves it stays as it is.
        let u = Rows::new(u, rank).lowered(level, count, rank, &mut scratch.u_lowered);
        product(count, u, look.residual.as_ref(), Start::Keep, out, c);
        let constant = Some(look.ff1_constant.as_slice());
        self.feed_forward(
            level,
            count,
            u,
            &look.ff1,
            constant,
            &scratch.deviations,
            &mut scratch.g,
            &mut scratch.h,
            &mut scratch.lowered,
            out,
        );
    }

    /// `out = input + bias`
    fn begin(&self, input: &[f32], bias: &[f32], out: &mut Target) {
        let c = self.channels;
        for (to, from) in out.slice(0, input.len()).chunks_exact_mut(c).zip(input.chunks_exact(c)) {
            for ((t, v), b) in to.iter_mut().zip(from).zip(bias) {
                *t = v + b;
            }
        }
    }

    /// Adds the feed-forward, through proj_out, to `out`, some hidden channels at a time.
    #[allow(clippy::too_many_arguments)]
    fn feed_forward(
        &self,
        level: Level,
        count: usize,
        x: Rows,
        ff1: &Wide,
        constant: Option<&[f32]>,
        scale: &[f32],
        g: &mut Lines,
        h: &mut Lines,
        lowered: &mut Lines,
        out: &mut Target,
    ) {
        let (lanes, width) = (level.lanes(), 2 * level.lanes());
        let (ff1, ff1_halved, size) = match ff1 {
            Wide::Panels(panels) => {
                (Some((panels, x.lowered(level, count, panels.depth(), lowered))), None, count * width)
            }
            Wide::Halved(halved) => {
                let left = halved.left(x.data, x.row, count, lowered);
                (None, Some((halved, left)), halved.room(count))
            }
        };
        let g = g.room(size);
        for (chunk, ff2) in self.ff2.iter().enumerate() {
            let first = chunk * CHUNK;
            let units = CHUNK.min(self.hidden - first);
            let h = h.room(count * units);
            let mut geglu = |panel: usize, g: &[f32]| {
                let (bias, unit) = (&self.ff1_bias[panel * width..][..width], panel * lanes - first);
                rows::geglu(level, g, &scale[..count], bias, &mut h[unit..], units, lanes.min(units - unit));
            };
            for panel in first / lanes..(first + units).div_ceil(lanes) {
                if let Some((panels, x)) = ff1 {
                    let start = constant.map_or(Start::Zero, |c| Start::Bias(&c[panel * width..]));
                    product(count, x, panels.panel(panel), start, &mut (&mut *g).into(), width);
                    geglu(panel, g);
                }
                if let Some((halved, left)) = ff1_halved.as_ref().filter(|_| panel.is_multiple_of(2)) {
                    let start = constant.map_or(&[][..], |c| &c[panel * width..][..2 * width]);
                    halved.product(left, panel / 2, start, g);
                    geglu(panel, g);
                    geglu(panel + 1, &g[size / 2..]);
                }
            }
            product(count, Rows::new(h, units), ff2.as_ref(), Start::Keep, out, self.channels);
        }
    }
}
