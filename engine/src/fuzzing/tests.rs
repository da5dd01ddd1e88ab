//! Every target, with its seeds and with mutations of them; how many, `PORTWAY_FUZZ_RUNS` says.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::heap::peak_of;
use super::{TARGETS, Target};
use crate::base::Digest;
use crate::sim::rng::Rng;

/// Mutations of each target unless the variable says otherwise.
const RUNS_DEFAULT: u64 = 400;
/// Most bytes of a mutated input.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// Numbers that decoders trip over: ends of ranges, and limits with one more or less.
const NUMBERS: [u64; 16] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x3ff,
    0x401,
    0x7fff,
    0xffff,
    (4 << 20) + 1,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 32,
    i64::MAX as u64,
    u64::MAX,
];

/// Input number `run` of a target; the same in every run of the tests.
fn input(target: &Target, seeds: &[Vec<u8>], run: u64) -> Vec<u8> {
    let name = Digest::of(target.name.as_bytes()).short() as u64;
    let mut rng = Rng::new(name ^ run.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut bytes = rng.pick(seeds).cloned().unwrap_or_default();
    for _ in 0..rng.between(1, 4) {
        mutate(&mut bytes, seeds, &mut rng);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut Rng) {
    let at = rng.below(bytes.len() as u64 + 1) as usize;
    let to = at + rng.spread((bytes.len() - at) as u64 + 1) as usize;
    let other = rng.pick(seeds).cloned().unwrap_or_default();
    let from = rng.below(other.len() as u64 + 1) as usize;
    match rng.below(9) {
        // Flip a bit, or change a byte.
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
        0..=2 if at < bytes.len() => bytes[at] = rng.next() as u8,
        // Cut off, take out, double.
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..to)),
        5 => {
            let part = bytes[at..to].to_vec();
            bytes.splice(at..at, part);
        }
        // Splice with another seed.
        6 => drop(bytes.splice(at.., other[from..].iter().copied())),
        // Tamper with a number: little or big endian, of some width, in place or put in.
        7 => {
            let number = rng.pick(&NUMBERS).copied().unwrap_or_default();
            let width = 1 << rng.below(4);
            let little = number.to_le_bytes();
            let big = number.to_be_bytes();
            let raw = if rng.chance(50) { &little[..width] } else { &big[8 - width..] };
            let over = if rng.chance(50) { (at + width).min(bytes.len()) } else { at };
            bytes.splice(at..over, raw.iter().copied());
        }
        // Put in noise.
        _ => {
            let len = rng.spread(32) as usize;
            let noise = rng.bytes(len);
            bytes.splice(at..at, noise);
        }
    }
}

/// Whether the bytes are accepted.
fn try_on(target: &Target, data: &[u8], what: &str) -> bool {
    catch_unwind(AssertUnwindSafe(|| target.try_on(data))).unwrap_or_else(|_| {
        panic!("{} breaks its promise for {what}: {}", target.name, data.escape_ascii());
    })
}

#[test]
fn every_decoder_keeps_its_promise_whatever_the_bytes() {
    let runs = std::env::var("PORTWAY_FUZZ_RUNS");
    let runs = runs.map_or(RUNS_DEFAULT, |text| text.parse().expect("a number of runs"));
    for target in TARGETS {
        let seeds = (target.seeds)();
        try_on(target, &[], "nothing");
        assert!(!seeds.is_empty(), "{} has seeds", target.name);
        for (i, seed) in seeds.iter().enumerate() {
            assert!(try_on(target, seed, &format!("seed {i}")), "{}: seed {i}", target.name);
        }
        let mutated = |run: &u64| input(target, &seeds, *run);
        let accepted =
            (0..runs).filter(|run| try_on(target, &mutated(run), &format!("run {run}"))).count();
        println!("{}: {runs} mutated inputs, {accepted} of them accepted", target.name);
    }
}

#[test]
fn the_memory_that_work_takes_is_counted_at_its_peak() {
    let ((), peak) = peak_of(|| {
        drop(vec![0u8; 1000]);
        let mut grown = vec![0u8; 10_000];
        grown.reserve_exact(90_000);
        drop(std::hint::black_box(grown));
    });
    assert!((100_000..=120_000).contains(&peak), "{peak}");
}

#[test]
fn a_target_that_takes_too_much_memory_or_panics_is_noticed() {
    let hungry = |data: &[u8]| std::hint::black_box(vec![0u8; data.len() * 1000]).is_empty();
    let target = |holds| Target { name: "test", holds, seeds: Vec::new, heap_bytes: 1000 };
    target(hungry).try_on(&[0]);
    assert!(catch_unwind(|| target(hungry).try_on(&[0; 100])).is_err());
    let wrong = |data: &[u8]| {
        assert!(data.is_empty());
        true
    };
    assert!(catch_unwind(|| target(wrong).try_on(&[0])).is_err());
}
