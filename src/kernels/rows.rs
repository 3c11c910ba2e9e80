//! What happens to a tile of rows between two products: norms, softmax, GEGLU. All on this thread.

use super::simd::{Simd, leveled};

/// 2^x within 2e-7 of itself, for x from 0 down: 2^n times a minimax polynomial on [0, 1], relative error 7.5e-8 before
/// rounding. Below -126 the smallest normal number, so that nothing runs into denormals.
#[inline(always)]
unsafe fn exp2_down<S: Simd>(x: S::V) -> S::V {
    unsafe {
        // `x` second: a value that is no number stays one.
        let (n, r) = S::whole(S::max(S::splat(-126.0), x));
        let p = S::splat(1.877_576_7e-3);
        let p = S::fma(p, r, S::splat(8.989_34e-3));
        let p = S::fma(p, r, S::splat(5.582_632e-2));
        let p = S::fma(p, r, S::splat(0.240_153_62));
        let p = S::fma(p, r, S::splat(0.693_153_1));
        let p = S::fma(p, r, S::splat(0.999_999_94));
        S::scale(p, n)
    }
}

/// As [`exp2_down`], of any x; above 127 it is 2^127.
#[inline(always)]
pub(super) unsafe fn exp2<S: Simd>(x: S::V) -> S::V {
    unsafe { exp2_down::<S>(S::min(S::splat(127.0), x)) }
}

/// The normal distribution's cumulative function, within 2.1e-7: 1/2 + x N(x^2) / D(x^2), both of degree 5, fitted to
/// the least largest error (7e-9 before rounding) on [-5.5, 5.5]; zero below, so that nothing comes of a huge negative value times it, and
/// above as at 5.5.
#[inline(always)]
unsafe fn normal<S: Simd>(x: S::V) -> S::V {
    unsafe {
        // From below nothing holds it: what the fraction comes to there, if it is a number, is dropped.
        let c = S::min(S::splat(5.5), x);
        let s = S::mul(c, c);
        let n = S::splat(2.274_95e-8);
        let n = S::fma(n, s, S::splat(6.352_119_3e-6));
        let n = S::fma(n, s, S::splat(1.688_249_5e-4));
        let n = S::fma(n, s, S::splat(4.677_256e-3));
        let n = S::fma(n, s, S::splat(3.385_256_6e-2));
        let n = S::fma(n, s, S::splat(0.398_942_23));
        let d = S::splat(1.197_508e-6);
        let d = S::fma(d, s, S::splat(7.364_73e-5));
        let d = S::fma(d, s, S::splat(1.884_440_5e-3));
        let d = S::fma(d, s, S::splat(2.864_582_7e-2));
        let d = S::fma(d, s, S::splat(0.251_521_7));
        let d = S::fma(d, s, S::splat(1.0));
        S::drop_below(S::fma(c, S::div(n, d), S::splat(0.5)), x, -5.5)
    }
}

/// Runs the body for every register of `n` elements; only the last may have fewer lanes than the register. No closure:
/// that would not be compiled for the caller's features.
macro_rules! registers {
    ($s:ident, $n:expr, |$i:ident, $lanes:ident| $body:expr) => {{
        let n = $n;
        let mut at = 0;
        while at + $s::LANES <= n {
            let ($i, $lanes) = (at, $s::LANES);
            $body;
            at += $s::LANES;
        }
        if at < n {
            let ($i, $lanes) = (at, n - at);
            $body;
        }
    }};
}

#[inline(always)]
unsafe fn load<S: Simd>(p: *const f32, lanes: usize) -> S::V {
    unsafe { if lanes == S::LANES { S::load(p) } else { S::load_some(p, lanes) } }
}

#[inline(always)]
unsafe fn store<S: Simd>(p: *mut f32, lanes: usize, v: S::V) {
    unsafe { if lanes == S::LANES { S::store(p, v) } else { S::store_some(p, lanes, v) } }
}

