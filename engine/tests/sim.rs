//! The seeded simulation: many seeds, and planted bugs that it must find.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use portway::protocol::PlantedMachine;
use portway::runtime::target::Planted;
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

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..40 {
        let (once, again) = (run(seed, Options::default()), run(seed, Options::default()));
        assert_eq!(once, again, "seed {seed}");
    }
}

/// The simulation notices a defect within `seeds` seeds.
fn is_caught(seeds: u64, options: Options) {
    let (_, violations) = run_all(0, seeds, options);
    let Some(first) = violations.iter().min_by_key(|v| v.seed) else {
        panic!("{options:?} is not noticed within {seeds} seeds");
    };
    println!("{} of {seeds} seeds notice it; {first}", violations.len());
}

fn store(planted: Planted) -> Options {
    Options { store: planted, ..Options::default() }
}

#[test]
fn a_journal_that_runs_ahead_of_the_data_is_caught() {
    is_caught(400, store(Planted { journal_before_sync: true, ..Planted::default() }));
}

#[test]
fn names_that_are_not_synced_are_caught() {
    is_caught(150, store(Planted { no_dir_sync: true, ..Planted::default() }));
}

#[test]
fn chunks_that_are_not_verified_are_caught() {
    is_caught(150, store(Planted { no_digest_check: true, ..Planted::default() }));
}

#[test]
fn publishing_what_is_not_durable_is_caught() {
    is_caught(150, store(Planted { publish_before_sync: true, ..Planted::default() }));
}

#[test]
fn credit_that_does_not_come_back_is_caught() {
    let machine = PlantedMachine { lost_credit: true, ..PlantedMachine::default() };
    is_caught(150, Options { machine, ..Options::default() });
}

#[test]
fn publishing_twice_is_caught() {
    let machine = PlantedMachine { duplicate_publish: true, ..PlantedMachine::default() };
    is_caught(150, Options { machine, ..Options::default() });
}
