//! Adam and the running mean of weights.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Device, InplaceOp2, InplaceOp3, Layout, Storage, Tensor, Var};
use rayon::prelude::*;

use crate::Result;

const EPS: f64 = 1e-8;

/// Adam without weight decay. As published (betas 0, 0.9) it has no first moment, and then keeps none.
pub struct Adam {
    beta1: f64,
    beta2: f64,
    parameters: Vec<Parameter>,
}

struct Parameter {
    name: String,
    variable: Var,
    /// Factor on the learning rate.
    rate: f64,
    first: Option<Var>,
    second: Var,
}

impl Adam {
    /// For `variables`, `rate` giving each one's factor on the learning rate by its name. `beta1` and `beta2` are in [0, 1).
    pub fn new(
        variables: &BTreeMap<String, Var>,
        beta1: f64,
        beta2: f64,
        rate: impl Fn(&str) -> f64,
    ) -> Result<Self> {
        let parameters = variables
            .iter()
            .map(|(name, variable)| {
                Ok(Parameter {
                    name: name.clone(),
                    variable: variable.clone(),
                    rate: rate(name),
                    first: if beta1 > 0.0 { Some(zeros(variable)?) } else { None },
                    second: zeros(variable)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { beta1, beta2, parameters })
    }

    /// The moments by name, as `first.NAME` and `second.NAME`.
    pub fn state(&self) -> BTreeMap<String, &Var> {
        let first =
            self.parameters.iter().filter_map(|p| Some((format!("first.{}", p.name), p.first.as_ref()?)));
        let second = self.parameters.iter().map(|p| (format!("second.{}", p.name), &p.second));
        first.chain(second).collect()
    }

    /// The length of the whole gradient.
    pub fn gradient_norm(&self, gradients: &GradStore) -> Result<f64> {
        let gradients: Vec<_> = self.parameters.iter().filter_map(|p| gradients.get(&p.variable)).collect();
        let squares = match gradients.iter().all(|g| fused(g)) {
            true => gradients.into_par_iter().map(sum_of_squares).collect::<Result<Vec<f64>>>()?,
            false => gradients.into_iter().map(sum_of_squares).collect::<Result<_>>()?,
        };
        Ok(squares.iter().sum::<f64>().sqrt())
    }

    /// One step; `t` counts this optimiser's steps from 1. Variables without a gradient stay as they are.
    pub fn step(&self, gradients: &GradStore, learning_rate: f64, t: usize) -> Result<()> {
        let correction = |beta: f64| 1.0 - beta.powi(t.min(1_000_000) as i32);
        let (c1, c2) = (correction(self.beta1), correction(self.beta2));
        let one = |p: &Parameter| {
            let Some(gradient) = gradients.get(&p.variable) else { return Ok(()) };
            let gradient = gradient.contiguous()?;
            let direction = match &p.first {
                Some(first) => {
                    blend(first, &gradient, self.beta1)?;
                    first.as_tensor()
                }
                None => &gradient,
            };
            second_moment(&p.second, &gradient, self.beta2)?;
            descend(&p.variable, direction, &p.second, p.rate * learning_rate / c1, c2)
        };
        match self.parameters.iter().all(|p| fused(&p.variable)) {
            true => self.parameters.par_iter().try_for_each(one),
            false => self.parameters.iter().try_for_each(one),
        }
    }
}

fn zeros(like: &Var) -> Result<Var> {
    Ok(Var::zeros(like.shape(), like.dtype(), like.device())?)
}

/// Whether the fused passes over slices below are there for this tensor. Elsewhere one thread does all: on CUDA every thread
/// has a stream of its own in candle, and nothing orders what two of them do.
fn fused(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// Moves every mean towards its variable: mean = decay mean + (1 - decay) variable.
pub fn average(means: &BTreeMap<String, Var>, variables: &BTreeMap<String, Var>, decay: f64) -> Result<()> {
    let one = |(name, mean): (&String, &Var)| blend(mean, &variables[name].as_detached_tensor(), decay);
    match means.values().all(|mean| fused(mean)) {
        true => means.par_iter().try_for_each(one),
        false => means.iter().try_for_each(one),
    }
}

/// mean = decay mean + (1 - decay) x
fn blend(mean: &Var, x: &Tensor, decay: f64) -> Result<()> {
    if fused(mean) {
        return Ok(mean.inplace_op2(x, &Blend(decay as f32))?);
    }
    let m = mean.as_detached_tensor();
    Ok(mean.set(&((m * decay)? + (x * (1.0 - decay))?)?)?)
}

/// moment = beta moment + (1 - beta) gradient^2
fn second_moment(moment: &Var, gradient: &Tensor, beta: f64) -> Result<()> {
    if fused(moment) {
        return Ok(moment.inplace_op2(gradient, &SecondMoment(beta as f32))?);
    }
    let m = moment.as_detached_tensor();
    Ok(moment.set(&((m * beta)? + (gradient.sqr()? * (1.0 - beta))?)?)?)
}

/// variable -= rate direction / (sqrt(moment / correction) + eps)
fn descend(variable: &Var, direction: &Tensor, moment: &Var, rate: f64, correction: f64) -> Result<()> {
    if fused(variable) {
        let op = Descend { rate: rate as f32, correction: correction as f32 };
        return Ok(variable.inplace_op3(direction, moment, &op)?);
    }
    let scale = ((moment.as_detached_tensor() / correction)?.sqrt()? + EPS)?;
    let step = (direction.div(&scale)? * rate)?;
    Ok(variable.set(&(variable.as_detached_tensor() - step)?)?)
}

fn sum_of_squares(x: &Tensor) -> Result<f64> {
    if fused(x) {
        let x = x.contiguous()?;
        let (storage, layout) = x.storage_and_layout();
        if let Storage::Cpu(storage) = &*storage {
            let values = slice(storage, layout)?;
            return Ok(values.iter().map(|&v| f64::from(v) * f64::from(v)).sum());
        }
    }
    Ok(x.sqr()?.sum_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_scalar::<f64>()?)
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
    use super::*;

    /// Two steps on 0.5 sum(c w^2), whose gradient is c w.
    fn two_steps(dtype: DType, beta1: f64) -> Vec<f64> {
        let tensor = |values: [f64; 3]| Tensor::new(&values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let w = Var::from_tensor(&tensor([1.0, -2.0, 0.5])).unwrap();
        let c = tensor([1.0, 3.0, -2.0]);
        let adam = Adam::new(&BTreeMap::from([("w".to_owned(), w.clone())]), beta1, 0.9, |_| 1.0).unwrap();
        for t in 1..=2 {
            let loss = (w.sqr().unwrap() * &c).unwrap().sum_all().unwrap() * 0.5;
            adam.step(&loss.unwrap().backward().unwrap(), 0.1, t).unwrap();
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
            assert!((adam.gradient_norm(&loss.backward().unwrap()).unwrap() - 5.0).abs() < 1e-9);
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
        let (means, variables) = (var(1.0), var(3.0));
        average(&means, &variables, 0.75).unwrap();
        assert_eq!(means["w"].to_vec1::<f32>().unwrap(), [1.5]);
    }
}
