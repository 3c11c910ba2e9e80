//! Products by the tiles of AMX, a matrix unit of Intel's processors since Sapphire Rapids: sixteen rows of factors in bfloat16 by
//! sixteen columns, summed in f32, in one instruction.
//!
//! The standard library has these instructions for nightly compilers alone, so that they are written as assembly here. A block of a
//! product is one piece of it, since nothing else keeps tiles from one statement to the next.

use std::arch::asm;
use std::arch::x86_64::*;

use once_cell::sync::Lazy;

use super::matrix::{PanelsRef, Task};
use super::simd::Level;
use super::{Lines, View};

/// Rows of a tile, and its columns of f32.
pub(super) const SIDE: usize = 16;
/// Elements of a row that one tile of factors has.
pub(super) const STEP: usize = 32;
/// A row of a tile: sixteen f32, or as many pairs of bfloat16.
const LINE: usize = 64;

/// Lines of the next panel that a whole block fetches with every step, for each part of the factors: four blocks fetch all of it.
const PACE: usize = 8;

/// `arch_prctl`: permission for a feature whose state is large, here that of tiles.
#[cfg(target_os = "linux")]
const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
#[cfg(target_os = "linux")]
const XFEATURE_XTILEDATA: libc::c_long = 18;

/// Whether the CPU has tiles for bfloat16 and this process may use them. The first call asks the system for that.
pub(super) fn available() -> bool {
    static AVAILABLE: Lazy<bool> = Lazy::new(|| {
        // CPUID leaf 7, EDX: AMX-BF16 and AMX-TILE; XCR0: tiles' configuration and data are kept by the system.
        const TILES: u32 = 1 << 22 | 1 << 24;
        const STATE: u64 = 1 << 17 | 1 << 18;
        if !is_x86_feature_detected!("avx512bf16") || !is_x86_feature_detected!("xsave") {
            return false;
        }
        if __cpuid_count(7, 0).edx & TILES != TILES {
            return false;
        }
        // SAFETY: the CPU has XSAVE, and the system has switched it on.
        if unsafe { _xgetbv(0) } & STATE != STATE {
            return false;
        }
        // SAFETY: takes numbers alone; where the system does not know it, an error comes back.
        #[cfg(target_os = "linux")]
        let allowed =
            unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 };
        #[cfg(not(target_os = "linux"))]
        let allowed = false;
        allowed
    });
    *AVAILABLE
}

/// How many bfloat16 stand for a factor: itself rounded, and at [`Level::Bf16x3`] what that left of it, rounded.
pub(super) fn parts(level: Level) -> usize {
    if level == Level::Bf16x3 { 2 } else { 1 }
}

/// What one part of `k` elements of a row or a column takes, in places of four bytes: a line of pairs for every [`STEP`] of them. Of
/// two parts, each line of the second lies behind its line of the first.
pub(super) fn depth(k: usize) -> usize {
    k.div_ceil(STEP) * SIDE
}

/// Rounds to bfloat16: the first sixteen are of `low`.
#[inline(always)]
unsafe fn pairs(low: __m512, high: __m512) -> __m512i {
    // SAFETY: the types differ in name only.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// The values of sixteen bfloat16.
#[inline(always)]
unsafe fn widen(x: __m256i) -> __m512 {
    // SAFETY: the caller's features.
    unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x))) }
}

/// As [`pairs`], and what they leave of both.
#[inline(always)]
unsafe fn split(low: __m512, high: __m512) -> [__m512i; 2] {
    // SAFETY: the caller's features.
    unsafe {
        let first = pairs(low, high);
        let of_low = widen(_mm512_castsi512_si256(first));
        let of_high = widen(_mm512_extracti64x4_epi64::<1>(first));
        [first, pairs(_mm512_sub_ps(low, of_low), _mm512_sub_ps(high, of_high))]
    }
}

/// Writes [`STEP`] elements of a row as a product takes them, in one part or two; where the next ones go.
///
/// # Safety
/// The lines of `to` can be written.
#[inline(always)]
unsafe fn lay<const TWO: bool>(low: __m512, high: __m512, to: *mut __m512i) -> *mut __m512i {
    // SAFETY: the caller's promise and features.
    unsafe {
        if TWO {
            let [first, second] = split(low, high);
            _mm512_storeu_si512(to, first);
            _mm512_storeu_si512(to.add(1), second);
            to.wrapping_add(2)
        } else {
            _mm512_storeu_si512(to, pairs(low, high));
            to.wrapping_add(1)
        }
    }
}