leveled! {
    /// GEGLU of one panel of a product: a row of `g` is a register of `a` and one of `b`; `h = a GELU(b)`, with
    /// `a` and `b` first scaled by the row's `scale` and moved by `bias`, laid out as the row. `hidden` of the
    /// register's results are stored, rows of `h` being `h_row` apart.
    ///
    /// GELU errs by 2.1e-7 |b| at most, besides the products' roundings; below -5.5, where it is no more than 1.1e-7 in size, it is
    /// zero.
    pub(crate) fn geglu<S>(g: &[f32], scale: &[f32], bias: &[f32], h: &mut [f32], h_row: usize, hidden: usize) {
        let rows = scale.len();
        if rows == 0 {
            return;
        }
        assert!(g.len() >= rows * 2 * S::LANES && bias.len() >= 2 * S::LANES, "geglu of a panel");
        assert!(hidden <= S::LANES && h.len() >= (rows - 1) * h_row + hidden, "geglu of a panel: target");
        // SAFETY: in bounds by the assertions.
        unsafe {
            let (bias_a, bias_b) = (S::load(bias.as_ptr()), S::load(bias.as_ptr().add(S::LANES)));
            for r in 0..rows {
                let from = g.as_ptr().add(r * 2 * S::LANES);
                let scale = S::splat(scale[r]);
                let a = S::fma(S::load(from), scale, bias_a);
                let b = S::fma(S::load(from.add(S::LANES)), scale, bias_b);
                let y = S::mul(S::mul(a, b), normal::<S>(b));
                store::<S>(h.as_mut_ptr().add(r * h_row), hidden, y);
            }
        }
    }
}

leveled! {
    /// Layer norm without weight and bias.
    pub(crate) fn normalize<S>(x: &[f32], width: usize, eps: f32, y: &mut [f32]) {
        assert!(x.len() == y.len() && x.len().is_multiple_of(width), "rows to normalise");
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let (x, y) = (x.as_ptr(), y.as_mut_ptr());
            // SAFETY: `registers` stays within the width of a row.
            unsafe {
                let (mut one, mut other) = (S::splat(0.0), S::splat(0.0));
                registers!(S, width, |i, lanes| {
                    one = S::add(one, load::<S>(x.add(i), lanes));
                    std::mem::swap(&mut one, &mut other);
                });
                let mean = S::sum(S::add(one, other)) / width as f32;
                let means = S::splat(mean);
                let (mut one, mut other) = (S::splat(0.0), S::splat(0.0));
                registers!(S, width, |i, lanes| {
                    let d = S::sub(load::<S>(x.add(i), lanes), means);
                    // Missing lanes held zero, not the mean.
                    let d = if lanes < S::LANES { S::keep(d, lanes, 0.0) } else { d };
                    one = S::fma(d, d, one);
                    std::mem::swap(&mut one, &mut other);
                });
                let variance = S::sum(S::add(one, other)) / width as f32;
                let inverse = S::splat(1.0 / (variance + eps).sqrt());
                registers!(S, width, |i, lanes| {
                    let d = S::sub(load::<S>(x.add(i), lanes), means);
                    store::<S>(y.add(i), lanes, S::mul(d, inverse));
                });
            }
        }
    }
}

leveled! {
    /// For each row, `1 / sqrt(variance + eps)`.
    pub(crate) fn deviations<S>(x: &[f32], width: usize, eps: f32, out: &mut [f32]) {
        for (x, out) in x.chunks_exact(width).zip(out) {
            let x = x.as_ptr();
            // SAFETY: `registers` stays within the width of a row.
            unsafe {
                let (mut sum, mut squares) = (S::splat(0.0), S::splat(0.0));
                registers!(S, width, |i, lanes| sum = S::add(sum, load::<S>(x.add(i), lanes)));
                let mean = S::splat(S::sum(sum) / width as f32);
                registers!(S, width, |i, lanes| {
                    let d = S::sub(load::<S>(x.add(i), lanes), mean);
                    let d = if lanes < S::LANES { S::keep(d, lanes, 0.0) } else { d };
                    squares = S::fma(d, d, squares);
                });
                *out = 1.0 / (S::sum(squares) / width as f32 + eps).sqrt();
            }
        }
    }
}

leveled! {
    /// For each row, `1 / sqrt(sum of squares / divisor + eps)`.
    pub(crate) fn inverse_deviation<S>(y: &[f32], width: usize, divisor: f32, eps: f32, out: &mut [f32]) {
        for (y, out) in y.chunks_exact(width).zip(out) {
            let y = y.as_ptr();
            // SAFETY: `registers` stays within the width of a row.
            unsafe {
                let (mut one, mut other) = (S::splat(0.0), S::splat(0.0));
                registers!(S, width, |i, lanes| {
                    let v = load::<S>(y.add(i), lanes);
                    one = S::fma(v, v, one);
                    std::mem::swap(&mut one, &mut other);
                });
                *out = 1.0 / (S::sum(S::add(one, other)) / divisor + eps).sqrt();
            }
        }
    }
}

