//! Products of rows with a matrix that was laid out for the registers beforehand.
//!
//! The right-hand matrix is cut into [`Panels`] of two registers' width. A block of results, up to 14 rows by one panel, stays
//! in registers while the panel streams by from L2; the rows are read where they lie, one broadcast element at a
//! time, from L1. A row may be several runs of elements a step apart: a 3x3 convolution's window is three of them,
//! so that a convolution is a product too, without windows ever being copied out.

use rayon::prelude::*;

use super::simd::{Level, Simd, leveled};
use super::{Target, View};

/// A `k x n` matrix in panels: columns `2 lanes p ..` of all `k` rows lie together, the last panel filled up with zeros
/// to one or two registers.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    level: Level,
    k: usize,
    n: usize,
    data: Vec<f32>,
}

impl Panels {
    pub fn pack(level: Level, k: usize, n: usize, b: View) -> Self {
        Self::pack_columns(level, k, n, b, |column| Some(column))
    }

    /// Column `c` of the matrix is column `source(c)` of `b`, or zero.
    pub fn pack_columns(
        level: Level,
        k: usize,
        n: usize,
        b: View,
        source: impl Fn(usize) -> Option<usize> + Sync,
    ) -> Self {
        let mut panels = Self { level, k, n, data: Vec::new() };
        panels.data = vec![0.0; k * n.next_multiple_of(level.lanes())];
        let width = panels.width();
        let fill = |(p, panel): (usize, &mut [f32])| {
            let lanes = panel.len() / k;
            for j in 0..lanes.min(n - p * width) {
                let Some(column) = source(p * width + j) else { continue };
                let from = &b.data[column * b.column..];
                for i in 0..k {
                    panel[i * lanes + j] = from[i * b.row];
                }
            }
        };
        // Small ones are packed inside tasks: no tasks of their own.
        let size = (k * width).max(1);
        if panels.data.len() < 1 << 18 {
            panels.data.chunks_mut(size).enumerate().for_each(fill);
        } else {
            panels.data.par_chunks_mut(size).enumerate().for_each(fill);
        }
        panels
    }

    /// Columns of a whole panel.
    pub fn width(&self) -> usize {
        2 * self.level.lanes()
    }

    /// Rows of the matrix.
    pub fn depth(&self) -> usize {
        self.k
    }

    pub fn columns(&self) -> usize {
        self.n
    }

    pub fn len(&self) -> usize {
        self.n.div_ceil(self.width())
    }

    pub fn as_ref(&self) -> PanelsRef<'_> {
        PanelsRef { level: self.level, k: self.k, n: self.n, data: &self.data }
    }

    /// Panel `p` alone.
    pub fn panel(&self, p: usize) -> PanelsRef<'_> {
        let width = self.width();
        let n = width.min(self.n - p * width);
        let data = &self.data[p * width * self.k..];
        PanelsRef { level: self.level, k: self.k, n, data }
    }
}

/// [`Panels`], or some of them, in memory of someone else's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PanelsRef<'a> {
    pub level: Level,
    pub k: usize,
    pub n: usize,
    pub data: &'a [f32],
}

/// The left-hand matrix: row `r` is `segments` runs, run `s` beginning at `r row + s step`; together they are as long as
/// the panels' `k`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub segments: usize,
    pub step: usize,
}

