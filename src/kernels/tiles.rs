//! Products by the tiles of AMX, a matrix unit of Intel's processors since Sapphire Rapids: sixteen rows of factors in bfloat16 by
//! sixteen columns, summed in f32, in one instruction.
//!
//! For products of f32 every factor is the sum of three parts of eight bits each, which bfloat16 holds exactly; of the nine products
//! of parts the six largest are taken. What is left out is below 2^-23 of a product, about what f32's own rounding is, and six products here
//! are still sooner done than one by AVX-512. (Henry, Tang and Heinecke, Leveraging the bfloat16 artificial intelligence
//! datatype for higher-precision computations, ARITH 2019.)
//!
//! The standard library has these instructions for nightly compilers alone, so that they are written as assembly here. A product
//! is one block of it, since nothing else keeps tiles from one statement to the next.

use std::arch::asm;
use std::arch::x86_64::*;

use once_cell::sync::Lazy;

use super::View;
use super::matrix::Task;
use super::simd::Level;

/// Rows of a tile, and its columns of f32.
pub(super) const SIDE: usize = 16;
/// Elements of a row that one tile of factors has.
pub(super) const STEP: usize = 32;
/// A row of a tile: sixteen f32, or as many pairs of bfloat16.
const LINE: usize = 64;

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

/// Parts of a factor.
fn parts(level: Level) -> usize {
    if level == Level::Amx { 3 } else { 1 }
}

/// What `k` elements of a row or a column take, in places of four bytes: for every [`STEP`] of them a line of pairs for each part.
pub(super) fn depth(level: Level, k: usize) -> usize {
    k.div_ceil(STEP) * parts(level) * SIDE
}

/// Cuts sixteen values into three of eight bits each, whose sum they are.
#[inline(always)]
unsafe fn cut(x: __m512) -> [__m512; 3] {
    // SAFETY: the caller's features. Both differences are exact.
    unsafe {
        let top = _mm512_set1_epi32(0xffff_0000_u32 as i32);
        let first = |x: __m512| _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), top));
        let high = first(x);
        let rest = _mm512_sub_ps(x, high);
        let middle = first(rest);
        [high, middle, _mm512_sub_ps(rest, middle)]
    }
}

