//! The thread that a context's work runs on, and the waiting for it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::progress::Progress;
use crate::{Error, Result};

/// How long a caller waits before it looks again whether to go on. Well below the 50 ms that callers are promised, since
/// a busy machine wakes threads late.
const POLL: Duration = Duration::from_millis(20);

/// Most threads of one worker.
const MAX_THREADS: usize = 1024;

/// The number of threads that the environment variable `CA2SIS_THREADS` says, for who says none. A value that is no number from 1 to
/// 1024 is overlooked: a library cannot ask whoever set it.
pub(crate) fn threads_of_environment() -> Option<usize> {
    let threads = std::env::var("CA2SIS_THREADS").ok()?.parse().ok()?;
    (1..=MAX_THREADS).contains(&threads).then_some(threads)
}

/// Told how much of a call is done, 0 to 1, on the thread that called; answers whether to go on.
pub type Observer<'a> = &'a mut dyn FnMut(f32) -> bool;

/// A thread that runs one piece of work after another, in the order in which they were asked for. Others help it where the
/// work divides; callers' threads never do any of it.
pub(crate) struct Worker {
    /// Its thread 0 runs the work, and so is the only one that meets the device at large; all of them share the loops
    /// within.
    pool: ThreadPool,
    turns: Turns,
    id: u64,
}

