//! A product of tall rows with a laid-out matrix by Strassen's seven products of quarters instead of eight (Gaussian elimination
//! is not optimal, Numerische Mathematik 13, 1969), one level deep.
//!
//! The matrix's sums are taken as it is laid out, the rows' sums once for all of its columns, and what a product of quarters adds
//! to the result is added as it leaves the registers, so that nearly all of the eighth is saved. Rounding errors are a few
//! times those of [`product`](super::matrix::product), and of the size of the largest of two rows, half the rows apart.

use super::matrix::{Ahead, add_products};
use super::simd::{Level, Simd, leveled};
use super::{Lines, View};

/// A `k x n` matrix, `n` a multiple of two panels: for each pair of panels the seven right-hand factors, `k / 2 x` a panel.
#[derive(Clone, Debug)]
pub(crate) struct Halved {
    level: Level,
    k: usize,
    data: Lines,
}

/// The left-hand factors of some rows.
pub(crate) struct Left<'a> {
    rows: usize,
    k: usize,
    data: &'a [f32],
}

/// The right-hand factors, which quarters their products are added to and how: 11, 21, 12, 22; a first one sets.
const PRODUCTS: [[Option<(usize, Mode)>; 2]; 7] = [
    [Some((0, Mode::Set)), Some((3, Mode::Set))],
    [Some((1, Mode::Set)), Some((3, Mode::Subtract))],
    [Some((2, Mode::Set)), Some((3, Mode::Add))],
    [Some((0, Mode::Add)), Some((1, Mode::Add))],
    [Some((0, Mode::Subtract)), Some((2, Mode::Add))],
    [Some((3, Mode::Add)), None],
    [Some((0, Mode::Add)), None],
];

#[derive(Clone, Copy)]
enum Mode {
    Set,
    Add,
    Subtract,
}

impl Halved {
    /// Column `c` of the matrix is column `source(c)` of `b`, or zero.
    pub fn pack_columns(
        level: Level,
        k: usize,
        n: usize,
        b: View,
        source: impl Fn(usize) -> Option<usize>,
    ) -> Self {
        let (half, width) = (k.div_ceil(2), 2 * level.lanes());
        assert!(!level.lowers() && n.is_multiple_of(2 * width), "columns of a product by halves");
        let mut data = Lines::zeros(7 * half * n / 2);
        for (pair, factors) in data.chunks_exact_mut(7 * half * width).enumerate() {
            for j in 0..width {
                let column = |c: usize| source((2 * pair + c) * width + j);
                let (left, right) = (column(0), column(1));
                let at = |i: usize, c: Option<usize>| match c {
                    Some(c) if i < k => b.data[i * b.row + c * b.column],
                    _ => 0.0,
                };
                for i in 0..half {
                    let (b11, b12) = (at(i, left), at(i, right));
                    let (b21, b22) = (at(half + i, left), at(half + i, right));
                    let all = [b11 + b22, b11, b12 - b22, b21 - b11, b22, b11 + b12, b21 + b22];
                    for (m, v) in all.into_iter().enumerate() {
                        factors[(m * half + i) * width + j] = v;
                    }
                }
            }
        }
        Self { level, k, data }
    }

    /// For products with `rows` rows of `a`, `row` elements apart.
    pub fn left<'a>(&self, a: &[f32], row: usize, rows: usize, buffer: &'a mut Lines) -> Left<'a> {
        let data = buffer.room(7 * rows.div_ceil(2) * self.k.div_ceil(2));
        lefts(self.level, a, row, rows, self.k, data);
        Left { rows, k: self.k, data }
    }

    /// Elements that [`product`](Self::product) writes.
    pub fn room(&self, rows: usize) -> usize {
        8 * rows.div_ceil(2) * self.level.lanes()
    }

    /// `out = start + a b` for one pair of panels, the first panel's rows and then, behind one more if their number is
    /// odd, the second's. `start` is the same for every row, or zero if empty.
    pub fn product(&self, left: &Left, pair: usize, start: &[f32], out: &mut [f32]) {
        assert_eq!(left.k, self.k);
        let (top, half) = (left.rows.div_ceil(2), self.k.div_ceil(2));
        let size = 7 * half * 2 * self.level.lanes();
        quarters(self.level, left.data, &self.data[pair * size..][..size], top, half, start, out);
    }
}

leveled! {
    /// The left-hand factors, `rows / 2 x k / 2` each.
    fn lefts<S>(a: &[f32], row: usize, rows: usize, k: usize, out: &mut [f32]) {
        let (top, half) = (rows.div_ceil(2), k.div_ceil(2));
        assert!(rows > 0 && a.len() >= (rows - 1) * row + k && out.len() == 7 * top * half, "rows by halves");
        for r in 0..top {
            let upper = a[r * row..].as_ptr();
            let below = top + r < rows;
            let lower = a[if below { (top + r) * row } else { 0 }..].as_ptr();
            for i in (0..half).step_by(S::LANES) {
                let lanes = S::LANES.min(half - i);
                let rest = lanes.min((k - half).saturating_sub(i));
                let (low, low_rest) = if below { (lanes, rest) } else { (0, 0) };
                // SAFETY: the lanes lie in the rows; what has none is not read.
                unsafe {
                    let a11 = S::load_some(upper.wrapping_add(i), lanes);
                    let a12 = S::load_some(upper.wrapping_add(half + i), rest);
                    let a21 = S::load_some(lower.wrapping_add(i), low);
                    let a22 = S::load_some(lower.wrapping_add(half + i), low_rest);
                    let all = [
                        S::add(a11, a22), S::add(a21, a22), a11, a22,
                        S::add(a11, a12), S::sub(a21, a11), S::sub(a12, a22),
                    ];
                    for (m, v) in all.into_iter().enumerate() {
                        S::store_some(out.as_mut_ptr().add((m * top + r) * half + i), lanes, v);
                    }
                }
            }
        }
    }
}

