//! What can go wrong with a simulated RDMA device, how often, and how often it did.

use std::collections::{BTreeMap, BTreeSet};

use super::super::rng::Rng;

/// Parts of which a rate counts some.
const WHOLE: u64 = 10_000;

/// A way in which a device misbehaves. Each has occasions, which are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SimFault {
    /// A completion comes late, and with it those behind it on its queue pair. Occasion: each.
    Late,
    /// A completion never comes; its memory stays held until the queue pairs are destroyed.
    /// Occasion: each.
    Lost,
    /// A completion comes twice. Occasion: each.
    Duplicate,
    /// A tag of queue pairs that are long destroyed completes beside a completion. Occasion: each,
    /// where there is such a tag.
    Stale,
    /// A completion overtakes those of other queue pairs. Occasion: each.
    Reordered,
    /// The completion queue breaks. Occasion: each completion.
    Overrun,
    /// A READ fails after a while: nobody answers. Occasion: each READ that begins.
    RetryExceeded,
    /// A READ is refused, and the peer's queue pair breaks too. Occasion: each READ that begins.
    RemoteAccess,
    /// A READ fails after a while: the peer is never ready. Occasion: each READ that begins.
    NotReady,
    /// A READ fails at its own memory. Occasion: each READ that begins.
    LocalProtection,
    /// A READ is flushed out of a clear sky. Occasion: each READ that begins.
    Flushed,
    /// A READ that fails has written a part of its bytes. Occasion: each of the five above.
    Partial,
    /// A READ succeeds, and a part of its bytes was not written. Occasion: each READ that succeeds.
    Short,
    /// A bit of the payload is wrong before the completion. Occasion: each READ that succeeds.
    AlteredBefore,
    /// A bit of the payload turns over after the completion was queued and before it is polled.
    /// Occasion: each READ that succeeds.
    AlteredAfter,
    /// A READ, or the opening or closing of a window, is not taken. Occasion: each.
    PostRefused,
    /// A ring fails, and nothing of what was posted begins. Occasion: each.
    RingRefused,
    /// A port cannot be opened. Occasion: each.
    OpenRefused,
    /// Queue pairs cannot be made. Occasion: each call.
    CreateRefused,
    /// A queue pair cannot be connected; those before it are. Occasion: each queue pair.
    ConnectRefused,
    /// A queue pair breaks by itself. Occasion: each tick.
    QueuePairBroken,
    /// A port goes down for a while. Occasion: each tick.
    PortFlap,
    /// A wake-up that was asked for does not come. Occasion: each.
    MissedWakeUp,
}

impl SimFault {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::Late,
        Self::Lost,
        Self::Duplicate,
        Self::Stale,
        Self::Reordered,
        Self::Overrun,
        Self::RetryExceeded,
        Self::RemoteAccess,
        Self::NotReady,
        Self::LocalProtection,
        Self::Flushed,
        Self::Partial,
        Self::Short,
        Self::AlteredBefore,
        Self::AlteredAfter,
        Self::PostRefused,
        Self::RingRefused,
        Self::OpenRefused,
        Self::CreateRefused,
        Self::ConnectRefused,
        Self::QueuePairBroken,
        Self::PortFlap,
        Self::MissedWakeUp,
    ];
}

/// How a simulated network and its devices behave. Ranges are drawn from evenly, ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimVerbsConfig {
    /// What one queue pair holds from being posted to being polled.
    pub send_depth: usize,
    /// What a completion queue holds; `None` for the send queues of the rail together.
    pub completion_depth: Option<usize>,
    /// Windows of one rail, from being opened to being closed.
    pub windows_max: usize,
    /// How long a READ, or the opening or closing of a window, takes, in ticks.
    pub work_ticks: (u64, u64),
    /// From the end of that to the completion, in ticks.
    pub completion_ticks: (u64, u64),
    /// How late a late completion is, in ticks.
    pub late_ticks: (u64, u64),
    /// How long a READ tries to reach its peer, in ticks.
    pub retry_ticks: u64,
    /// How long a port that flaps is down, in ticks.
    pub flap_ticks: (u64, u64),
    /// Whether rails have descriptors. Nothing happens between ticks, so who sleeps on a
    /// descriptor needs someone else who polls or ticks, or work that takes no ticks.
    pub descriptors: bool,
    /// How often each fault happens, in parts of 10,000 occasions.
    pub rates: BTreeMap<SimFault, u16>,
    /// Faults that happen at the occasion of this number.
    pub at: BTreeSet<(SimFault, u64)>,
}