thread_local! {
    /// Workers that have a callback running on this thread.
    static IN_CALLBACK: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Worker {
    /// A worker with `threads` threads in all, 0 for as many as the environment variable `CA2SIS_THREADS` says, else as the machine
    /// runs at once.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for more than 1024; [`Error::Device`] when the system gives no more threads.
    pub fn new(threads: usize) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        if threads > MAX_THREADS {
            return Err(Error::invalid(format!(
                "{threads} threads: ask for at most {MAX_THREADS}, or 0 to let it choose"
            )));
        }
        // Rayon takes 0 for the machine's.
        let threads = if threads > 0 { threads } else { threads_of_environment().unwrap_or(0) };
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("ca2sis-{i}"))
            .start_handler(|_| OURS.set(true))
            .build()
            .map_err(|e| Error::Device(format!("its threads cannot be started: {e}")))?;
        Ok(Self { pool, turns: Turns::default(), id: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Refuses to go on where that would wait for itself.
    pub fn check_not_in_callback(&self) -> Result<()> {
        if IN_CALLBACK.with_borrow(|workers| workers.contains(&self.id)) { Err(Error::Busy) } else { Ok(()) }
    }

    /// Runs a callback of this worker's owner: what it calls on the same owner is refused as busy.
    pub fn callback<R>(&self, call: impl FnOnce() -> R) -> R {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                IN_CALLBACK.with_borrow_mut(|workers| workers.pop());
            }
        }
        IN_CALLBACK.with_borrow_mut(|workers| workers.push(self.id));
        let _leave = Leave;
        call()
    }

    /// Runs `work` on the worker's thread once all that was asked before is done, and waits for it.
    ///
    /// The observer is called on this thread: with 0 before the work begins, then at least every 50 ms, with 1 when it
    /// has ended well. When it answers false the work stops at its next step, and the observer is not called again. What
    /// `work` returns is dropped then, even if it had ended meanwhile.
    ///
    /// # Errors
    /// Those of `work`; [`Error::Cancelled`]; [`Error::Busy`] from inside the observer. A panic of `work` comes out here.
    pub fn run<T: Send>(
        &self,
        observer: Option<Observer>,
        work: impl FnOnce(Progress) -> Result<T> + Send,
    ) -> Result<T> {
        self.check_not_in_callback()?;
        let mut watch = Watch { worker: self, observer, told: None };
        let turn = self.turns.queue();
        while !turn.has_come(POLL) {
            watch.tell(0.0)?;
        }
        watch.tell(0.0)?;

        let (done, stop) = (AtomicU32::new(0), AtomicBool::new(false));
        let (send, receive) = channel();
        let (done, stop) = (&done, &stop);
        let result = self.pool.in_place_scope(|scope| {
            let job = Mutex::new(Some((work, send)));
            // Broadcast, because that alone says which thread it is to be.
            scope.spawn_broadcast(move |_, thread| {
                if thread.index() != 0 {
                    return;
                }
                let Some((work, send)) = lock(&job).take() else { return };
                let step = |share: f32| {
                    done.store(share.to_bits(), Ordering::Relaxed);
                    !stop.load(Ordering::Relaxed)
                };
                // Where nobody receives, the caller's thread has panicked.
                let _ = send.send(work(Progress::new(&step)));
            });
            let mut cancelled = false;
            loop {
                match receive.recv_timeout(POLL) {
                    Ok(result) => return if cancelled { Err(Error::Cancelled) } else { result },
                    // The work panicked; the scope raises that here as it ends.
                    Err(RecvTimeoutError::Disconnected) => return Err(Error::Cancelled),
                    Err(RecvTimeoutError::Timeout) if cancelled => {}
                    Err(RecvTimeoutError::Timeout) => {
                        // 1 is kept for the end.
                        let share = f32::from_bits(done.load(Ordering::Relaxed)).clamp(0.0, 0.999);
                        if watch.tell(share).is_err() {
                            cancelled = true;
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
            }
        })?;
        watch.tell(1.0)?;
        Ok(result)
    }

    /// Drops an object on the worker's threads: what holds memory of a device must not be freed on a caller's thread.
    /// Does not wait, so it may be called from a callback.
    pub fn drop_later(&self, object: impl Send + 'static) {
        self.pool.spawn(move || drop(object));
    }
}

thread_local! {
    static OURS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether this is a thread of a [`Worker`].
pub(crate) fn is_worker_thread() -> bool {
    OURS.get()
}

/// An observer that is told shares that never fall, and nothing after it said to stop.
struct Watch<'a, 'b> {
    worker: &'a Worker,
    observer: Option<Observer<'b>>,
    told: Option<f32>,
}

impl Watch<'_, '_> {
    fn tell(&mut self, share: f32) -> Result<()> {
        let Some(observer) = &mut self.observer else { return Ok(()) };
        let share = self.told.map_or(share, |told| told.max(share));
        self.told = Some(share);
        if self.worker.callback(|| observer(share)) {
            return Ok(());
        }
        self.observer = None;
        Err(Error::Cancelled)
    }
}

/// A queue of callers: rayon alone would run later work in between.
#[derive(Default)]
struct Turns {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    next: u64,
    waiting: VecDeque<u64>,
}

/// A place in the queue, left when it is dropped.
struct Turn<'a> {
    turns: &'a Turns,
    number: u64,
}

impl Turns {
    fn queue(&self) -> Turn<'_> {
        let mut queue = lock(&self.queue);
        let number = queue.next;
        queue.next += 1;
        queue.waiting.push_back(number);
        Turn { turns: self, number }
    }
}

impl Turn<'_> {
    /// Waits until this place is the first, but not longer than `patience`.
    fn has_come(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut queue = lock(&self.turns.queue);
        while queue.waiting.front() != Some(&self.number) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            queue = self.turns.changed.wait_timeout(queue, left).unwrap_or_else(|e| e.into_inner()).0;
        }
        true
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.turns.queue).waiting.retain(|&number| number != self.number);
        self.turns.changed.notify_all();
    }
}

