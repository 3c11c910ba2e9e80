//! 3x3 convolution of a strip of rows as products: a pixel's window is three runs of a zero-bordered picture, so that nothing
//! is copied out. A convolution behind nearest doubling is four 2x2 convolutions of the small picture, one for each
//! place in a doubled pixel, whose weights are sums of the 3x3's: 4/9 of the work, and the doubled picture never exists.

use super::matrix::{Panels, Rows, Start, product};
use super::simd::Level;
use super::{Shared, View};

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
        // Up to half a register of outputs: two narrow registers do as much as one wide one.
        let level = if outputs <= 8 { level.min(Level::Avx2) } else { level.exact() };
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
                        pairs: false,
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
