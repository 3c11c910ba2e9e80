//! Grouped convolution, channels last, groups in front: windows are copied out a block of pixels at a time and multiplied
//! with the weights, so that the windows of a whole picture never exist at once.

use rayon::prelude::*;

use super::linear::{add, column_sums};
#[cfg(target_arch = "x86_64")]
use super::{Rounding, conv_tiles};
use super::{Shared, View, multiply};

/// Sizes of one convolution: `x (groups, batch, height, width, inputs)` with square kernels.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub groups: usize,
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    /// Channels of one group.
    pub inputs: usize,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl Shape {
    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Elements of one window.
    pub(super) fn window(&self) -> usize {
        self.kernel * self.kernel * self.inputs
    }

    pub(super) fn in_size(&self) -> usize {
        self.height * self.width * self.inputs
    }

    pub(super) fn out_pixels(&self) -> usize {
        self.out_height() * self.out_width()
    }

    /// The convolution that takes a gradient back, where one pixel of it comes from each pixel: kernels turned round, inputs
    /// and outputs exchanged. None for other strides, whose gradients have gaps.
    fn turned(&self) -> Option<Self> {
        (self.stride == 1 && self.padding < self.kernel).then(|| Self {
            height: self.out_height(),
            width: self.out_width(),
            inputs: self.outputs,
            outputs: self.inputs,
            padding: self.kernel - 1 - self.padding,
            ..*self
        })
    }

    /// Output pixels whose windows are copied out together: about 2 MB of them.
    pub(super) fn block(&self) -> usize {
        (524_288 / self.window()).clamp(64, 2048).min(self.out_pixels())
    }

    /// The part of the window of output pixel `p` that lies inside the picture, row by row: `visit(window, picture,
    /// length)` gets offsets into the window and the picture and a run of elements that both hold.
    fn runs(&self, p: usize, mut visit: impl FnMut(usize, usize, usize)) {
        let (k, c) = (self.kernel, self.inputs);
        let (top, left) = (p / self.out_width() * self.stride, p % self.out_width() * self.stride);
        let first = self.padding.saturating_sub(left);
        let last = k.min(self.width + self.padding - left.min(self.width + self.padding));
        if first >= last {
            return;
        }
        for dy in 0..k {
            let y = top + dy;
            if y >= self.padding && y < self.height + self.padding {
                let picture = ((y - self.padding) * self.width + left + first - self.padding) * c;
                visit((dy * k + first) * c, picture, (last - first) * c);
            }
        }
    }

    /// Copies the windows of `windows.len() / row` output pixels from `start` on, `row` elements from one to the next; behind each are
    /// zeros.
    pub(super) fn gather<T: Copy + Default>(
        &self,
        picture: &[T],
        start: usize,
        row: usize,
        windows: &mut [T],
    ) {
        for (p, window) in windows.chunks_exact_mut(row).enumerate() {
            let mut filled = 0;
            self.runs(start + p, |at, from, length| {
                window[filled..at].fill(T::default());
                window[at..at + length].copy_from_slice(&picture[from..from + length]);
                filled = at + length;
            });
            window[filled..].fill(T::default());
        }
    }

    /// Adds windows back to the picture: the transpose of [`gather`](Self::gather).
    pub(super) fn scatter(&self, windows: &[f32], start: usize, picture: &mut [f32]) {
        for (p, window) in windows.chunks_exact(self.window()).enumerate() {
            self.runs(start + p, |at, to, length| {
                add(&mut picture[to..to + length], &window[at..at + length]);
            });
        }
    }
}

/// Visits each element of the checkpoint's weight, `(groups outputs, inputs, k, k)`: its index there, the first index of its
/// group, and its tap, input and output.
fn elements(s: &Shape, mut visit: impl FnMut(usize, usize, [usize; 3])) {
    let (taps, window) = (s.kernel * s.kernel, s.window());
    for row in 0..s.groups * s.outputs {
        let (group, o) = (row / s.outputs * s.outputs * window, row % s.outputs);
        for i in 0..s.inputs {
            for t in 0..taps {
                visit(row * window + i * taps + t, group, [t, i, o]);
            }
        }
    }
}

/// The checkpoint's weight as one matrix a group, `(groups, k k inputs, outputs)`.
fn pack(s: &Shape, weight: &[f32]) -> Vec<f32> {
    let mut packed = vec![0.0; weight.len()];
    elements(s, |at, group, [t, i, o]| packed[group + (t * s.inputs + i) * s.outputs + o] = weight[at]);
    packed
}

/// The checkpoint's weight from `(groups, outputs, k k inputs)`.
fn unpack(s: &Shape, packed: &[f32]) -> Vec<f32> {
    let (window, mut weight) = (s.window(), vec![0.0; packed.len()]);
    elements(s, |at, group, [t, i, o]| weight[at] = packed[group + o * window + t * s.inputs + i]);
    weight
}

