//! Products of rows with a matrix that was laid out for the registers beforehand.
//!
//! The right-hand matrix is cut into [`Panels`] of two registers' width. A block of results, up to 14 rows by one panel, stays
//! in registers while the panel streams by from L2; the rows are read where they lie, one broadcast element at a
//! time, from L1. A row may be several runs of elements a step apart: a 3x3 convolution's window is three of them,
//! so that a convolution is a product too, without windows ever being copied out.

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::lines::with_kept;
#[cfg(target_arch = "x86_64")]
use super::simd::narrow;
use super::simd::{Level, Simd, leveled, pair};
#[cfg(target_arch = "x86_64")]
use super::tiles;
use super::{Lines, Target, View};

/// A `k x n` matrix in panels: columns `2 lanes p ..` of all `k` rows lie together, the last panel filled up with zeros
/// to one or two registers.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    level: Level,
    k: usize,
    n: usize,
    data: Lines,
}

impl Panels {
    pub fn pack(level: Level, k: usize, n: usize, b: View) -> Self {
        Self::pack_columns(level, k, n, b, Some)
    }

    /// Column `c` of the matrix is column `source(c)` of `b`, or zero.
    pub fn pack_columns(
        level: Level,
        k: usize,
        n: usize,
        b: View,
        source: impl Fn(usize) -> Option<usize> + Sync,
    ) -> Self {
        let mut panels = Self { level, k, n, data: Lines::new() };
        let depth = depth(level, k);
        let len = depth * n.next_multiple_of(level.lanes());
        panels.data = Lines::zeros(len);
        let width = panels.width();
        let data = &mut panels.data[..len];
        let fill = |(p, panel): (usize, &mut [f32])| {
            let lanes = panel.len() / depth;
            #[cfg(target_arch = "x86_64")]
            if level.tiles() {
                let columns = 0..lanes.min(n - p * width);
                let columns = columns.filter_map(|j| source(p * width + j).map(|column| (j, column)));
                return tiles::pack(tiles::parts(level), k, lanes, b, columns, panel);
            }
            let count = lanes.min(n - p * width);
            let first = source(p * width);
            if level != Level::Bf16
                && b.column == 1
                && let Some(first) = first
                && (0..count).all(|j| source(p * width + j) == Some(first + j))
            {
                // A row of the matrix lies in one piece, its columns may be pages apart.
                for (i, to) in panel.chunks_exact_mut(lanes).enumerate() {
                    to[..count].copy_from_slice(&b.data[i * b.row + first..][..count]);
                }
                return;
            }
            for j in 0..count {
                let Some(column) = source(p * width + j) else { continue };
                let from = &b.data[column * b.column..];
                if level == Level::Bf16 {
                    for i in 0..depth {
                        let high = if 2 * i + 1 < k { from[(2 * i + 1) * b.row] } else { 0.0 };
                        panel[i * lanes + j] = pair(from[2 * i * b.row], high);
                    }
                } else {
                    for i in 0..k {
                        panel[i * lanes + j] = from[i * b.row];
                    }
                }
            }
        };
        // Small ones are packed inside tasks: no tasks of their own.
        let size = (depth * width).max(1);
        if len < 1 << 18 {
            data.chunks_mut(size).enumerate().for_each(fill);
        } else {
            data.par_chunks_mut(size).enumerate().for_each(fill);
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

    #[cfg(target_arch = "x86_64")]
    pub fn level(&self) -> Level {
        self.level
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
        let data = &self.data[p * width * depth(self.level, self.k)..];
        PanelsRef { level: self.level, k: self.k, n, data }
    }
}

/// Elements of a row or column as they lie: at levels that take bfloat16, pairs of them.
fn depth(level: Level, k: usize) -> usize {
    match level {
        Level::Bf16 => k.div_ceil(2),
        #[cfg(target_arch = "x86_64")]
        Level::Amx | Level::Bf16x3 => tiles::parts(level) * tiles::depth(k),
        _ => k,
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

impl<'a> PanelsRef<'a> {
    /// Of a single panel of f32: `count` of its rows.
    pub fn part(self, first: usize, count: usize) -> PanelsRef<'a> {
        let lanes = self.level.lanes();
        assert!(self.n <= 2 * lanes && !self.level.lowers() && first + count <= self.k, "part of a panel");
        let width = self.n.next_multiple_of(lanes);
        PanelsRef { k: count, data: &self.data[first * width..], ..self }
    }
}

/// The left-hand matrix: row `r` is `segments` runs, run `s` beginning at `r row + s step`; together they are as long as
/// the panels' `k`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub segments: usize,
    pub step: usize,
    /// At which level's products they lie as those take them, if that is not as f32.
    pub lowered: Option<Level>,
}

impl<'a> Rows<'a> {
    pub fn new(data: &'a [f32], row: usize) -> Self {
        Self { data, row, segments: 1, step: 0, lowered: None }
    }

    /// For several products at `level`: rows of `k` elements as those take them, in `buffer` where that is not how they lie.
    pub fn lowered(self, level: Level, rows: usize, k: usize, buffer: &'a mut Lines) -> Rows<'a> {
        #[cfg(target_arch = "x86_64")]
        if level.lowers() && self.lowered.is_none() {
            assert!(level.is_available() && self.segments == 1, "rows of bfloat16");
            let depth = depth(level, k);
            if level.tiles() {
                // Whole tiles are read. Rows an odd number of lines apart do not push each other out of L1.
                let row = ((depth / tiles::SIDE) | 1) * tiles::SIDE;
                let buffer = buffer.room(rows.next_multiple_of(tiles::SIDE) * row);
                tiles::lower(tiles::parts(level), rows, k, self.data, self.row, buffer, row);
                return Rows { data: buffer, row, segments: 1, step: 0, lowered: Some(level) };
            }
            let buffer = buffer.room(rows * depth);
            for (r, out) in buffer.chunks_exact_mut(depth).enumerate() {
                // SAFETY: the level is available.
                unsafe { narrow(&self.data[r * self.row..][..k], out) };
            }
            return Rows { data: buffer, row: depth, segments: 1, step: 0, lowered: Some(level) };
        }
        let _ = (level, rows, k, buffer);
        self
    }
}

/// Pixels of `c` channels as windows of several take them at a level with tiles, and elements of each; behind them is room for `more`, as
/// whole tiles are read.
#[cfg(target_arch = "x86_64")]
pub(super) fn lowered_pixels<'a>(
    level: Level,
    x: &[f32],
    c: usize,
    more: usize,
    buffer: &'a mut Lines,
) -> (&'a [f32], usize) {
    assert!(c.is_multiple_of(tiles::STEP), "pixels of {c} channels for tiles");
    let (pixels, depth) = (x.len() / c, depth(level, c));
    let all = buffer.room((pixels + more) * depth);
    tiles::lower(tiles::parts(level), pixels, c, x, c, all, depth);
    (all, depth)
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

/// Sizes are of elements as they lie.
pub(super) struct Task {
    pub rows: usize,
    pub a: *const f32,
    pub a_row: usize,
    pub segments: usize,
    pub step: usize,
    /// Elements of one segment.
    pub run: usize,
    pub b: *const f32,
    pub n: usize,
    pub out: *mut f32,
    pub out_row: usize,
    /// Null for zero.
    pub start: *const f32,
    pub start_row: usize,
}

/// `out = start + a b` on this thread for `rows` rows, `out_row` elements from one to the next.
pub(crate) fn product(rows: usize, a: Rows, b: PanelsRef, start: Start, out: &mut Target, out_row: usize) {
    if rows == 0 || b.n == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if b.level.lowers() && a.lowered.is_none() {
        return with_kept(|buffer| {
            product(rows, a.lowered(b.level, rows, b.k, buffer), b, start, out, out_row);
        });
    }
    assert!(
        a.lowered.is_none_or(|l| l == b.level),
        "rows laid out for {:?}, a matrix for {:?}",
        a.lowered,
        b.level
    );
    let all = depth(b.level, b.k);
    let run = all / a.segments.max(1);
    #[cfg(target_arch = "x86_64")]
    let read = if b.level.tiles() { rows.next_multiple_of(tiles::SIDE) } else { rows };
    #[cfg(not(target_arch = "x86_64"))]
    let read = rows;
    let reach = (read - 1) * a.row + a.segments.saturating_sub(1) * a.step + run;
    assert!(run * a.segments == all && reach <= a.data.len(), "rows of a product");
    assert!(b.data.len() >= all * b.n.next_multiple_of(b.level.lanes()), "panels of a product");
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
    #[cfg(target_arch = "x86_64")]
    if b.level.tiles() {
        assert!(tiles::available(), "this CPU has no AMX");
        // Steps are counted down to nothing: fewer than one would be endless.
        let step = depth(b.level, tiles::STEP);
        assert!(run > 0 && run.is_multiple_of(step), "a run of {run} is no whole steps of {step}");
        // SAFETY: the CPU has it; a run is whole steps, and all that they read, of whole tiles of rows, and write lies in the
        // slices by the assertions above.
        return unsafe { tiles::product(tiles::parts(b.level), &task) };
    }
    #[cfg(target_arch = "x86_64")]
    if b.level == Level::Bf16 {
        assert!(b.level.is_available(), "this CPU has no AVX-512 BF16");
        // SAFETY: the CPU has the features; all reads and writes lie in the slices by the assertions above.
        return unsafe { pairs(&task) };
    }
    // All reads and writes lie in the slices by the assertions above.
    panels(b.level, &task);
}

leveled! {
    fn panels<S>(t: &Task) {
        // SAFETY: `product` has checked that all reads and writes are inside the slices.
        unsafe { all_panels::<S, false>(t) }
    }
}

/// [`panels`] of pairs of bfloat16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma")]
fn pairs(t: &Task) {
    // SAFETY: as above.
    unsafe { all_panels::<super::simd::Avx512, true>(t) }
}

#[inline(always)]
unsafe fn all_panels<S: Simd, const PAIRS: bool>(t: &Task) {
    let width = 2 * S::LANES;
    let k = t.segments * t.run;
    for column in (0..t.n).step_by(width) {
        // SAFETY: `product` has checked that all reads and writes are inside the slices.
        unsafe {
            let b = t.b.add(column * k);
            let left = t.n - column;
            let next = b.wrapping_add(k * width);
            // One register wide, twice as many rows fit.
            let highest = if left > S::LANES { S::ROWS } else { (2 * S::ROWS).min(14) };
            let mut row = 0;
            let mut blocks = t.rows.div_ceil(highest);
            let (all, pace) = (blocks, width.div_ceil(blocks));
            while row < t.rows {
                // Blocks of about the same height.
                let height = (t.rows - row).div_ceil(blocks);
                // The next panel comes near by as large a part as the rows are of all.
                let ahead = Ahead { from: next.wrapping_add((all - blocks) * pace * k), pace };
                if left > S::LANES {
                    rows_of::<S, 2, PAIRS>(t, height, row, column, b, left.min(width) - S::LANES, ahead);
                } else {
                    rows_of::<S, 1, PAIRS>(t, height, row, column, b, left, ahead);
                }
                row += height;
                blocks -= 1;
            }
        }
    }
}

/// `height` rows by `V` registers; `last` lanes of the last register are wanted.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn rows_of<S: Simd, const V: usize, const PAIRS: bool>(
    t: &Task,
    height: usize,
    row: usize,
    column: usize,
    b: *const f32,
    last: usize,
    ahead: Ahead,
) {
    macro_rules! heights {
        ($($r:literal)*) => {
            match height {
                $($r if $r * V <= 2 * S::ROWS => unsafe { block::<S, $r, V, PAIRS>(t, row, column, b, last, ahead) },)*
                _ => unreachable!("blocks fit the registers"),
            }
        };
    }
    heights!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}

/// Rows whose addresses have a register each, beside what else the loop needs.
const POINTERS: usize = 6;

#[inline(always)]
unsafe fn block<S: Simd, const R: usize, const V: usize, const PAIRS: bool>(
    t: &Task,
    row: usize,
    column: usize,
    b: *const f32,
    last: usize,
    ahead: Ahead,
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
        for segment in 0..t.segments {
            let a = t.a.add(row * t.a_row + segment * t.step);
            let b = b.add(segment * t.run * V * S::LANES);
            add_products::<S, R, V, PAIRS>(&mut sums, a, t.a_row, b, t.run, ahead);
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

/// What is fetched while a product runs: with every step what lies `pace` elements behind the last. What L3 gives in a row at once is
/// waited for; spread over all of a panel's blocks, the next panel's rows cost a load each.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    pub from: *const f32,
    pub pace: usize,
}

/// Adds to `sums` the product of `R` rows of `k` elements, `a_row` apart, with `k` rows of a panel.
///
/// # Safety
/// As [`Simd`]; all elements can be read.
#[inline(always)]
pub(super) unsafe fn add_products<S: Simd, const R: usize, const V: usize, const PAIRS: bool>(
    sums: &mut [[S::V; V]; R],
    a: *const f32,
    a_row: usize,
    b: *const f32,
    k: usize,
    ahead: Ahead,
) {
    // Where the elements' addresses are registers of their own and one index, an element costs its load alone: with blocks as low as
    // AVX2's the additions took a fifth of the time. Without the box they are one chain of additions again.
    let mut each = [a; R];
    for (r, row) in each.iter_mut().enumerate() {
        *row = a.wrapping_add(r * a_row);
    }
    let apart = R <= POINTERS;
    if apart {
        each = std::hint::black_box(each);
    }
    // No closure: that would not be compiled for the caller's features.
    macro_rules! step {
        ($i:expr) => {{
            let i = $i;
            // SAFETY: the caller's promise; `i` is below `k`.
            unsafe {
                let b = b.add(i * V * S::LANES);
                let mut columns = [S::splat(0.0); V];
                for (v, c) in columns.iter_mut().enumerate() {
                    *c = S::load(b.add(v * S::LANES));
                }
                S::prefetch(ahead.from.wrapping_add(i * ahead.pace));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let row = if apart { each[r] } else { a.add(r * a_row) };
                    let x = S::splat(*row.add(i));
                    for (sum, c) in sums.iter_mut().zip(&columns) {
                        *sum = if PAIRS { S::fma_pairs(x, *c, *sum) } else { S::fma(x, *c, *sum) };
                    }
                }
            }
        }};
    }
    let mut i = 0;
    if apart {
        while i + 4 <= k {
            step!(i);
            step!(i + 1);
            step!(i + 2);
            step!(i + 3);
            i += 4;
        }
    }
    while i < k {
        step!(i);
        i += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::values;

    /// Every slice is as long as it has to be and no longer, so that a read or write beyond one shows under a checker of memory,
    /// but for those by tiles, which none knows: they have the test behind this one. What lies between the rows of the target must
    /// stay as it was.
    #[test]
    fn products_of_every_remainder_stay_inside_their_slices() {
        for level in Level::all() {
            let tolerance = level.tolerance();
            let small = (1..=15).chain([28, 29]).flat_map(|rows| {
                [1, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 65].map(|n| (rows, n, 1 + (rows * n) % 37))
            });
            // Whole tiles and more of them: straight to the target, several blocks and steps.
            let tall = [16, 32, 33, 48, 64, 130].into_iter().flat_map(|rows| {
                [16, 32, 48, 64].into_iter().flat_map(move |n| [32, 96, 300].map(|k| (rows, n, k)))
            });
            let tall = tall.filter(|_| level.tiles());
            for (rows, n, k) in small.chain(tall) {
                let (a_row, out_row) = (k + rows % 3, n + rows % 2);
                let a = values((rows - 1) * a_row + k, rows);
                let b = values(k * n, n);
                let panels = Panels::pack(level, k, n, View::rows(&b, n));
                let bias = values(n, 7);
                for (case, start) in [Start::Zero, Start::Bias(&bias), Start::Keep].into_iter().enumerate() {
                    let before = values((rows - 1) * out_row + n, 9);
                    let mut out = before.clone();
                    product(
                        rows,
                        Rows::new(&a, a_row),
                        panels.as_ref(),
                        start,
                        &mut out.as_mut_slice().into(),
                        out_row,
                    );
                    for (i, (got, before)) in out.iter().zip(&before).enumerate() {
                        let (r, c) = (i / out_row, i % out_row);
                        if c >= n {
                            assert_eq!(got, before, "between rows");
                            continue;
                        }
                        let first = [0.0, bias[c], *before][case];
                        let terms = (0..k).map(|j| f64::from(a[r * a_row + j]) * f64::from(b[j * n + c]));
                        let (sum, size) = terms.fold((0.0, 1.0), |(s, z), t| (s + t, z + t.abs()));
                        let want = f64::from(first) + sum;
                        let near = (f64::from(*got) - want).abs() <= tolerance * size;
                        assert!(near, "{level:?} {rows}x{k}x{n} at {r}, {c}: {got}, not {want}");
                    }
                }
            }
        }
    }

    /// Memory in front of a page that nobody may touch.
    #[cfg(all(unix, not(miri)))]
    struct Guarded {
        start: *mut libc::c_void,
        bytes: usize,
        page: usize,
    }

    #[cfg(all(unix, not(miri)))]
    impl Guarded {
        /// Of `n` values or somewhat more.
        fn new(n: usize) -> Self {
            // SAFETY: takes numbers alone; the closed page is the last of those that were just given.
            unsafe {
                let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
                let bytes = (n * size_of::<f32>()).next_multiple_of(page);
                let (protection, flags) =
                    (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
                let start = libc::mmap(std::ptr::null_mut(), bytes + page, protection, flags, -1, 0);
                assert_ne!(start, libc::MAP_FAILED);
                assert_eq!(libc::mprotect(start.byte_add(bytes), page, libc::PROT_NONE), 0);
                Self { start, bytes, page }
            }
        }

        /// The values, the last of them right in front of the page.
        fn holding(&mut self, values: &[f32]) -> &mut [f32] {
            assert!(size_of_val(values) <= self.bytes);
            // SAFETY: so many lie in front of the page, zeros or what was written, and are borrowed with this.
            let last = unsafe {
                let end = self.start.byte_add(self.bytes).cast::<f32>();
                std::slice::from_raw_parts_mut(end.sub(values.len()), values.len())
            };
            last.copy_from_slice(values);
            last
        }
    }

    #[cfg(all(unix, not(miri)))]
    impl Drop for Guarded {
        fn drop(&mut self) {
            // SAFETY: mapped by `new`; no slice of it is left.
            unsafe { libc::munmap(self.start, self.bytes + self.page) };
        }
    }

    /// One read or write beyond a slice ends in a signal, whatever instruction does it: those of tiles are assembly, which no checker
    /// of memory sees into. Panels are copied out of their own buffer, and rows also as they lie once they are lowered.
    #[cfg(all(unix, not(miri)))]
    #[test]
    fn no_product_touches_the_page_behind_its_slices() {
        const MOST: usize = 4096;
        let noise = values(MOST, 1);
        let [mut matrix, mut packed, mut biases, mut left, mut laid, mut target] =
            std::array::from_fn(|_| Guarded::new(MOST));
        let mut buffer = Lines::new();
        for level in Level::all() {
            for (k, n) in [1, 31, 32, 33, 64].into_iter().flat_map(|k| (1..=33).map(move |n| (k, n))) {
                // Packing reads either way round.
                let matrix = &*matrix.holding(&noise[..k * n]);
                let b = match n.is_multiple_of(2) {
                    true => View::rows(matrix, n),
                    false => View::rows(matrix, k).transposed(),
                };
                let panels = Panels::pack(level, k, n, b);
                let size = depth(level, k) * n.next_multiple_of(level.lanes());
                let panels = PanelsRef { data: packed.holding(&panels.data[..size]), ..panels.as_ref() };
                let bias = &*biases.holding(&noise[..n]);
                for rows in 1..=33usize {
                    // Tiles' rows are read by 16.
                    let read = if level.tiles() { rows.next_multiple_of(16) } else { rows };
                    let (a_row, out_row) = (k + rows % 3, n + rows % 2);
                    let start = [Start::Zero, Start::Bias(bias), Start::Keep][(k + n + rows) % 3];
                    let mut out = Target::from(target.holding(&noise[..(rows - 1) * out_row + n]));
                    let whole = Rows::new(left.holding(&noise[..(rows - 1) * a_row + k]), a_row);
                    product(rows, whole, panels, start, &mut out, out_row);
                    let lowered = whole.lowered(level, rows, k, &mut buffer);
                    if lowered.lowered.is_some() {
                        let reach = (read - 1) * lowered.row + depth(level, k);
                        let lowered = Rows { data: laid.holding(&lowered.data[..reach]), ..lowered };
                        product(rows, lowered, panels, start, &mut out, out_row);
                    }
                    if k == 64 {
                        // Two runs, as windows are read; of whatever values.
                        let run = depth(level, k / 2);
                        let step = read * run + 3;
                        let windows = Rows {
                            data: laid.holding(&noise[..(read - 1) * run + step + run]),
                            row: run,
                            segments: 2,
                            step,
                            lowered: level.lowers().then_some(level),
                        };
                        product(rows, windows, panels, start, &mut out, out_row);
                    }
                }
            }
        }
    }

    /// A step is 32 elements; half of one would be counted as none.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn tiles_refuse_runs_that_are_no_whole_steps() {
        if !tiles::available() {
            eprintln!("no AMX here: no product by tiles");
            return;
        }
        for level in [Level::Bf16x3, Level::Amx] {
            for k in [32, 96] {
                let (n, row) = (3, depth(level, k));
                let panels = Panels::pack(level, k, n, View::rows(&vec![1.0; k * n], n));
                let (a, mut out) = (vec![0.0; 17 * row], vec![0.0; n]);
                let windows = Rows { data: &a, row, segments: 2, step: row / 2, lowered: Some(level) };
                let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    product(1, windows, panels.as_ref(), Start::Zero, &mut out.as_mut_slice().into(), n);
                }));
                let why = refused.expect_err("half a step was multiplied");
                let why = why.downcast_ref::<String>().expect("a message");
                assert!(why.contains("no whole steps"), "{level:?}: {why}");
            }
        }
    }

    #[test]
    fn rows_of_several_runs_are_one_row() {
        let (k, n, rows) = (5, 19, 9);
        let a = values(200, 1);
        let b = values(3 * k * n, 2);
        // Tiles' windows are tested with the convolutions.
        for &level in Level::available() {
            let panels = Panels::pack(level, 3 * k, n, View::rows(&b, n));
            let mut out = vec![0.0; rows * n];
            let windows = Rows { data: &a, row: 2, segments: 3, step: 40, lowered: None };
            product(rows, windows, panels.as_ref(), Start::Zero, &mut out.as_mut_slice().into(), n);
            for (i, got) in out.iter().enumerate() {
                let at = |j: usize| a[i / n * 2 + j / k * 40 + j % k] * b[j * n + i % n];
                let want: f32 = (0..3 * k).map(at).sum();
                assert!((got - want).abs() < 1e-5, "{level:?} at {i}: {got}, not {want}");
            }
        }
    }
}
