//! Each limit is named by evidence of its shape.

use portway::metrics::{HostTime, LinkTime, Stage, StageTime, Work};

use super::{Evidence, Limit, Side, judge};

const SECOND: u64 = 1_000_000;

/// A transfer of 4 GB in ten seconds in which nothing was busy.
fn calm() -> Evidence {
    let host = HostTime {
        wall_us: 10 * SECOND,
        cpu_us: 3 * SECOND,
        delay_us: SECOND,
        idle_us: 60 * SECOND,
        processors: 8,
    };
    let link = LinkTime {
        sent_bytes: 4_200_000_000,
        rtt_least_us: 1_000,
        rtt_sum_us: 60_000,
        rtt_count: 50,
        looks: 200,
        mtu: 8952,
        ..LinkTime::default()
    };
    let work = Work { stages: Vec::new(), host, link };
    Evidence {
        source: work.clone(),
        target: work,
        sent_bytes: 4e9,
        bytes: 4e9,
        files: 4.0,
        window_bytes: 28e6,
        connections: 1.0,
        loss_based: false,
    }
}

/// The same with something in a stage for so much of the time, on the processor for a part of that.
fn busy(side: Side, stage: Stage, active: f64, on_cpu: f64) -> Evidence {
    let mut evidence = calm();
    add(&mut evidence, side, stage, active, on_cpu);
    evidence
}

fn add(evidence: &mut Evidence, side: Side, stage: Stage, active: f64, on_cpu: f64) {
    let work = match side {
        Side::Source => &mut evidence.source,
        Side::Target => &mut evidence.target,
    };
    let us = (10.0 * active * SECOND as f64) as u64;
    let cpu_us = (us as f64 * on_cpu) as u64;
    let time =
        StageTime { stage, active_us: us, busy_us: us, cpu_us, bytes: 4_000_000_000, times: 9 };
    work.stages.push(time);
}

fn named(evidence: &Evidence) -> Limit {
    judge(evidence).limit
}

#[test]
fn a_disk_is_named_where_its_stage_waits_and_a_core_where_it_works() {
    use Side::{Source, Target};
    assert_eq!(named(&busy(Source, Stage::Read, 0.97, 0.1)), Limit::Disk(Source));
    assert_eq!(named(&busy(Target, Stage::Sync, 0.9, 0.05)), Limit::Disk(Target));
    assert_eq!(named(&busy(Target, Stage::Write, 0.8, 0.2)), Limit::Disk(Target));
    assert_eq!(named(&busy(Source, Stage::Digest, 0.9, 0.98)), Limit::Core(Source));
    assert_eq!(named(&busy(Target, Stage::Verify, 0.9, 0.98)), Limit::Core(Target));
    assert_eq!(named(&busy(Source, Stage::Read, 0.9, 0.9)), Limit::Core(Source));
}

#[test]
fn the_stage_that_is_active_most_is_named_and_one_that_is_not_active_enough_is_not() {
    let mut evidence = busy(Side::Source, Stage::Read, 0.7, 0.1);
    add(&mut evidence, Side::Target, Stage::Sync, 0.95, 0.1);
    assert_eq!(named(&evidence), Limit::Disk(Side::Target));
    assert_eq!(named(&busy(Side::Source, Stage::Read, 0.4, 0.1)), Limit::Unclear);
    assert_eq!(named(&calm()), Limit::Unclear);
}

#[test]
fn processors_that_are_short_come_before_all_that_they_make_slow() {
    let mut evidence = busy(Side::Source, Stage::Send, 0.95, 0.0);
    add(&mut evidence, Side::Target, Stage::Verify, 0.95, 0.3);
    evidence.target.host.delay_us = 25 * SECOND;
    let verdict = judge(&evidence);
    assert_eq!(verdict.limit, Limit::Cpu(Side::Target));
    assert!(verdict.why.starts_with("2.5 threads of the receiver waited"), "{verdict:?}");
    assert!(verdict.remedy.contains("give the receiver more processors"), "{verdict:?}");
    evidence.source.host.delay_us = 30 * SECOND;
    assert_eq!(named(&evidence), Limit::Cpu(Side::Source));
}

#[test]
fn a_link_is_full_by_its_window_by_loss_by_one_core_or_by_its_rate() {
    let waits = busy(Side::Source, Stage::Send, 0.9, 0.0);
    assert_eq!(named(&waits), Limit::LinkRate);
    // What the transport took waits in its buffers.
    let mut buffered = calm();
    buffered.source.link.full = 180;
    assert_eq!(named(&buffered), Limit::LinkRate);
    // 400 MB/s with 50 ms are 20 MB under way.
    let mut far = waits.clone();
    far.source.link.rtt_sum_us = 50 * 50_000;
    assert_eq!(named(&far), Limit::Window);
    assert!(judge(&far).why.contains("20.0 MB under way, of a window of 28.0 MB"));
    let mut lossy = Evidence { loss_based: true, ..waits.clone() };
    lossy.source.link.lost_packets = 2_000;
    assert_eq!(named(&lossy), Limit::Loss);
    assert!(judge(&lossy).why.starts_with("0.43 % of packets"), "{}", judge(&lossy).why);
    assert_eq!(named(&Evidence { loss_based: false, ..lossy.clone() }), Limit::LinkRate);
    // A queue stands: the link is full, and loses for that reason.
    lossy.source.link.rtt_least_us = 500;
    assert_eq!(named(&lossy), Limit::LinkRate);
    let mut core = waits;
    core.target.host.cpu_us = 9 * SECOND;
    assert_eq!(named(&core), Limit::Connection);
    assert_eq!(named(&Evidence { connections: 2.0, ..core }), Limit::LinkRate);
}

#[test]
fn small_files_are_named_unless_the_link_is_full() {
    let files = Evidence { files: 200_000.0, ..busy(Side::Target, Stage::Write, 0.9, 0.8) };
    assert_eq!(named(&files), Limit::SmallFiles);
    assert!(judge(&files).why.starts_with("200000 files of 20.0 kB on average went at 20000"));
    let mut full = files;
    full.source.link.full = 190;
    assert_eq!(named(&full), Limit::LinkRate);
}
