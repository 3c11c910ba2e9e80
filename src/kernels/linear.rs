//! `y = x W' + b` and its gradients. `x` is rows x inputs, `weight` outputs x inputs.

use rayon::prelude::*;

use super::matrix::{self, Panels, Rows, Start};
use super::simd::Level;
use super::{Shared, View, multiply};

/// Rows of one task: enough that packing the weights is a small part of it.
const ROWS: usize = 1024;
/// Tasks that a product is cut into at least, where it is large enough to share out.
const TASKS: usize = 8;
/// Rows whose share of a weight gradient is summed by one task.
const GRADIENT_ROWS: usize = 8192;

pub fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, inputs: usize, outputs: usize) -> Vec<f32> {
    let rows = x.len() / inputs;
    if rows <= FEW_ROWS && outputs >= 4 * rows {
        return few_rows(x, weight, bias, inputs, outputs);
    }
    let mut y = vec![0.0; rows * outputs];
    product(x, View::rows(weight, inputs).transposed(), bias, inputs, outputs, &mut y);
    y
}

/// Most rows of which the weights are streamed past.
const FEW_ROWS: usize = 64;

/// As [`forward`], of few rows: these are laid out for the registers instead of the weights, which are read once as they lie.
fn few_rows(x: &[f32], weight: &[f32], bias: Option<&[f32]>, inputs: usize, outputs: usize) -> Vec<f32> {
    const RUN: usize = 1024; // a run of the rows stays in L2
    const TASK: usize = 56;
    let rows = x.len() / inputs;
    let level = Level::best();
    let runs: Vec<Panels> = (0..inputs)
        .into_par_iter()
        .step_by(RUN)
        .map(|first| {
            Panels::pack(level, RUN.min(inputs - first), rows, View::rows(&x[first..], inputs).transposed())
        })
        .collect();
    let mut transposed = vec![0.0; outputs * rows];
    transposed.par_chunks_mut(TASK * rows).enumerate().for_each(|(task, out)| {
        let count = out.len() / rows;
        let mut start = Start::Zero;
        for (run, panels) in runs.iter().enumerate() {
            let weight = Rows::new(&weight[task * TASK * inputs + run * RUN..], inputs);
            matrix::product(count, weight, panels.as_ref(), start, &mut (&mut *out).into(), rows);
            start = Start::Keep;
        }
    });
    let mut y = vec![0.0; rows * outputs];
    for (r, y) in y.chunks_exact_mut(outputs).enumerate() {
        for (o, y) in y.iter_mut().enumerate() {
            *y = transposed[o * rows + r] + bias.map_or(0.0, |b| b[o]);
        }
    }
    y
}

/// The gradient of `x`: `g W`.
pub fn input_gradient(g: &[f32], weight: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let mut gx = vec![0.0; g.len() / outputs * inputs];
    product(g, View::rows(weight, inputs), None, outputs, inputs, &mut gx);
    gx
}

/// `y = a b + bias`, `a` rows x k, `b` k x n.
fn product(a: &[f32], b: View, bias: Option<&[f32]>, k: usize, n: usize, y: &mut [f32]) {
    let rows = a.len() / k;
    let row_tasks = rows.div_ceil(ROWS);
    // Few rows: share out the columns too, in whole vectors.
    let column_tasks = (TASKS.div_ceil(row_tasks.max(1))).min(n.div_ceil(64)).max(1);
    let columns = n.div_ceil(column_tasks).next_multiple_of(16);
    let out = Shared::new(y);
    (0..row_tasks * column_tasks).into_par_iter().for_each(|task| {
        let (row, column) = (task / column_tasks * ROWS, task % column_tasks * columns);
        if column >= n {
            return;
        }
        let (m, n_here) = (ROWS.min(rows - row), columns.min(n - column));
        // SAFETY: each task has a block of rows and columns of its own.
        let mut block = unsafe { out.from(row * n + column) };
        if let Some(bias) = bias {
            for r in 0..m {
                block.slice(r * n, n_here).copy_from_slice(&bias[column..column + n_here]);
            }
        }
        let b = View { data: &b.data[column * b.column..], ..b };
        multiply((m, n_here, k), &mut block, n, bias.is_some(), 1.0, View::rows(&a[row * k..], k), b);
    });
}

/// The gradient of the weight, `g' x`, and of the bias, `g`'s column sums.
pub fn weight_gradient(x: &[f32], g: &[f32], inputs: usize, outputs: usize) -> (Vec<f32>, Vec<f32>) {
    let partial = |(x, g): (&[f32], &[f32])| {
        let mut weight = vec![0.0; outputs * inputs];
        let (gt, x_view) = (View::rows(g, outputs).transposed(), View::rows(x, inputs));
        multiply(
            (outputs, inputs, g.len() / outputs),
            &mut weight.as_mut_slice().into(),
            inputs,
            false,
            1.0,
            gt,
            x_view,
        );
        let mut bias = vec![0.0; outputs];
        column_sums(g, &mut bias);
        (weight, bias)
    };
    let (xs, gs) = (x.par_chunks(GRADIENT_ROWS * inputs), g.par_chunks(GRADIENT_ROWS * outputs));
    let parts: Vec<_> = xs.zip(gs).map(partial).collect();
    let mut parts = parts.into_iter();
    let (mut weight, mut bias) =
        parts.next().unwrap_or_else(|| (vec![0.0; outputs * inputs], vec![0.0; outputs]));
    for (w, b) in parts {
        add(&mut weight, &w);
        add(&mut bias, &b);
    }
    (weight, bias)
}

pub(super) fn add(sum: &mut [f32], term: &[f32]) {
    for (s, t) in sum.iter_mut().zip(term) {
        *s += t;
    }
}

super::vectorised! {
    /// Adds `g`'s rows, each as long as `sums`, to `sums`.
    pub(super) fn column_sums(g: &[f32], sums: &mut [f32]) {
        for row in g.chunks_exact(sums.len()) {
            for (s, v) in sums.iter_mut().zip(row) {
                *s += v;
            }
        }
    }
}
