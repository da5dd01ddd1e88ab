//! Everything at once, by a seed, and a reader that guesses.

use super::super::super::rng::Rng;
use super::super::SimVerbsStats;
use super::*;
use crate::base::Digest;

/// A reader and a source that do anything in any order, and start over when something broke.
struct Play {
    pair: Pair,
    rng: Rng,
    windows: Vec<(usize, Window)>,
    tag: u64,
    broken: bool,
}

impl Play {
    fn step(&mut self) {
        if self.broken {
            self.windows.clear();
            self.broken = self.pair.connect(2).is_err();
            return;
        }
        // Memory behind lost completions comes back when the queue pairs are gone.
        if [&self.pair.reader_slab, &self.pair.source_slab].iter().any(|it| it.leases_out() == 8) {
            self.broken = true;
            return;
        }
        self.tag += 1;
        let queue_pair = self.rng.below(2) as usize;
        match self.rng.below(10) {
            0 if self.windows.len() < 6 => {
                let content = vec![self.pair.content(&[0x55; 512])];
                let window = self.pair.source.open_window(queue_pair, self.tag, content);
                self.windows.extend(window.map(|window| (queue_pair, window)));
            }
            1 if !self.windows.is_empty() => {
                let place = self.rng.below(self.windows.len() as u64) as usize;
                if self.pair.source.close_window(self.tag, self.windows[place].1.id).is_ok() {
                    self.windows.remove(place);
                }
            }
            2..5 => {
                let Some(&(bound, window)) = self.rng.pick(&self.windows) else { return };
                let wrong = self.rng.chance(2);
                let over = if wrong { queue_pair } else { bound };
                let from = self.rng.below(if wrong { 600 } else { 256 });
                let Some(lease) = self.pair.reader_slab.try_lease() else { return };
                let sink = Sink::new(lease);
                let read = read_of(window, &sink, from, 256);
                let _ = self.pair.reader.read(over, self.tag, read);
            }
            5 => self.broken |= self.pair.reader.ring().is_err(),
            6 => self.broken |= self.pair.source.ring().is_err(),
            7 | 8 => self.poll(true),
            _ => self.poll(false),
        }
        let troubles = [self.pair.reader.trouble(), self.pair.source.trouble()];
        self.broken |= troubles.iter().flatten().count() > 0;
    }

    fn poll(&mut self, reader: bool) {
        let mut done = Vec::new();
        let rail = if reader { &mut self.pair.reader } else { &mut self.pair.source };
        self.broken |= rail.poll(&mut done).is_err();
        self.broken |= done.iter().any(|done| done.result.is_err());
    }
}

fn play(seed: u64, config: &SimVerbsConfig, steps: usize) -> (Digest, SimVerbsStats, Pair) {
    // What refuses at the very start is tried again, as part of the history.
    let mut pair = Pair::new(seed, SimVerbsConfig { rates: [].into(), ..config.clone() });
    pair.fabric.0.net().dice = super::super::faults::Dice::new(seed, config);
    let mut play = Play { rng: Rng::new(!seed), windows: Vec::new(), tag: 0, broken: false, pair };
    for _ in 0..steps {
        play.step();
    }
    pair = play.pair;
    (pair.fabric.trace(), pair.fabric.stats(), pair)
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let (trace, stats, _) = play(seed, &SimVerbsConfig::cruel(), 5_000);
        (trace, stats)
    };
    assert_eq!(history(1), history(1));
    assert_ne!(history(1).0, history(2).0);
}

#[test]
fn every_fault_happens_and_nothing_outside_is_read_or_kept() {
    let mut faults = std::collections::BTreeMap::<SimFault, u64>::new();
    for seed in 0..40 {
        let config = SimVerbsConfig { descriptors: true, ..SimVerbsConfig::cruel() };
        let (_, stats, mut pair) = play(seed, &config, 5_000);
        assert_eq!(stats.bytes_outside, 0, "seed {seed}");
        assert!(stats.reads > 50, "seed {seed}: {stats:?}");
        for (fault, count) in &stats.faults {
            *faults.entry(*fault).or_default() += count;
        }
        pair.fabric.calm();
        pair.connect(1).expect("connected");
        let window = pair.window(0, &[8; 64]);
        assert_eq!(pair.read(0, window, 0, 64), (Ok(()), vec![8; 64]), "seed {seed}");
        pair.reader.destroy();
        pair.source.destroy();
        let stats = pair.fabric.stats();
        let held = [stats.windows_open, stats.contents_held, stats.sinks_held, stats.queue_pairs];
        assert_eq!(held, [0; 4], "seed {seed}");
        assert_eq!((pair.reader_slab.leases_out(), pair.source_slab.leases_out()), (0, 0));
    }
    // Nobody arms, and ports are opened before the faults begin.
    let quiet = [SimFault::MissedWakeUp, SimFault::OpenRefused];
    for fault in SimFault::ALL.iter().filter(|fault| !quiet.contains(fault)) {
        assert!(faults.contains_key(fault), "{fault:?} never happened: {faults:?}");
    }
}

#[test]
fn a_reader_that_guesses_gets_nothing() {
    let mut pair = Pair::new(30, SimVerbsConfig::default());
    let mut rng = Rng::new(31);
    let mut foreign = pair.window(1, &[0xee; 4096]);
    for guess in 0..3_000 {
        let window = pair.window(0, &[0xee; 4096]);
        let old = foreign;
        if guess % 3 == 0 {
            pair.source.close_window(901, window.id).expect("taken");
            assert_eq!(pair.of_source(1), [ok(901)]);
        }
        let sink = pair.sink();
        let anywhere = rng.next();
        let mut read = read_of(window, &sink, 0, 1 + rng.below(4096) as usize);
        match guess % 6 {
            1 => read.rkey ^= 1 << rng.below(32),
            2 => read.remote = anywhere,
            4 => read = read_of(old, &sink, 0, read.len),
            5 => read.remote = window.base + 4097 - read.len as u64,
            _ => {}
        }
        pair.reader.read(0, 1, read).expect("taken");
        assert_eq!(pair.of_reader(1), [failed(1, "remote access error")], "guess {guess}");
        assert!(sink.lease()[..4096].iter().all(|byte| *byte == 0), "guess {guess}");
        pair.connect(2).expect("connected");
        foreign = pair.window(1, &[0xee; 4096]);
    }
    let stats = pair.fabric.stats();
    assert_eq!((stats.reads, stats.bytes_outside, stats.reads_refused), (0, 0, 3_000));
}
