//! Where the time of a transfer goes: the stages that content passes at one end, the processors,
//! and the link.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// A stage that content passes at one end, or a wait between two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Stage {
    /// At the source: files are opened, looked at and read.
    Read,
    /// At the source: content is cut and digested.
    Digest,
    /// At the source: content waits for memory to be read into.
    Memory,
    /// At the source: content is made smaller.
    Encode,
    /// At the source: the transport takes content.
    Send,
    /// At the target: content is made as large as it was.
    Decode,
    /// At the target: chunks are looked for among what is there.
    Find,
    /// At the target: digests are compared.
    Verify,
    /// At the target: content is written to staged files.
    Write,
    /// At the target: content and journal become durable, and what is whole is published.
    Sync,
}

impl Stage {
    /// All of them, in the order of the enum.
    pub const ALL: [Self; 10] = [
        Self::Read,
        Self::Digest,
        Self::Memory,
        Self::Encode,
        Self::Send,
        Self::Decode,
        Self::Find,
        Self::Verify,
        Self::Write,
        Self::Sync,
    ];

    /// Its name, as programs read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Digest => "digest",
            Self::Memory => "memory",
            Self::Encode => "encode",
            Self::Send => "send",
            Self::Decode => "decode",
            Self::Find => "find",
            Self::Verify => "verify",
            Self::Write => "write",
            Self::Sync => "sync",
        }
    }
}

/// What a stage took so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTime {
    /// Which.
    pub stage: Stage,
    /// Microseconds in which at least one piece of work was in it.
    pub active_us: u64,
    /// Microseconds of all pieces of work together: over `active_us`, how many were in it at once.
    pub busy_us: u64,
    /// CPU microseconds of it. Where work waits for a device, or for a processor, it is less than
    /// `busy_us`; 0 for what only waits.
    pub cpu_us: u64,
    /// Content in bytes.
    pub bytes: u64,
    /// Pieces of work.
    pub times: u64,
}

/// What the process and the machine did meanwhile. Other transfers of the process are in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostTime {
    /// Wall microseconds of all sessions of the transfer.
    pub wall_us: u64,
    /// CPU microseconds of the process.
    pub cpu_us: u64,
    /// Microseconds that threads of the process were ready and had no processor, all together.
    pub delay_us: u64,
    /// Microseconds that processors of the machine idled, all together.
    pub idle_us: u64,
    /// Processors of the machine.
    pub processors: u64,
}

/// What the link of a transfer did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkTime {
    /// Packets declared lost that this end sent.
    pub lost_packets: u64,
    /// UDP payload bytes that this end sent.
    pub sent_bytes: u64,
    /// Shortest smoothed round trip that was seen, in microseconds.
    pub rtt_least_us: u64,
    /// Sum of the smoothed round trips that were seen, in microseconds, and how many there were.
    pub rtt_sum_us: u64,
    /// See `rtt_sum_us`.
    pub rtt_count: u64,
    /// Times that was looked whether the link could have had more content under way than it was
    /// given, and times that it could not.
    pub looks: u64,
    /// See `looks`.
    pub full: u64,
    /// Payload bytes of the largest datagram.
    pub mtu: u64,
}

/// Where the time of a transfer goes at one end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Work {
    /// Stages that something was in.
    pub stages: Vec<StageTime>,
    /// The process and the machine.
    pub host: HostTime,
    /// The link.
    pub link: LinkTime,
}

impl Work {
    /// A stage's times; zeros if nothing was in it.
    pub fn stage(&self, stage: Stage) -> StageTime {
        let found = self.stages.iter().find(|time| time.stage == stage);
        found.copied().unwrap_or(StageTime::none(stage))
    }

    /// This and what another session of the transfer took.
    pub fn plus(mut self, other: &Self) -> Self {
        for theirs in &other.stages {
            match self.stages.iter_mut().find(|ours| ours.stage == theirs.stage) {
                Some(ours) => ours.add(theirs),
                None => self.stages.push(*theirs),
            }
        }
        let (host, link) = (&mut self.host, &mut self.link);
        host.wall_us += other.host.wall_us;
        host.cpu_us += other.host.cpu_us;
        host.delay_us += other.host.delay_us;
        host.idle_us += other.host.idle_us;
        host.processors = host.processors.max(other.host.processors);
        link.lost_packets += other.link.lost_packets;
        link.sent_bytes += other.link.sent_bytes;
        let least = [link.rtt_least_us, other.link.rtt_least_us];
        link.rtt_least_us = least.into_iter().filter(|us| *us > 0).min().unwrap_or(0);
        link.rtt_sum_us += other.link.rtt_sum_us;
        link.rtt_count += other.link.rtt_count;
        link.looks += other.link.looks;
        link.full += other.link.full;
        link.mtu = link.mtu.max(other.link.mtu);
        self
    }
}

