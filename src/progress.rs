//! How a long call tells how far it is, and how it is stopped.

use crate::{Error, Result};

/// A share of a call's work. It is handed down: each step reports in its own [`part`](Self::part) of the whole.
#[derive(Clone, Copy)]
pub struct Progress<'a> {
    /// Told how much of the whole is done, 0 to 1; answers whether to go on.
    observer: Option<&'a (dyn Fn(f32) -> bool + Sync)>,
    start: f32,
    length: f32,
}

impl<'a> Progress<'a> {
    /// Tells nobody and is never stopped.
    pub const NONE: Progress<'static> = Progress { observer: None, start: 0.0, length: 1.0 };

    /// Tells `observer`, from 0 to 1, and stops when it answers false. It is called between steps of the work, on the
    /// thread that does it, and may be called with the same value again.
    pub fn new(observer: &'a (dyn Fn(f32) -> bool + Sync)) -> Self {
        Self { observer: Some(observer), start: 0.0, length: 1.0 }
    }

    /// The part of this work from `from` to `to`, both in [0, 1].
    pub fn part(&self, from: f32, to: f32) -> Self {
        Self { start: self.start + self.length * from, length: self.length * (to - from), ..*self }
    }

    /// `done` of this work, in [0, 1], is done.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when it is to be stopped.
    pub fn at(&self, done: f32) -> Result<()> {
        match self.observer {
            Some(go_on) if !go_on(self.start + self.length * done) => Err(Error::Cancelled),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Progress({} to {})", self.start, self.start + self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn parts_of_parts_report_in_the_whole() {
        let told = Mutex::new(Vec::new());
        let observer = |done| {
            told.lock().unwrap().push(done);
            true
        };
        let half = Progress::new(&observer).part(0.5, 1.0);
        half.at(0.0).unwrap();
        half.part(0.0, 0.5).at(0.5).unwrap();
        half.at(1.0).unwrap();
        assert_eq!(*told.lock().unwrap(), [0.5, 0.625, 1.0]);
    }

    #[test]
    fn an_observer_stops_the_work() {
        let stop_late = |done| done < 0.5;
        let progress = Progress::new(&stop_late);
        assert!(progress.at(0.25).is_ok());
        assert!(matches!(progress.at(0.75), Err(Error::Cancelled)));
        assert!(Progress::NONE.at(0.75).is_ok());
    }
}
