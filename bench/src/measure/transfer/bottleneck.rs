//! Which stage limits a transfer, from where its time went at both ends. Pure.
//!
//! A stage that limits has something in it nearly all the time: those before it wait for room and
//! those behind it for content. So the rule looks at the share of the time in which each stage was
//! active, after it has looked whether processors were short, since then everything is slow. A
//! sender that waits for its link is told apart by what limits a link: the window, loss, the rate.

use portway::base::human;
use portway::metrics::{LinkTime, Stage, StageTime, Work};

use crate::measure::rows::bits;

/// Share of the time from which on a stage counts as the one that limits.
const ACTIVE: f64 = 0.6;
/// Threads that were ready and had no processor, on average, from which on processors are short.
const WAITING: f64 = 0.7;
/// Share of a window that is under way from which on the window limits: acknowledgements arrive in
/// bursts, and so it is never under way as a whole.
const WINDOW_FULL: f64 = 0.5;
/// Share of packets lost from which on a control that takes loss for congestion is held down.
const LOSS: f64 = 0.0005;
/// Round trip over the shortest one from which on a queue stands before the link: then losses come
/// from the link being full, and not the other way round.
const QUEUE: f64 = 1.6;
/// Mean size of a file in bytes up to which work on files outweighs work on bytes.
const SMALL_BYTES: f64 = 96.0 * 1024.0;
/// Share of one processor that a connection takes from which on it has no more to give.
const CORE: f64 = 0.8;

/// One end of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Where content is.
    Source,
    /// Where it goes.
    Target,
}

impl Side {
    fn words(self) -> &'static str {
        match self {
            Self::Source => "sender",
            Self::Target => "receiver",
        }
    }
}

/// What limits a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The processors of one end.
    Cpu(Side),
    /// The disk of one end: reading at the source, writing and syncing at the target.
    Disk(Side),
    /// One core of one end, while others idle: what one file takes is done on one.
    Core(Side),
    /// One core for each connection, while others idle.
    Connection,
    /// The rate of the link.
    LinkRate,
    /// Windows that are small for the round trip.
    Window,
    /// Loss, with a congestion control that takes it for congestion.
    Loss,
    /// Work on each of many small files.
    SmallFiles,
    /// Nothing for long enough.
    Unclear,
}

impl Limit {
    /// Its name, as programs read it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu(Side::Source) => "source-cpu",
            Self::Cpu(Side::Target) => "target-cpu",
            Self::Disk(Side::Source) => "source-disk",
            Self::Disk(Side::Target) => "target-disk",
            Self::Core(Side::Source) => "source-core",
            Self::Core(Side::Target) => "target-core",
            Self::Connection => "connection",
            Self::LinkRate => "link-rate",
            Self::Window => "window",
            Self::Loss => "loss",
            Self::SmallFiles => "small-files",
            Self::Unclear => "unclear",
        }
    }
}

/// What is known of a transfer that ended.
#[derive(Debug, Clone)]
pub(crate) struct Evidence {
    /// Where the time of the sending end went.
    pub(crate) source: Work,
    /// Where that of the receiving end went.
    pub(crate) target: Work,
    /// Content that crossed the link, in bytes.
    pub(crate) sent_bytes: f64,
    /// Content in all, in bytes, and its files.
    pub(crate) bytes: f64,
    /// See `bytes`.
    pub(crate) files: f64,
    /// Window of the content's connections together, in bytes.
    pub(crate) window_bytes: f64,
    /// How many connections carry content.
    pub(crate) connections: f64,
    /// The sender's congestion control takes loss for congestion.
    pub(crate) loss_based: bool,
}

