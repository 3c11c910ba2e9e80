//! Sharing of tasks among threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use crate::progress::Progress;
use crate::worker::threads_of_environment;
use crate::{Error, Result};

/// Longest time between two reports, as far as single tasks allow.
const REPORT: Duration = Duration::from_millis(15);

/// Sets how many threads the library computes with, before its first computation: rayon's global pool, unless the
/// program has built that itself.
///
/// # Errors
/// [`Error::InvalidArgument`] when the pool has another size already.
pub fn set_threads(threads: usize) -> Result<()> {
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    match rayon::current_num_threads() {
        n if n == threads => Ok(()),
        n => Err(Error::invalid(format!(
            "{threads} threads: {n} are running already, and their number is fixed at the first computation"
        ))),
    }
}

/// Threads of this thread's computations: those of the pool that it is of, else of rayon's global pool, which the first call starts
/// where nothing has yet. That has as many as the environment variable `CA2SIS_THREADS` says, from 1 to 1024, else as many as rayon
/// chooses; other values are overlooked.
pub fn threads() -> usize {
    static ENVIRONMENT: OnceCell<()> = OnceCell::new();
    // A context's threads do without the global pool: none is started from there.
    if rayon::current_thread_index().is_none() {
        ENVIRONMENT.get_or_init(|| {
            if let Some(threads) = threads_of_environment() {
                // Where the program has built it or computed before, that one holds.
                let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
            }
        });
    }
    rayon::current_num_threads()
}

/// Runs `work` for every task below `count`, on this thread and the pool's others, each with a scratch of its own. This
/// thread reports between its tasks. Which thread runs a task must not matter to the result.
///
/// # Errors
/// [`Error::Cancelled`]; some of the tasks have then run.
pub(crate) fn share<S>(
    count: usize,
    progress: Progress,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) + Sync,
) -> Result<()> {
    progress.at(0.0)?;
    let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
    let take = || {
        let task = if stopped.load(Ordering::Relaxed) { count } else { next.fetch_add(1, Ordering::Relaxed) };
        (task < count).then_some(task)
    };
    let helpers = threads().min(count).saturating_sub(1);
    rayon::in_place_scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|_| {
                let mut own = None;
                while let Some(task) = take() {
                    work(own.get_or_insert_with(&scratch), task);
                }
            });
        }
        let mut own = None;
        let mut reported = Instant::now();
        while let Some(task) = take() {
            work(own.get_or_insert_with(&scratch), task);
            if reported.elapsed() >= REPORT {
                reported = Instant::now();
                if let Err(e) = progress.at((task + 1) as f32 / count as f32) {
                    stopped.store(true, Ordering::Relaxed);
                    return Err(e);
                }
            }
        }
        Ok(())
    })
}

/// As [`share`], with tasks that give something: the results in the tasks' order.
pub(crate) fn share_map<S, R: Send>(
    count: usize,
    progress: Progress,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> R + Sync,
) -> Result<Vec<R>> {
    let results = Mutex::new(Vec::with_capacity(count));
    share(count, progress, scratch, |own, task| {
        let result = work(own, task);
        results.lock().expect("no panic while pushing").push((task, result));
    })?;
    let mut results = results.into_inner().expect("no panic while pushing");
    results.sort_unstable_by_key(|(task, _)| *task);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_and_results_keep_their_order() {
        let squares = share_map(1000, Progress::NONE, || (), |(), i| i * i).unwrap();
        assert!(squares.into_iter().enumerate().all(|(i, s)| s == i * i));
        assert!(share_map(0, Progress::NONE, || (), |(), i| i).unwrap().is_empty());
    }

    #[test]
    fn threads_are_those_of_the_pool_that_asks() {
        for count in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
            assert_eq!(pool.install(threads), count);
        }
        assert_eq!(threads(), rayon::current_num_threads());
    }

    #[test]
    fn a_stopped_call_leaves_most_tasks_undone() {
        let ran = AtomicUsize::new(0);
        let stop = |done: f32| done == 0.0;
        let result = share(
            1000,
            Progress::new(&stop),
            || (),
            |(), _| {
                std::thread::sleep(Duration::from_millis(2));
                ran.fetch_add(1, Ordering::Relaxed);
            },
        );
        assert!(matches!(result, Err(Error::Cancelled)));
        assert!(ran.into_inner() < 500);
    }
}