/// [`pack`] for the [turned](Shape::turned) convolution: `(groups, k k outputs, inputs)`, taps from the last to the first.
fn pack_turned(s: &Shape, weight: &[f32]) -> Vec<f32> {
    let (last, mut packed) = (s.kernel * s.kernel - 1, vec![0.0; weight.len()]);
    elements(s, |at, group, [t, i, o]| {
        packed[group + ((last - t) * s.outputs + o) * s.inputs + i] = weight[at];
    });
    packed
}

/// The checkpoint's weight from `(groups, inputs, k k outputs)`, taps from the last to the first.
fn unpack_turned(s: &Shape, packed: &[f32]) -> Vec<f32> {
    let (taps, mut weight) = (s.kernel * s.kernel, vec![0.0; packed.len()]);
    elements(s, |at, group, [t, i, o]| {
        weight[at] = packed[group + (i * taps + taps - 1 - t) * s.outputs + o];
    });
    weight
}

/// `(groups, batch, h', w', outputs)`
pub fn forward(s: &Shape, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    convolve(s, x, &pack(s, weight), bias)
}

/// [`forward`] with [packed](pack) weights.
fn convolve(s: &Shape, x: &[f32], packed: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    #[cfg(target_arch = "x86_64")]
    if Rounding::is_on() && conv_tiles::pays(s) {
        return conv_tiles::convolve(s, x, packed, bias);
    }
    let (window, pixels, block, outputs) = (s.window(), s.out_pixels(), s.block(), s.outputs);
    let pictures = s.groups * s.batch;
    let blocks = pixels.div_ceil(block);
    // A single small picture is shared out by output channels as well.
    let parts = 8usize.div_ceil(pictures * blocks).min(outputs.div_ceil(64)).max(1);
    let columns = outputs.div_ceil(parts).next_multiple_of(16);
    let mut y = vec![0.0; pictures * pixels * outputs];
    let out = Shared::new(&mut y);
    (0..pictures * blocks * parts).into_par_iter().for_each_init(Vec::new, |windows, task| {
        let (picture, start) = (task / (blocks * parts), task / parts % blocks * block);
        let (count, column) = (block.min(pixels - start), task % parts * columns);
        if column >= outputs {
            return;
        }
        let columns = columns.min(outputs - column);
        windows.resize(count * window, 0.0);
        s.gather(&x[picture * s.in_size()..][..s.in_size()], start, window, windows);
        // SAFETY: each task has a block of pixels and channels of its own.
        let mut block = unsafe { out.from((picture * pixels + start) * outputs + column) };
        let group = picture / s.batch;
        if let Some(bias) = bias {
            let bias = &bias[group * outputs + column..][..columns];
            for p in 0..count {
                block.slice(p * outputs, columns).copy_from_slice(bias);
            }
        }
        let weight = View::rows(&packed[group * window * outputs + column..], outputs);
        let sizes = (count, columns, window);
        multiply(sizes, &mut block, outputs, bias.is_some(), 1.0, View::rows(windows, window), weight);
    });
    y
}

/// The gradient of `x`.
pub fn input_gradient(s: &Shape, g: &[f32], weight: &[f32]) -> Vec<f32> {
    if let Some(turned) = s.turned() {
        return convolve(&turned, g, &pack_turned(s, weight), None);
    }
    let (window, pixels, block, outputs) = (s.window(), s.out_pixels(), s.block(), s.outputs);
    let packed = pack(s, weight);
    #[cfg(target_arch = "x86_64")]
    if Rounding::is_on() && conv_tiles::pays(s) {
        return conv_tiles::input_gradient(s, g, &packed);
    }
    let mut gx = vec![0.0; s.groups * s.batch * s.in_size()];
    gx.par_chunks_mut(s.in_size()).enumerate().for_each_init(Vec::new, |windows, (picture, gx)| {
        let weight = View::rows(&packed[picture / s.batch * window * outputs..], outputs).transposed();
        for start in (0..pixels).step_by(block) {
            let count = block.min(pixels - start);
            windows.resize(count * window, 0.0);
            let g = View::rows(&g[(picture * pixels + start) * outputs..], outputs);
            multiply(
                (count, window, outputs),
                &mut windows.as_mut_slice().into(),
                window,
                false,
                1.0,
                g,
                weight,
            );
            s.scatter(windows, start, gx);
        }
    });
    gx
}

/// The gradients of weight and bias: a sum for each picture, then these in order.
pub fn weight_gradient(s: &Shape, x: &[f32], g: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (pixels, outputs) = (s.out_pixels(), s.outputs);
    // Windows are copied out of whichever has fewer channels.
    let turned = s.turned().filter(|turned| turned.inputs < s.inputs);
    #[cfg(target_arch = "x86_64")]
    let through_tiles = Rounding::is_on() && conv_tiles::pays(turned.as_ref().unwrap_or(s));
    let parts: Vec<_> = (0..s.groups * s.batch)
        .into_par_iter()
        .map_init(Scratch::default, |scratch, picture| {
            let x = &x[picture * s.in_size()..][..s.in_size()];
            let g = &g[picture * pixels * outputs..][..pixels * outputs];
            let (s, picture, others) = match &turned {
                Some(turned) => (turned, g, x),
                None => (s, x, g),
            };
            let mut bias = vec![0.0; outputs];
            column_sums(g, &mut bias);
            #[cfg(target_arch = "x86_64")]
            if through_tiles {
                return (conv_tiles::products(s, picture, others, &mut scratch.tiles), bias);
            }
            (products(s, picture, others, &mut scratch.windows), bias)
        })
        .collect();
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    let mut parts = parts.into_iter();
    while let Some((mut w, mut b)) = parts.next() {
        for (next_w, next_b) in parts.by_ref().take(s.batch - 1) {
            add(&mut w, &next_w);
            add(&mut b, &next_b);
        }
        weight.extend(w);
        bias.extend(b);
    }
    (if turned.is_some() { unpack_turned(s, &weight) } else { unpack(s, &weight) }, bias)
}

