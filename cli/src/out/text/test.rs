//! What people and programs read, word for word.

use insta::assert_snapshot;
use portway::metrics::TransferMeter;

use super::*;
use crate::out::Mode;
use crate::out::event::Event;
use crate::out::test::out;

/// A transfer in the middle.
pub(crate) fn snapshot() -> Snapshot {
    let meter = TransferMeter::new("push", "cloud", "models/step-100");
    meter.set_phase(Phase::Moving, "");
    meter.set_transport("quic");
    meter.files_total.set(2040);
    meter.files_done.set(12);
    meter.bytes_total.set(2_850_000_000);
    meter.bytes_sent.set(600_000_000);
    meter.bytes_deduplicated.set(300_000_000);
    meter.bytes_resumed.set(300_000_000);
    meter.bytes_wire.set(610_000_000);
    meter.scan_done.set(1);
    meter.elapsed_ms.set(2000);
    meter.rtt_us.set(350);
    Snapshot { transfer_id: "0123456789abcdef0123456789abcdef".to_owned(), ..meter.snapshot() }
}

/// A transfer at its end.
pub(crate) fn outcome() -> Outcome {
    Outcome {
        transfer_id: "0123456789abcdef0123456789abcdef".to_owned(),
        root: "ab".repeat(32),
        files: 2040,
        bytes_total: 2_850_000_000,
        bytes_sent: 1_800_000_000,
        bytes_deduplicated: 750_000_000,
        bytes_resumed: 300_000_000,
        bytes_wire: 1_830_000_000,
        bytes_discarded: 0,
        elapsed_s: 2.412_34,
        transport: "quic".to_owned(),
        verified: true,
        failed: Vec::new(),
        failed_total: 0,
        skipped: Vec::new(),
        skipped_total: 0,
        removed: Vec::new(),
        kept: Vec::new(),
        unsigned: None,
    }
}

fn meter() -> Meter {
    let mut meter = Meter::default();
    meter.add(&Snapshot { elapsed_ms: 1000, bytes_sent: 100_000_000, ..snapshot() });
    meter.add(&snapshot());
    meter
}

#[test]
fn a_progress_line_has_rate_time_left_files_bytes_shares_and_path() {
    assert_snapshot!(progress(&snapshot(), &meter(), true), @" 42 %  [########............]  1.20 GB of 2.85 GB  500 MB/s  4 s left  12/2,040 files  deduplicated 25 %  resumed 25 %  quic");
    assert_snapshot!(progress(&snapshot(), &meter(), false), @" 42 %  1.20 GB of 2.85 GB  500 MB/s  4 s left  12/2,040 files  deduplicated 25 %  resumed 25 %  quic");
    let scanning = Snapshot { scan_done: false, ..snapshot() };
    assert_snapshot!(progress(&scanning, &meter(), false), @" 42 %  1.20 GB of 2.85 GB+  500 MB/s  12/2,040+ files  deduplicated 25 %  resumed 25 %  quic");
    let waiting = Snapshot {
        phase: Phase::Connecting,
        waits_for: "cloud, tried 3 times".to_owned(),
        bytes_total: 0,
        files_total: 0,
        ..snapshot()
    };
    assert_snapshot!(progress(&waiting, &Meter::default(), true), @"connecting to cloud  waits: cloud, tried 3 times");
    let most = Snapshot { bytes_total: u64::MAX, bytes_sent: u64::MAX / 2, ..snapshot() };
    assert_snapshot!(progress(&most, &Meter::default(), true), @" 50 %  [##########..........]  9223 PB of 18447 PB  0 B/s  12/2,040 files  deduplicated 0 %  resumed 0 %  quic");
}