leveled! {
    /// Rows scaled, in place.
    pub(crate) fn scale_rows<S>(x: &mut [f32], width: usize, row: usize, scale: &[f32], bias: &[f32]) {
        assert!(bias.len() >= width && x.len() + row >= scale.len() * row + width, "rows to scale");
        for (r, scale) in scale.iter().enumerate() {
            // SAFETY: in bounds by the assertion.
            unsafe {
                let x = x.as_mut_ptr().add(r * row);
                let scale = S::splat(*scale);
                registers!(S, width, |i, lanes| {
                    let b = load::<S>(bias.as_ptr().add(i), lanes);
                    store::<S>(x.add(i), lanes, S::fma(load::<S>(x.add(i), lanes), scale, b));
                });
            }
        }
    }
}

leveled! {
    /// Softmax, in groups of `n`, of `scale x + bias`: the first `keep` probabilities of every group to `y`; logits are in units
    /// of ln 2, rows `row` apart, those of `y` `y_row`. `x` is scratch afterwards. No infinities.
    pub(crate) fn softmax<S>(
        x: &mut [f32],
        row: usize,
        n: usize,
        scale: &[f32],
        bias: &[f32],
        y: &mut [f32],
        y_row: usize,
        keep: usize,
    ) {
        assert!(bias.len().is_multiple_of(n) && x.len() + row >= scale.len() * row + bias.len(), "softmax");
        let kept = bias.len() / n * keep;
        assert!(keep <= n && y.len() + y_row >= scale.len() * y_row + kept, "softmax: target");
        for (r, scale) in scale.iter().enumerate() {
            for (group, bias) in bias.chunks_exact(n).enumerate() {
                // SAFETY: in bounds by the assertion.
                unsafe {
                    let x = x.as_mut_ptr().add(r * row + group * n);
                    let y = y.as_mut_ptr().wrapping_add(r * y_row + group * keep);
                    let scale = S::splat(*scale);
                    let mut largest = S::splat(f32::MIN);
                    registers!(S, n, |i, lanes| {
                        let v = S::fma(load::<S>(x.add(i), lanes), scale, load::<S>(bias.as_ptr().add(i), lanes));
                        store::<S>(x.add(i), lanes, v);
                        let v = if lanes < S::LANES { S::keep(v, lanes, f32::MIN) } else { v };
                        largest = S::max(largest, v);
                    });
                    let largest = S::splat(S::largest(largest));
                    let mut total = S::splat(0.0);
                    registers!(S, n, |i, lanes| {
                        let e = exp2_down::<S>(S::sub(load::<S>(x.add(i), lanes), largest));
                        store::<S>(x.add(i), lanes, e);
                        let e = if lanes < S::LANES { S::keep(e, lanes, 0.0) } else { e };
                        total = S::add(total, e);
                    });
                    let inverse = S::splat(1.0 / S::sum(total));
                    registers!(S, keep, |i, lanes| {
                        store::<S>(y.add(i), lanes, S::mul(load::<S>(x.add(i), lanes), inverse));
                    });
                }
            }
        }
    }
}

leveled! {
    /// One step of an online softmax: `x (rows, keys)` becomes 2^(x - m), where m is the largest logit of the row so far.
    /// `largest` and `sums` go from before the step to after it, and `y (rows, width)`, the sum of values by weight,
    /// is brought down to the new m.
    pub(crate) fn online_softmax<S>(
        x: &mut [f32],
        keys: usize,
        largest: &mut [f32],
        sums: &mut [f32],
        y: &mut [f32],
        width: usize,
    ) {
        let rows = largest.len();
        assert!(x.len() >= rows * keys && sums.len() == rows && y.len() >= rows * width, "online softmax");
        for r in 0..rows {
            // SAFETY: in bounds by the assertion.
            unsafe {
                let (x, y) = (x.as_mut_ptr().add(r * keys), y.as_mut_ptr().add(r * width));
                let (mut one, mut other) = (S::splat(f32::MIN), S::splat(f32::MIN));
                registers!(S, keys, |i, lanes| {
                    let v = load::<S>(x.add(i), lanes);
                    let v = if lanes < S::LANES { S::keep(v, lanes, f32::MIN) } else { v };
                    one = S::max(one, v);
                    std::mem::swap(&mut one, &mut other);
                });
                let best = S::largest(S::max(one, other));
                let before = largest[r];
                let now = if best > before { best } else { before };
                let m = S::splat(now);
                let (mut one, mut other) = (S::splat(0.0), S::splat(0.0));
                registers!(S, keys, |i, lanes| {
                    let e = exp2_down::<S>(S::sub(load::<S>(x.add(i), lanes), m));
                    store::<S>(x.add(i), lanes, e);
                    let e = if lanes < S::LANES { S::keep(e, lanes, 0.0) } else { e };
                    one = S::add(one, e);
                    std::mem::swap(&mut one, &mut other);
                });
                let total = S::sum(S::add(one, other));
                if now > before {
                    largest[r] = now;
                    let factor = if before == f32::MIN { 0.0 } else { (before - now).exp2() };
                    sums[r] = sums[r] * factor + total;
                    let factor = S::splat(factor);
                    registers!(S, width, |i, lanes| {
                        store::<S>(y.add(i), lanes, S::mul(load::<S>(y.add(i), lanes), factor));
                    });
                } else {
                    sums[r] += total;
                }
            }
        }
    }
}