/// This thread's buffers.
#[derive(Default)]
struct Scratch {
    windows: Vec<f32>,
    #[cfg(target_arch = "x86_64")]
    tiles: conv_tiles::Scratch,
}

/// Sums over the output pixels of `s` of each of the pixel's `others` (`s.outputs` of them) times each element of the window in
/// `picture`: `(outputs, window)`.
fn products(s: &Shape, picture: &[f32], others: &[f32], windows: &mut Vec<f32>) -> Vec<f32> {
    let (window, pixels, block, outputs) = (s.window(), s.out_pixels(), s.block(), s.outputs);
    let mut sums = vec![0.0; outputs * window];
    for start in (0..pixels).step_by(block) {
        let count = block.min(pixels - start);
        windows.resize(count * window, 0.0);
        s.gather(picture, start, window, windows);
        let others = View::rows(&others[start * outputs..], outputs).transposed();
        let (sizes, windows) = ((outputs, window, count), View::rows(windows, window));
        multiply(sizes, &mut sums.as_mut_slice().into(), window, true, 1.0, others, windows);
    }
    sums
}

/// The transpose of rows of `n` elements, into `out`.
#[cfg(target_arch = "x86_64")]
pub(super) fn transpose(x: &[f32], n: usize, out: &mut [f32]) {
    const SIDE: usize = 16;
    let rows = x.len() / n;
    for (top, left) in
        (0..rows).step_by(SIDE).flat_map(|top| (0..n).step_by(SIDE).map(move |left| (top, left)))
    {
        for column in left..(left + SIDE).min(n) {
            let to = &mut out[column * rows + top..][..SIDE.min(rows - top)];
            for (to, row) in to.iter_mut().zip(top..) {
                *to = x[row * n + column];
            }
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::kernels::simd::Level;
    use crate::kernels::values;

    /// Sizes at which all three products go through tiles, with channels and pixels that fill no whole ones.
    const SHAPES: [Shape; 4] = {
        let s = Shape {
            groups: 1,
            batch: 2,
            height: 21,
            width: 19,
            inputs: 50,
            outputs: 70,
            kernel: 3,
            stride: 1,
            padding: 1,
        };
        [
            s,
            Shape { inputs: 70, outputs: 20, ..s },
            Shape { stride: 2, height: 40, ..s },
            Shape { groups: 3, inputs: 16, outputs: 33, height: 40, ..s },
        ]
    };

    #[test]
    fn convolutions_and_gradients_of_rounded_factors_are_those_of_whole_ones_up_to_that() {
        if !Level::Amx.is_available() {
            eprintln!("no AMX here: nothing is rounded");
            return;
        }
        for s in SHAPES {
            let x = values(s.groups * s.batch * s.in_size(), 1);
            let weight = values(s.groups * s.outputs * s.window(), 2);
            let g = values(s.groups * s.batch * s.out_pixels() * s.outputs, 3);
            let bias = values(s.groups * s.outputs, 4);
            let all = |x: &[f32], weight: &[f32], g: &[f32], bias: &[f32]| {
                let (gw, gb) = weight_gradient(&s, x, g);
                [forward(&s, x, weight, Some(bias)), input_gradient(&s, g, weight), gw, gb]
            };
            let sizes = [&x, &weight, &g, &bias].map(|v| v.iter().map(|v| v.abs()).collect::<Vec<_>>());
            let [plain, terms] =
                [all(&x, &weight, &g, &bias), all(&sizes[0], &sizes[1], &sizes[2], &sizes[3])];
            let rounding = Rounding::new();
            let rounded = all(&x, &weight, &g, &bias);
            drop(rounding);
            assert_eq!(plain, all(&x, &weight, &g, &bias), "rounding ended with its guard");
            for (i, name) in ["output", "gradient of x", "gradient of the weight"].iter().enumerate() {
                for ((got, want), terms) in rounded[i].iter().zip(&plain[i]).zip(&terms[i]) {
                    let off = f64::from((got - want).abs());
                    assert!(
                        off <= Level::Amx.tolerance() * f64::from(*terms),
                        "{name} of {s:?}: {got}, not {want}"
                    );
                }
                assert_ne!(rounded[i], plain[i], "{name} of {s:?} was not rounded");
            }
            assert_eq!(rounded[3], plain[3]);
        }
    }
}