impl Default for SimVerbsConfig {
    /// Devices without a fault.
    fn default() -> Self {
        Self {
            send_depth: 64,
            completion_depth: None,
            windows_max: 1024,
            work_ticks: (1, 8),
            completion_ticks: (0, 2),
            late_ticks: (20, 200),
            retry_ticks: 40,
            flap_ticks: (10, 400),
            descriptors: false,
            rates: BTreeMap::new(),
            at: BTreeSet::new(),
        }
    }
}

impl SimVerbsConfig {
    /// Every fault now and then. Those of a tick are rarer, since there are many ticks.
    pub fn cruel() -> Self {
        let rate = |fault| match fault {
            SimFault::QueuePairBroken | SimFault::PortFlap => 2,
            SimFault::Overrun | SimFault::RingRefused => 5,
            SimFault::Reordered | SimFault::Late | SimFault::Partial => 1_000,
            SimFault::OpenRefused | SimFault::CreateRefused | SimFault::ConnectRefused => 500,
            _ => 40,
        };
        let rates = SimFault::ALL.iter().map(|fault| (*fault, rate(*fault))).collect();
        Self { rates, ..Self::default() }
    }

    /// The same with a fault at `rate` parts of 10,000 of its occasions.
    pub fn with(mut self, fault: SimFault, rate: u16) -> Self {
        self.rates.insert(fault, rate);
        self
    }

    /// The same with a fault at the occasion of this number, counted from 0.
    pub fn at(mut self, fault: SimFault, occasion: u64) -> Self {
        self.at.insert((fault, occasion));
        self
    }
}

/// What happened in a simulated network, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SimVerbsStats {
    /// Ticks.
    pub ticks: u64,
    /// READs that succeeded.
    pub reads: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Of these, bytes between the parts of a window's content.
    pub gap_bytes: u64,
    /// READs that no open window of their queue pair allowed.
    pub reads_refused: u64,
    /// Bytes that were read outside of open windows; anything but 0 is a defect of the simulation.
    pub bytes_outside: u64,
    /// READs and windows that failed, by what their completion says.
    pub failed: BTreeMap<&'static str, u64>,
    /// Windows that can be read through now.
    pub windows_open: u64,
    /// Windows whose content is held now.
    pub contents_held: u64,
    /// READs whose sinks are held now.
    pub sinks_held: u64,
    /// Queue pairs now.
    pub queue_pairs: u64,
    /// Faults by kind.
    pub faults: BTreeMap<SimFault, u64>,
}

impl SimVerbsStats {
    /// How often this fault happened.
    pub fn fault(&self, fault: SimFault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or_default()
    }
}

/// Decides what goes wrong.
pub(super) struct Dice {
    pub(super) rng: Rng,
    rates: BTreeMap<SimFault, u16>,
    at: BTreeSet<(SimFault, u64)>,
    occasions: BTreeMap<SimFault, u64>,
    pub(super) happened: BTreeMap<SimFault, u64>,
}

impl Dice {
    pub(super) fn new(seed: u64, config: &SimVerbsConfig) -> Self {
        Self {
            rng: Rng::new(seed),
            rates: config.rates.clone(),
            at: config.at.clone(),
            occasions: BTreeMap::new(),
            happened: BTreeMap::new(),
        }
    }

    /// An occasion for `fault`: whether it happens.
    pub(super) fn falls(&mut self, fault: SimFault) -> bool {
        let occasions = self.occasions.entry(fault).or_default();
        let number = *occasions;
        *occasions += 1;
        let rate = self.rates.get(&fault).copied().unwrap_or_default();
        // Drawn whatever is planned, so that planning a fault does not change the others.
        let drawn = rate > 0 && self.rng.below(WHOLE) < u64::from(rate);
        let falls = self.at.remove(&(fault, number)) || drawn;
        if falls {
            *self.happened.entry(fault).or_default() += 1;
        }
        falls
    }

    /// Makes `fault` happen at its next occasion that is not planned yet.
    pub(super) fn plan(&mut self, fault: SimFault) {
        let mut number = self.occasions.get(&fault).copied().unwrap_or_default();
        while !self.at.insert((fault, number)) {
            number += 1;
        }
    }

    /// From now on nothing goes wrong.
    pub(super) fn calm(&mut self) {
        self.rates.clear();
        self.at.clear();
    }

    pub(super) fn between(&mut self, (low, high): (u64, u64)) -> u64 {
        self.rng.between(low, high)
    }
}
