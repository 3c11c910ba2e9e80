//! A bar for what takes over a second, and Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use ca2sis::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C stops work at its next step instead of ending the process where it stands.
pub fn catch_interrupts() {
    static ONCE: Once = Once::new();
    // A process that cannot have a handler ends at Ctrl-C as it would have: nothing to report.
    ONCE.call_once(|| drop(ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))));
}

/// # Errors
/// [`Error::Cancelled`] after Ctrl-C.
pub fn check_interrupt() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
}

/// Until then nothing is shown.
const PATIENCE: Duration = Duration::from_secs(1);
const STEPS: u64 = 1000;

/// One job's bar on stderr, where that is a terminal.
pub struct Bar {
    label: String,
    begun: Instant,
    bar: Mutex<Option<ProgressBar>>,
}

impl Bar {
    pub fn new(label: impl Into<String>) -> Self {
        catch_interrupts();
        Self { label: label.into(), begun: Instant::now(), bar: Mutex::new(None) }
    }

    /// Tells how much is done, 0 to 1; false after Ctrl-C. An observer for [`ca2sis::progress::Progress::new`].
    pub fn at(&self, done: f32) -> bool {
        let mut bar = self.bar.lock().unwrap_or_else(|e| e.into_inner());
        if bar.is_none() && self.begun.elapsed() >= PATIENCE && !crate::common::json() {
            let new = ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{msg} {wide_bar} {percent:>3} % {elapsed}");
            new.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            new.set_message(self.label.clone());
            *bar = Some(new);
        }
        if let Some(bar) = &*bar {
            bar.set_position((done * STEPS as f32) as u64);
        }
        !INTERRUPTED.load(Ordering::Relaxed)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.lock().unwrap_or_else(|e| e.into_inner()).take() {
            bar.finish_and_clear();
        }
    }
}
