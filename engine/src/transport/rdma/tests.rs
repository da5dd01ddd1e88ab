//! Two machines over software devices, with faults by a seed.

mod grants;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::arrived::Seen;
use super::machine::{Output, Rails, SendEnd, Setup};
use super::message::{Grant, Message, Note, encode_notes};
use super::port::Verbs;
use crate::base::{Digest, Instant, NodeName};
use crate::buf::Slab;
use crate::sim::rng::Rng;
use crate::sim::verbs::{SimFabric, SimFault, SimRail, SimVerbsConfig};

/// Messages of one run.
const MESSAGES: u64 = 40;
/// Longest that a run may take, in simulated milliseconds.
const TIME_MS: u64 = 300_000;

/// Longest time in which nothing ends while something is under way, in simulated milliseconds.
const PAUSE_MS_MAX: u64 = 5_000;

/// One end of the session, and what is on the way to it.
struct End {
    rails: Rails<SimRail>,
    slab: Slab,
    inbox: Vec<Bytes>,
    seen: Seen,
    /// Grants that wait for a lease.
    delivered: VecDeque<Grant>,
    reading: BTreeMap<u64, u64>,
    /// What the link below has to carry.
    carrying: VecDeque<u64>,
}

/// A message that one end sends to the other.
struct Case {
    digest: Digest,
    arrived: bool,
    ended: Option<SendEnd>,
    given_up: bool,
}

#[derive(Debug, Default)]
struct Totals {
    faults: u64,
    done: u64,
    carried: u64,
    altered: u64,
    stale: u64,
    longest_ms: u64,
}

struct World {
    rng: Rng,
    fabric: SimFabric,
    ends: [End; 2],
    cases: BTreeMap<u64, Case>,
    now: Instant,
    last_end: Instant,
    /// Whether a sender now and then wants a message no more. That may end a rail's life.
    gives_up: bool,
    totals: Totals,
}

fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

impl World {
    fn new(seed: u64, config: SimVerbsConfig, ports: [u8; 2]) -> Self {
        let fabric = SimFabric::new(seed, config);
        let verbs = [fabric.node(&name("a"), ports[0]), fabric.node(&name("b"), ports[1])];
        let known = [verbs[0].ports(), verbs[1].ports()];
        let mut verbs = verbs.into_iter();
        let ends = [0, 1].map(|side: usize| {
            let (slab, own) = (Slab::new(16 << 21), verbs.next().expect("one for each"));
            let memory = slab.clone();
            let rails = Rails::new(Setup {
                lead: side == 0,
                mine: known[side].clone(),
                yours: known[1 - side].clone(),
                queue_pairs: 2,
                near: Some(0),
                header_bytes_max: 16 << 10,
                opener: Box::new(move |port| own.open(port, &name("peer"), &memory)),
            });
            let (inbox, seen, delivered, reading, carrying) = Default::default();
            End { rails, slab, inbox, seen, delivered, reading, carrying }
        });
        let (rng, now) = (Rng::new(seed ^ 0x5eed), Instant::default());
        let (cases, totals) = Default::default();
        Self { rng, fabric, ends, cases, now, last_end: now, gives_up: false, totals }
    }