fn mask(n: usize) -> __mmask16 {
    ((1u32 << n.min(16)) - 1) as __mmask16
}

/// Rows of `k` elements, `from` apart, in `parts` as a product takes them, `to` apart.
pub(super) fn lower(parts: usize, rows: usize, k: usize, x: &[f32], from: usize, out: &mut [f32], to: usize) {
    if rows == 0 || k == 0 {
        return;
    }
    assert!(available() && x.len() >= (rows - 1) * from + k, "rows for tiles");
    assert!(out.len() >= (rows - 1) * to + parts * depth(k), "rows for tiles: target");
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn all<const TWO: bool>(
        rows: usize,
        k: usize,
        x: *const f32,
        from: usize,
        out: *mut f32,
        to: usize,
    ) {
        let mut out = out;
        for r in 0..rows {
            // SAFETY: in bounds by the assertions; lanes that are masked out are not read.
            unsafe {
                let mut line = out.cast::<__m512i>();
                for i in (0..k).step_by(STEP) {
                    let n = k - i;
                    let x = x.add(r * from + i);
                    let low = _mm512_maskz_loadu_ps(mask(n), x);
                    let high = _mm512_maskz_loadu_ps(mask(n.saturating_sub(SIDE)), x.wrapping_add(SIDE));
                    line = lay::<TWO>(low, high, line);
                }
                out = out.wrapping_add(to);
            }
        }
    }
    // SAFETY: the CPU has the features.
    unsafe {
        match parts {
            1 => all::<false>(rows, k, x.as_ptr(), from, out.as_mut_ptr(), to),
            _ => all::<true>(rows, k, x.as_ptr(), from, out.as_mut_ptr(), to),
        }
    }
}

/// Lays `columns` of a matrix of `k` rows, each with its place in the panel, out as one panel of `lanes` columns: a tile of pairs for
/// every [`STEP`] rows, or two beside each other, and behind them those of the second of `parts`.
pub(super) fn pack(
    parts: usize,
    k: usize,
    lanes: usize,
    b: View,
    columns: impl Iterator<Item = (usize, usize)>,
    panel: &mut [f32],
) {
    assert!(available() && panel.len() >= parts * depth(k) * lanes, "panel for tiles");
    let mut all = [(0, 0); 2 * SIDE];
    let mut count = 0;
    for (to, (j, column)) in all.iter_mut().zip(columns) {
        assert!(
            j < lanes && (k == 0 || (k - 1) * b.row + column * b.column < b.data.len()),
            "column for tiles"
        );
        *to = (j, column);
        count += 1;
    }
    let all = &all[..count];
    let Some(&(_, first)) = all.first() else { return };
    let beside = b.column == 1 && all.iter().enumerate().all(|(i, c)| *c == (i, first + i));
    let (mut values, mut words) = ([0.0f32; STEP], [0.0f32; 2 * SIDE]);
    for (tiles, row) in panel.chunks_exact_mut(parts * SIDE * lanes).zip((0..k).step_by(STEP)) {
        let n = STEP.min(k - row);
        if beside {
            for half in (0..count).step_by(SIDE) {
                let from = &b.data[row * b.row + first + half..];
                let to = &mut tiles[half..];
                // SAFETY: the CPU has the features; `n` rows of so many columns lie in the slice by the assertion above, and the
                // tiles have `SIDE` lines each.
                unsafe {
                    let stripes = if parts == 1 { stripes::<false> } else { stripes::<true> };
                    stripes(from.as_ptr(), b.row, n, count - half, to.as_mut_ptr(), lanes);
                }
            }
            continue;
        }
        for &(j, column) in all {
            let from = &b.data[row * b.row + column * b.column..];
            if b.row == 1 {
                lower(parts, 1, n, &from[..n], n, &mut words, 0);
            } else {
                for (v, from) in values.iter_mut().zip(from.iter().step_by(b.row)).take(n) {
                    *v = *from;
                }
                lower(parts, 1, n, &values, n, &mut words, 0);
            }
            for (to, word) in tiles[j..].iter_mut().step_by(lanes).zip(&words[..parts * SIDE]) {
                *to = *word;
            }
        }
    }
}

