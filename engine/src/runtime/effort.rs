//! The clocks of what a transfer takes: pieces of work in their stages, and the machine meanwhile.

use std::collections::HashMap;
use std::fs;

use rustix::time::{ClockId, clock_gettime};

use super::idle::idle_ticks;
use crate::metrics::{HostTime, Stage, Stages};

fn clock_ns(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds of the clock that stages are measured by.
pub(crate) fn now_ns() -> u64 {
    clock_ns(ClockId::Monotonic)
}

/// A piece of work in a stage, until it is done or dropped.
pub(crate) struct Effort<'a> {
    stages: &'a Stages,
    stage: Stage,
    since_ns: u64,
    /// CPU time of this thread at the beginning; `None` for what may change threads.
    cpu_ns: Option<u64>,
    bytes: u64,
}

impl<'a> Effort<'a> {
    /// Work of this thread begins.
    pub(crate) fn work(stages: &'a Stages, stage: Stage) -> Self {
        let mut effort = Self::wait(stages, stage);
        effort.cpu_ns = Some(clock_ns(ClockId::ThreadCPUTime));
        effort
    }

    /// A wait begins, or work that a task does.
    pub(crate) fn wait(stages: &'a Stages, stage: Stage) -> Self {
        let since_ns = now_ns();
        stages.enter(stage, since_ns);
        Self { stages, stage, since_ns, cpu_ns: None, bytes: 0 }
    }

    /// So much content more is through.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// It is done, with so much content more.
    pub(crate) fn done(mut self, bytes: usize) {
        self.add(bytes);
    }

    /// The thread goes on with what is of another stage: the clocks are read once for the end of one
    /// and the begin of the other.
    pub(crate) fn turn(&mut self, to: Stage) {
        if self.stage == to {
            return;
        }
        let (now_ns, cpu_ns) = self.leave();
        self.stages.enter(to, now_ns);
        (self.stage, self.since_ns, self.cpu_ns, self.bytes) = (to, now_ns, cpu_ns, 0);
    }

    /// Tells the stage what it took; the clocks now.
    fn leave(&self) -> (u64, Option<u64>) {
        let cpu_ns = self.cpu_ns.map(|_| clock_ns(ClockId::ThreadCPUTime));
        let now_ns = now_ns();
        let spent_ns = cpu_ns.zip(self.cpu_ns).map_or(0, |(now, begun)| now - begun);
        self.stages.leave(self.stage, self.since_ns, now_ns, spent_ns, self.bytes);
        (now_ns, cpu_ns)
    }
}

impl Drop for Effort<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What the process and the machine did since it began.
pub(super) struct HostClock {
    since_ns: u64,
    cpu_ns: u64,
    idle_ticks: u64,
    /// Waits for a processor by thread, in nanoseconds, as last seen.
    delays: HashMap<u64, u64>,
    delay_ns: u64,
}

impl HostClock {
    pub(super) fn start() -> Self {
        Self {
            since_ns: now_ns(),
            cpu_ns: clock_ns(ClockId::ProcessCPUTime),
            idle_ticks: machine_idle(),
            delays: delays(),
            delay_ns: 0,
        }
    }

    /// Until now. What threads waited that began and ended between two looks is not seen.
    pub(super) fn look(&mut self) -> HostTime {
        let delays = delays();
        for (thread, delay) in &delays {
            self.delay_ns += delay - self.delays.get(thread).unwrap_or(&0).min(delay);
        }
        self.delays = delays;
        let ticks = machine_idle().saturating_sub(self.idle_ticks);
        HostTime {
            wall_us: (now_ns() - self.since_ns) / 1000,
            cpu_us: (clock_ns(ClockId::ProcessCPUTime) - self.cpu_ns) / 1000,
            delay_us: self.delay_ns / 1000,
            idle_us: ticks * 1_000_000 / rustix::param::clock_ticks_per_second(),
            processors: processors(),
        }
    }
}

fn machine_idle() -> u64 {
    fs::read_to_string("/proc/stat").ok().and_then(|stat| idle_ticks(&stat)).unwrap_or(0)
}

/// Processors of the machine, those included that this process may not use.
fn processors() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let numbered = |line: &&str| {
        let number = line.strip_prefix("cpu");
        number.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    stat.lines().filter(numbered).count().max(1) as u64
}

/// How long each thread of the process was ready and had no processor, in nanoseconds: the second
/// number of `schedstat` (Linux, Documentation/scheduler/sched-stats.rst). Empty where there is none.
fn delays() -> HashMap<u64, u64> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let delay = |thread: fs::DirEntry| {
        let id = thread.file_name().to_str()?.parse().ok()?;
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        Some((id, text.split_ascii_whitespace().nth(1)?.parse().ok()?))
    };
    threads.filter_map(delay).collect()
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn work_has_cpu_time_and_a_wait_has_none() {
        let stages = Stages::default();
        let piece = Effort::work(&stages, Stage::Digest);
        let mut content = vec![7_u8; 4 << 20];
        for _ in 0..4 {
            let digest = blake3::hash(&content);
            content[..32].copy_from_slice(digest.as_bytes());
        }
        piece.done(content.len());
        let piece = Effort::wait(&stages, Stage::Send);
        thread::sleep(Duration::from_millis(5));
        drop(piece);
        let times = stages.times(now_ns());
        let (digest, send) = (times[0], times[1]);
        assert!(0 < digest.cpu_us && digest.cpu_us <= digest.busy_us + 1, "{digest:?}");
        assert_eq!((digest.bytes, digest.times), (4 << 20, 1));
        assert!(send.active_us >= 5_000 && send.cpu_us == 0, "{send:?}");
    }

    #[test]
    fn a_thread_that_turns_to_another_stage_is_in_one_at_a_time() {
        let stages = Stages::default();
        let mut piece = Effort::work(&stages, Stage::Read);
        thread::sleep(Duration::from_millis(5));
        piece.add(10);
        piece.turn(Stage::Digest);
        piece.add(7);
        piece.turn(Stage::Digest);
        piece.add(3);
        piece.turn(Stage::Read);
        drop(piece);
        let times = stages.times(now_ns());
        let [read, digest] = times[..] else { panic!("{times:?}") };
        assert!(read.active_us >= 5_000 && digest.active_us < 5_000, "{times:?}");
        assert_eq!((read.bytes, read.times), (10, 2));
        assert_eq!((digest.bytes, digest.times), (10, 1));
    }

    #[test]
    fn the_machine_is_watched_meanwhile() {
        let mut clock = HostClock::start();
        thread::sleep(Duration::from_millis(20));
        let time = clock.look();
        assert!(time.wall_us >= 20_000 && time.processors > 0, "{time:?}");
        let later = clock.look();
        assert!(later.cpu_us >= time.cpu_us && later.delay_us >= time.delay_us, "{later:?}");
    }
}
