//! Random histories at the border: nothing crosses that may not, whatever changes, fails or is tried.
//!
//! `PORTWAY_CROSSING_SEEDS` says how many (3,000), `PORTWAY_CROSSING_FIRST` where to begin (0).
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its scene fails")]

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use portway::sim::Violation;
use portway::sim::crossing::{Crossings, Tally};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A directory in memory, if there is one: homes are written to often.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

fn run_all(first: u64, count: u64) -> (Tally, Vec<Violation>) {
    let next = AtomicU64::new(first);
    let found = Mutex::new((Tally::default(), Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let dir = scratch();
                let mut crossings = Crossings::open(dir.path()).unwrap();
                let mut violations = Vec::new();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || violations.len() > 20 {
                        break;
                    }
                    violations.extend(crossings.run(seed).err());
                }
                let mut found = found.lock().unwrap();
                found.0.add(crossings.tally());
                found.1.extend(violations);
            });
        }
    });
    found.into_inner().unwrap()
}

#[test]
fn nothing_crosses_that_may_not() {
    let first = number("PORTWAY_CROSSING_FIRST", 0);
    let count = number("PORTWAY_CROSSING_SEEDS", 3000);
    let start = std::time::Instant::now();
    let (tally, violations) = run_all(first, count);
    println!("{tally:#?}");
    println!("{:.1} s", start.elapsed().as_secs_f64());
    for violation in violations.iter().take(20) {
        println!("  {violation}");
    }
    assert!(violations.is_empty(), "{} violations, the first: {}", violations.len(), violations[0]);
    // What is not tried is not shown.
    if count >= 1000 {
        assert!(tally.published > count / 20 && tally.denied > count / 20, "{tally:?}");
        assert!(tally.stricter <= count / 100, "{tally:?}");
        assert!(tally.found > count / 20 && tally.wanted > count / 20, "{tally:?}");
        assert!(tally.events.values().all(|happened| *happened > count / 100), "{tally:?}");
    }
}

/// Labels that came late: a file without one in the place of a public one, a class that was found or
/// raised when its content had been read already.
#[test]
fn histories_that_once_went_wrong_do_not() {
    for seed in [13_531, 18_030, 25_036, 37_372, 37_761, 42_674, 77_246] {
        let (_, violations) = run_all(seed, 1);
        assert!(violations.is_empty(), "{}", violations[0]);
    }
}
