//! Adam and the running mean of weights.
//!
//! On the CPU in f32 each variable has passes of its own, several at once. Anywhere else all variables are one long vector for
//! the while: a dozen operations instead of a dozen for each of hundreds of variables, which a GPU would spend its time
//! beginning.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, InplaceOp2, InplaceOp3, Layout, Storage, Tensor, Var};
use rayon::prelude::*;

use crate::Result;

const EPS: f64 = 1e-8;

/// Adam without weight decay. As published (betas 0, 0.9) it has no first moment, and then keeps none.
pub struct Adam {
    beta1: f64,
    beta2: f64,
    /// By name.
    variables: BTreeMap<String, Var>,
    /// Factor on the learning rate, by variable.
    rates: Vec<f64>,
    /// The same for each element, where variables are one vector.
    flat_rates: Option<Tensor>,
    first: Option<Mirror>,
    second: Mirror,
}

/// The gradients of an optimiser's variables, in their order.
pub enum Gradients {
    Each(Vec<Tensor>),
    /// As one vector.
    Flat(Tensor),
}

impl Adam {
    /// For `variables`, `rate` giving each one's factor on the learning rate by its name. `beta1` and `beta2` are in [0, 1).
    pub fn new(
        variables: &BTreeMap<String, Var>,
        beta1: f64,
        beta2: f64,
        rate: impl Fn(&str) -> f64,
    ) -> Result<Self> {
        let rates: Vec<f64> = variables.keys().map(|name| rate(name)).collect();
        let second = Mirror::zeros(variables)?;
        let flat_rates = if second.flat.is_some() {
            let each = variables.values().zip(&rates).map(|(v, &rate)| Ok((v.ones_like()? * rate)?));
            Some(concatenated(&each.collect::<Result<Vec<_>>>()?)?.detach())
        } else {
            None
        };
        Ok(Self {
            beta1,
            beta2,
            variables: variables.clone(),
            rates,
            flat_rates,
            first: if beta1 > 0.0 { Some(Mirror::zeros(variables)?) } else { None },
            second,
        })
    }

    /// The moments by name, as `first.NAME` and `second.NAME`.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let named = |kind: &'static str, moment: &Mirror| -> Vec<_> {
            moment.each.iter().map(|(name, t)| (format!("{kind}.{name}"), t.clone())).collect()
        };
        let first = self.first.iter().flat_map(|moment| named("first", moment));
        first.chain(named("second", &self.second)).collect()
    }

    /// What `store` has for the variables; zeros for those that the loss does not depend on.
    pub fn gradients(&self, store: &GradStore) -> Result<Gradients> {
        let one = |variable: &Var| match store.get(variable) {
            Some(gradient) => gradient.contiguous(),
            None => variable.as_detached_tensor().zeros_like(),
        };
        let each = self.variables.values().map(one).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(match self.second.flat {
            Some(_) => Gradients::Flat(concatenated(&each)?),
            None => Gradients::Each(each),
        })
    }

    /// One step; `t` counts this optimiser's steps from 1.
    pub fn step(&self, gradients: &Gradients, learning_rate: f64, t: usize) -> Result<()> {
        let correction = |beta: f64| 1.0 - beta.powi(t.min(1_000_000) as i32);
        let (c1, c2) = (correction(self.beta1), correction(self.beta2));
        match gradients {
            Gradients::Each(each) => {
                let step = |(i, (name, variable)): (usize, (&String, &Var))| {
                    let direction = match &self.first {
                        Some(first) => {
                            let first = &first.each[name];
                            first.inplace_op2(&each[i], &Blend(self.beta1 as f32))?;
                            first
                        }
                        None => &each[i],
                    };
                    let second = &self.second.each[name];
                    second.inplace_op2(&each[i], &SecondMoment(self.beta2 as f32))?;
                    let rate = (self.rates[i] * learning_rate / c1) as f32;
                    variable.inplace_op3(direction, second, &Descend { rate, correction: c2 as f32 })
                };
                let variables: Vec<_> = self.variables.iter().enumerate().collect();
                Ok(variables.into_par_iter().try_for_each(step)?)
            }
            Gradients::Flat(gradient) => {
                let direction = match &self.first {
                    Some(first) => first.blend(gradient, self.beta1)?,
                    None => gradient.clone(),
                };
                let second = self.second.blend(&gradient.sqr()?, self.beta2)?;
                let way = direction.div(&((second / c2)?.sqrt()? + EPS)?)?;
                let rates = self.flat_rates.as_ref().expect("made with the moments");
                let moved = (flat(&self.variables)? - (way.mul(rates)? * (learning_rate / c1))?)?;
                let mut start = 0;
                for variable in self.variables.values() {
                    let part = moved.narrow(0, start, variable.elem_count())?;
                    variable.set(&part.reshape(variable.shape())?)?;
                    start += variable.elem_count();
                }
                Ok(())
            }
        }
    }
}

