//! Sharing of tasks among threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use crate::progress::Progress;
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

/// Threads of this process's computations: set by [`set_threads`], else by the environment variable `CA2SIS_THREADS`, else
/// rayon's own choice.
pub fn threads() -> usize {
    static ENVIRONMENT: OnceCell<()> = OnceCell::new();
    ENVIRONMENT.get_or_init(|| {
        let wanted = std::env::var("CA2SIS_THREADS").ok().and_then(|v| v.parse::<usize>().ok());
        if let Some(threads) = wanted.filter(|n| (1..=1024).contains(n)) {
            // Where the program has a pool of its own, that one holds.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        }
    });
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
