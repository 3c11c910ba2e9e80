//! Hand-tuned CPU code for the network's operations, on plain f32 slices, channels last.
//!
//! Each function has a plain counterpart in [`crate::nn::ops::plain`], against which the tests hold it. Work is cut into
//! tasks by shape alone, never by the number of threads, and partial sums are added in a fixed order: the same input
//! gives the same bits on every run.

pub mod attention;
#[doc(hidden)]
pub mod bench;
pub mod conv;
#[cfg(target_arch = "x86_64")]
mod conv_tiles;
pub mod linear;
mod lines;
pub(crate) mod matrix;
pub(crate) mod moments;
pub mod norm;
pub(crate) mod pixels;
pub mod pointwise;
pub mod resize;
pub(crate) mod rows;
pub(crate) mod segmentation;
mod share;
pub mod simd;
pub(crate) mod strassen;
#[cfg(target_arch = "x86_64")]
mod tiles;
pub(crate) mod window;

pub(crate) use lines::Lines;
pub use share::{set_threads, threads};
pub(crate) use share::{share, share_map};

use std::cell::Cell;
use std::marker::PhantomData;

use gemm::Parallelism;

/// Compiles a function a second time for AVX2 and picks that one where the CPU has it. The function itself stays plain
/// Rust that the compiler vectorises.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $type),*) {
            #[inline(always)]
            fn generic($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $type),*) {
                    generic($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                    // SAFETY: the CPU has the features that the function was compiled for.
                    return unsafe { avx2($($arg),*) };
                }
            }
            generic($($arg),*)
        }
    };
}
pub(crate) use vectorised;

thread_local! {
    static ROUNDS: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, convolutions that this thread begins, and their gradients, may round their factors to bfloat16 where the CPU has
/// tiles for that.
pub(crate) struct Rounding {
    before: bool,
}

impl Rounding {
    pub fn new() -> Self {
        Self { before: ROUNDS.replace(true) }
    }

    #[cfg(target_arch = "x86_64")]
    fn is_on() -> bool {
        ROUNDS.get()
    }
}

impl Drop for Rounding {
    fn drop(&mut self) {
        ROUNDS.set(self.before);
    }
}

/// A matrix in a slice: element (r, c) is at `start + r * row + c * column`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub column: usize,
}

impl<'a> View<'a> {
    /// Row-major with `row` elements from one row to the next.
    pub fn rows(data: &'a [f32], row: usize) -> Self {
        Self { data, row, column: 1 }
    }

    pub fn transposed(self) -> Self {
        Self { data: self.data, row: self.column, column: self.row }
    }

    fn reaches(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.row + (columns - 1) * self.column < self.data.len()
    }
}

/// Where results go: elements that the holder alone may touch, from a slice or from a part of [`Shared`].
pub(crate) struct Target<'a> {
    data: *mut f32,
    len: usize,
    _borrow: PhantomData<&'a mut [f32]>,
}

impl<'a> Target<'a> {
    /// `length` elements from `start` on.
    pub fn slice(&mut self, start: usize, length: usize) -> &mut [f32] {
        assert!(start <= self.len && length <= self.len - start, "target size");
        // SAFETY: in bounds by the assertion; the holder alone may touch them.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), length) }
    }
}

impl Target<'_> {
    /// The elements from `start` on.
    pub fn part(&mut self, start: usize) -> Target<'_> {
        assert!(start <= self.len, "target size");
        // SAFETY: in bounds by the assertion; this target is borrowed meanwhile.
        Target { data: unsafe { self.data.add(start) }, len: self.len - start, _borrow: PhantomData }
    }
}

impl<'a> From<&'a mut [f32]> for Target<'a> {
    fn from(data: &'a mut [f32]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), _borrow: PhantomData }
    }
}

/// A slice that tasks write to in places of their own that are not runs of it, such as columns of a matrix.
pub(crate) struct Shared<'a>(Target<'a>);

// SAFETY: access goes through `from` alone, whose caller promises that no two tasks touch the same element.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub fn new(data: &'a mut [f32]) -> Self {
        Self(data.into())
    }

    /// The elements from `start` on.
    ///
    /// # Safety
    /// While the result lives, nothing else reads or writes those elements that the caller does.
    pub unsafe fn from(&self, start: usize) -> Target<'a> {
        assert!(start <= self.0.len, "target size");
        // SAFETY: in bounds by the assertion.
        Target { data: unsafe { self.0.data.add(start) }, len: self.0.len - start, _borrow: PhantomData }
    }
}

/// `out = keep * out + scale * a b` on this thread: `a` is m x k, `b` k x n, `out` m x n with `out_row` elements from one
/// row to the next.
pub(crate) fn multiply(
    (m, n, k): (usize, usize, usize),
    out: &mut Target,
    out_row: usize,
    keep: bool,
    scale: f32,
    a: View,
    b: View,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(a.reaches(m, k) && b.reaches(k, n) && (m - 1) * out_row + n <= out.len, "matrix sizes");
    // SAFETY: every access is inside the three slices by the assertion, and the holder of `out` alone may touch it.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.data,
            1,
            out_row as isize,
            keep,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            1.0,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// Multiply-adds times two that `threads` threads do in a second at best, measured: products at `level` whose matrices stay in L1.
pub fn measure_peak(level: simd::Level, threads: usize) -> f64 {
    use matrix::{Panels, Rows, Start, product};
    use std::time::{Duration, Instant};
    let (rows, k) = if level.tiles() { (128, 96) } else { (4 * level.rows(), 128) };
    let n = 2 * level.lanes();
    let b = Panels::pack(level, k, n, View::rows(&vec![0.5; k * n], n));
    let a = vec![0.5; rows * k];
    let speed = |_| {
        let mut lowered = Lines::new();
        let a = Rows::new(&a, k).lowered(level, rows, k, &mut lowered);
        let mut out = vec![0.0; rows * n];
        let mut best = 0.0f64;
        let end = Instant::now() + Duration::from_millis(200);
        while Instant::now() < end {
            let begun = Instant::now();
            for _ in 0..100 {
                product(rows, a, b.as_ref(), Start::Zero, &mut out.as_mut_slice().into(), n);
            }
            best = best.max((200 * rows * k * n) as f64 / begun.elapsed().as_secs_f64());
        }
        best
    };
    std::thread::scope(|scope| {
        let speed = &speed;
        let all: Vec<_> = (0..threads).map(|i| scope.spawn(move || speed(i))).collect();
        all.into_iter().map(|t| t.join().unwrap_or(0.0)).sum()
    })
}

/// Values for tests, from -1 to 1: others for each `salt`.
#[cfg(test)]
pub(crate) fn values(n: usize, salt: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + salt * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
}
