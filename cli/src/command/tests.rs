//! What the commands print.

use insta::assert_snapshot;
use portway::api::{
    CostBy, CostReport, CostRow, Finding, Level, LinkMonth, LinkPlan, ListEntry, Plan, VerifyReport,
};
use portway::cost::Currency;
use portway::metrics::{NodeStatus, Phase, RailState, RailStatus, Snapshot};

use super::*;
use crate::out::Mode;
use crate::out::test::out;
use crate::out::text::test::{outcome, snapshot};

#[test]
fn a_partial_transfer_tells_each_object_then_the_error_then_the_summary() {
    let outcome = Outcome {
        failed: vec![("a".to_owned(), "changed while it was read".to_owned())],
        failed_total: 1,
        skipped: vec![("fifo".to_owned(), "a FIFO".to_owned())],
        skipped_total: 1,
        removed: Vec::new(),
        kept: Vec::new(),
        ..outcome()
    };
    let (json, stdout, _) = out(Mode::Json);
    assert_eq!(report(&json, "pushed", "to cloud:x", &outcome), Exit::Partial);
    let lines = stdout.text();
    let events: Vec<&str> = lines.lines().filter_map(|line| line.split('"').nth(3)).collect();
    assert_eq!(events, ["skipped", "object_failed", "error", "summary"]);
    let (plain, _, stderr) = out(Mode::Plain);
    report(&plain, "pushed", "to cloud:x", &outcome);
    assert_snapshot!(stderr.text(), @r"
error: 1 object was not published; the others were
hint: the same command tries again
");
}

#[test]
fn all_objects_that_failed_are_counted_though_not_all_are_listed() {
    let why = || ("a".to_owned(), "changed while it was read".to_owned());
    let outcome = Outcome { failed: vec![why(); 1000], failed_total: 1500, ..outcome() };
    let (json, stdout, _) = out(Mode::Json);
    assert_eq!(report(&json, "pushed", "to cloud:x", &outcome), Exit::Partial);
    let lines = stdout.text();
    let (message, summary) = ("1,500 objects were not published", r#""failed":1500,"#);
    assert!(lines.contains(message), "the error counts them");
    assert!(lines.lines().last().expect("a summary").contains(summary));
    let (plain, stdout, stderr) = out(Mode::Plain);
    report(&plain, "pushed", "to cloud:x", &outcome);
    assert!(stderr.text().contains(message));
    assert!(stdout.text().contains("and 1,490 more"), "{}", stdout.text());
}

#[test]
fn a_whole_transfer_ends_with_its_summary() {
    let (json, stdout, _) = out(Mode::Json);
    assert_eq!(report(&json, "pushed", "to cloud:x", &outcome()), Exit::Done);
    assert!(stdout.text().starts_with(r#"{"event":"summary","#));
}

#[test]
fn ls_lines_align() {
    let entry = |name: &str, kind: &str, len, mode, digest| ListEntry {
        name: name.to_owned(),
        kind: kind.to_owned(),
        len,
        mode,
        mtime_s: 1_795_501_980,
        digest,
    };
    let lines = [
        ls::line(&entry("step-100", "dir", 4096, 0o755, Some("3f".repeat(32)))),
        ls::line(&entry("model.safetensors", "file", 2_147_483_648, 0o640, None)),
        ls::line(&entry("latest", "symlink", 8, 0o777, None)),
    ];
    assert_snapshot!(lines.join("\n"), @r"
drwxr-xr-x           4096 2026-11-24 06:33 3f3f3f3f3f3f step-100/
-rw-r-----     2147483648 2026-11-24 06:33 -            model.safetensors
lrwxrwxrwx              8 2026-11-24 06:33 -            latest
");
}

fn link_plan(name: &str, taken: bool) -> LinkPlan {
    LinkPlan {
        name: name.to_owned(),
        bytes_encoded: 400_000_000,
        bytes_wire: 410_000_000,
        rate_bps: Some(1_000_000_000),
        rate_basis: "its configured rate or limit".to_owned(),
        estimate_s: Some(3.2),
        done_s: Some(1_795_501_987),
        hours: None,
        billing: Some("volume".to_owned()),
        price: Some("0.0369".parse().expect("an amount")),
        currency: Currency::default(),
        selectable: false,
        taken,
    }
}

#[test]
fn a_report_of_costs_is_a_table() {
    let row = |key: &str, price: Option<&str>| CostRow {
        key: key.to_owned(),
        transfers: 1200,
        sent_bytes: 1_500_000_000,
        received_bytes: 30_000,
        price: price.map(|text| text.parse().expect("an amount")),
        currency: price.map(|_| Currency::default()),
    };
    let rows = vec![row("=internet", None), row("wan", Some("0.135"))];
    let totals = vec![row("total", None), row("total", Some("0.135"))];
    let month = |link: &str, billing: &str, commit_mbps, price: Option<&str>| LinkMonth {
        link: link.to_owned(),
        month: "2026-11".to_owned(),
        billing: billing.to_owned(),
        p95_bps: 123_456_789,
        commit_mbps,
        price: price.map(|text| text.parse().expect("an amount")),
        currency: Currency::default(),
    };
    let months =
        vec![month("leased", "p95", Some(200), Some("500")), month("dark", "flat", None, None)];
    let report = CostReport { rows, totals, months };
    assert_snapshot!(cost::text(CostBy::Link, &report), @r"
    link                   transfers       sent   received  cost
    =internet                  1,200    1.50 GB    30.0 kB  no price
    wan                        1,200    1.50 GB    30.0 kB  0.135 USD
    total without a price      1,200    1.50 GB    30.0 kB  no price
    total in USD               1,200    1.50 GB    30.0 kB  0.135 USD

    link    month    billing    sent at p95      commit  cost a month
    leased  2026-11  p95         123.457 Mb/s    200 Mb/s  500.00 USD
    dark    2026-11  flat        123.457 Mb/s           -  no price
    ");
    assert_eq!(
        cost::csv(CostBy::Link, &report),
        "\"link\",\"transfers\",\"sent_bytes\",\"received_bytes\",\"price\",\"currency\"\r\n\
         \"'=internet\",\"1200\",\"1500000000\",\"30000\",\"\",\"\"\r\n\
         \"wan\",\"1200\",\"1500000000\",\"30000\",\"0.135\",\"USD\""
    );
}

#[test]
fn a_plan_says_what_would_move_and_how_long() {
    let plan = Plan {
        files: 2040,
        files_to_move: 3,
        bytes_total: 2_850_000_000,
        bytes_to_send: 600_000_000,
        bytes_deduplicated: 2_250_000_000,
        bytes_resumed: 0,
        bytes_encoded: 400_000_000,
        bytes_wire: 410_000_000,
        estimate_s: Some(3.2),
        estimate_basis: "187 MB/s measured yesterday".to_owned(),
        free_bytes: 1_000_000_000_000,
        transport: "quic".to_owned(),
        transport_reason: "cloud is of site eu1, this node of dc1".to_owned(),
        class: "public".to_owned(),
        decision: "sites share data (nodes-between-sites)".to_owned(),
        links: vec![
            link_plan("wan", true),
            LinkPlan {
                hours: Some("22:00-06:00".to_owned()),
                billing: Some("flat".to_owned()),
                ..link_plan("night", false)
            },
            LinkPlan { price: None, ..link_plan("unknown", false) },
        ],
    };
    assert_snapshot!(plan::text("cloud:x", &plan), @r"
3 of 2,040 files would move to cloud:x
  would send      600 MB
  on the wire     410 MB
  deduplicated   2.25 GB
  resumed            0 B
  total          2.85 GB
  free there     1.00 TB
  time         about 3.20 s: 187 MB/s measured yesterday
  transport    quic: cloud is of site eu1, this node of dc1
  decision     granted for class public: sites share data (nodes-between-sites)
  link         wan (taken): 410 MB on the wire, about 3.20 s, 0.0369 USD
  link         night: 410 MB on the wire, about 3.20 s, no price for bytes (flat billing); open 22:00-06:00 UTC, done 2026-11-24T06:33:07Z
  link         unknown: 410 MB on the wire, about 3.20 s, no price is known
");
}

#[test]
fn a_verification_lists_what_differs() {
    let report = VerifyReport {
        root: "ab".repeat(32),
        files: 40,
        bytes: 2_000_000_000,
        bad: vec![("a/b".to_owned(), "digest at 1048576".to_owned())],
        bad_total: 3,
        elapsed_s: 1.5,
    };
    assert_snapshot!(verify::text("./x", &report), @r"
./x is DAMAGED: 40 files, 2.00 GB read in 1.50 s (1.33 GB/s)
  root         abababababababababababababababababababababababababababababababab
  differs      a/b: digest at 1048576
  differs      and 2 more
");
}

#[test]
fn a_status_shows_running_and_ended_transfers() {
    let status = NodeStatus {
        node: "cloud".to_owned(),
        version: "0.1.0".to_owned(),
        uptime_ms: 185_000,
        running: vec![snapshot()],
        recent: vec![(snapshot(), "done".to_owned())],
        index_chunks: 20_000,
        leases_out: (3, 64),
        disk_free_bytes: 100_000_000_000,
        valid_until_s: 1_780_272_000,
        roles: 4,
        problems: vec!["the certificate is not renewed: x\x1b".to_owned()],
    };
    assert_snapshot!(status::text(&status), @r"
cloud: portway 0.1.0, up 3 min 05 s, 20,000 chunks in the index, 3 of 64 leases out, 100 GB free
certificate valid until 2026-06-01T00:00:00Z, roles of version 4
warning: the certificate is not renewed: x\x1b
running  push cloud models/step-100 (0123456789abcdef0123456789abcdef)
          42 %  1.20 GB of 2.85 GB  300 MB/s  3 s left  12/2,040 files  deduplicated 25 %  resumed 25 %  quic
ended    push cloud models/step-100 (0123456789abcdef0123456789abcdef)
         done: 12 files, 1.20 GB in 2.00 s
");
}

#[test]
fn a_status_shows_each_rail_below_its_transfer() {
    let rail = |name: &str, state, why: &str| RailStatus {
        name: name.to_owned(),
        state,
        bytes: 600_000_000,
        messages: 1234,
        errors: u64::from(!why.is_empty()),
        rate_mbps: 98_000,
        why: why.to_owned(),
    };
    let rails = vec![
        rail("mlx5_0/1 - mlx5_0/1", RailState::Up, ""),
        rail("mlx5_1/1 - mlx5_1/1", RailState::Down, "the port is down\x1b"),
    ];
    let running = Snapshot { transport: "rdma".to_owned(), rails: rails.clone(), ..snapshot() };
    let ended = Snapshot { phase: Phase::Ended, rails, ..snapshot() };
    let status = NodeStatus {
        node: "b".to_owned(),
        version: "0.1.0".to_owned(),
        uptime_ms: 1,
        running: vec![running],
        recent: vec![(ended, "done".to_owned())],
        index_chunks: 1,
        leases_out: (0, 64),
        disk_free_bytes: 1,
        valid_until_s: 0,
        roles: 0,
        problems: Vec::new(),
    };
    assert_snapshot!(status::text(&status), @r"
b: portway 0.1.0, up 0.00 s, 1 chunks in the index, 0 of 64 leases out, 1 B free
running  push cloud models/step-100 (0123456789abcdef0123456789abcdef)
          42 %  1.20 GB of 2.85 GB  300 MB/s  3 s left  12/2,040 files  deduplicated 25 %  resumed 25 %  rdma
         rail mlx5_0/1 - mlx5_0/1  up  12.2 GB/s  600 MB  1,234 messages
         rail mlx5_1/1 - mlx5_1/1  down  12.2 GB/s  600 MB  1,234 messages  1 error: the port is down\x1b
ended    push cloud models/step-100 (0123456789abcdef0123456789abcdef)
         done: 12 files, 1.20 GB in 2.00 s
         rail mlx5_0/1 - mlx5_0/1  600 MB  1,234 messages
         rail mlx5_1/1 - mlx5_1/1  600 MB  1,234 messages  1 error: the port is down\x1b
");
    let (json, stdout, _) = out(Mode::Json);
    json.event(&Event::Status(&status));
    let event: serde_json::Value = serde_json::from_str(&stdout.text()).expect("JSON");
    assert_eq!(
        event["running"][0]["rails"][1],
        serde_json::json!({
            "name": "mlx5_1/1 - mlx5_1/1",
            "state": "down",
            "bytes": 600_000_000,
            "messages": 1234,
            "errors": 1,
            "rate_mbps": 98_000,
            "why": "the port is down\u{1b}",
        })
    );
}

#[test]
fn findings_carry_a_word_for_their_level_and_the_fix() {
    let (out, _, _) = out(Mode::Plain);
    let finding = |level, fix: &str| Finding {
        check: "udp-buffers".to_owned(),
        level,
        finding: "213 kB to receive".to_owned(),
        fix: fix.to_owned(),
    };
    let lines = [
        doctor::text(&out, &finding(Level::Ok, "")),
        doctor::text(&out, &finding(Level::Warn, "sysctl -w ...")),
        doctor::text(&out, &finding(Level::Fail, "sysctl -w ...")),
    ];
    assert_snapshot!(lines.join("\n"), @r"
ok    udp-buffers  213 kB to receive
warn  udp-buffers  213 kB to receive
                   fix: sysctl -w ...
FAIL  udp-buffers  213 kB to receive
                   fix: sysctl -w ...
");
}
