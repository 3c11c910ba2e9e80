//! Buffers that begin at a line of the cache: a register that lies across two lines is two loads or two stores. glibc's allocator
//! gives such memory to nobody who asks for much.

use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};

const LINE: usize = 16;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

// SAFETY: sixteen f32 and nothing else, no padding; all zeros are zeros.
unsafe impl Zeroable for Line {}
// SAFETY: as above; every bit pattern is a value.
unsafe impl Pod for Line {}

/// f32 values, a whole number of lines of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Vec<Line>);

impl Lines {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// `n` zeros, and what fills their last line.
    pub fn zeros(n: usize) -> Self {
        Self(vec![Line::zeroed(); n.div_ceil(LINE)])
    }

    /// `n` elements, of whatever value; the buffer grows as needed.
    pub fn room(&mut self, n: usize) -> &mut [f32] {
        if self.len() < n {
            self.0.resize(n.div_ceil(LINE), Line::zeroed());
        }
        &mut self[..n]
    }
}

/// Runs `work` with a buffer that this thread keeps; one inside the other gets a new one.
#[cfg(target_arch = "x86_64")]
pub(super) fn with_kept<R>(work: impl FnOnce(&mut Lines) -> R) -> R {
    thread_local! {
        static KEPT: std::cell::Cell<Lines> = const { std::cell::Cell::new(Lines::new()) };
    }
    let mut buffer = KEPT.take();
    let result = work(&mut buffer);
    KEPT.set(buffer);
    result
}

impl Deref for Lines {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}