/// The pairs of `n` rows, up to [`STEP`], of sixteen columns beside each other, or of `columns` if those are fewer, in one part or two.
///
/// # Safety
/// The rows can be read; `to` has room for [`SIDE`] lines of each part, `lanes` apart.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn stripes<const TWO: bool>(
    from: *const f32,
    from_row: usize,
    n: usize,
    columns: usize,
    to: *mut f32,
    lanes: usize,
) {
    let columns = mask(columns);
    // Words of two registers in turn.
    let turns: [u16; STEP] = std::array::from_fn(|i| (i / 2 + i % 2 * SIDE) as u16);
    // SAFETY: the caller's promise; rows from `n` on are not read.
    unsafe {
        let turns = _mm512_loadu_si512(turns.as_ptr().cast());
        for i in 0..SIDE {
            let some = |r: usize| if r < n { columns } else { 0 };
            let at = from.wrapping_add(2 * i * from_row);
            let low = _mm512_maskz_loadu_ps(some(2 * i), at);
            let high = _mm512_maskz_loadu_ps(some(2 * i + 1), at.wrapping_add(from_row));
            let mut both = [_mm512_setzero_si512(); 2];
            lay::<TWO>(low, high, both.as_mut_ptr());
            let to = to.add(i * lanes);
            _mm512_storeu_si512(to.cast(), _mm512_permutexvar_epi16(turns, both[0]));
            if TWO {
                _mm512_storeu_si512(to.add(SIDE * lanes).cast(), _mm512_permutexvar_epi16(turns, both[1]));
            }
        }
    }
}

/// Rows of bfloat16, `row` from one to the next, as the `k x n` right-hand matrix of products at [`Level::Amx`].
pub(super) fn panels_of_rows<'a>(
    k: usize,
    n: usize,
    rows: &[u16],
    row: usize,
    buffer: &'a mut Lines,
) -> PanelsRef<'a> {
    assert!(available() && k > 0 && n <= row && rows.len() >= (k - 1) * row + n, "rows for panels");
    let (depth, columns) = (depth(k), n.next_multiple_of(SIDE));
    let data = buffer.room(depth * columns);
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn panel(rows: *const u16, row: usize, (k, n): (usize, usize), lanes: usize, to: *mut f32) {
        for half in (0..lanes).step_by(SIDE) {
            let columns = mask(n.saturating_sub(half));
            for i in 0..k.div_ceil(STEP) * SIDE {
                // SAFETY: rows from `k` on and columns that are masked out are not read; a line of the panel is written.
                unsafe {
                    let some = |r: usize| if r < k { columns } else { 0 };
                    let at = rows.wrapping_add(2 * i * row + half);
                    let low = _mm256_maskz_loadu_epi16(some(2 * i), at.cast());
                    let high = _mm256_maskz_loadu_epi16(some(2 * i + 1), at.wrapping_add(row).cast());
                    let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(high));
                    let both = _mm512_or_si512(_mm512_cvtepu16_epi32(low), high);
                    _mm512_storeu_si512(to.add(i * lanes + half).cast(), both);
                }
            }
        }
    }
    for column in (0..n).step_by(2 * SIDE) {
        let lanes = (columns - column).min(2 * SIDE);
        let to = &mut data[column * depth..][..lanes * depth];
        // SAFETY: the CPU has the features; rows and columns below `k` and `n` lie in the slice by the assertion above.
        unsafe { panel(rows.as_ptr().wrapping_add(column), row, (k, n - column), lanes, to.as_mut_ptr()) };
    }
    PanelsRef { level: Level::Amx, k, n, data }
}

/// Eight tiles of sixteen whole rows each.
#[repr(C, align(64))]
struct Configuration([u8; 64]);

static CONFIGURATION: Configuration = {
    let mut c = [0; 64];
    c[0] = 1; // palette
    let mut tile = 0;
    while tile < 8 {
        c[16 + 2 * tile] = LINE as u8;
        c[48 + tile] = SIDE as u8;
        tile += 1;
    }
    Configuration(c)
};

/// Sets this thread's tiles up, and as they were when it goes: other libraries set theirs up once a thread.
struct Tiles {
    before: Configuration,
}