impl StageTime {
    /// A stage that nothing was in.
    pub const fn none(stage: Stage) -> Self {
        Self { stage, active_us: 0, busy_us: 0, cpu_us: 0, bytes: 0, times: 0 }
    }

    fn add(&mut self, other: &Self) {
        self.active_us += other.active_us;
        self.busy_us += other.busy_us;
        self.cpu_us += other.cpu_us;
        self.bytes += other.bytes;
        self.times += other.times;
    }
}

/// The live times of all stages at one end of a session; times are nanoseconds of one clock.
#[derive(Debug)]
pub struct Stages([Mutex<Live>; Stage::ALL.len()]);

#[derive(Debug, Default)]
struct Live {
    /// Pieces of work in it now, and since when there is at least one.
    inside: u32,
    since_ns: u64,
    active_ns: u64,
    busy_ns: u64,
    cpu_ns: u64,
    bytes: u64,
    times: u64,
}

impl Default for Stages {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Stages {
    fn live(&self, stage: Stage) -> MutexGuard<'_, Live> {
        self.0[stage as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece of work is in a stage from `now_ns` on.
    pub fn enter(&self, stage: Stage, now_ns: u64) {
        let mut live = self.live(stage);
        if live.inside == 0 {
            live.since_ns = now_ns;
        }
        live.inside += 1;
    }

    /// A piece of work that entered at `since_ns` is done, with so much CPU time and content.
    pub fn leave(&self, stage: Stage, since_ns: u64, now_ns: u64, cpu_ns: u64, bytes: u64) {
        let mut live = self.live(stage);
        debug_assert!(live.inside > 0, "{stage:?} is left more often than entered");
        live.inside = live.inside.saturating_sub(1);
        if live.inside == 0 {
            live.active_ns += now_ns.saturating_sub(live.since_ns);
        }
        live.busy_ns += now_ns.saturating_sub(since_ns);
        live.cpu_ns += cpu_ns;
        live.bytes += bytes;
        live.times += 1;
    }

    /// What each stage took until `now_ns`; what is in one now counts for its activity.
    pub fn times(&self, now_ns: u64) -> Vec<StageTime> {
        let time = |stage: &Stage| {
            let live = self.live(*stage);
            let open = if live.inside > 0 { now_ns.saturating_sub(live.since_ns) } else { 0 };
            StageTime {
                stage: *stage,
                active_us: (live.active_ns + open) / 1000,
                busy_us: live.busy_ns / 1000,
                cpu_us: live.cpu_ns / 1000,
                bytes: live.bytes,
                times: live.times,
            }
        };
        let times = Stage::ALL.iter().map(time);
        times.filter(|time| time.times > 0 || time.active_us > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_active_while_anything_is_in_it_and_busy_with_all_of_it() {
        let stages = Stages::default();
        stages.enter(Stage::Read, 1_000);
        stages.enter(Stage::Read, 3_000);
        stages.leave(Stage::Read, 1_000, 5_000, 2_000, 7);
        stages.leave(Stage::Read, 3_000, 9_000, 1_000, 8);
        stages.enter(Stage::Read, 20_000);
        let read =
            StageTime { active_us: 10, busy_us: 10, cpu_us: 3, bytes: 15, times: 2, ..none() };
        assert_eq!(stages.times(22_000), [read]);
    }

    fn none() -> StageTime {
        StageTime::none(Stage::Read)
    }

    #[test]
    fn sessions_of_a_transfer_add_up() {
        let session = |stage, rtt_least_us| Work {
            stages: vec![StageTime { active_us: 5, times: 1, ..StageTime::none(stage) }],
            host: HostTime { wall_us: 10, cpu_us: 4, delay_us: 1, idle_us: 3, processors: 2 },
            link: LinkTime { lost_packets: 1, rtt_least_us, mtu: 1452, ..LinkTime::default() },
        };
        let one = session(Stage::Read, 0).plus(&session(Stage::Read, 900));
        let both = one.plus(&session(Stage::Sync, 1200));
        assert_eq!(both.stage(Stage::Read).active_us, 10);
        assert_eq!(both.stage(Stage::Sync).times, 1);
        assert_eq!(both.stage(Stage::Write), StageTime::none(Stage::Write));
        assert_eq!((both.host.wall_us, both.host.processors), (30, 2));
        assert_eq!((both.link.lost_packets, both.link.rtt_least_us), (3, 900));
    }

    #[test]
    fn stages_are_in_order_and_have_the_names_that_programs_read() {
        for (place, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, place);
            assert_eq!(serde_json::to_value(stage).expect("JSON"), stage.as_str());
        }
    }
}
