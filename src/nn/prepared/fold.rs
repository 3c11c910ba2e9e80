//! Small matrix algebra on weights: what makes one product of several.

use candle_core::{Result, Tensor};

use crate::kernels::{View, linear, multiply};

/// A row-major matrix.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub data: Vec<f32>,
}

/// The elements of a tensor on the CPU.
pub(super) fn values(t: &Tensor) -> Result<Vec<f32>> {
    t.detach().flatten_all()?.to_vec1()
}

impl Matrix {
    pub fn new(rows: usize, columns: usize, data: Vec<f32>) -> Self {
        assert_eq!(data.len(), rows * columns);
        Self { rows, columns, data }
    }

    /// The first dimension by all others.
    pub fn of(t: &Tensor) -> Result<Self> {
        let rows = t.dim(0)?;
        Ok(Self::new(rows, t.elem_count() / rows, values(t)?))
    }

    pub fn view(&self) -> View<'_> {
        View::rows(&self.data, self.columns)
    }

    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.columns..][..self.columns]
    }

    /// `self other`
    pub fn times(&self, other: &Matrix) -> Matrix {
        assert_eq!(self.columns, other.rows);
        let data = linear::input_gradient(&self.data, &other.data, other.columns, other.rows);
        Matrix::new(self.rows, other.columns, data)
    }

    /// `self other'`
    pub fn times_transposed(&self, other: &Matrix) -> Matrix {
        assert_eq!(self.columns, other.columns);
        let data = linear::forward(&self.data, &other.data, None, other.columns, other.rows);
        Matrix::new(self.rows, other.rows, data)
    }

    pub fn transposed(&self) -> Matrix {
        let column = |c: usize| self.data.get(c..).unwrap_or(&[]).iter().step_by(self.columns).copied();
        let data = (0..self.columns).flat_map(column);
        Matrix::new(self.columns, self.rows, data.collect())
    }

    /// `self v`
    pub fn apply(&self, v: &[f32]) -> Vec<f32> {
        assert_eq!(self.columns, v.len());
        let row = |r: &[f32]| r.iter().zip(v).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32;
        self.data.chunks_exact(self.columns).map(row).collect()
    }

    /// Every column times its factor.
    pub fn scale_columns(mut self, factors: &[f32]) -> Self {
        for row in self.data.chunks_exact_mut(self.columns) {
            for (v, f) in row.iter_mut().zip(factors) {
                *v *= f;
            }
        }
        self
    }

    pub fn scale(mut self, factor: f32) -> Self {
        self.data.iter_mut().for_each(|v| *v *= factor);
        self
    }

    /// Every column less its mean: what is left of it behind a layer norm's subtraction.
    pub fn centred(mut self) -> Self {
        let mut means = vec![0.0f64; self.columns];
        for row in self.data.chunks_exact(self.columns) {
            for (m, v) in means.iter_mut().zip(row) {
                *m += f64::from(*v);
            }
        }
        for row in self.data.chunks_exact_mut(self.columns) {
            for (m, v) in means.iter().zip(row) {
                *v = (f64::from(*v) - m / self.rows as f64) as f32;
            }
        }
        self
    }

    /// Matrices side by side.
    pub fn beside(parts: &[&Matrix]) -> Matrix {
        let rows = parts[0].rows;
        let columns = parts.iter().map(|p| p.columns).sum();
        let mut data = Vec::with_capacity(rows * columns);
        for r in 0..rows {
            for part in parts {
                data.extend_from_slice(part.row(r));
            }
        }
        Matrix::new(rows, columns, data)
    }

    /// Matrices below each other.
    pub fn below(parts: &[&Matrix]) -> Matrix {
        let rows = parts.iter().map(|p| p.rows).sum();
        Matrix::new(rows, parts[0].columns, parts.iter().flat_map(|p| p.data.iter().copied()).collect())
    }

    /// The first columns, and the last alone.
    pub fn split_last(&self) -> (Matrix, Vec<f32>) {
        let n = self.columns - 1;
        let rows = self.data.chunks_exact(self.columns);
        (
            Matrix::new(self.rows, n, rows.clone().flat_map(|r| r[..n].iter().copied()).collect()),
            rows.map(|r| r[n]).collect(),
        )
    }

    /// The lower triangular L with `L L' = self' self`, so that the square length of `self u` is that of `L' u`: Cholesky,
    /// in f64. Columns that depend on earlier ones, to 1e-12 of their square length, become zero.
    pub fn triangle(&self) -> Matrix {
        let n = self.columns;
        let mut g = vec![0.0f64; n * n]; // the lower half of self' self
        for row in self.data.chunks_exact(n) {
            for i in 0..n {
                let a = f64::from(row[i]);
                for (g, b) in g[i * n..].iter_mut().zip(&row[..=i]) {
                    *g += a * f64::from(*b);
                }
            }
        }
        for j in 0..n {
            let length = g[j * n + j];
            let pivot = length - g[j * n..j * n + j].iter().map(|v| v * v).sum::<f64>();
            let inverse = if pivot > 1e-12 * length { 1.0 / pivot.sqrt() } else { 0.0 };
            let above: Vec<f64> = g[j * n..j * n + j].to_vec();
            g[j * n + j] = pivot * inverse;
            for i in j + 1..n {
                let dot: f64 = g[i * n..i * n + j].iter().zip(&above).map(|(a, b)| a * b).sum();
                g[i * n + j] = (g[i * n + j] - dot) * inverse;
            }
        }
        let at = |i: usize| if i % n <= i / n { g[i] as f32 } else { 0.0 };
        Matrix::new(n, n, (0..n * n).map(at).collect())
    }
}

/// `out[h n, ..] = a_h b_h` for every head: `a (n, heads width)`, `b (heads width, columns)`.
pub(super) fn by_head(a: &Matrix, b: View, columns: usize, heads: usize) -> Matrix {
    let (n, width) = (a.rows, a.columns / heads);
    let mut data = vec![0.0; heads * n * columns];
    for (h, out) in data.chunks_exact_mut(n * columns).enumerate() {
        let a = View::rows(&a.data[h * width..], a.columns);
        let b = View { data: &b.data[h * width * b.row..], ..b };
        multiply((n, columns, width), &mut out.into(), columns, false, 1.0, a, b);
    }
    Matrix::new(heads * n, columns, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_triangle_keeps_lengths_even_of_dependent_columns() {
        // The fourth column is the sum of the first two, the fifth is zero.
        let rows = [[1.0, 2.0, 0.5, 3.0, 0.0], [0.0, 1.0, -1.0, 1.0, 0.0], [2.0, 0.25, 4.0, 2.25, 0.0]];
        let a = Matrix::new(3, 5, rows.concat());
        let l = a.triangle();
        for u in [[1.0, 0.0, 0.0, 0.0, 7.0], [0.3, -2.0, 1.0, 0.7, -1.0], [1.0, 1.0, 0.0, -1.0, 0.0]] {
            let square = |v: Vec<f32>| v.iter().map(|v| v * v).sum::<f32>();
            let (got, want) = (square(l.transposed().apply(&u)), square(a.apply(&u)));
            assert!((got - want).abs() < 1e-5 * (1.0 + want), "{got}, not {want}");
        }
    }
}