impl<'a> Rows<'a> {
    pub fn new(data: &'a [f32], row: usize) -> Self {
        Self { data, row, segments: 1, step: 0 }
    }
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    Zero,
    /// The same for every row.
    Bias(&'a [f32]),
    /// What the target holds.
    Keep,
}

struct Task {
    rows: usize,
    a: *const f32,
    a_row: usize,
    segments: usize,
    step: usize,
    /// Elements of one segment.
    run: usize,
    b: *const f32,
    n: usize,
    out: *mut f32,
    out_row: usize,
    /// Null for zero.
    start: *const f32,
    start_row: usize,
}

/// `out = start + a b` on this thread for `rows` rows, `out_row` elements from one to the next.
pub(crate) fn product(rows: usize, a: Rows, b: PanelsRef, start: Start, out: &mut Target, out_row: usize) {
    if rows == 0 || b.n == 0 {
        return;
    }
    let run = b.k / a.segments.max(1);
    let reach = (rows - 1) * a.row + a.segments.saturating_sub(1) * a.step + run;
    assert!(run * a.segments == b.k && reach <= a.data.len(), "rows of a product");
    assert!(b.data.len() >= b.k * b.n.next_multiple_of(b.level.lanes()), "panels of a product");
    assert!((rows - 1) * out_row + b.n <= out.len, "target of a product");
    let (start, start_row) = match start {
        Start::Zero => (std::ptr::null(), 0),
        Start::Bias(bias) => {
            assert!(bias.len() >= b.n, "bias of a product");
            (bias.as_ptr(), 0)
        }
        Start::Keep => (out.data.cast_const(), out_row),
    };
    let task = Task {
        rows,
        a: a.data.as_ptr(),
        a_row: a.row,
        segments: a.segments,
        step: a.step,
        run,
        b: b.data.as_ptr(),
        n: b.n,
        out: out.data,
        out_row,
        start,
        start_row,
    };
    // SAFETY of the reads and writes inside: all lie in the slices by the assertions above.
    panels(b.level, &task);
}

leveled! {
    fn panels<S>(t: &Task) {
        let width = 2 * S::LANES;
        let k = t.segments * t.run;
        for column in (0..t.n).step_by(width) {
            // SAFETY: `product` has checked that all reads and writes are inside the slices.
            unsafe {
                let b = t.b.add(column * k);
                let left = t.n - column;
                // One register wide, twice as many rows fit.
                let highest = if left > S::LANES { S::ROWS } else { (2 * S::ROWS).min(14) };
                let mut row = 0;
                let mut blocks = t.rows.div_ceil(highest);
                while row < t.rows {
                    // Blocks of about the same height.
                    let height = (t.rows - row).div_ceil(blocks);
                    if left > S::LANES {
                        rows_of::<S, 2>(t, height, row, column, b, left.min(width) - S::LANES);
                    } else {
                        rows_of::<S, 1>(t, height, row, column, b, left);
                    }
                    row += height;
                    blocks -= 1;
                }
            }
        }
    }
}

/// `height` rows by `V` registers; `last` lanes of the last register are wanted.
#[inline(always)]
unsafe fn rows_of<S: Simd, const V: usize>(
    t: &Task,
    height: usize,
    row: usize,
    column: usize,
    b: *const f32,
    last: usize,
) {
    macro_rules! heights {
        ($($r:literal)*) => {
            match height {
                $($r if $r * V <= 2 * S::ROWS => unsafe { block::<S, $r, V>(t, row, column, b, last) },)*
                _ => unreachable!("blocks fit the registers"),
            }
        };
    }
    heights!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}

#[inline(always)]
unsafe fn block<S: Simd, const R: usize, const V: usize>(
    t: &Task,
    row: usize,
    column: usize,
    b: *const f32,
    last: usize,
) {
    unsafe {
        let mut sums = [[S::splat(0.0); V]; R];
        if !t.start.is_null() {
            for (r, sums) in sums.iter_mut().enumerate() {
                let from = t.start.add((row + r) * t.start_row + column);
                for (v, sum) in sums.iter_mut().enumerate() {
                    let from = from.add(v * S::LANES);
                    *sum =
                        if v + 1 < V || last == S::LANES { S::load(from) } else { S::load_some(from, last) };
                }
            }
        }
        let mut b = b;
        for segment in 0..t.segments {
            let a = t.a.add(row * t.a_row + segment * t.step);
            for k in 0..t.run {
                let mut columns = [S::splat(0.0); V];
                for (v, c) in columns.iter_mut().enumerate() {
                    *c = S::load(b.add(v * S::LANES));
                }
                b = b.add(V * S::LANES);
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = S::splat(*a.add(r * t.a_row + k));
                    for (sum, c) in sums.iter_mut().zip(&columns) {
                        *sum = S::fma(x, *c, *sum);
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let to = t.out.add((row + r) * t.out_row + column);
            for (v, sum) in sums.iter().enumerate() {
                let to = to.add(v * S::LANES);
                if v + 1 < V || last == S::LANES { S::store(to, *sum) } else { S::store_some(to, last, *sum) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "a measurement"]
    fn speed() {
        for (rows, k, n) in
            [(112, 512, 4096), (112, 185, 4096), (112, 64, 1024), (112, 288, 32), (112, 288, 16)]
        {
            let a: Vec<f32> = (0..rows * k).map(|i| (i % 17) as f32 - 8.0).collect();
            let b: Vec<f32> = (0..k * n).map(|i| (i % 13) as f32 - 6.0).collect();
            let mut out = vec![0.0; rows * n];
            for level in Level::available() {
                let panels = Panels::pack(*level, k, n, View::rows(&b, n));
                let mut best = f64::MAX;
                for _ in 0..(20 * 112 * 512 * 4096 / (rows * k * n)) {
                    let t = std::time::Instant::now();
                    product(
                        rows,
                        Rows::new(&a, k),
                        panels.as_ref(),
                        Start::Zero,
                        &mut out.as_mut_slice().into(),
                        n,
                    );
                    best = best.min(t.elapsed().as_secs_f64());
                }
                println!("{rows}x{k}x{n} {level:?}: {:.1} GFLOP/s", 2e-9 * (rows * k * n) as f64 / best);
            }
            let mut best = f64::MAX;
            for _ in 0..10 {
                let t = std::time::Instant::now();
                super::super::multiply(
                    (rows, n, k),
                    &mut out.as_mut_slice().into(),
                    n,
                    false,
                    1.0,
                    View::rows(&a, k),
                    View::rows(&b, n),
                );
                best = best.min(t.elapsed().as_secs_f64());
            }
            println!("{rows}x{k}x{n} gemm: {:.1} GFLOP/s", 2e-9 * (rows * k * n) as f64 / best);
        }
    }
}