leveled! {
    /// Hyperbolic tangent in place, within 2e-7: 1 - 2 / (1 + e^2x).
    pub(crate) fn tanh<S>(x: &mut [f32]) {
        let x_at = x.as_mut_ptr();
        // SAFETY: `registers` stays within the slice.
        unsafe {
            registers!(S, x.len(), |i, lanes| {
                let v = load::<S>(x_at.add(i), lanes);
                let e = exp2::<S>(S::mul(v, S::splat(2.0 * std::f32::consts::LOG2_E)));
                let y = S::sub(S::splat(1.0), S::div(S::splat(2.0), S::add(S::splat(1.0), e)));
                store::<S>(x_at.add(i), lanes, y);
            });
        }
    }
}

leveled! {
    /// `y = 3/4 near + 1/4 far`
    pub(crate) fn quarter<S>(near: &[f32], far: &[f32], y: &mut [f32]) {
        assert!(near.len() == y.len() && far.len() == y.len(), "quarter");
        // SAFETY: `registers` stays within the slices.
        unsafe {
            let (three, one) = (S::splat(0.75), S::splat(0.25));
            registers!(S, y.len(), |i, lanes| {
                let far = S::mul(load::<S>(far.as_ptr().add(i), lanes), one);
                let v = S::fma(load::<S>(near.as_ptr().add(i), lanes), three, far);
                store::<S>(y.as_mut_ptr().add(i), lanes, v);
            });
        }
    }
}

leveled! {
    /// `y = bias + (a + 3 b + 3 c + d) / 4`; no bias is zero.
    pub(crate) fn smooth<S>(a: &[f32], b: &[f32], c: &[f32], d: &[f32], bias: &[f32], y: &mut [f32]) {
        let n = y.len();
        assert!([a, b, c, d].iter().all(|x| x.len() == n) && (bias.is_empty() || bias.len() == n), "smooth");
        // SAFETY: `registers` stays within the slices.
        unsafe {
            let (three, one) = (S::splat(0.75), S::splat(0.25));
            registers!(S, n, |i, lanes| {
                let outer = S::add(load::<S>(a.as_ptr().add(i), lanes), load::<S>(d.as_ptr().add(i), lanes));
                let inner = S::add(load::<S>(b.as_ptr().add(i), lanes), load::<S>(c.as_ptr().add(i), lanes));
                let start = if bias.is_empty() { S::splat(0.0) } else { load::<S>(bias.as_ptr().add(i), lanes) };
                let v = S::fma(inner, three, S::fma(outer, one, start));
                store::<S>(y.as_mut_ptr().add(i), lanes, v);
            });
        }
    }
}

/// What follows a norm.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Nothing,
    Relu,
    Silu,
}

/// The activation of a register.
#[inline(always)]
unsafe fn activate<S: Simd>(v: S::V, after: After) -> S::V {
    unsafe {
        match after {
            After::Nothing => v,
            After::Relu => S::max(S::splat(0.0), v),
            After::Silu => {
                let e = exp2::<S>(S::mul(v, S::splat(-std::f32::consts::LOG2_E)));
                S::div(v, S::add(S::splat(1.0), e))
            }
        }
    }
}