/// No value behind these locks is ever left half-changed, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Work of many short steps.
    fn steps(progress: Progress) -> Result<u32> {
        for i in 0..100 {
            progress.at(i as f32 / 100.0)?;
            thread::sleep(Duration::from_millis(2));
        }
        Ok(7)
    }

    #[test]
    fn work_runs_on_one_thread_that_is_not_the_callers() {
        let worker = Worker::new(3).unwrap();
        let name = || worker.run(None, |_| Ok((thread::current().id(), is_worker_thread()))).unwrap();
        let first = name();
        assert!(first.1 && !is_worker_thread());
        assert_ne!(first.0, thread::current().id());
        assert!((0..20).all(|_| name() == first));
    }

    #[test]
    fn loops_inside_the_work_use_the_workers_threads() {
        use rayon::prelude::*;
        let worker = Worker::new(2).unwrap();
        let all_ours =
            worker.run(None, |_| Ok((0..1000).into_par_iter().all(|_| is_worker_thread()))).unwrap();
        assert!(all_ours);
    }

    #[test]
    fn progress_comes_on_the_callers_thread_from_0_to_1_and_often() {
        let worker = Worker::new(1).unwrap();
        let me = thread::current().id();
        let mut told = Vec::new();
        let mut observer = |share| {
            assert_eq!(thread::current().id(), me);
            told.push(share);
            true
        };
        assert_eq!(worker.run(Some(&mut observer), steps).unwrap(), 7);
        assert_eq!((told[0], *told.last().unwrap()), (0.0, 1.0));
        assert!(told.is_sorted() && told.len() >= 4, "{told:?}");
    }

    #[test]
    fn an_observer_stops_the_work_at_any_point_is_not_called_again_and_the_worker_goes_on() {
        let worker = Worker::new(1).unwrap();
        for stop_at in [0.0, 0.1, 0.5, 1.0] {
            let mut calls_after = 0;
            let mut stopped = false;
            let mut observer = |share| {
                calls_after += u32::from(stopped);
                stopped |= share >= stop_at;
                !stopped
            };
            assert!(matches!(worker.run(Some(&mut observer), steps), Err(Error::Cancelled)), "at {stop_at}");
            assert_eq!((stopped, calls_after), (true, 0), "at {stop_at}");
            assert_eq!(worker.run(None, |_| Ok(1)).unwrap(), 1);
        }
    }

    #[test]
    fn calls_of_many_threads_run_one_after_another_in_order() {
        let worker = Worker::new(2).unwrap();
        let log = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for i in 0..6 {
                let (worker, log) = (&worker, &log);
                scope.spawn(move || {
                    worker.run(None, |_| {
                        lock(log).push((i, "begin"));
                        thread::sleep(Duration::from_millis(30));
                        lock(log).push((i, "end"));
                        Ok(())
                    })
                });
                // Each is in the queue before the next is started.
                thread::sleep(Duration::from_millis(10));
            }
        });
        let expected: Vec<_> = (0..6).flat_map(|i| [(i, "begin"), (i, "end")]).collect();
        assert_eq!(*lock(&log), expected);
    }

    #[test]
    fn a_caller_can_give_up_while_it_waits_for_its_turn() {
        let worker = Worker::new(1).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| worker.run(None, steps).unwrap());
            thread::sleep(Duration::from_millis(20));
            let mut calls = 0;
            let mut observer = |_| {
                calls += 1;
                calls < 3
            };
            let began = AtomicBool::new(false);
            let result = worker.run(Some(&mut observer), |_| {
                began.store(true, Ordering::Relaxed);
                Ok(())
            });
            assert!(matches!(result, Err(Error::Cancelled)));
            assert!(!began.into_inner());
        });
    }

    #[test]
    fn a_call_from_inside_a_callback_is_busy_and_one_to_another_worker_is_not() {
        let (worker, other) = (Worker::new(1).unwrap(), Worker::new(1).unwrap());
        let mut inside = Vec::new();
        let mut observer = |_| {
            inside.push(matches!(worker.run(None, |_| Ok(())), Err(Error::Busy)));
            inside.push(other.run(None, |_| Ok(())).is_ok());
            let mut nested = |_| {
                inside.push(matches!(worker.run(None, |_| Ok(())), Err(Error::Busy)));
                true
            };
            other.run(Some(&mut nested), |_| Ok(())).unwrap();
            true
        };
        worker.run(Some(&mut observer), |_| Ok(())).unwrap();
        assert!(inside.len() >= 6 && inside.iter().all(|&ok| ok), "{inside:?}");
        assert!(worker.run(None, |_| Ok(())).is_ok());
    }

    #[test]
    fn a_panic_of_the_work_comes_out_at_the_caller_and_the_worker_goes_on() {
        let worker = Worker::new(2).unwrap();
        let run = || worker.run(None, |_| -> Result<()> { panic!("a defect, on purpose") });
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"a defect, on purpose"));
        assert_eq!(worker.run(None, |_| Ok(3)).unwrap(), 3);
    }

    #[test]
    fn absurd_numbers_of_threads_are_refused() {
        assert!(matches!(Worker::new(usize::MAX), Err(Error::InvalidArgument(_))));
        assert_eq!(Worker::new(3).unwrap().threads(), 3);
    }
}
