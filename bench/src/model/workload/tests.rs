//! Workload files: what is read, and what is said of each that is wrong.

use super::*;

const GOOD: &str = "
name = 'x'
[[flow]]
name = 'f'
size = '1 GB'
every = '1 h'
[[option]]
name = 'o'
kind = 'dedicated'
rate = '1 Gb/s'
rtt = '10 ms'
billing = 'flat'
port = '1 USD/month'
";

/// The error of a file that is good but for one line that another takes the place of.
fn error(line: &str, instead: &str) -> String {
    assert!(GOOD.contains(line), "{line}");
    let text = GOOD.replacen(line, instead, 1);
    format!("{:#}", Workload::parse(&text).expect_err(instead))
}

#[test]
fn what_is_left_out_has_its_default() {
    let workload = Workload::parse(GOOD).unwrap();
    assert_eq!((workload.months, workload.weeks, workload.seed), (24, 52, 0));
    assert_eq!(workload.headroom, Share(0.2));
    assert_eq!(workload.redundancy, Redundancy::N);
    let flow = &workload.flows[0];
    assert!((flow.deadline_s() - 3600.0).abs() < 1e-9, "the next comes then");
    assert!((flow.wire_share() - 1.0).abs() < 1e-9);
    assert_eq!(*flow.hours(), Hours::ALWAYS);
}

#[test]
fn a_unit_of_another_quantity_names_field_and_expectation() {
    let error = error("size = '1 GB'", "size = '1 Gb/s'");
    let expected = "TOML parse error at line 5, column 8
  |
5 | size = '1 Gb/s'
  |        ^^^^^^^^
`1 Gb/s` is a rate in bits; a size is expected, such as `64 GiB` or `500 GB`";
    assert_eq!(error, expected);
}

#[test]
fn units_are_not_left_out_or_made_up() {
    let says = |line, instead, words: &str| {
        let error = error(line, instead);
        assert!(error.contains(words), "{instead}: {error}");
    };
    says("size = '1 GB'", "size = 1000", "`1000` has no unit; a size is expected");
    says("rate = '1 Gb/s'", "rate = '1 GB/s'", "`1 GB/s` is a rate in bytes; a rate in bits");
    says("rtt = '10 ms'", "rtt = '10'", "`10` has no unit; a time is expected, such as `40 ms`");
    says("every = '1 h'", "every = '1 hour'", "has the unit `hour`, which is not known");
    says("port = '1 USD/month'", "port = '1 EUR/month'", "has the unit `EUR/month`");
    says("port = '1 USD/month'", "per_gb = '1 USD/month'", "a price of bytes is expected");
    says("every = '1 h'", "every = '1 h'\nchanged = 'half'", "such as `12.5 %`, or `measured`");
    says("every = '1 h'", "every = '1 h'\nfirst = 'noon'", "is not a moment of the week");
    says("every = '1 h'", "every = '1 h'\nwindow = []", "a list without windows is never open");
    says("every = '1 h'", "every = '1 h'\nspeed = 1", "unknown field `speed`");
    says("billing = 'flat'", "billing = 'free'", "unknown variant `free`");
}