leveled! {
    /// `y = x scale + shift`, a channel at a time over whole pixels, then the activation.
    pub(crate) fn affine<S>(x: &[f32], scale: &[f32], shift: &[f32], after: After, y: &mut [f32]) {
        let mut c = scale.len();
        assert!(x.len() == y.len() && shift.len() == c && x.len().is_multiple_of(c), "affine");
        let (mut scale, mut shift) = (scale, shift);
        // Few channels: whole pixels side by side fill a register.
        let (mut scales, mut shifts) = ([0.0f32; 16], [0.0f32; 16]);
        if c < S::LANES && S::LANES.is_multiple_of(c) && x.len().is_multiple_of(S::LANES) {
            for i in 0..S::LANES {
                (scales[i], shifts[i]) = (scale[i % c], shift[i % c]);
            }
            c = S::LANES;
            (scale, shift) = (&scales[..c], &shifts[..c]);
        }
        for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
            // SAFETY: `registers` stays within the channels of a pixel.
            unsafe {
                registers!(S, c, |i, lanes| {
                    let v = load::<S>(x.as_ptr().add(i), lanes);
                    let (scale, shift) = (load::<S>(scale.as_ptr().add(i), lanes), load::<S>(shift.as_ptr().add(i), lanes));
                    let v = activate::<S>(S::fma(v, scale, shift), after);
                    store::<S>(y.as_mut_ptr().add(i), lanes, v);
                });
            }
        }
    }
}

leveled! {
    /// As [`affine`], into pixels that have `pixel` elements in all, these the first.
    pub(crate) fn affine_into<S>(x: &[f32], scale: &[f32], shift: &[f32], after: After, y: &mut [f32], pixel: usize) {
        let (c, count) = (scale.len(), x.len() / scale.len());
        let reached = count.checked_sub(1).map_or(0, |last| last * pixel + c);
        assert!(shift.len() == c && x.len().is_multiple_of(c) && c <= pixel && reached <= y.len(), "affine");
        // SAFETY: `registers` stays within the channels of a pixel, and the last pixel ends within `y`.
        unsafe {
            registers!(S, c, |i, lanes| {
                let (scale, shift) = (load::<S>(scale.as_ptr().add(i), lanes), load::<S>(shift.as_ptr().add(i), lanes));
                for p in 0..count {
                    let v = load::<S>(x.as_ptr().add(p * c + i), lanes);
                    let v = activate::<S>(S::fma(v, scale, shift), after);
                    store::<S>(y.as_mut_ptr().add(p * pixel + i), lanes, v);
                }
            });
        }
    }
}

leveled! {
    /// Deals the pixels of a row out to `parts` rows, `c` channels to each, with the activation: part k's begin at `k part`.
    pub(crate) fn deal<S>(x: &[f32], parts: usize, c: usize, after: After, y: &mut [f32], part: usize) {
        let count = x.len() / (parts * c);
        assert!(x.len() == count * parts * c && count * c <= part && part * (parts - 1) + count * c <= y.len(), "deal");
        // SAFETY: within `x`, and in `y` within the part, by the assertion.
        unsafe {
            match c {
                // A register of four is stored faster than the same part of a wider one.
                4 => deal_pixels::<simd::Portable>(x, parts, c, after, y, part),
                _ => deal_pixels::<S>(x, parts, c, after, y, part),
            }
        }
    }
}

