//! A word about a test that cannot run here.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// Says so, once a test. tests/run counts and names these lines; they go past the test harness, which keeps what passing tests print.
pub fn skipped(why: impl Display) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    // The harness names a test's thread after it.
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(test.clone()) {
        let _ = writeln!(std::io::stderr(), "\nskipped: {test} ({why})");
    }
}
