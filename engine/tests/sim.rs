//! The seeded simulation: many seeds, and planted bugs that it must find.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use portway::sim::{Options, Tally, Violation, run};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs seeds on all cores; the numbers of the good ones, and the violations.
fn run_all(first: u64, count: u64, options: Options) -> (Tally, Vec<Violation>) {
    let next = AtomicU64::new(first);
    let found = Mutex::new((Tally::default(), Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let result = run(seed, options);
                    let mut found = found.lock().unwrap();
                    match result {
                        Ok(report) => found.0.add(&report.tally),
                        Err(violation) => found.1.push(violation),
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}

#[test]
fn nothing_goes_wrong_whatever_fails() {
    let (first, count) = (number("PORTWAY_SIM_FIRST", 0), number("PORTWAY_SIM_SEEDS", 300));
    let start = std::time::Instant::now();
    let (tally, violations) = run_all(first, count, Options::default());
    println!(
        "{count} seeds from {first}: {} events, {} sessions, {} transfers, {} bytes sent, \
         violations {}, {:.1} s",
        tally.events,
        tally.sessions,
        tally.transfers,
        tally.bytes_sent,
        violations.len(),
        start.elapsed().as_secs_f64()
    );
    for (kind, faults) in &tally.faults {
        println!("  {kind}: {faults}");
    }
    for violation in &violations {
        println!("  {violation}");
    }
    assert!(violations.is_empty(), "seed {} replays the first", violations[0].seed);
}