impl Tiles {
    fn new() -> Self {
        let mut before = Configuration([0; 64]);
        // SAFETY: `available` holds; 64 bytes each. Where no tiles are set up, zeros are stored.
        unsafe {
            asm!("sttilecfg [{}]", in(reg) &mut before, options(nostack));
            asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack, readonly));
        }
        Self { before }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: `available` holds; a configuration of zeros lets the tiles go.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &self.before, options(nostack, readonly)) };
    }
}

/// What a block of tiles is begun with and where it goes, in bytes from one row to the next; and how its rows are stepped
/// through.
#[repr(C)]
struct Block {
    start: *const f32,
    start_row: usize,
    out: *mut f32,
    out_row: usize,
    /// Steps of a run, never none, and bytes from the end of one run to the next.
    steps: usize,
    jump: isize,
    runs: usize,
}

/// A kernel for one or two tiles of rows by one or two of columns, of factors in `$parts` parts: `$start` begins the sums, `$step` adds one
/// step's products.
macro_rules! kernel {
    ($name:ident, parts: $parts:literal, columns: $columns:literal, [$($start:literal)*], [$($step:literal)*], [$($end:literal)*]) => {
        /// # Safety
        /// The tiles are set up; there are steps and runs; all that the block reads and writes may be.
        unsafe fn $name(t: &Block, a: *const u8, a_row: usize, b: *const u8, ahead: *const u8) {
            // SAFETY: the caller's promise; the tiles are this library's while they are set up.
            unsafe {
                asm!(
                    "mov {c}, [{t}]",
                    "mov {cr}, [{t} + 8]",
                    "mov {c1}, {cr}",
                    "shl {c1}, 4",
                    "add {c1}, {c}",
                    $($start,)*
                    "mov {runs}, [{t} + 48]",
                    "3:",
                    "mov {n}, [{t} + 32]",
                    "2:",
                    $($step,)*
                    "add {a}, {a_step}",
                    "add {a1}, {a_step}",
                    "add {b}, {b_step}",
                    "add {p}, {p_step}",
                    "dec {n}",
                    "jnz 2b",
                    "add {a}, [{t} + 40]",
                    "add {a1}, [{t} + 40]",
                    "dec {runs}",
                    "jnz 3b",
                    "mov {c}, [{t} + 16]",
                    "mov {cr}, [{t} + 24]",
                    "mov {c1}, {cr}",
                    "shl {c1}, 4",
                    "add {c1}, {c}",
                    $($end,)*
                    t = in(reg) t,
                    a = inout(reg) a => _,
                    a1 = inout(reg) a.wrapping_add(SIDE * a_row) => _,
                    ar = in(reg) a_row,
                    b = inout(reg) b => _,
                    br = in(reg) $columns * LINE,
                    p = inout(reg) ahead => _,
                    n = out(reg) _,
                    runs = out(reg) _,
                    c = out(reg) _,
                    c1 = out(reg) _,
                    cr = out(reg) _,
                    a_step = const $parts * LINE,
                    b_step = const $parts * $columns * SIDE * LINE,
                    p_step = const $parts * PACE * LINE,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                )
            };
        }
    };
}