impl Gradients {
    /// The length of the whole, a scalar f32 where the gradients are.
    pub fn norm(&self) -> Result<Tensor> {
        match self {
            Self::Each(each) => {
                let squares = each.par_iter().map(sum_of_squares).collect::<Result<Vec<f64>>>()?;
                let norm = squares.iter().sum::<f64>().sqrt() as f32;
                Ok(Tensor::new(norm, &candle_core::Device::Cpu)?)
            }
            Self::Flat(gradient) => Ok(gradient.sqr()?.sum_all()?.sqrt()?.to_dtype(DType::F32)?),
        }
    }
}

/// A tensor of its own beside each variable.
struct Mirror {
    each: BTreeMap<String, Tensor>,
    /// What `each` shows parts of, where the passes over single variables do not apply.
    flat: Option<Tensor>,
}

impl Mirror {
    fn zeros(variables: &BTreeMap<String, Var>) -> Result<Self> {
        let zeros = |variable: &Var| variable.as_detached_tensor().zeros_like();
        if variables.values().all(|variable| fused(variable)) {
            let each = variables.iter().map(|(name, variable)| Ok((name.clone(), zeros(variable)?)));
            return Ok(Self { each: each.collect::<Result<_>>()?, flat: None });
        }
        let flat = concatenated(&variables.values().map(zeros).collect::<candle_core::Result<Vec<_>>>()?)?;
        let mut start = 0;
        let mut each = BTreeMap::new();
        for (name, variable) in variables {
            let part = flat.narrow(0, start, variable.elem_count())?.reshape(variable.shape())?;
            each.insert(name.clone(), part);
            start += variable.elem_count();
        }
        Ok(Self { each, flat: Some(flat) })
    }

    /// this = decay this + (1 - decay) x, of the whole vector.
    fn blend(&self, x: &Tensor, decay: f64) -> Result<Tensor> {
        let flat = self.flat.as_ref().expect("only what is flat is blended as a whole");
        let blended = ((flat * decay)? + (x * (1.0 - decay))?)?;
        flat.slice_set(&blended, 0, 0)?;
        Ok(blended)
    }
}

/// The running mean of variables.
pub struct Mean(Mirror);

impl Mean {
    /// Begins as the variables are.
    pub fn of(variables: &BTreeMap<String, Var>) -> Result<Self> {
        let mean = Self(Mirror::zeros(variables)?);
        mean.follow(variables, 0.0)?;
        Ok(mean)
    }

    /// By name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.0.each
    }

    /// mean = decay mean + (1 - decay) variable
    pub fn follow(&self, variables: &BTreeMap<String, Var>, decay: f64) -> Result<()> {
        if self.0.flat.is_some() {
            self.0.blend(&flat(variables)?, decay)?;
            return Ok(());
        }
        let one = |(name, mean): (&String, &Tensor)| {
            mean.inplace_op2(&variables[name].as_detached_tensor(), &Blend(decay as f32))
        };
        Ok(self.0.each.par_iter().try_for_each(one)?)
    }
}

/// Whether the passes over slices below are there for this tensor.
fn fused(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

fn concatenated(tensors: &[Tensor]) -> Result<Tensor> {
    let flat = tensors.iter().map(|t| t.flatten_all()).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::cat(&flat, 0)?)
}

fn flat(variables: &BTreeMap<String, Var>) -> Result<Tensor> {
    concatenated(&variables.values().map(Var::as_detached_tensor).collect::<Vec<_>>())
}

fn sum_of_squares(x: &Tensor) -> Result<f64> {
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => {
            Ok(slice(storage, layout)?.iter().map(|&v| f64::from(v) * f64::from(v)).sum())
        }
        _ => Err(candle_core::Error::Msg("single gradients that are not on the CPU".into()).into()),
    }
}

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("an optimiser's operand is not contiguous"),
    }
}

fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> candle_core::Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => candle_core::bail!("an optimiser's operand is not contiguous f32"),
    }
}

struct Blend(f32);

impl InplaceOp2 for Blend {
    fn name(&self) -> &'static str {
        "blend"
    }

    fn cpu_fwd(
        &self,
        mean: &mut CpuStorage,
        mean_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> candle_core::Result<()> {
        let decay = self.0;
        for (m, &x) in slice_mut(mean, mean_layout)?.iter_mut().zip(slice(x, x_layout)?) {
            *m = decay * *m + (1.0 - decay) * x;
        }
        Ok(())
    }
}

struct SecondMoment(f32);

impl InplaceOp2 for SecondMoment {
    fn name(&self) -> &'static str {
        "second-moment"
    }

    fn cpu_fwd(
        &self,
        moment: &mut CpuStorage,
        moment_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let beta = self.0;
        for (m, &g) in slice_mut(moment, moment_layout)?.iter_mut().zip(slice(gradient, gradient_layout)?) {
            *m = beta * *m + (1.0 - beta) * g * g;
        }
        Ok(())
    }
}

struct Descend {
    rate: f32,
    correction: f32,
}