    /// Sends a message from `side`: parts of one lease, in some order.
    fn send(&mut self, side: usize, id: u64) {
        let Some(mut lease) = self.ends[side].slab.try_lease() else { return };
        let len = if self.rng.below(20) == 0 { lease.len() } else { 20_000 };
        for (i, word) in lease[..len].chunks_mut(8).enumerate() {
            let value = (id << 32 | i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            word.copy_from_slice(&value.to_le_bytes()[..word.len()]);
        }
        let frozen = lease.freeze();
        let cut = len / (2 + self.rng.below(3) as usize);
        let mut parts = vec![frozen.slice(0..cut), frozen.slice(cut + 100..len)];
        if self.rng.below(2) == 0 {
            parts.swap(0, 1);
        }
        let digest = Digest(*blake3::hash(&parts.concat()).as_bytes());
        let case = Case { digest, arrived: false, ended: None, given_up: false };
        self.cases.insert(id, case);
        self.ends[side].rails.send(id, Bytes::copy_from_slice(&id.to_le_bytes()), parts, self.now);
    }

    fn outputs(&mut self, side: usize) {
        let mut notes: Vec<Note> = Vec::new();
        while let Some(output) = self.ends[side].rails.poll_output() {
            match output {
                Output::Tell(note) => notes.push(note),
                Output::Grant(grant) => self.ends[1 - side].inbox.push(grant.encode()),
                Output::Sent { id, end } => {
                    let case = self.cases.get_mut(&id).expect("a message that was sent");
                    assert!(case.ended.is_none(), "message {id} ends twice");
                    assert!(end == SendEnd::Carry || case.arrived, "message {id} never arrived");
                    case.ended = Some(end);
                    match end {
                        SendEnd::Done => self.totals.done += 1,
                        SendEnd::Carry => {
                            self.totals.carried += 1;
                            self.ends[side].carrying.push_back(id);
                        }
                    }
                    let waited = self.now.ms_since(self.last_end);
                    self.totals.longest_ms = self.totals.longest_ms.max(waited);
                    self.last_end = self.now;
                }
                Output::Read { grant, lease } => {
                    let id = self.ends[side].reading.remove(&grant).expect("a read that was asked");
                    let Some((lease, len)) = lease else { continue };
                    let case = self.cases.get_mut(&id).expect("a message that was sent");
                    case.arrived = true;
                    if *blake3::hash(&lease[..len]).as_bytes() != case.digest.0 {
                        self.totals.altered += 1;
                    }
                }
                Output::Violation(what) => panic!("a violation: {what}"),
            }
        }
        while !notes.is_empty() {
            let header = encode_notes(&mut notes, 100);
            self.ends[1 - side].inbox.push(header);
        }
    }

    /// One round: messages between the ends arrive in any order, now and then twice; granted
    /// content is read after a while, or not wanted; time passes.
    fn step(&mut self) {
        let quiet = self.ends.iter().all(|end| end.inbox.is_empty() && !end.rails.is_busy());
        let most = if quiet { 40_000_000 } else { 400_000 };
        self.now = Instant(self.now.0 + self.rng.below(most));
        for side in [0, 1] {
            let waiting = self.ends[side].inbox.len() as u64;
            if waiting > 0 && self.rng.below(3) > 0 {
                let place = self.rng.below(waiting) as usize;
                let bytes = self.ends[side].inbox[place].clone();
                if self.rng.below(20) > 0 {
                    self.ends[side].inbox.remove(place);
                }
                let message = Message::decode(&bytes).expect("a message");
                match message {
                    Message::Content(_) => panic!("nobody sends content this way"),
                    Message::Notes(notes) => self.ends[side].rails.handle(notes, self.now),
                    Message::Grant(grant) => {
                        if self.ends[side].seen.take(grant.id).expect("not too many") {
                            self.ends[side].delivered.push_back(grant);
                        }
                    }
                }
            }
            self.take_delivered(side);
            if self.rng.below(10) == 0
                && let Some(id) = self.ends[side].carrying.pop_front()
            {
                self.ends[side].rails.carried(id, self.now);
            }
            self.ends[side].rails.poll(self.now);
            let events = self.rng.below(8) == 0;
            let due = self.ends[side].rails.deadline().is_some_and(|at| at <= self.now);
            if events || due {
                self.ends[side].rails.tick(self.now, events);
            }
            self.outputs(side);
        }
    }

    fn take_delivered(&mut self, side: usize) {
        if self.rng.below(2) == 0 {
            return;
        }
        let end = &mut self.ends[side];
        let Some(grant) = end.delivered.pop_front() else { return };
        let id = u64::from_le_bytes(grant.header[..].try_into().expect("an id"));
        if self.rng.below(50) == 0 {
            self.cases.get_mut(&id).expect("a message that was sent").arrived = true;
            end.rails.unread(&grant, self.now);
        } else if let Some(lease) = end.slab.try_lease() {
            end.reading.insert(grant.id, id);
            end.rails.read(grant, lease, self.now);
        } else {
            end.delivered.push_front(grant);
        }
    }

    /// All messages, from both ends; true if every one of them ended in time.
    fn run(&mut self) -> bool {
        for side in [0, 1] {
            self.ends[side].rails.start(self.now);
            self.outputs(side);
        }
        let mut next = 1;
        while self.now.ms_since(Instant::default()) < TIME_MS {
            let open = self.cases.values().filter(|c| c.ended.is_none() && !c.given_up).count();
            if next <= MESSAGES && open < 8 {
                self.send((next % 3 / 2) as usize, next);
                next += u64::from(self.cases.contains_key(&next));
            } else if next > MESSAGES && open == 0 {
                return true;
            }
            if self.gives_up && self.rng.below(400) == 0 && next > 1 {
                let id = 1 + self.rng.below(next - 1);
                self.give_up(id);
            }
            self.step();
        }
        false
    }

    fn give_up(&mut self, id: u64) {
        let Some(case) = self.cases.get_mut(&id).filter(|case| case.ended.is_none()) else {
            return;
        };
        case.given_up = true;
        self.ends[(id % 3 / 2) as usize].rails.unsend(id, self.now);
    }

    /// Ends both; nothing may be held or open after it.
    fn finish(mut self) -> Totals {
        for end in &mut self.ends {
            end.rails.stop();
            self.totals.stale += end.rails.stale();
        }
        let stats = self.fabric.stats();
        let held = (stats.windows_open, stats.contents_held, stats.sinks_held, stats.queue_pairs);
        assert_eq!((stats.bytes_outside, held), (0, (0, 0, 0, 0)));
        for end in &self.ends {
            assert_eq!(end.slab.leases_out(), 0, "leases are lost");
        }
        self.totals.faults = stats.faults.values().sum();
        self.totals
    }
}

/// Devices that a seed makes more or less cruel.
fn cruel(seed: u64) -> (SimVerbsConfig, [u8; 2]) {
    let mut rng = Rng::new(seed ^ 0xc0de);
    let mut config = SimVerbsConfig::cruel();
    for rate in config.rates.values_mut() {
        *rate = match rng.below(4) {
            0 => 0,
            1 => *rate,
            2 => *rate * 3,
            _ => *rate / 3,
        };
    }
    config.send_depth = rng.between(2, 64) as usize;
    let ports = [0, 1].map(|_| rng.between(1, 3) as u8);
    (config, ports)
}

fn seeds() -> (u64, u64) {
    let number = |name: &str, default| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    (number("RAILS_SEED", 0), number("RAILS_SEEDS", 2_000))
}

#[test]
fn whatever_the_devices_do_content_arrives_or_comes_another_way() {
    let (first, count) = seeds();
    let mut sum = Totals::default();
    for seed in first..first + count {
        let (config, ports) = cruel(seed);
        let mut world = World::new(seed, config, ports);
        world.gives_up = true;
        let whole = world.run();
        let stuck: Vec<_> =
            world.cases.iter().filter(|(_, c)| c.ended.is_none() && !c.given_up).collect();
        assert!(
            whole,
            "seed {seed}: stuck after {} ms with messages {:?}; {:?}",
            world.now.ms_since(Instant::default()),
            stuck.iter().map(|(id, _)| id).collect::<Vec<_>>(),
            world.ends.each_ref().map(|end| end.rails.status()),
        );
        let totals = world.finish();
        sum.faults += totals.faults;
        sum.done += totals.done;
        sum.carried += totals.carried;
        sum.altered += totals.altered;
        sum.stale += totals.stale;
        assert!(totals.longest_ms <= PAUSE_MS_MAX, "seed {seed}: a pause: {totals:?}");
        sum.longest_ms = sum.longest_ms.max(totals.longest_ms);
    }
    println!("{count} seeds: {sum:?}");
    // The seeds do try something.
    assert!(sum.faults > count && sum.carried > 0 && sum.altered > 0 && sum.stale > 0);
    assert!(sum.done > 5 * count, "the rails carry next to nothing");
}

#[test]
fn without_faults_everything_takes_the_rails_and_all_of_them() {
    for seed in 0..20 {
        let mut world = World::new(seed, SimVerbsConfig::default(), [3, 2]);
        assert!(world.run());
        let carried: Vec<u64> =
            world.ends[0].rails.status().iter().map(|rail| rail.bytes).collect();
        assert_eq!(carried.len(), 2);
        assert!(carried.iter().all(|bytes| *bytes > 0), "a rail stood idle: {carried:?}");
        let totals = world.finish();
        assert_eq!((totals.carried, totals.altered, totals.stale), (0, 0, 0));
    }
}

#[test]
fn after_one_fault_of_any_kind_the_transfer_goes_on_within_five_seconds() {
    for fault in SimFault::ALL {
        for occasion in [0, 1, 7, 30] {
            let config = SimVerbsConfig::default().at(fault, occasion);
            let mut world = World::new(occasion, config, [2, 2]);
            assert!(world.run(), "{fault:?} at {occasion}: stuck");
            let totals = world.finish();
            assert!(totals.longest_ms <= PAUSE_MS_MAX, "{fault:?} at {occasion}: {totals:?}");
        }
    }
}

/// Both ends send over one queue pair each with room for two: windows take all of it now and then,
/// and a READ that found none was posted only when another READ had completed.
#[test]
fn a_read_that_found_no_room_behind_windows_is_posted_when_they_are_through() {
    for seed in 0..200 {
        let config = SimVerbsConfig { send_depth: 2, ..SimVerbsConfig::default() };
        let mut world = World::new(seed, config, [1, 1]);
        assert!(world.run(), "seed {seed}: stuck");
        let totals = world.finish();
        assert!(totals.longest_ms < 1_000, "seed {seed}: {totals:?}");
    }
}

#[test]
fn rails_that_connect_and_carry_nothing_hold_nothing_up() {
    // What comes back is tried with a message at a time, and each of them takes seconds to fail.
    let retry_ticks = 4_000;
    let config = SimVerbsConfig { retry_ticks, ..SimVerbsConfig::default() };
    let mut world = World::new(3, config.with(SimFault::RetryExceeded, 10_000), [2, 2]);
    assert!(world.run());
    let took_ms = world.now.ms_since(Instant::default());
    let totals = world.finish();
    assert_eq!((totals.done, totals.carried), (0, MESSAGES));
    assert!(totals.longest_ms <= PAUSE_MS_MAX && took_ms < 20_000, "{took_ms} ms: {totals:?}");
}

#[test]
fn a_rail_that_was_down_is_used_again_within_a_second() {
    let mut world = World::new(1, SimVerbsConfig::default(), [2, 2]);
    for side in [0, 1] {
        world.ends[side].rails.start(world.now);
        world.outputs(side);
    }
    let states = |world: &World| -> Vec<String> {
        world.ends[0]
            .rails
            .status()
            .into_iter()
            .map(|rail| rail.state.as_str().to_owned())
            .collect()
    };
    let up = |world: &World| states(world).iter().filter(|state| *state != "down").count();
    for _ in 0..2_000 {
        world.step();
    }
    assert_eq!(up(&world), 2);
    assert!(world.fabric.set_port(&name("a"), 0, false));
    let mut next = 1;
    for _ in 0..2_000 {
        world.send(0, next);
        next += u64::from(world.cases.contains_key(&next));
        world.step();
    }
    assert_eq!(up(&world), 1, "{:?}", world.ends[0].rails.status());
    assert!(world.fabric.set_port(&name("a"), 0, true));
    let healed = world.now;
    while up(&world) < 2 {
        world.step();
        assert!(world.now.ms_since(healed) <= 1_000, "not tried again in time");
    }
    world.finish();
}

#[test]
fn a_peer_that_says_anything_breaks_nothing() {
    for seed in 0..200 {
        let mut world = World::new(seed, SimVerbsConfig::default(), [2, 2]);
        for side in [0, 1] {
            world.ends[side].rails.start(world.now);
            world.outputs(side);
        }
        for id in 1..=30 {
            world.send(0, id);
            for _ in 0..20 {
                hostile(&mut world);
            }
        }
        world.finish();
    }
}

/// One end hears what may be a lie; what it is granted it reads if it has a lease.
fn hear(world: &mut World, side: usize, message: Message) {
    let (end, now) = (&mut world.ends[side], world.now);
    match message {
        Message::Content(_) => {}
        Message::Notes(notes) => end.rails.handle(notes, now),
        Message::Grant(grant) => {
            if end.seen.take(grant.id) == Some(true)
                && let Some(lease) = end.slab.try_lease()
            {
                end.rails.read(grant, lease, now);
            }
        }
    }
}

/// The second end is a liar: it changes what it says, and says it in any order.
fn hostile(world: &mut World) {
    let place = world.rng.below(world.ends[1].inbox.len().max(1) as u64) as usize;
    let mut heard: Vec<Bytes> = world.ends[1].inbox.iter().skip(place).take(1).cloned().collect();
    heard.extend(world.ends[0].inbox.pop());
    for bytes in heard {
        let mut lie = bytes.to_vec();
        let bit = world.rng.below(8 * lie.len() as u64);
        lie[(bit / 8) as usize] ^= 1 << (bit % 8);
        for message in [Message::decode(&lie), Message::decode(&bytes)].into_iter().flatten() {
            hear(world, 0, message.clone());
            if world.rng.below(3) == 0 {
                hear(world, 1, message);
            }
        }
    }
    for side in [0, 1] {
        let now = Instant(world.now.0 + 100_000);
        world.now = now;
        world.ends[side].rails.poll(now);
        world.ends[side].rails.tick(now, false);
        while let Some(output) = world.ends[side].rails.poll_output() {
            match output {
                Output::Tell(note) => {
                    let header = encode_notes(&mut vec![note], 100);
                    world.ends[1 - side].inbox.push(header);
                }
                Output::Grant(grant) => world.ends[1 - side].inbox.push(grant.encode()),
                Output::Sent { .. } | Output::Read { .. } | Output::Violation(_) => {}
            }
        }
    }
}
