//! 3x3 convolution of a strip of rows as products: a pixel's window is three runs of a zero-bordered picture, so that nothing
//! is copied out. A convolution behind nearest doubling is four 2x2 convolutions of the small picture, one for each
//! place in a doubled pixel, whose weights are sums of the 3x3's: 4/9 of the work, and the doubled picture never exists.
//! One behind bilinear doubling is 1/4 of the work, see [`BilinearConv3`].

use super::matrix::{Panels, Rows, Start, product};
use super::rows;
use super::simd::Level;
use super::{Lines, Shared, Target, View};

/// The weights of a convolution with padding 1, laid out for the registers.
#[derive(Clone, Debug)]
pub(crate) struct Conv3 {
    /// One, or one for each place (row, column) in a doubled pixel.
    phases: Vec<Panels>,
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
}

impl Conv3 {
    /// `weight (outputs, inputs, 3, 3)`; `doubled`: behind nearest doubling.
    pub fn new(
        level: Level,
        weight: &[f32],
        inputs: usize,
        outputs: usize,
        stride: usize,
        doubled: bool,
    ) -> Self {
        let level = match outputs {
            // Up to half a register of outputs: two narrow registers do as much as one wide one.
            ..=8 => level.min(Level::Avx2),
            // A pixel is whole tiles' rows.
            _ if level.tiles() && inputs.is_multiple_of(32) => level,
            _ => level.exact(),
        };
        let kernel = if doubled { 2 } else { 3 };
        let k = kernel * kernel * inputs;
        let pack = |phase: usize| {
            // Rows and columns of the 3x3 that meet in one of the 2x2.
            let met = |place: usize, at: usize| match (doubled, place, at) {
                (false, ..) => at..at + 1,
                (true, 0, 0) => 0..1,
                (true, 0, _) => 1..3,
                (true, _, 0) => 0..2,
                (true, ..) => 2..3,
            };
            let mut matrix = vec![0.0; k * outputs];
            for y in 0..kernel {
                for x in 0..kernel {
                    let taps: Vec<usize> =
                        met(phase / 2, y).flat_map(|y| met(phase % 2, x).map(move |x| 3 * y + x)).collect();
                    let rows = &mut matrix[(y * kernel + x) * inputs * outputs..][..inputs * outputs];
                    for (o, weight) in weight.chunks_exact(9 * inputs).enumerate() {
                        for (i, weight) in weight.chunks_exact(9).enumerate() {
                            rows[i * outputs + o] = taps.iter().map(|&t| weight[t]).sum();
                        }
                    }
                }
            }
            Panels::pack(level, k, outputs, View::rows(&matrix, outputs))
        };
        let phases = (0..if doubled { 4 } else { 1 }).map(pack).collect();
        Self { phases, inputs, outputs, kernel, stride }
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Multiply-adds times two for one input pixel.
    pub fn flops(&self) -> usize {
        2 * self.phases.len() * self.kernel * self.kernel * self.inputs * self.outputs
            / (self.stride * self.stride)
    }

    /// `padded` is a strip with a border of one pixel: its first row is the one above the strip. Convolves the `rows` by
    /// `width` output positions that it has (input positions when doubled), writing to `out`, whose first pixel is
    /// the strip's first output.
    ///
    /// # Safety
    /// While it runs, nothing else touches the strip's outputs.
    pub unsafe fn strip(
        &self,
        padded: &[f32],
        rows: usize,
        width: usize,
        start: Start,
        out: &Shared,
        first: usize,
    ) {
        let c = self.inputs;
        #[cfg(target_arch = "x86_64")]
        let level = self.phases[0].level();
        #[cfg(target_arch = "x86_64")]
        if level.tiles() {
            return super::lines::with_kept(|buffer| {
                let (pixels, c) =
                    super::matrix::lowered_pixels(level, padded, c, 16 * self.stride + 1, buffer);
                // SAFETY: the caller's promise.
                unsafe { self.windows(pixels, c, Some(level), rows, width, start, out, first) };
            });
        }
        // SAFETY: the caller's promise.
        unsafe { self.windows(padded, c, None, rows, width, start, out, first) };
    }

    /// [`strip`](Self::strip) of pixels of `c` elements.
    ///
    /// # Safety
    /// As there.
    #[allow(clippy::too_many_arguments)]
    unsafe fn windows(
        &self,
        padded: &[f32],
        c: usize,
        lowered: Option<Level>,
        rows: usize,
        width: usize,
        start: Start,
        out: &Shared,
        first: usize,
    ) {
        let pitch = (width * self.stride + 2) * c;
        let doubled = self.phases.len() == 4;
        for (phase, panels) in self.phases.iter().enumerate() {
            let (top, left) = (phase / 2, phase % 2);
            for p in 0..panels.len() {
                let panel = panels.panel(p);
                let column = p * panels.width();
                let start = match start {
                    Start::Bias(bias) => Start::Bias(&bias[column..]),
                    other => other,
                };
                for row in 0..rows {
                    let from = &padded[(row * self.stride + top) * pitch + left * c..];
                    let window = Rows {
                        data: from,
                        row: self.stride * c,
                        segments: self.kernel,
                        step: pitch,
                        lowered,
                    };
                    let (pixel, step) = match doubled {
                        true => ((2 * row + top) * 2 * width + left, 2),
                        false => (row * width, 1),
                    };
                    // SAFETY: the caller's promise.
                    let mut out = unsafe { out.from((first + pixel) * self.outputs + column) };
                    product(width, window, panel, start, &mut out, step * self.outputs);
                }
            }
        }
    }
}

/// A convolution with padding 1 behind bilinear doubling (half-pixel centres, edges clamped).
///
/// Doubling is to spread the pixels out, zeros between them, and to smooth with (1 3 3 1) / 4 along rows and columns. Both it
/// and the convolution are filters, so that their order may change: the spread picture is convolved, which takes 9 products
/// with the weights for every small pixel instead of 36, and the fewer channels behind it are smoothed. At the border the
/// convolution would then read the doubled picture's clamped continuation where its padding has zeros; those taps are
/// taken back.
#[derive(Clone, Debug)]
pub(crate) struct BilinearConv3 {
    /// By the place (row, column) in a doubled pixel: of 1, 2, 2 and 4 small pixels, the only ones that are not zero there.
    phases: [Panels; 4],
    inputs: usize,
    outputs: usize,
}

/// A tap (row, column) of the nine: in which phase it is, and as which pixel of its window.
fn tap(y: usize, x: usize) -> (usize, usize) {
    let (odd_y, odd_x) = (y != 1, x != 1);
    (2 * usize::from(odd_y) + usize::from(odd_x), y / 2 * (1 + usize::from(odd_x)) + x / 2)
}

/// Between which of the small pixels, counted with the border, lies the doubled one `i`, counted from the one before the first: the
/// nearer and the farther.
fn between(i: usize) -> (usize, usize) {
    let near = i.div_ceil(2);
    (near, if i.is_multiple_of(2) { near + 1 } else { near - 1 })
}

/// Buffers of a strip.
#[derive(Default)]
pub(crate) struct Spread {
    rows: [Lines; 2],
    smoothed: Lines,
    edge: Lines,
}

/// Which strip of the picture, in rows of the small one.
#[derive(Clone, Copy)]
pub(crate) struct Strip {
    pub rows: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Whether it is at the picture's upper and lower border.
    pub top: bool,
    pub bottom: bool,
}

impl BilinearConv3 {
    /// `weight (outputs, inputs, 3, 3)`
    pub fn new(level: Level, weight: &[f32], inputs: usize, outputs: usize) -> Self {
        let level = if outputs <= 8 { level.min(Level::Avx2) } else { level.exact() };
        let mut matrices = [1, 2, 2, 4].map(|pixels| vec![0.0; pixels * inputs * outputs]);
        for y in 0..3 {
            for x in 0..3 {
                let (phase, pixel) = tap(y, x);
                let rows = &mut matrices[phase][pixel * inputs * outputs..][..inputs * outputs];
                for (o, weight) in weight.chunks_exact(9 * inputs).enumerate() {
                    for (i, weight) in weight.chunks_exact(9).enumerate() {
                        rows[i * outputs + o] = weight[3 * y + x];
                    }
                }
            }
        }
        let phases =
            matrices.map(|m| Panels::pack(level, m.len() / outputs, outputs, View::rows(&m, outputs)));
        Self { phases, inputs, outputs }
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Multiply-adds times two for a small picture of `side` pixels square: of the products, not of the smoothing.
    pub fn flops(&self, side: usize) -> usize {
        2 * self.inputs * self.outputs * (9 * side * side + 4 * 3 * 2 * side)
    }

    /// `small` is a strip with a border of one pixel that continues the picture, clamped at its edges. Writes the
    /// strip's doubled rows to `out`, begun with `bias`, one value for each element of a doubled row.
    pub fn strip(
        &self,
        level: Level,
        small: &[f32],
        strip: Strip,
        bias: &[f32],
        buffers: &mut Spread,
        out: &mut Target,
    ) {
        let (c, o, width) = (self.inputs, self.outputs, strip.width + 2);
        let row = 2 * strip.width * o;
        let (pitch, high) = (2 * width * o, strip.rows + 2);
        for (phase, panels) in self.phases.iter().enumerate() {
            let (down, right) = (phase / 2, phase % 2);
            let spread = &mut buffers.rows[down];
            if right == 0 {
                spread.room(high * pitch);
            }
            // Over the ends of rows: what comes of the last pixel there is not read.
            let count = (high - down) * width - right;
            let window = Rows { data: small, row: c, segments: 1 + down, step: width * c, lowered: None };
            let mut to = Target::from(&mut spread[right * o..]);
            product(count, window, panels.as_ref(), Start::Zero, &mut to, 2 * o);
        }
        let smoothed = buffers.smoothed.room(pitch - o);
        for y in 0..2 * strip.rows {
            let at = |i: usize| &buffers.rows[(y + i) % 2][(y + i) / 2 * pitch..][..pitch - o];
            rows::smooth(level, at(0), at(1), at(2), at(3), &[], smoothed);
            let at = |i: usize| &smoothed[i * o..][..row];
            rows::smooth(level, at(0), at(1), at(2), at(3), bias, out.slice(y * row, row));
        }
        // The doubled picture's pixels outside of it, negated, times the taps that have read them.
        let doubled = |edge: &mut Lines, count: usize, at: &dyn Fn(usize) -> usize| {
            let edge = edge.room(count * c);
            for (i, to) in edge.chunks_exact_mut(c).enumerate() {
                let (near, far) = between(i);
                rows::quarter(level, &small[at(near) * c..][..c], &small[at(far) * c..][..c], to);
                to.iter_mut().for_each(|v| *v = -*v);
            }
        };
        let edge = &mut buffers.edge;
        for (there, y, tap_y) in [(strip.top, 0, 0), (strip.bottom, 2 * strip.rows - 1, 2)] {
            if there {
                let line = if tap_y == 0 { 1 } else { strip.rows };
                doubled(edge, 2 * strip.width + 2, &|x| line * width + x);
                self.taps(edge, [0, 1, 2].map(|x| (tap_y, x)), 2 * strip.width, &mut out.part(y * row), o);
            }
        }
        for (x, tap_x) in [(0, 0), (2 * strip.width - 1, 2)] {
            let column = if tap_x == 0 { 1 } else { strip.width };
            let count = 2 * strip.rows + 2;
            doubled(edge, count, &|y| y * width + column);
            // The corners outside have been taken back with the rows.
            if strip.top {
                edge[..c].fill(0.0);
            }
            if strip.bottom {
                edge[(count - 1) * c..count * c].fill(0.0);
            }
            self.taps(edge, [0, 1, 2].map(|y| (y, tap_x)), 2 * strip.rows, &mut out.part(x * o), row);
        }
    }

    /// Adds `count` windows of three pixels of `line`, multiplied with three of the taps.
    fn taps(&self, line: &[f32], taps: [(usize, usize); 3], count: usize, out: &mut Target, out_row: usize) {
        let c = self.inputs;
        for (i, (y, x)) in taps.into_iter().enumerate() {
            let (phase, pixel) = tap(y, x);
            let panels = &self.phases[phase];
            for p in 0..panels.len() {
                let part = panels.panel(p).part(pixel * c, c);
                let mut out = out.part(p * panels.width());
                product(count, Rows::new(&line[i * c..], c), part, Start::Keep, &mut out, out_row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::resize::bilinear2;
    use crate::kernels::values;

    /// The convolution of the doubled picture, as its definition has it.
    fn plain(x: &[f32], side: usize, weight: &[f32], c: usize, o: usize, bias: &[f32]) -> Vec<f64> {
        let (x, side) = (bilinear2(x, side, side, c), 2 * side);
        let mut y = Vec::with_capacity(side * side * o);
        for p in 0..side * side {
            for k in 0..o {
                let mut sum = f64::from(bias[k]);
                for t in 0..9 {
                    let (row, column) =
                        ((p / side + t / 3).wrapping_sub(1), (p % side + t % 3).wrapping_sub(1));
                    if row < side && column < side {
                        for i in 0..c {
                            let v = x[(row * side + column) * c + i];
                            sum += f64::from(v) * f64::from(weight[(k * c + i) * 9 + t]);
                        }
                    }
                }
                y.push(sum);
            }
        }
        y
    }

    /// Windows of every level, those of tiles with them, at widths that are no whole tiles.
    #[test]
    fn a_strip_is_convolved_with_either_neighbour_and_no_pixel_of_another_row() {
        for (rows, width, c, o, stride, doubled) in [
            (1, 1, 32, 9, 1, false),
            (2, 5, 3, 8, 1, false),
            (3, 17, 32, 16, 1, false),
            (2, 16, 64, 40, 2, false),
            (2, 33, 32, 33, 1, true),
            (2, 64, 96, 32, 1, false),
            (1, 32, 64, 16, 1, true),
            (2, 7, 16, 20, 2, false),
        ] {
            if cfg!(miri) && rows * width > 10 {
                continue; // it runs hundreds of times slower
            }
            let (x, weight) =
                (values((rows * stride + 2) * (width * stride + 2) * c, 1), values(o * c * 9, 2));
            let (bias, pitch) = (values(o, 3), (width * stride + 2) * c);
            let times = if doubled { 2 } else { 1 };
            for level in Level::all() {
                let tolerance = level.tolerance();
                let conv = Conv3::new(level, &weight, c, o, stride, doubled);
                let mut y = vec![f32::NAN; times * rows * times * width * o];
                // SAFETY: nobody else has the slice.
                unsafe { conv.strip(&x, rows, width, Start::Bias(&bias), &Shared::new(&mut y), 0) };
                for (i, got) in y.iter().enumerate() {
                    let (row, column, k) = (i / o / (times * width), i / o % (times * width), i % o);
                    let (mut want, mut size) = (f64::from(bias[k]), 1.0);
                    for t in 0..9 {
                        // Behind doubling a tap reads the pixel that its doubled one is of.
                        let at = |place: usize, tap: usize| match doubled {
                            true => (place + tap).div_ceil(2),
                            false => place * stride + tap,
                        };
                        let from = &x[at(row, t / 3) * pitch + at(column, t % 3) * c..][..c];
                        for (j, v) in from.iter().enumerate() {
                            let term = f64::from(*v) * f64::from(weight[(k * c + j) * 9 + t]);
                            (want, size) = (want + term, size + term.abs());
                        }
                    }
                    let near = (f64::from(*got) - want).abs() <= tolerance * size;
                    assert!(near, "{level:?}, {rows}x{width}, {c} to {o}, at {i}: {got}, not {want}");
                }
            }
        }
    }

    #[test]
    fn a_convolution_behind_bilinear_doubling_is_that_of_the_doubled_picture_to_its_corners() {
        for (side, strip, c, o) in
            [(1, 1, 1, 1), (2, 1, 3, 2), (3, 2, 5, 4), (5, 2, 8, 8), (6, 6, 12, 17), (7, 3, 20, 40)]
        {
            if cfg!(miri) && side > 3 {
                continue; // it runs hundreds of times slower
            }
            let (x, weight) = (values(side * side * c, 1), values(o * c * 9, 2));
            let bias = values(o, 3);
            let want = plain(&x, side, &weight, c, o, &bias);
            for &level in Level::available() {
                let conv = BilinearConv3::new(level, &weight, c, o);
                let biases = bias.repeat(2 * side);
                let mut y = vec![f32::NAN; want.len()];
                let mut buffers = Spread::default();
                for first in (0..side).step_by(strip) {
                    let rows = strip.min(side - first);
                    let clamp = |i: usize| i.saturating_sub(1).min(side - 1);
                    let small: Vec<f32> = (first..first + rows + 2)
                        .flat_map(|y| (0..side + 2).map(move |x| (clamp(y), clamp(x))))
                        .flat_map(|(row, column)| x[(row * side + column) * c..][..c].to_vec())
                        .collect();
                    let strip = Strip { rows, width: side, top: first == 0, bottom: first + rows == side };
                    let mut out = Target::from(&mut y[4 * first * side * o..][..4 * rows * side * o]);
                    conv.strip(level, &small, strip, &biases, &mut buffers, &mut out);
                }
                for (i, (got, want)) in y.iter().zip(&want).enumerate() {
                    let near = (f64::from(*got) - want).abs() <= 2e-6 * (9 * c) as f64;
                    assert!(near, "{level:?}, {side}, {c} to {o}, at {i}: {got}, not {want}");
                }
            }
        }
    }
}