impl Evidence {
    pub(crate) fn of(&self, side: Side) -> &Work {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    /// Wall time in seconds that content moved.
    pub(crate) fn wall_s(&self) -> f64 {
        (self.source.host.wall_us as f64 / 1e6).max(1e-3)
    }

    /// Share of the time in which something was in a stage.
    pub(crate) fn active(&self, side: Side, stage: Stage) -> f64 {
        self.of(side).stage(stage).active_us as f64 / 1e6 / self.wall_s()
    }

    /// Threads of an end that were ready and had no processor, on average.
    fn waiting(&self, side: Side) -> f64 {
        self.of(side).host.delay_us as f64 / 1e6 / self.wall_s()
    }

    /// Processors that an end's process used, on average.
    fn used(&self, side: Side) -> f64 {
        self.of(side).host.cpu_us as f64 / 1e6 / self.wall_s()
    }

    /// Share of the time that the processors of an end's machine idled.
    fn idle(&self, side: Side) -> f64 {
        let host = self.of(side).host;
        host.idle_us as f64 / 1e6 / self.wall_s() / host.processors.max(1) as f64
    }

    /// Processors that an end used for the transport, on average: what no stage accounts for.
    fn transport(&self, side: Side) -> f64 {
        let stages: u64 = self.of(side).stages.iter().map(|time| time.cpu_us).sum();
        self.used(side) - stages as f64 / 1e6 / self.wall_s()
    }

    /// Share of the time in which content waited for the link: to be taken by the transport, or in
    /// its buffers.
    fn linked(&self) -> f64 {
        let LinkTime { looks, full, .. } = self.source.link;
        self.active(Side::Source, Stage::Send).max(full as f64 / looks.max(1) as f64)
    }

    fn rate_bps(&self) -> f64 {
        self.sent_bytes * 8.0 / self.wall_s()
    }

    fn rtt_s(&self) -> f64 {
        let link = self.source.link;
        link.rtt_sum_us as f64 / link.rtt_count.max(1) as f64 / 1e6
    }

    /// Share of the sender's packets that were lost.
    fn lost(&self) -> f64 {
        let link = self.source.link;
        link.lost_packets as f64 * link.mtu as f64 / link.sent_bytes.max(1) as f64
    }
}

/// What limits, why, and what would move it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    /// What.
    pub(crate) limit: Limit,
    /// The evidence, in a sentence.
    pub(crate) why: String,
    /// What to change, in a sentence.
    pub(crate) remedy: String,
}

/// Names what limits a transfer.
pub(crate) fn judge(evidence: &Evidence) -> Verdict {
    let limit = limit(evidence);
    let (why, remedy) = words(evidence, limit);
    Verdict { limit, why, remedy }
}

fn limit(e: &Evidence) -> Limit {
    use Side::{Source, Target};
    let short = if e.waiting(Source) >= e.waiting(Target) { Source } else { Target };
    let small = e.bytes / e.files.max(1.0) < SMALL_BYTES;
    if e.waiting(short) >= WAITING {
        return if small { Limit::SmallFiles } else { Limit::Cpu(short) };
    }
    if e.linked() >= ACTIVE {
        return link(e);
    }
    if small {
        return Limit::SmallFiles;
    }
    let stages = [
        (Source, Stage::Read),
        (Source, Stage::Digest),
        (Target, Stage::Find),
        (Target, Stage::Verify),
        (Target, Stage::Write),
        (Target, Stage::Sync),
    ];
    let most = stages.into_iter().max_by(|a, b| e.active(a.0, a.1).total_cmp(&e.active(b.0, b.1)));
    match most {
        Some((side, stage)) if e.active(side, stage) >= ACTIVE => {
            let time = e.of(side).stage(stage);
            let on_disk = matches!(stage, Stage::Read | Stage::Write | Stage::Sync);
            if on_disk && time.cpu_us * 2 < time.busy_us {
                Limit::Disk(side)
            } else {
                Limit::Core(side)
            }
        }
        _ => Limit::Unclear,
    }
}