impl InplaceOp3 for Descend {
    fn name(&self) -> &'static str {
        "descend"
    }

    fn cpu_fwd(
        &self,
        variable: &mut CpuStorage,
        variable_layout: &Layout,
        direction: &CpuStorage,
        direction_layout: &Layout,
        moment: &CpuStorage,
        moment_layout: &Layout,
    ) -> candle_core::Result<()> {
        let values = slice_mut(variable, variable_layout)?;
        let moments = slice(moment, moment_layout)?;
        for ((w, &d), &m) in values.iter_mut().zip(slice(direction, direction_layout)?).zip(moments) {
            *w -= self.rate * d / ((m / self.correction).sqrt() + EPS as f32);
        }
        Ok(())
    }
}

/// The learning rate's factor at `step` of `steps`: one for the first half, then linear to zero.
pub fn schedule(step: usize, steps: usize) -> f64 {
    let half = steps / 2;
    if step < half { 1.0 } else { (steps.saturating_sub(step)) as f64 / (steps - half).max(1) as f64 }
}

/// The decay of the weights' running mean at `step`: short at first, so that the first weights are soon forgotten.
pub fn warm_decay(decay: f64, step: usize) -> f64 {
    decay.min((1 + step) as f64 / (10 + step) as f64)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Two steps on 0.5 sum(c w^2), whose gradient is c w.
    fn two_steps(dtype: DType, beta1: f64) -> Vec<f64> {
        let tensor = |values: [f64; 3]| Tensor::new(&values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let w = Var::from_tensor(&tensor([1.0, -2.0, 0.5])).unwrap();
        let c = tensor([1.0, 3.0, -2.0]);
        let adam = Adam::new(&BTreeMap::from([("w".to_owned(), w.clone())]), beta1, 0.9, |_| 1.0).unwrap();
        for t in 1..=2 {
            let loss = (w.sqr().unwrap() * &c).unwrap().sum_all().unwrap() * 0.5;
            let gradients = adam.gradients(&loss.unwrap().backward().unwrap()).unwrap();
            adam.step(&gradients, 0.1, t).unwrap();
        }
        w.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    }

    fn expected(beta1: f64) -> Vec<f64> {
        [(1.0, 1.0), (-2.0, 3.0), (0.5, -2.0)]
            .map(|(mut w, c): (f64, f64)| {
                let (mut m, mut v) = (0.0, 0.0);
                for t in 1..=2 {
                    let g = c * w;
                    m = beta1 * m + (1.0 - beta1) * g;
                    v = 0.9 * v + (1.0 - 0.9) * g * g;
                    let (m, v) = (m / (1.0 - beta1.powi(t)), v / (1.0 - 0.9_f64.powi(t)));
                    w -= 0.1 * m / (v.sqrt() + EPS);
                }
                w
            })
            .to_vec()
    }

    #[test]
    fn adam_steps_as_published_in_both_forms() {
        for beta1 in [0.0, 0.5] {
            for dtype in [DType::F32, DType::F64] {
                for (a, b) in two_steps(dtype, beta1).iter().zip(expected(beta1)) {
                    assert!((a - b).abs() < 1e-6, "{dtype:?}, beta1 {beta1}: {a}, not {b}");
                }
            }
        }
    }

    #[test]
    fn the_gradients_length_is_over_all_variables() {
        for dtype in [DType::F32, DType::F64] {
            let var =
                |v: f64| Var::from_tensor(&Tensor::new(&[v], &Device::Cpu).unwrap().to_dtype(dtype).unwrap());
            let (a, b) = (var(3.0).unwrap(), var(4.0).unwrap());
            let loss = ((a.sqr().unwrap() + b.sqr().unwrap()).unwrap().sum_all().unwrap() * 0.5).unwrap();
            let named = BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
            let adam = Adam::new(&named, 0.0, 0.9, |_| 1.0).unwrap();
            let norm = adam.gradients(&loss.backward().unwrap()).unwrap().norm().unwrap();
            assert_eq!(norm.to_scalar::<f32>().unwrap(), 5.0);
        }
    }

    #[test]
    fn rates_are_constant_for_half_of_the_steps_and_then_fall_to_zero() {
        assert_eq!([0, 49, 50, 75, 99].map(|step| schedule(step, 100)), [1.0, 1.0, 1.0, 0.5, 0.02]);
        assert_eq!(schedule(100, 100), 0.0);
        assert_eq!(schedule(0, 1), 1.0);
    }

    #[test]
    fn the_running_mean_begins_short() {
        assert!((warm_decay(0.999, 0) - 0.1).abs() < 1e-12);
        assert_eq!(warm_decay(0.999, 1_000_000), 0.999);
        let var = |v: f32| BTreeMap::from([("w".to_owned(), Var::new(&[v], &Device::Cpu).unwrap())]);
        let mean = Mean::of(&var(1.0)).unwrap();
        mean.follow(&var(3.0), 0.75).unwrap();
        assert_eq!(mean.tensors()["w"].to_vec1::<f32>().unwrap(), [1.5]);
    }
}