#[test]
fn a_summary_is_one_short_block() {
    assert_snapshot!(summary("pushed", "to cloud:models/step-100", &outcome()), @r"
pushed 2,040 files, 2.85 GB, to cloud:models/step-100 in 2.41 s, verified
  sent           1.80 GB  63.2 %  1.83 GB on the wire, 746 MB/s
  deduplicated    750 MB  26.3 %
  resumed         300 MB  10.5 %
  root         abababababababababababababababababababababababababababababababab
  transfer     0123456789abcdef0123456789abcdef (quic)
");
    let partial = Outcome {
        files: 1,
        bytes_discarded: 5,
        verified: false,
        failed: vec![("a/b".to_owned(), "changed while it was read".to_owned())],
        failed_total: 1,
        skipped: (0..20).map(|n| (format!("fifo-{n}"), "a FIFO".to_owned())).collect(),
        skipped_total: 5000,
        removed: vec!["step-1".to_owned()],
        kept: vec![("step-2".to_owned(), "in use".to_owned())],
        ..outcome()
    };
    assert_snapshot!(summary("pulled", "to ./here", &partial), @r"
pulled 1 file, 2.85 GB, to ./here in 2.41 s, NOT verified
  sent           1.80 GB  63.2 %  1.83 GB on the wire, 746 MB/s
  deduplicated    750 MB  26.3 %
  resumed         300 MB  10.5 %
  discarded          5 B
  root         abababababababababababababababababababababababababababababababab
  transfer     0123456789abcdef0123456789abcdef (quic)
  removed      step-1
  kept         step-2: in use
  skipped      fifo-0: a FIFO
  skipped      fifo-1: a FIFO
  skipped      fifo-2: a FIFO
  skipped      fifo-3: a FIFO
  skipped      fifo-4: a FIFO
  skipped      fifo-5: a FIFO
  skipped      fifo-6: a FIFO
  skipped      fifo-7: a FIFO
  skipped      fifo-8: a FIFO
  skipped      fifo-9: a FIFO
  skipped      and 4,990 more
  failed       a/b: changed while it was read
");
}

#[test]
fn events_keep_their_keys_and_order() {
    let (out, stdout, _) = out(Mode::Json);
    out.event(&Event::Start {
        action: "push",
        sources: vec!["a".to_owned()],
        target: "cloud:b".to_owned(),
    });
    out.progress(&snapshot(), &meter());
    out.warning("one thing");
    out.event(&Event::Skipped { path: "fifo", reason: "a FIFO" });
    out.event(&Event::ObjectFailed { path: "a", reason: "changed" });
    out.event(&Event::summary(&outcome()));
    assert_snapshot!(stdout.text(), @r#"
{"event":"start","action":"push","sources":["a"],"target":"cloud:b"}
{"event":"progress","bytes_done":1200000000,"bytes_total":2850000000,"files_done":12,"files_total":2040,"bytes_sent":600000000,"bytes_deduplicated":300000000,"bytes_resumed":300000000,"phase":"moving","waits_for":"","rate_bps":4000000000,"eta_s":4,"scan_done":true,"bytes_wire":610000000,"bytes_discarded":0,"files_failed":0,"skipped":0,"reconnects":0,"rtt_us":350,"elapsed_s":2.0,"transport":"quic","peer":"cloud","transfer_id":"0123456789abcdef0123456789abcdef","rails":[]}
{"event":"warning","message":"one thing"}
{"event":"skipped","path":"fifo","reason":"a FIFO"}
{"event":"object_failed","path":"a","reason":"changed"}
{"event":"summary","transfer_id":"0123456789abcdef0123456789abcdef","root":"abababababababababababababababababababababababababababababababab","files":2040,"bytes_total":2850000000,"bytes_sent":1800000000,"bytes_deduplicated":750000000,"bytes_resumed":300000000,"bytes_wire":1830000000,"bytes_discarded":0,"elapsed_s":2.412,"transport":"quic","verified":true,"failed":0,"skipped":0}
"#);
}

#[test]
fn errors_go_to_both_streams_with_hint_and_exit_code() {
    let (out, stdout, stderr) = out(Mode::Json);
    let error = portway::api::Error::new(
        "peer-unreachable",
        portway::api::Exit::Failed,
        "cloud: no answer",
    )
    .hint("portway doctor cloud");
    out.error(&error);
    assert_snapshot!(stdout.text(), @r#"{"event":"error","code":"peer-unreachable","message":"cloud: no answer","hint":"portway doctor cloud","exit":1}"#);
    assert_snapshot!(stderr.text(), @r"
error: cloud: no answer
hint: portway doctor cloud
");
}