leveled! {
    fn quarters<S>(left: &[f32], right: &[f32], top: usize, half: usize, start: &[f32], out: &mut [f32]) {
        let width = 2 * S::LANES;
        assert!(left.len() == 7 * top * half && right.len() == 7 * half * width, "factors of quarters");
        assert!(out.len() >= 4 * top * width && (start.is_empty() || start.len() >= 2 * width), "target of quarters");
        for (m, targets) in PRODUCTS.iter().enumerate() {
            let mut row = 0;
            let mut blocks = top.div_ceil(S::ROWS);
            let (all, pace) = (blocks, width.div_ceil(blocks));
            while row < top {
                let height = (top - row).div_ceil(blocks);
                let from = right.as_ptr().wrapping_add(((m + 1) * width + (all - blocks) * pace) * half);
                let ahead = Ahead { from, pace };
                let (a, b) = (&left[(m * top + row) * half..], &right[m * half * width..]);
                macro_rules! heights {
                    ($($r:literal)*) => {
                        match height {
                            // SAFETY: `height` rows of `half` elements, `half` rows of a panel and as many rows of every
                            // quarter as `row + height` lie in the slices by the assertions.
                            $($r if $r <= S::ROWS => unsafe {
                                block::<S, $r>(a.as_ptr(), b.as_ptr(), half, targets, top, row, start, out.as_mut_ptr(), ahead);
                            },)*
                            _ => unreachable!("blocks fit the registers"),
                        }
                    };
                }
                heights!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
                row += height;
                blocks -= 1;
            }
        }
    }
}

/// `R` rows of a product of quarters, added to its targets.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn block<S: Simd, const R: usize>(
    a: *const f32,
    b: *const f32,
    half: usize,
    targets: &[Option<(usize, Mode)>; 2],
    top: usize,
    row: usize,
    start: &[f32],
    out: *mut f32,
    ahead: Ahead,
) {
    let width = 2 * S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[S::splat(0.0); 2]; R];
        add_products::<S, R, 2, false>(&mut sums, a, half, b, half, ahead);
        for (quarter, mode) in targets.iter().flatten() {
            let out = out.add((quarter * top + row) * width);
            let mut bias = [S::splat(0.0); 2];
            if matches!(mode, Mode::Set) && !start.is_empty() {
                let start = start.as_ptr().add(quarter / 2 * width);
                bias = [S::load(start), S::load(start.add(S::LANES))];
            }
            for (r, sums) in sums.iter().enumerate() {
                for (v, (sum, bias)) in sums.iter().zip(&bias).enumerate() {
                    let to = out.add(r * width + v * S::LANES);
                    let value = match mode {
                        Mode::Set => S::add(*bias, *sum),
                        Mode::Add => S::add(S::load(to), *sum),
                        Mode::Subtract => S::sub(S::load(to), *sum),
                    };
                    S::store(to, value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::values;

    /// Slices as long as they have to be, as in the tests of `matrix`.
    #[test]
    fn products_by_halves_are_products_for_every_remainder() {
        for &level in Level::available().iter().filter(|l| !l.lowers()) {
            let width = 2 * level.lanes();
            for (rows, k, pairs) in [
                (1, 1, 1),
                (2, 3, 1),
                (3, 2, 2),
                (7, 17, 1),
                (27, 33, 2),
                (28, 32, 1),
                (31, 40, 1),
                (112, 64, 2),
            ] {
                if cfg!(miri) && rows > 7 {
                    continue; // it runs hundreds of times slower
                }
                let (n, row) = (2 * pairs * width, k + rows % 3);
                let (a, b) = (values((rows - 1) * row + k, rows), values(k * (n - 1), k));
                let source = |c: usize| (c + 1 < n).then_some(c);
                let halved = Halved::pack_columns(level, k, n, View::rows(&b, n - 1), source);
                let mut buffer = Lines::new();
                let left = halved.left(&a, row, rows, &mut buffer);
                for start in [Vec::new(), values(n, 3)] {
                    for pair in 0..pairs {
                        let mut out = vec![f32::NAN; halved.room(rows)];
                        let bias = start.get(pair * 2 * width..(pair + 1) * 2 * width).unwrap_or(&[]);
                        halved.product(&left, pair, bias, &mut out);
                        for j in 0..2 * width {
                            let column = pair * 2 * width + j;
                            for r in 0..rows {
                                let at =
                                    |i: usize| if column + 1 < n { b[i * (n - 1) + column] } else { 0.0 };
                                let terms = (0..k).map(|i| f64::from(a[r * row + i]) * f64::from(at(i)));
                                let want = terms.sum::<f64>() + f64::from(*start.get(column).unwrap_or(&0.0));
                                let got = out[(j / width * 2 * rows.div_ceil(2) + r) * width + j % width];
                                // Sums of four times as many terms, each up to four times as large.
                                let near = (f64::from(got) - want).abs() <= 2e-6 * (1 + k) as f64;
                                assert!(near, "{level:?} {rows}x{k}x{n} at {r}, {column}: {got}, not {want}");
                            }
                        }
                    }
                }
            }
        }
    }
}
