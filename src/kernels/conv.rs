//! Grouped convolution, channels last, groups in front: windows are copied out a block of pixels at a time and multiplied
//! with the weights, so that the windows of a whole picture never exist at once.

use rayon::prelude::*;

use super::linear::{add, column_sums};
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
    fn window(&self) -> usize {
        self.kernel * self.kernel * self.inputs
    }

    fn in_size(&self) -> usize {
        self.height * self.width * self.inputs
    }

    fn out_pixels(&self) -> usize {
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
    fn block(&self) -> usize {
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

    /// Copies the windows of `windows.len() / window` output pixels from `start` on.
    fn gather(&self, picture: &[f32], start: usize, windows: &mut [f32]) {
        for (p, window) in windows.chunks_exact_mut(self.window()).enumerate() {
            let mut filled = 0;
            self.runs(start + p, |at, from, length| {
                window[filled..at].fill(0.0);
                window[at..at + length].copy_from_slice(&picture[from..from + length]);
                filled = at + length;
            });
            window[filled..].fill(0.0);
        }
    }

    /// Adds windows back to the picture: the transpose of [`gather`](Self::gather).
    fn scatter(&self, windows: &[f32], start: usize, picture: &mut [f32]) {
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

/// The inverse of [`pack`].
fn unpack(s: &Shape, packed: &[f32]) -> Vec<f32> {
    let mut weight = vec![0.0; packed.len()];
    elements(s, |at, group, [t, i, o]| weight[at] = packed[group + (t * s.inputs + i) * s.outputs + o]);
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
        s.gather(&x[picture * s.in_size()..][..s.in_size()], start, windows);
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
    let parts: Vec<_> = (0..s.groups * s.batch)
        .into_par_iter()
        .map_init(Vec::new, |windows, picture| {
            let x = &x[picture * s.in_size()..][..s.in_size()];
            let g = &g[picture * pixels * outputs..][..pixels * outputs];
            let weight = match &turned {
                Some(turned) => products(turned, g, x, windows, true),
                None => products(s, x, g, windows, false),
            };
            let mut bias = vec![0.0; outputs];
            column_sums(g, &mut bias);
            (weight, bias)
        })
        .collect();
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    for group in parts.chunks(s.batch) {
        let (mut w, mut b) = group[0].clone();
        for (next_w, next_b) in &group[1..] {
            add(&mut w, next_w);
            add(&mut b, next_b);
        }
        weight.extend(w);
        bias.extend(b);
    }
    (if turned.is_some() { unpack_turned(s, &weight) } else { unpack(s, &weight) }, bias)
}

/// Sums over the output pixels of `s` of each element of the window in `picture` times each of the pixel's `others`
/// (`s.outputs` of them): `(window, outputs)`, or the transpose.
fn products(
    s: &Shape,
    picture: &[f32],
    others: &[f32],
    windows: &mut Vec<f32>,
    transposed: bool,
) -> Vec<f32> {
    let (window, pixels, block, outputs) = (s.window(), s.out_pixels(), s.block(), s.outputs);
    let mut sums = vec![0.0; window * outputs];
    for start in (0..pixels).step_by(block) {
        let count = block.min(pixels - start);
        windows.resize(count * window, 0.0);
        s.gather(picture, start, windows);
        let (windows, others) =
            (View::rows(windows, window), View::rows(&others[start * outputs..], outputs));
        let ((m, a), (n, b)) = if transposed {
            ((outputs, others), (window, windows))
        } else {
            ((window, windows), (outputs, others))
        };
        multiply((m, n, count), &mut sums.as_mut_slice().into(), n, true, 1.0, a.transposed(), b);
    }
    sums
}