#[inline(always)]
unsafe fn pairs(low: __m512, high: __m512) -> __m512i {
    // SAFETY: the types differ in name only.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

fn mask(n: usize) -> __mmask16 {
    ((1u32 << n.min(16)) - 1) as __mmask16
}

/// [`STEP`] elements or fewer as lines of pairs, one for each part.
///
/// # Safety
/// `x` has `n` elements, `out` room for `P` lines.
#[inline(always)]
unsafe fn lines<const P: usize>(x: *const f32, n: usize, out: *mut f32) {
    // SAFETY: the caller's promise and features.
    unsafe {
        let low = _mm512_maskz_loadu_ps(mask(n), x);
        let high = _mm512_maskz_loadu_ps(mask(n.saturating_sub(SIDE)), x.wrapping_add(SIDE));
        if P == 1 {
            _mm512_storeu_si512(out.cast(), pairs(low, high));
        } else {
            let (low, high) = (cut(low), cut(high));
            for (p, (low, high)) in low.into_iter().zip(high).enumerate() {
                _mm512_storeu_si512(out.add(p * SIDE).cast(), pairs(low, high));
            }
        }
    }
}

/// Rows of `k` elements, `from` apart, as a product takes them, `to` apart.
pub(super) fn lower(level: Level, rows: usize, k: usize, x: &[f32], from: usize, out: &mut [f32], to: usize) {
    if rows == 0 || k == 0 {
        return;
    }
    assert!(level.is_available() && x.len() >= (rows - 1) * from + k, "rows for tiles");
    assert!(out.len() >= (rows - 1) * to + depth(level, k), "rows for tiles: target");
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn all<const P: usize>(rows: usize, k: usize, x: *const f32, from: usize, out: *mut f32, to: usize) {
        for r in 0..rows {
            for (step, i) in (0..k).step_by(STEP).enumerate() {
                // SAFETY: in bounds by the assertions.
                unsafe { lines::<P>(x.add(r * from + i), STEP.min(k - i), out.add(r * to + step * P * SIDE)) };
            }
        }
    }
    let (x, out) = (x.as_ptr(), out.as_mut_ptr());
    // SAFETY: the level is available.
    unsafe {
        if parts(level) == 3 { all::<3>(rows, k, x, from, out, to) } else { all::<1>(rows, k, x, from, out, to) }
    }
}

/// Lays `columns` of a matrix of `k` rows out as one panel of `lanes` columns: for every [`STEP`] rows and every part of their elements a
/// tile of pairs, or two beside each other.
pub(super) fn pack(
    level: Level,
    k: usize,
    lanes: usize,
    b: View,
    columns: impl Iterator<Item = (usize, usize)>,
    panel: &mut [f32],
) {
    assert!(level.is_available() && panel.len() >= depth(level, k) * lanes, "panel for tiles");
    let parts = parts(level);
    let (mut values, mut words) = ([0.0f32; STEP], [0.0f32; 3 * SIDE]);
    for (j, column) in columns {
        assert!(j < lanes && (k == 0 || (k - 1) * b.row + column * b.column < b.data.len()), "column for tiles");
        for (step, first) in (0..k).step_by(STEP).enumerate() {
            let n = STEP.min(k - first);
            for (i, v) in values[..n].iter_mut().enumerate() {
                *v = b.data[(first + i) * b.row + column * b.column];
            }
            lower(level, 1, n, &values, STEP, &mut words, 0);
            for (i, word) in words[..parts * SIDE].iter().enumerate() {
                panel[(step * parts * SIDE + i) * lanes + j] = *word;
            }
        }
    }
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
    /// Steps of a run, and bytes from the end of one run to the next.
    steps: usize,
    jump: isize,
    runs: usize,
}

/// A kernel for one or two tiles of rows by one or two of columns: `$zero` begins the sums, `$step` adds one step's products.
macro_rules! kernel {
    ($name:ident, rows: $rows:literal, columns: $columns:literal, parts: $parts:literal, [$($start:literal)*], [$($step:literal)*], [$($end:literal)*]) => {
        /// # Safety
        /// The tiles are set up; all that the block reads and writes may be.
        unsafe fn $name(t: &Block, a: *const u8, a_row: usize, b: *const u8) {
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
                    n = out(reg) _,
                    runs = out(reg) _,
                    c = out(reg) _,
                    c1 = out(reg) _,
                    cr = out(reg) _,
                    a_step = const $parts * LINE,
                    b_step = const $parts * $columns * SIDE * LINE,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                )
            };
        }
    };
}