/// # Safety
/// As [`deal`] asserts.
#[inline(always)]
unsafe fn deal_pixels<S: Simd>(x: &[f32], parts: usize, c: usize, after: After, y: &mut [f32], part: usize) {
    for (p, pixel) in x.chunks_exact(parts * c).enumerate() {
        for (k, from) in pixel.chunks_exact(c).enumerate() {
            unsafe {
                let to = y.as_mut_ptr().add(k * part + p * c);
                registers!(S, c, |i, lanes| {
                    let v = activate::<S>(load::<S>(from.as_ptr().add(i), lanes), after);
                    store::<S>(to.add(i), lanes, v);
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::Level;

    leveled! {
        fn powers<S>(x: &[f32], y: &mut [f32]) {
            unsafe {
                registers!(S, x.len(), |i, lanes| {
                    store::<S>(y.as_mut_ptr().add(i), lanes, exp2::<S>(load::<S>(x.as_ptr().add(i), lanes)));
                });
            }
        }
    }

    leveled! {
        fn below_zero<S>(x: &[f32], y: &mut [f32]) {
            unsafe {
                registers!(S, x.len(), |i, lanes| {
                    store::<S>(y.as_mut_ptr().add(i), lanes, exp2_down::<S>(load::<S>(x.as_ptr().add(i), lanes)));
                });
            }
        }
    }

    leveled! {
        fn shares<S>(x: &[f32], y: &mut [f32]) {
            unsafe {
                registers!(S, x.len(), |i, lanes| {
                    store::<S>(y.as_mut_ptr().add(i), lanes, normal::<S>(load::<S>(x.as_ptr().add(i), lanes)));
                });
            }
        }
    }

    /// Every `step`-th of the values, under an interpreter far fewer.
    fn values(from: f64, to: f64, step: f64) -> Vec<f32> {
        let step = if cfg!(miri) { 1000.0 * step } else { step };
        (0..((to - from) / step) as usize).map(|i| (from + i as f64 * step) as f32).collect()
    }

    #[test]
    fn powers_of_two_are_right_to_2e_7_and_never_denormal() {
        for &level in Level::available() {
            let mut x = values(-130.0, 130.0, 1e-4);
            x.extend([-1e-9, -0.0, 1e-9, -1e30, f32::NEG_INFINITY, f32::INFINITY]);
            let (mut y, mut below) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
            powers(level, &x, &mut y);
            below_zero(level, &x, &mut below);
            for ((x, y), below) in x.iter().zip(y).zip(below) {
                let want = f64::from(x.clamp(-126.0, 127.0)).exp2();
                assert!((f64::from(y) / want - 1.0).abs() < 2e-7, "{level:?}: 2^{x} is {y}, not {want}");
                assert!(*x > 0.0 || below == y, "{level:?}: 2^{x} is {below} and {y}");
            }
            powers(level, &[f32::NAN], &mut x[..1]);
            assert!(x[0].is_nan(), "{level:?}");
        }
    }

    /// Against the plain network's, which errs by 1.5e-7 of |b| itself; and three roundings.
    #[test]
    fn geglu_is_the_plain_one_and_nothing_comes_of_huge_negative_values() {
        let mut b = values(-8.0, 8.0, 1e-3);
        b.extend([-5.5, -5.500_001, -10.0, -1e2, -1e4, -1e6, -1e20, -3e38, 1e2, 1e6, 1e20, 3e38, 0.0, -0.0]);
        for level in Level::all() {
            let lanes = level.lanes();
            for b in b.chunks(lanes) {
                let mut g = vec![1.0; 2 * lanes];
                g[lanes..][..b.len()].copy_from_slice(b);
                let mut h = vec![f32::NAN; b.len()];
                geglu(level, &g, &[1.0], &vec![0.0; 2 * lanes], &mut h, lanes, b.len());
                for (b, got) in b.iter().zip(h) {
                    let want = crate::kernels::pointwise::geglu(&[1.0, *b], 1)[0];
                    let near = (f64::from(got) - f64::from(want)).abs() <= 5.4e-7 * f64::from(b.abs());
                    assert!(near, "{level:?}: GELU({b}) is {got}, not {want}");
                    assert!(*b >= -5.5 || got == 0.0, "{level:?}: GELU({b}) is {got}");
                }
            }
            let mut h = [0.0];
            geglu(level, &vec![f32::NAN; 2 * lanes], &[1.0], &vec![0.0; 2 * lanes], &mut h, lanes, 1);
            assert!(h[0].is_nan(), "{level:?}");
        }
    }

    #[test]
    fn the_normal_cumulative_function_is_right_to_2_1e_7() {
        // By Simpson's rule from 0 on, in steps so small that its error is nothing.
        let step = if cfg!(miri) { 0.25 } else { 1.0 / 1024.0 };
        let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
        let (mut at, mut want) = (0.0, 0.5);
        let (mut x, mut expected) = (vec![], vec![]);
        while at < 7.0 {
            x.extend([at as f32, -at as f32]);
            expected.extend([want, 1.0 - want]);
            want += step / 6.0 * (density(at) + 4.0 * density(at + step / 2.0) + density(at + step));
            at += step;
        }
        let tolerance = if cfg!(miri) { 1e-5 } else { 2.1e-7 };
        for &level in Level::available() {
            let mut y = vec![f32::NAN; x.len()];
            shares(level, &x, &mut y);
            for ((x, y), want) in x.iter().zip(y).zip(&expected) {
                assert!((f64::from(y) - want).abs() <= tolerance, "{level:?}: at {x} {y}, not {want}");
            }
        }
    }
}
