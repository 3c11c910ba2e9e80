//! The vector registers of the CPU at hand, behind one interface: AVX-512, AVX2 with FMA, NEON, or plain arrays that the
//! compiler makes the best of (SSE2 on x86-64).
//!
//! A kernel is written once over [`Simd`] and made a function by [`leveled!`], which compiles it for each level and takes
//! the one that it is asked for. Results may differ in their last bits between levels (with bfloat16 in more of them), never between runs.

use once_cell::sync::Lazy;

/// Which registers a kernel uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Portable,
    /// What every aarch64 has.
    Neon,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, VL, BW and DQ.
    Avx512,
    /// As Avx512, but large products by the tiles of AMX, every factor as the sum of two bfloat16: 16 bits of it, where f32 has 24
    /// (float_to_bf16x3 of Intel's MKL). An infinite factor's products are no numbers; so are those of a finite one from 3.3962e38 on,
    /// which rounds to infinity, and a sum may be none where f32's would be an infinity. Factors below 2^-118 have 8 bits; denormal
    /// factors and sums are zero.
    Bf16x3,
    /// As Avx512, but large products of factors rounded to bfloat16, summed in f32: 8 bits of every factor. Never chosen unasked.
    Bf16,
    /// As Bf16, by the tiles of AMX.
    Amx,
}

impl Level {
    /// The levels with f32 throughout that this CPU has, the best last.
    pub fn available() -> &'static [Level] {
        static LEVELS: Lazy<Vec<Level>> = Lazy::new(|| {
            #[allow(unused_mut)]
            let mut levels = vec![Level::Portable];
            #[cfg(target_arch = "aarch64")]
            levels.push(Level::Neon);
            #[cfg(target_arch = "x86_64")]
            {
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    levels.push(Level::Avx2);
                }
                if levels.len() == 2
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                {
                    levels.push(Level::Avx512);
                }
            }
            levels
        });
        &LEVELS
    }

    /// The levels with products of bfloat16 that this CPU has, the best last.
    pub fn rounding() -> &'static [Level] {
        static LEVELS: Lazy<Vec<Level>> = Lazy::new(|| {
            #[allow(unused_mut)]
            let mut levels = Vec::new();
            #[cfg(target_arch = "x86_64")]
            if Level::available().contains(&Level::Avx512) && is_x86_feature_detected!("avx512bf16") {
                levels.push(Level::Bf16);
                if super::tiles::available() {
                    levels.push(Level::Amx);
                }
            }
            levels
        });
        &LEVELS
    }

    /// The best of those with products of bfloat16, if there is one.
    pub fn bf16() -> Option<Level> {
        Self::rounding().last().copied()
    }

    /// Whether those are faster than f32 throughout: tiles are, and AVX-512 BF16 is but on Intel's CPUs, where it does half of the work.
    pub fn bf16_pays() -> bool {
        #[cfg(target_arch = "x86_64")]
        let is_intel = || {
            let id = std::arch::x86_64::__cpuid(0);
            [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
        };
        #[cfg(not(target_arch = "x86_64"))]
        let is_intel = || false;
        Self::bf16().is_some_and(|level| level.tiles() || !is_intel())
    }

    /// What the network's pictures of f32 are made with: [`Bf16x3`](Self::Bf16x3) or the best of those with f32 throughout.
    pub fn fastest() -> Level {
        if Self::Bf16x3.is_available() { Self::Bf16x3 } else { Self::best() }
    }

    /// The levels that pictures of f32 can be made with, the fastest last.
    pub fn of_f32() -> Vec<Level> {
        let mut levels = Self::available().to_vec();
        levels.extend(Some(Self::fastest()).filter(|l| *l != Self::best()));
        levels
    }

    /// Whether the CPU has what this level needs.
    pub fn is_available(self) -> bool {
        match self {
            Self::Bf16x3 => Self::Amx.is_available(),
            _ => Self::available().contains(&self) || Self::rounding().contains(&self),
        }
    }

    /// Every level that this CPU has.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Level> {
        [&Self::of_f32(), Self::rounding()].concat()
    }

    /// How far a product may be from its true value, of the sum of its terms' sizes.
    #[cfg(test)]
    pub(crate) fn tolerance(self) -> f64 {
        match self {
            // 2^-9 of a factor is left by its first half, 2^-9 of that by the second: of either factor, and the product of second halves.
            Self::Bf16x3 => 3.0 / 262_144.0 + 1e-6,
            // Two roundings to 8 bits of each factor, or one of each sum.
            Self::Bf16 | Self::Amx => 1.0 / 128.0,
            _ => 1e-6,
        }
    }

    /// The level of the same registers whose products are of f32.
    pub(crate) fn exact(self) -> Level {
        if self.lowers() { Level::Avx512 } else { self }
    }

    /// Whether products go through tiles.
    pub(crate) fn tiles(self) -> bool {
        matches!(self, Level::Amx | Level::Bf16x3)
    }

    /// Whether products take their factors as bfloat16, one or two of them.
    pub(crate) fn lowers(self) -> bool {
        self > Level::Avx512
    }

    /// The best of those with f32 throughout.
    pub fn best() -> Level {
        Self::available()[Self::available().len() - 1]
    }

    /// As the makers of processors call what it takes.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "baseline",
            Level::Neon => "NEON",
            Level::Avx2 => "AVX2",
            Level::Avx512 => "AVX-512",
            Level::Bf16 => "AVX-512 BF16",
            Level::Bf16x3 | Level::Amx => "AMX",
        }
    }

    /// f32 values of one register.
    pub fn lanes(self) -> usize {
        match self {
            Level::Portable | Level::Neon => 4,
            Level::Avx2 => 8,
            _ => 16,
        }
    }

    /// Rows of the largest block of results that the registers hold, two registers wide.
    pub fn rows(self) -> usize {
        match self {
            Level::Portable => 4,
            Level::Neon => 12,
            Level::Avx2 => 6,
            _ => 14,
        }
    }
}