// Sums: tiles 0 to 3, by rows; rows' factors: 4 and 5; columns': 6 and 7.
kernel!(whole_bf16, rows: 2, columns: 2, parts: 1,
    ["tileloadd tmm0, [{c} + {cr}]" "tileloadd tmm1, [{c} + {cr} + 64]" "tileloadd tmm2, [{c1} + {cr}]" "tileloadd tmm3, [{c1} + {cr} + 64]"],
    ["tileloadd tmm4, [{a} + {ar}]" "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm7, [{b} + {br} + 64]" "tdpbf16ps tmm1, tmm4, tmm7"
     "tileloadd tmm5, [{a1} + {ar}]" "tdpbf16ps tmm2, tmm5, tmm6" "tdpbf16ps tmm3, tmm5, tmm7"],
    ["tilestored [{c} + {cr}], tmm0" "tilestored [{c} + {cr} + 64], tmm1" "tilestored [{c1} + {cr}], tmm2" "tilestored [{c1} + {cr} + 64], tmm3"]
);
kernel!(low_bf16, rows: 1, columns: 2, parts: 1,
    ["tileloadd tmm0, [{c} + {cr}]" "tileloadd tmm1, [{c} + {cr} + 64]"],
    ["tileloadd tmm4, [{a} + {ar}]" "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm7, [{b} + {br} + 64]" "tdpbf16ps tmm1, tmm4, tmm7"],
    ["tilestored [{c} + {cr}], tmm0" "tilestored [{c} + {cr} + 64], tmm1"]
);
kernel!(narrow_bf16, rows: 2, columns: 1, parts: 1,
    ["tileloadd tmm0, [{c} + {cr}]" "tileloadd tmm2, [{c1} + {cr}]"],
    ["tileloadd tmm4, [{a} + {ar}]" "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm5, [{a1} + {ar}]" "tdpbf16ps tmm2, tmm5, tmm6"],
    ["tilestored [{c} + {cr}], tmm0" "tilestored [{c1} + {cr}], tmm2"]
);
kernel!(single_bf16, rows: 1, columns: 1, parts: 1,
    ["tileloadd tmm0, [{c} + {cr}]"],
    ["tileloadd tmm4, [{a} + {ar}]" "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"],
    ["tilestored [{c} + {cr}], tmm0"]
);
// Of three parts, the smaller products first: rows' third by columns' first, 2 by 1 and 2, 1 by 2, 3 and 1.
kernel!(whole_f32, rows: 2, columns: 2, parts: 3,
    ["tileloadd tmm0, [{c} + {cr}]" "tileloadd tmm1, [{c} + {cr} + 64]" "tileloadd tmm2, [{c1} + {cr}]" "tileloadd tmm3, [{c1} + {cr} + 64]"],
    ["tileloadd tmm4, [{a} + {ar} + 128]" "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm7, [{b} + {br} + 64]" "tdpbf16ps tmm1, tmm4, tmm7"
     "tileloadd tmm5, [{a1} + {ar} + 128]" "tdpbf16ps tmm2, tmm5, tmm6" "tdpbf16ps tmm3, tmm5, tmm7"
     "tileloadd tmm4, [{a} + {ar} + 64]" "tdpbf16ps tmm0, tmm4, tmm6" "tdpbf16ps tmm1, tmm4, tmm7"
     "tileloadd tmm5, [{a1} + {ar} + 64]" "tdpbf16ps tmm2, tmm5, tmm6" "tdpbf16ps tmm3, tmm5, tmm7"
     "tileloadd tmm6, [{b} + {br} + 2048]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm7, [{b} + {br} + 2112]" "tdpbf16ps tmm1, tmm4, tmm7" "tdpbf16ps tmm2, tmm5, tmm6" "tdpbf16ps tmm3, tmm5, tmm7"
     "tileloadd tmm4, [{a} + {ar}]" "tdpbf16ps tmm0, tmm4, tmm6" "tdpbf16ps tmm1, tmm4, tmm7"
     "tileloadd tmm5, [{a1} + {ar}]" "tdpbf16ps tmm2, tmm5, tmm6" "tdpbf16ps tmm3, tmm5, tmm7"
     "tileloadd tmm6, [{b} + {br} + 4096]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm7, [{b} + {br} + 4160]" "tdpbf16ps tmm1, tmm4, tmm7" "tdpbf16ps tmm2, tmm5, tmm6" "tdpbf16ps tmm3, tmm5, tmm7"
     "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm7, [{b} + {br} + 64]" "tdpbf16ps tmm1, tmm4, tmm7" "tdpbf16ps tmm2, tmm5, tmm6" "tdpbf16ps tmm3, tmm5, tmm7"],
    ["tilestored [{c} + {cr}], tmm0" "tilestored [{c} + {cr} + 64], tmm1" "tilestored [{c1} + {cr}], tmm2" "tilestored [{c1} + {cr} + 64], tmm3"]
);
kernel!(low_f32, rows: 1, columns: 2, parts: 3,
    ["tileloadd tmm0, [{c} + {cr}]" "tileloadd tmm1, [{c} + {cr} + 64]"],
    ["tileloadd tmm4, [{a} + {ar} + 128]" "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm7, [{b} + {br} + 64]" "tdpbf16ps tmm1, tmm4, tmm7"
     "tileloadd tmm5, [{a} + {ar} + 64]" "tdpbf16ps tmm0, tmm5, tmm6" "tdpbf16ps tmm1, tmm5, tmm7"
     "tileloadd tmm6, [{b} + {br} + 2048]" "tdpbf16ps tmm0, tmm5, tmm6"
     "tileloadd tmm7, [{b} + {br} + 2112]" "tdpbf16ps tmm1, tmm5, tmm7"
     "tileloadd tmm4, [{a} + {ar}]" "tdpbf16ps tmm0, tmm4, tmm6" "tdpbf16ps tmm1, tmm4, tmm7"
     "tileloadd tmm6, [{b} + {br} + 4096]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm7, [{b} + {br} + 4160]" "tdpbf16ps tmm1, tmm4, tmm7"
     "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm7, [{b} + {br} + 64]" "tdpbf16ps tmm1, tmm4, tmm7"],
    ["tilestored [{c} + {cr}], tmm0" "tilestored [{c} + {cr} + 64], tmm1"]
);
kernel!(narrow_f32, rows: 2, columns: 1, parts: 3,
    ["tileloadd tmm0, [{c} + {cr}]" "tileloadd tmm2, [{c1} + {cr}]"],
    ["tileloadd tmm4, [{a} + {ar} + 128]" "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm5, [{a1} + {ar} + 128]" "tdpbf16ps tmm2, tmm5, tmm6"
     "tileloadd tmm4, [{a} + {ar} + 64]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm5, [{a1} + {ar} + 64]" "tdpbf16ps tmm2, tmm5, tmm6"
     "tileloadd tmm7, [{b} + {br} + 1024]" "tdpbf16ps tmm0, tmm4, tmm7" "tdpbf16ps tmm2, tmm5, tmm7"
     "tileloadd tmm4, [{a} + {ar}]" "tdpbf16ps tmm0, tmm4, tmm7"
     "tileloadd tmm5, [{a1} + {ar}]" "tdpbf16ps tmm2, tmm5, tmm7"
     "tileloadd tmm7, [{b} + {br} + 2048]" "tdpbf16ps tmm0, tmm4, tmm7" "tdpbf16ps tmm2, tmm5, tmm7"
     "tdpbf16ps tmm0, tmm4, tmm6" "tdpbf16ps tmm2, tmm5, tmm6"],
    ["tilestored [{c} + {cr}], tmm0" "tilestored [{c1} + {cr}], tmm2"]
);
kernel!(single_f32, rows: 1, columns: 1, parts: 3,
    ["tileloadd tmm0, [{c} + {cr}]"],
    ["tileloadd tmm4, [{a} + {ar} + 128]" "tileloadd tmm6, [{b} + {br}]" "tdpbf16ps tmm0, tmm4, tmm6"
     "tileloadd tmm5, [{a} + {ar} + 64]" "tdpbf16ps tmm0, tmm5, tmm6"
     "tileloadd tmm7, [{b} + {br} + 1024]" "tdpbf16ps tmm0, tmm5, tmm7"
     "tileloadd tmm4, [{a} + {ar}]" "tdpbf16ps tmm0, tmm4, tmm7"
     "tileloadd tmm7, [{b} + {br} + 2048]" "tdpbf16ps tmm0, tmm4, tmm7"
     "tdpbf16ps tmm0, tmm4, tmm6"],
    ["tilestored [{c} + {cr}], tmm0"]
);