// Sums: tiles 0 to 3, by rows; rows' factors: 4 and 5; columns': 6 and 7.
kernel!(whole, parts: 1, columns: 2,
    ["tileloadd tmm0, [{c} + {cr}]" "tileloadd tmm1, [{c} + {cr} + 64]" "tileloadd tmm2, [{c1} + {cr}]" "tileloadd tmm3, [{c1} + {cr} + 64]"],
    ["tileloadd tmm4, [{a} + {ar}]" "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"
     "prefetcht1 [{p} + 0]" "prefetcht1 [{p} + 64]" "prefetcht1 [{p} + 128]" "prefetcht1 [{p} + 192]"
     "tileloadd tmm7, [{b} + {br} + 64]" "tdpbf16ps tmm1, tmm4, tmm7"
     "prefetcht1 [{p} + 256]" "prefetcht1 [{p} + 320]" "prefetcht1 [{p} + 384]" "prefetcht1 [{p} + 448]"
     "tileloadd tmm5, [{a1} + {ar}]" "tdpbf16ps tmm2, tmm5, tmm6" "tdpbf16ps tmm3, tmm5, tmm7"],
    ["tilestored [{c} + {cr}], tmm0" "tilestored [{c} + {cr} + 64], tmm1" "tilestored [{c1} + {cr}], tmm2" "tilestored [{c1} + {cr} + 64], tmm3"]
);
kernel!(low, parts: 1, columns: 2,
    ["tileloadd tmm0, [{c} + {cr}]" "tileloadd tmm1, [{c} + {cr} + 64]"],
    ["tileloadd tmm4, [{a} + {ar}]" "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm7, [{b} + {br} + 64]" "tdpbf16ps tmm1, tmm4, tmm7"],
    ["tilestored [{c} + {cr}], tmm0" "tilestored [{c} + {cr} + 64], tmm1"]
);
kernel!(narrow, parts: 1, columns: 1,
    ["tileloadd tmm0, [{c} + {cr}]" "tileloadd tmm2, [{c1} + {cr}]"],
    ["tileloadd tmm4, [{a} + {ar}]" "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm5, [{a1} + {ar}]" "tdpbf16ps tmm2, tmm5, tmm6"],
    ["tilestored [{c} + {cr}], tmm0" "tilestored [{c1} + {cr}], tmm2"]
);
kernel!(single, parts: 1, columns: 1,
    ["tileloadd tmm0, [{c} + {cr}]"],
    ["tileloadd tmm4, [{a} + {ar}]" "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"],
    ["tilestored [{c} + {cr}], tmm0"]
);

// Of two parts: rows' second with columns' first, both firsts, rows' first with columns' second. Both seconds' product would be as small
// as what two parts leave out of a factor. A row's second line is 64 bytes behind its first, a panel's second tiles are 1024 for every
// tile of columns.
kernel!(whole_of_two, parts: 2, columns: 2,
    ["tileloadd tmm0, [{c} + {cr}]" "tileloadd tmm1, [{c} + {cr} + 64]" "tileloadd tmm2, [{c1} + {cr}]" "tileloadd tmm3, [{c1} + {cr} + 64]"],
    ["tileloadd tmm4, [{a} + {ar} + 64]" "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"
     "prefetcht1 [{p} + 0]" "prefetcht1 [{p} + 64]" "prefetcht1 [{p} + 128]" "prefetcht1 [{p} + 192]"
     "tileloadd tmm7, [{b} + {br} + 64]" "tdpbf16ps tmm1, tmm4, tmm7"
     "prefetcht1 [{p} + 256]" "prefetcht1 [{p} + 320]" "prefetcht1 [{p} + 384]" "prefetcht1 [{p} + 448]"
     "tileloadd tmm5, [{a1} + {ar} + 64]" "tdpbf16ps tmm2, tmm5, tmm6" "tdpbf16ps tmm3, tmm5, tmm7"
     "tileloadd tmm4, [{a} + {ar}]" "tdpbf16ps tmm0, tmm4, tmm6" "tdpbf16ps tmm1, tmm4, tmm7"
     "prefetcht1 [{p} + 512]" "prefetcht1 [{p} + 576]" "prefetcht1 [{p} + 640]" "prefetcht1 [{p} + 704]"
     "tileloadd tmm5, [{a1} + {ar}]" "tdpbf16ps tmm2, tmm5, tmm6" "tdpbf16ps tmm3, tmm5, tmm7"
     "prefetcht1 [{p} + 768]" "prefetcht1 [{p} + 832]" "prefetcht1 [{p} + 896]" "prefetcht1 [{p} + 960]"
     "tileloadd tmm6, [{b} + {br} + 2048]" "tdpbf16ps tmm0, tmm4, tmm6" "tdpbf16ps tmm2, tmm5, tmm6"
     "tileloadd tmm7, [{b} + {br} + 2112]" "tdpbf16ps tmm1, tmm4, tmm7" "tdpbf16ps tmm3, tmm5, tmm7"],
    ["tilestored [{c} + {cr}], tmm0" "tilestored [{c} + {cr} + 64], tmm1" "tilestored [{c1} + {cr}], tmm2" "tilestored [{c1} + {cr} + 64], tmm3"]
);
kernel!(low_of_two, parts: 2, columns: 2,
    ["tileloadd tmm0, [{c} + {cr}]" "tileloadd tmm1, [{c} + {cr} + 64]"],
    ["tileloadd tmm4, [{a} + {ar} + 64]" "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm7, [{b} + {br} + 64]" "tdpbf16ps tmm1, tmm4, tmm7"
     "tileloadd tmm4, [{a} + {ar}]" "tdpbf16ps tmm0, tmm4, tmm6" "tdpbf16ps tmm1, tmm4, tmm7"
     "tileloadd tmm6, [{b} + {br} + 2048]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm7, [{b} + {br} + 2112]" "tdpbf16ps tmm1, tmm4, tmm7"],
    ["tilestored [{c} + {cr}], tmm0" "tilestored [{c} + {cr} + 64], tmm1"]
);
kernel!(narrow_of_two, parts: 2, columns: 1,
    ["tileloadd tmm0, [{c} + {cr}]" "tileloadd tmm2, [{c1} + {cr}]"],
    ["tileloadd tmm4, [{a} + {ar} + 64]" "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm5, [{a1} + {ar} + 64]" "tdpbf16ps tmm2, tmm5, tmm6"
     "tileloadd tmm4, [{a} + {ar}]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm5, [{a1} + {ar}]" "tdpbf16ps tmm2, tmm5, tmm6"
     "tileloadd tmm7, [{b} + {br} + 1024]" "tdpbf16ps tmm0, tmm4, tmm7" "tdpbf16ps tmm2, tmm5, tmm7"],
    ["tilestored [{c} + {cr}], tmm0" "tilestored [{c1} + {cr}], tmm2"]
);
kernel!(single_of_two, parts: 2, columns: 1,
    ["tileloadd tmm0, [{c} + {cr}]"],
    ["tileloadd tmm4, [{a} + {ar} + 64]" "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm5, [{a} + {ar}]" "tdpbf16ps tmm0, tmm5, tmm6"
     "tileloadd tmm7, [{b} + {br} + 1024]" "tdpbf16ps tmm0, tmm5, tmm7"],
    ["tilestored [{c} + {cr}], tmm0"]
);