/// What limits a sender that waits for its link.
fn link(e: &Evidence) -> Limit {
    let queue = e.rtt_s() * 1e6 / e.source.link.rtt_least_us.max(1) as f64;
    if e.rate_bps() / 8.0 * e.rtt_s() >= WINDOW_FULL * e.window_bytes {
        Limit::Window
    } else if e.loss_based && e.lost() >= LOSS && queue < QUEUE {
        Limit::Loss
    } else if e.transport(Side::Source).max(e.transport(Side::Target)) >= CORE * e.connections {
        Limit::Connection
    } else {
        Limit::LinkRate
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// The rate of one worker of a stage.
fn one(time: &StageTime) -> String {
    human::rate(time.bytes as f64 / (time.busy_us.max(1) as f64 / 1e6))
}

fn words(e: &Evidence, limit: Limit) -> (String, String) {
    let sending = percent(e.linked());
    let rate = bits(e.rate_bps());
    match limit {
        Limit::Cpu(side) => (
            format!(
                "{:.1} threads of the {} waited for a processor on average, while it used {:.1} of \
                 {}; content waited for the link {sending} of the time",
                e.waiting(side),
                side.words(),
                e.used(side),
                e.of(side).host.processors
            ),
            format!("give the {} more processors, or less other work", side.words()),
        ),
        Limit::Disk(side) => disk(e, side),
        Limit::Core(side) => core(e, side),
        Limit::Connection => (
            format!(
                "{:.1} processors of the {} worked for {} connection(s) of content, one core each \
                 at most; content waited for them {sending} of the time",
                e.transport(Side::Source).max(e.transport(Side::Target)),
                if e.transport(Side::Source) >= e.transport(Side::Target) {
                    Side::Source.words()
                } else {
                    Side::Target.words()
                },
                e.connections
            ),
            "raise quic.connections by one, or let larger datagrams through (MTU)".to_owned(),
        ),
        Limit::LinkRate => (
            format!(
                "content waited for the link {sending} of the time, which carried {rate}; \
                 processors idled {} at the sender and {} at the receiver",
                percent(e.idle(Side::Source)),
                percent(e.idle(Side::Target))
            ),
            "order a faster link; or `--compress always`, where content gets smaller".to_owned(),
        ),
        Limit::Window => (
            format!(
                "{rate} with a round trip of {:.1} ms is {} under way, of a window of {}",
                e.rtt_s() * 1e3,
                human::bytes((e.rate_bps() / 8.0 * e.rtt_s()) as u64),
                human::bytes(e.window_bytes as u64)
            ),
            "raise limits.window_mib at both nodes, and limits.slab_mib to twice that".to_owned(),
        ),
        Limit::Loss => (
            format!(
                "{:.2} % of packets were lost while no queue stood before the link (round trip \
                 {:.1} ms, {:.1} at the least); content waited {sending} of the time",
                e.lost() * 100.0,
                e.rtt_s() * 1e3,
                e.source.link.rtt_least_us as f64 / 1e3
            ),
            "set quic.congestion = \"bbr\", or find where the path loses packets".to_owned(),
        ),
        Limit::SmallFiles => (
            format!(
                "{:.0} files of {} on average went at {:.0} a second; the link idled {}",
                e.files,
                human::bytes((e.bytes / e.files.max(1.0)) as u64),
                e.files / e.wall_s(),
                percent(1.0 - e.linked())
            ),
            "keep them in larger files (tar, webdataset shards); more processors help a little"
                .to_owned(),
        ),
        Limit::Unclear => (
            "no stage was active for most of the time".to_owned(),
            "move more at once: a short transfer is mostly round trips and syncs".to_owned(),
        ),
    }
}

fn disk(e: &Evidence, side: Side) -> (String, String) {
    let link = percent(1.0 - e.linked());
    let share = |stage| e.active(side, stage);
    match side {
        Side::Source => (
            format!(
                "the sender was reading {} of the time, at {} for one reader; the link idled {link}",
                percent(share(Stage::Read)),
                one(&e.source.stage(Stage::Read))
            ),
            "a faster disk at the sender, or content that is still cached".to_owned(),
        ),
        Side::Target => (
            format!(
                "the receiver was writing {} and syncing {} of the time, {} in all; the link idled \
                 {link}",
                percent(share(Stage::Write)),
                percent(share(Stage::Sync)),
                human::rate(e.sent_bytes / e.wall_s())
            ),
            "a faster disk at the receiver".to_owned(),
        ),
    }
}

fn core(e: &Evidence, side: Side) -> (String, String) {
    let stages: &[Stage] = match side {
        Side::Source => &[Stage::Read, Stage::Digest],
        Side::Target => &[Stage::Find, Stage::Verify, Stage::Write, Stage::Sync],
    };
    let active = |stage: &Stage| e.active(side, *stage);
    let most = stages.iter().max_by(|a, b| active(a).total_cmp(&active(b)));
    let stage = most.copied().unwrap_or(Stage::Digest);
    (
        format!(
            "`{}` at the {} was active {} of the time and goes at {} on one core; processors there \
             idled {}, the link {}",
            stage.as_str(),
            side.words(),
            percent(e.active(side, stage)),
            one(&e.of(side).stage(stage)),
            percent(e.idle(side)),
            percent(1.0 - e.linked())
        ),
        "one file is worked on by one core: move several files at once, or use faster cores"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests;