/// Sums of a block that does not lie whole in its target.
#[repr(C, align(64))]
struct Aside([f32; 4 * SIDE * SIDE]);

/// Begins sums with zeros.
static ZEROS: Aside = Aside([0.0; 4 * SIDE * SIDE]);

/// All panels of a product.
///
/// # Safety
/// The level is available; all that the task reads, of whole tiles of rows, and writes may be.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn product(level: Level, t: &Task) {
    let _tiles = Tiles::new();
    let exact = parts(level) == 3;
    let depth = t.segments * t.run;
    let (a_row, run) = (4 * t.a_row, 4 * t.run);
    let mut aside = Aside([0.0; 4 * SIDE * SIDE]);
    let mut block = Block {
        start: std::ptr::null(),
        start_row: 0,
        out: std::ptr::null_mut(),
        out_row: 0,
        steps: run / (parts(level) * LINE),
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
                        copy((start, t.start_row), (aside.0.as_mut_ptr(), width), rows, columns.min(width));
                        (block.start, block.start_row) = (aside.0.as_ptr(), 4 * width);
                    }
                    (block.out, block.out_row) = (aside.0.as_mut_ptr(), 4 * width);
                }
                let kernel: unsafe fn(&Block, *const u8, usize, *const u8) = match (exact, tall, wide) {
                    (false, true, true) => whole_bf16,
                    (false, false, true) => low_bf16,
                    (false, true, false) => narrow_bf16,
                    (false, false, false) => single_bf16,
                    (true, true, true) => whole_f32,
                    (true, false, true) => low_f32,
                    (true, true, false) => narrow_f32,
                    (true, false, false) => single_f32,
                };
                kernel(&block, a, a_row, b);
                if !inside {
                    copy((aside.0.as_ptr(), width), (out, t.out_row), rows, columns.min(width));
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