/// Sums of a block that does not lie whole in its target.
#[repr(C, align(64))]
struct Aside([f32; 4 * SIDE * SIDE]);

/// Begins sums with zeros.
static ZEROS: Aside = Aside([0.0; 4 * SIDE * SIDE]);

/// All panels of a product of factors in `parts`.
///
/// # Safety
/// The tiles are [`available`]; a run is whole steps, one or more; all that the task reads, of whole tiles of rows, and writes may be.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn product(parts: usize, t: &Task) {
    let _tiles = Tiles::new();
    let depth = t.segments * t.run;
    let (a_row, run) = (4 * t.a_row, 4 * t.run);
    let mut aside = std::mem::MaybeUninit::<Aside>::uninit();
    let aside = aside.as_mut_ptr().cast::<f32>();
    let mut block = Block {
        start: std::ptr::null(),
        start_row: 0,
        out: std::ptr::null_mut(),
        out_row: 0,
        steps: run / (parts * LINE),
        jump: 4 * t.step as isize - run as isize,
        runs: t.segments,
    };
    for column in (0..t.n).step_by(2 * SIDE) {
        let columns = t.n - column;
        let wide = columns > SIDE;
        let width = if wide { 2 * SIDE } else { SIDE };
        for row in (0..t.rows).step_by(2 * SIDE) {
            let rows = (t.rows - row).min(2 * SIDE);
            let tall = rows > SIDE;
            let inside = columns >= width && rows == if tall { 2 * SIDE } else { SIDE };
            // SAFETY: inside what the caller promises.
            unsafe {
                let a = t.a.add(row * t.a_row).cast::<u8>();
                let b = t.b.add(column * depth).cast::<u8>();
                let out = t.out.add(row * t.out_row + column);
                let start = t.start.wrapping_add(row * t.start_row + column);
                (block.start, block.start_row) = match t.start.is_null() {
                    true => (ZEROS.0.as_ptr(), 0),
                    false => (start, 4 * t.start_row),
                };
                (block.out, block.out_row) = (out, 4 * t.out_row);
                if !inside {
                    if !t.start.is_null() {
                        copy((start, t.start_row), (aside, width), rows, columns.min(width));
                        (block.start, block.start_row) = (aside.cast_const(), 4 * width);
                    }
                    (block.out, block.out_row) = (aside, 4 * width);
                }
                let kernel: unsafe fn(&Block, *const u8, usize, *const u8, *const u8) =
                    match (parts, tall, wide) {
                        (1, true, true) => whole,
                        (1, false, true) => low,
                        (1, true, false) => narrow,
                        (1, false, false) => single,
                        (_, true, true) => whole_of_two,
                        (_, false, true) => low_of_two,
                        (_, true, false) => narrow_of_two,
                        (_, false, false) => single_of_two,
                    };
                // A quarter of the next panel; where there is none, what is near already.
                let next = if columns > width {
                    4 * depth * width + (row / (2 * SIDE)).min(3) * depth * LINE / 2
                } else {
                    0
                };
                kernel(&block, a, a_row, b, b.wrapping_add(next));
                if !inside {
                    copy((aside.cast_const(), width), (out, t.out_row), rows, columns.min(width));
                }
            }
        }
    }
}