#[test]
fn each_contradiction_is_named() {
    let cases = [
        ("size = '1 GB'", "size = '0 B'", "flow `f`, size: 0 bytes are nothing to move"),
        ("every = '1 h'", "every = '1 h'\nnodes = 0", "flow `f`, nodes, files: there is at least"),
        ("every = '1 h'", "every = '1 h'\nchanged = '120 %'", "flow `f`, changed: 120 % is more"),
        ("every = '1 h'", "every = '1 h'\nencoded = '0 %'", "flow `f`, encoded: with 0 % nothing"),
        ("every = '1 h'", "every = '1 h'\nspread = '150 %'", "flow `f`, spread: sizes that vary"),
        (
            "every = '1 h'",
            "every = '1 s'",
            "flow `f`, every: 1 s is too often for 52 weeks; at least 1.05 min",
        ),
        ("every = '1 h'", "every = '400 d'", "flow `f`, every: 9600 h is longer than the 52 weeks"),
        (
            "every = '1 h'",
            "every = '1 h'\nrandom = true\njitter = '1 min'",
            "flow `f`, random: arrivals at random have no `first` and no `jitter`",
        ),
        ("every = '1 h'", "every = '1 h'\njitter = '2 h'", "flow `f`, jitter: 2 h is longer than"),
        ("every = '1 h'", "every = '1 h'\ndeadline = '60 d'", "flow `f`, deadline: 4 weeks are"),
        ("every = '1 h'", "every = '1 h'\ndeadline = '0 s'", "flow `f`, deadline: nothing is"),
        ("rate = '1 Gb/s'", "rate = '0 Gb/s'", "option `o`, rate: a link without a rate"),
        ("rtt = '10 ms'", "rtt = '10 ms'\nloss = '3 %'", "option `o`, loss: 3 % is more than was"),
        ("rtt = '10 ms'", "rtt = '10 ms'\nmtu = 576", "option `o`, mtu: 576 is not in 1280 to"),
        ("rtt = '10 ms'", "rtt = '10 ms'\nlinks_max = 0", "option `o`, links_max: 0 is not in 1"),
        (
            "billing = 'flat'",
            "billing = 'flat'\ncommit = '1 Mb/s'",
            "option `o`, billing: `flat` has no `commit`",
        ),
        ("port = '1 USD/month'", "", "option `o`, billing: `flat` needs `port`, `per_gb`, or both"),
        ("billing = 'flat'", "billing = '95th-percentile'", "option `o`, per_mbit: `95th-"),
        (
            "billing = 'flat'",
            "billing = '95th-percentile'\nper_mbit = '1 USD/Mb/s'\noverage = '2 USD/Mb/s'",
            "option `o`, overage: it is what is above a `commit`",
        ),
        (
            "billing = 'flat'",
            "billing = '95th-percentile'\nper_mbit = '1 USD/Mb/s'\ncommit = '2 Gb/s'",
            "option `o`, commit: 2 Gb/s is more than the link has, 1 Gb/s",
        ),
        ("name = 'x'", "name = 'x'\nweeks = 0", "weeks: 0 is not in 1 to 520"),
        ("name = 'x'", "name = 'x'\nmonths = 1000", "months: 1000 is more than 120"),
        ("name = 'x'", "name = 'x'\nnode = { nic = '0 Gb/s' }", "node.nic: 0 moves nothing"),
    ];
    for (line, instead, words) in cases {
        let error = error(line, instead);
        let begins = "the workload contradicts itself:\n  ";
        assert!(error.starts_with(begins) && error.contains(words), "{instead}: {error}");
    }
    let spare = GOOD.replace("name = 'x'", "name = 'x'\nredundancy = 'N+1'");
    let spare = spare.replace("rtt = '10 ms'", "rtt = '10 ms'\nlinks_max = 1");
    let error = Workload::parse(&spare).unwrap_err().to_string();
    assert!(error.contains("links_max: 1 is not in 2 to 64; N+1 needs a second link"), "{error}");
}

#[test]
fn all_contradictions_are_told_at_once() {
    let twice = format!("{GOOD}\n[[flow]]\nname = 'f'\nsize = '0 B'\nevery = '1 h'\n");
    let error = Workload::parse(&twice).unwrap_err().to_string();
    assert_eq!(
        error,
        "the workload contradicts itself:
  flow `f`: the name is there twice; names tell them apart
  flow `f`, size: 0 bytes are nothing to move"
    );
    let empty = Workload::parse("name = 'x'").unwrap_err().to_string();
    assert_eq!(
        empty,
        "the workload contradicts itself:
  nothing moves: give at least one [[flow]]
  there is no link to choose: give at least one [[option]]"
    );
}