/// Registers of f32 and what kernels do with them.
///
/// # Safety
/// Every method needs the CPU features of its level; pointers must be valid for the lanes that are read or written.
pub(crate) trait Simd {
    type V: Copy;
    const LANES: usize;
    const ROWS: usize;
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    /// The first `n` lanes, the others zero.
    unsafe fn load_some(p: *const f32, n: usize) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    unsafe fn store_some(p: *mut f32, n: usize, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a b + c`, rounded once where the CPU can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `c` and both products of the bfloat16 pairs in every lane of `a` and `b`; of AVX-512 BF16 alone.
    unsafe fn fma_pairs(_: Self::V, _: Self::V, _: Self::V) -> Self::V {
        unreachable!("pairs are multiplied by AVX-512 BF16 alone")
    }
    /// `b` where either is not a number.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// `v`, but zero where `x` is below `bound`, whatever `v` is there.
    unsafe fn drop_below(v: Self::V, x: Self::V, bound: f32) -> Self::V;
    /// `v 2^n` for a whole number `n` in [-126, 127].
    unsafe fn scale(v: Self::V, n: Self::V) -> Self::V;
    /// The whole number below each `x` in [-126, 127], as [`scale`](Self::scale) takes it, and what `x` is above it, 0 to 1.
    #[inline(always)]
    unsafe fn whole(x: Self::V) -> (Self::V, Self::V) {
        unsafe {
            // Adding and taking away 1.5 * 2^23 rounds to the nearest whole number.
            let magic = Self::splat(12_582_912.0);
            let n = Self::sub(Self::add(Self::sub(x, Self::splat(0.5)), magic), magic);
            (n, Self::sub(x, n))
        }
    }
    /// The first `n` lanes, `other` in the rest.
    #[inline(always)]
    unsafe fn keep(v: Self::V, n: usize, other: f32) -> Self::V {
        let mut buffer = [other; 16];
        unsafe {
            Self::store_some(buffer.as_mut_ptr(), n, v);
            Self::load(buffer.as_ptr())
        }
    }
    /// Sum of all lanes, in pairs.
    unsafe fn sum(v: Self::V) -> f32;
    /// The largest lane.
    unsafe fn largest(v: Self::V) -> f32;
    /// Brings a line near that will be read soon; any address will do.
    #[inline(always)]
    unsafe fn prefetch(p: *const f32) {
        #[cfg(target_arch = "x86_64")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(p.cast());
        }
        let _ = p;
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx512;

#[cfg(target_arch = "x86_64")]
impl Simd for Avx512 {
    type V = std::arch::x86_64::__m512;
    const LANES: usize = 16;
    const ROWS: usize = 14;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_some(p: *const f32, n: usize) -> Self::V {
        unsafe { _mm512_maskz_loadu_ps(mask(n), p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn store_some(p: *mut f32, n: usize, v: Self::V) {
        unsafe { _mm512_mask_storeu_ps(p, mask(n), v) }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn fma_pairs(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // The types differ in name only.
        unsafe {
            let (a, b) =
                (std::mem::transmute::<__m512, __m512bh>(a), std::mem::transmute::<__m512, __m512bh>(b));
            _mm512_dpbf16_ps(c, a, b)
        }
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn drop_below(v: Self::V, x: Self::V, bound: f32) -> Self::V {
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(bound)), v) }
    }
    #[inline(always)]
    unsafe fn scale(v: Self::V, n: Self::V) -> Self::V {
        unsafe { _mm512_scalef_ps(v, n) }
    }
    #[inline(always)]
    unsafe fn whole(x: Self::V) -> (Self::V, Self::V) {
        // `scalef` takes the whole number below by itself; 1 is rounding down.
        unsafe { (x, _mm512_reduce_ps::<1>(x)) }
    }
    #[inline(always)]
    unsafe fn keep(v: Self::V, n: usize, other: f32) -> Self::V {
        unsafe { _mm512_mask_blend_ps(mask(n), _mm512_set1_ps(other), v) }
    }
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        unsafe { _mm512_reduce_add_ps(v) }
    }
    #[inline(always)]
    unsafe fn largest(v: Self::V) -> f32 {
        unsafe { _mm512_reduce_max_ps(v) }
    }
}

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    debug_assert!(n <= 16);
    ((1u32 << n) - 1) as __mmask16
}

#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx2;

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn mask256(n: usize) -> __m256i {
    unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
}

#[cfg(target_arch = "x86_64")]
impl Simd for Avx2 {
    type V = std::arch::x86_64::__m256;
    const LANES: usize = 8;
    const ROWS: usize = 6;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn load_some(p: *const f32, n: usize) -> Self::V {
        unsafe { _mm256_maskload_ps(p, mask256(n)) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn store_some(p: *mut f32, n: usize, v: Self::V) {
        unsafe { _mm256_maskstore_ps(p, mask256(n), v) }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn drop_below(v: Self::V, x: Self::V, bound: f32) -> Self::V {
        unsafe { _mm256_and_ps(v, _mm256_cmp_ps::<_CMP_NLT_UQ>(x, _mm256_set1_ps(bound))) }
    }
    #[inline(always)]
    unsafe fn scale(v: Self::V, n: Self::V) -> Self::V {
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(v, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        }
    }
    #[inline(always)]
    unsafe fn keep(v: Self::V, n: usize, other: f32) -> Self::V {
        unsafe { _mm256_blendv_ps(_mm256_set1_ps(other), v, _mm256_castsi256_ps(mask256(n))) }
    }
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        unsafe {
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
        }
    }
    #[inline(always)]
    unsafe fn largest(v: Self::V) -> f32 {
        unsafe {
            let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)))
        }
    }
}

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;

#[cfg(target_arch = "aarch64")]
pub(crate) struct Neon;

#[cfg(target_arch = "aarch64")]
impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    const ROWS: usize = 12;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn load_some(p: *const f32, n: usize) -> Self::V {
        unsafe { vld1q_f32(Portable::load_some(p, n).as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        unsafe { vst1q_f32(p, v) }
    }
    #[inline(always)]
    unsafe fn store_some(p: *mut f32, n: usize, v: Self::V) {
        unsafe {
            let mut all = [0.0; 4];
            vst1q_f32(all.as_mut_ptr(), v);
            Portable::store_some(p, n, all);
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        // Its own maximum of a number and none is none.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
    }
    #[inline(always)]
    unsafe fn drop_below(v: Self::V, x: Self::V, bound: f32) -> Self::V {
        unsafe {
            let below = vcltq_f32(x, vdupq_n_f32(bound));
            vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v), below))
        }
    }
    #[inline(always)]
    unsafe fn scale(v: Self::V, n: Self::V) -> Self::V {
        unsafe {
            let exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vmulq_f32(v, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
        }
    }
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        unsafe { vpadds_f32(vadd_f32(vget_low_f32(v), vget_high_f32(v))) }
    }
    #[inline(always)]
    unsafe fn largest(v: Self::V) -> f32 {
        unsafe { vmaxnmvq_f32(v) }
    }
}

/// Rounds `x` to bfloat16, two elements to one of `out`, an odd last one beside a zero.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(crate) fn narrow(x: &[f32], out: &mut [f32]) {
    assert!(out.len() == x.len().div_ceil(2), "pairs of bfloat16");
    let whole = x.len() / 32 * 32;
    for (x, out) in x[..whole].chunks_exact(32).zip(out.chunks_exact_mut(16)) {
        // SAFETY: 32 elements in, 16 pairs out.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16)));
            let pairs = std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_storeu_ps(out.as_mut_ptr(), pairs);
        }
    }
    for (x, out) in x[whole..].chunks(2).zip(&mut out[whole / 2..]) {
        *out = pair(x[0], x.get(1).copied().unwrap_or(0.0));
    }
}

/// Two values as bfloat16 in the bits of one f32, which is only ever moved.
pub(crate) fn pair(low: f32, high: f32) -> f32 {
    let bits = |v| u32::from(half::bf16::from_f32(v).to_bits());
    f32::from_bits(bits(high) << 16 | bits(low))
}

/// Four lanes in an array: what every CPU has in one register.
pub(crate) struct Portable;

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> [f32; 4] {
    [f(0), f(1), f(2), f(3)]
}

impl Simd for Portable {
    type V = [f32; 4];
    const LANES: usize = 4;
    const ROWS: usize = 4;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        unsafe { p.cast::<Self::V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_some(p: *const f32, n: usize) -> Self::V {
        each(|i| if i < n { unsafe { p.add(i).read() } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        unsafe { p.cast::<Self::V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn store_some(p: *mut f32, n: usize, v: Self::V) {
        for (i, v) in v.into_iter().enumerate().take(n) {
            unsafe { p.add(i).write(v) }
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // A fused product is a function call on x86-64 without FMA.
        if cfg!(target_feature = "fma") {
            each(|i| a[i].mul_add(b[i], c[i]))
        } else {
            each(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn drop_below(v: Self::V, x: Self::V, bound: f32) -> Self::V {
        each(|i| if x[i] < bound { 0.0 } else { v[i] })
    }
    #[inline(always)]
    unsafe fn scale(v: Self::V, n: Self::V) -> Self::V {
        each(|i| v[i] * f32::from_bits((((n[i] as i32).wrapping_add(127)) << 23) as u32))
    }
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        (v[0] + v[2]) + (v[1] + v[3])
    }
    #[inline(always)]
    unsafe fn largest(v: Self::V) -> f32 {
        let larger = |a: f32, b: f32| if a > b { a } else { b };
        larger(larger(v[0], v[2]), larger(v[1], v[3]))
    }
}

/// Makes a function of a kernel that is generic over [`Simd`]: compiled for every level, the first argument says which is
/// taken. The kernel checks its slices; it may rely on the features of `S`.
macro_rules! leveled {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$s:ident>($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(level: $crate::kernels::simd::Level, $($arg: $type),*) {
            use $crate::kernels::simd;
            /// # Safety
            /// The CPU has the features of `S`.
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            unsafe fn generic<$s: simd::Simd>($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $type),*) {
                    // SAFETY: compiled for these features.
                    unsafe { generic::<simd::Avx512>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $type),*) {
                    // SAFETY: compiled for these features.
                    unsafe { generic::<simd::Avx2>($($arg),*) }
                }
                assert!(level.is_available(), "this CPU has no {level:?}");
                match level {
                    // SAFETY: the CPU has the features by the assertion; each level has those of Avx512.
                    simd::Level::Avx512 | simd::Level::Bf16x3 | simd::Level::Bf16 | simd::Level::Amx => {
                        return unsafe { avx512($($arg),*) };
                    }
                    // SAFETY: the same.
                    simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    simd::Level::Portable | simd::Level::Neon => {}
                }
            }
            #[cfg(target_arch = "aarch64")]
            if level == simd::Level::Neon {
                // SAFETY: every aarch64 has it.
                return unsafe { generic::<simd::Neon>($($arg),*) };
            }
            assert!(level == simd::Level::Portable, "this CPU has no {level:?}");
            // SAFETY: needs no features.
            unsafe { generic::<simd::Portable>($($arg),*) }
        }
    };
}
pub(crate) use leveled;