/// `rows` of `columns` elements, up to 32.
#[target_feature(enable = "avx512f")]
unsafe fn copy(from: (*const f32, usize), to: (*mut f32, usize), rows: usize, columns: usize) {
    let (first, second) = (mask(columns), mask(columns.saturating_sub(SIDE)));
    for r in 0..rows {
        // SAFETY: the caller's promise; lanes that are masked out are neither read nor written.
        unsafe {
            let (from, to) = (from.0.wrapping_add(r * from.1), to.0.wrapping_add(r * to.1));
            _mm512_mask_storeu_ps(to, first, _mm512_maskz_loadu_ps(first, from));
            let (from, to) = (from.wrapping_add(SIDE), to.wrapping_add(SIDE));
            _mm512_mask_storeu_ps(to, second, _mm512_maskz_loadu_ps(second, from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::View;
    use crate::kernels::matrix::{Panels, Rows, Start, product};

    /// The two parts of a factor are what it is to 16 bits, from the largest that bfloat16 has down to where the second part would be
    /// denormal; a denormal factor is zero.
    #[test]
    fn a_factor_is_the_sum_of_its_parts() {
        if !available() {
            eprintln!("no AMX here: nothing is laid out for it");
            return;
        }
        let x = [1.0, -1.0 / 3.0, 1e30, 3.389e38, 1e-30, -7e-35, 1e-40, 0.0, 1.003_921_6, f32::NAN];
        let mut out = [0.0f32; 2 * SIDE];
        lower(2, 1, x.len(), &x, x.len(), &mut out, 0);
        let part = |of: usize, i: usize| {
            let word = out[of * SIDE + i / 2].to_bits();
            f64::from(f32::from_bits(if i.is_multiple_of(2) { word << 16 } else { word & 0xffff_0000 }))
        };
        for (i, &x) in x.iter().enumerate() {
            let sum = part(0, i) + part(1, i);
            match x {
                _ if x.is_nan() => assert!(sum.is_nan()),
                _ if x.abs() < f32::MIN_POSITIVE => assert_eq!(sum, 0.0),
                _ => assert!((sum - f64::from(x)).abs() <= f64::from(x.abs()) / 131_072.0, "{x}: {sum}"),
            }
        }
        for i in x.len()..STEP {
            assert_eq!((part(0, i), part(1, i)), (0.0, 0.0), "behind the row's end");
        }
    }

    /// Some libraries set a thread's tiles up once and count on them ever after.
    #[test]
    fn tiles_are_set_up_behind_a_product_as_they_were_before() {
        if !available() {
            eprintln!("no AMX here: nothing to set up");
            return;
        }
        let mut theirs = Configuration([0; 64]);
        (theirs.0[0], theirs.0[16], theirs.0[48]) = (1, 32, 7);
        for before in [theirs, Configuration([0; 64])] {
            let mut behind = Configuration([1; 64]);
            // SAFETY: there are tiles; 64 bytes each.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &before, options(nostack, readonly)) };
            let (a, b, mut out) = ([1.0; 5], [2.0; 15], [0.0; 3]);
            let panels = Panels::pack(Level::Amx, 5, 3, View::rows(&b, 3));
            product(1, Rows::new(&a, 5), panels.as_ref(), Start::Zero, &mut out.as_mut_slice().into(), 3);
            // SAFETY: as above.
            unsafe {
                asm!("sttilecfg [{}]", in(reg) &mut behind, options(nostack));
                asm!("tilerelease", options(nostack));
            }
            assert_eq!(out, [10.0; 3]);
            assert_eq!(behind.0, before.0);
        }
    }
}
