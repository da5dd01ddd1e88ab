//! What whole transfers between two sites cost: metered, bounded, and planned.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its scene fails")]

mod common;

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use common::{Pair, engine, noise, remote, write};
use portway::api::{Compress, CostBy, Error, Exit, TransferOptions};
use portway::audit::{Ending, Entries, LogFolder, Meter, Record};
use portway::config::Home;
use portway::cost::{Money, Tally};

/// What is sent at once, at most: a message of 2 MiB, and headers.
const BATCH_BYTES: u64 = 2_200_000;

/// Longer than a node that runs takes to see that its configuration changed.
const SEEN: std::time::Duration = std::time::Duration::from_millis(400);

/// Has both ends know their link, with more behind its rate.
fn linked(pair: &Pair, more: &str) {
    for home in [&pair.onprem.home, &pair.cloud.home] {
        let text = fs::read_to_string(home.config_file()).unwrap();
        let before = text.split("[sites.dc]").next().unwrap();
        let text = format!(
            "{before}[sites.dc]\ntier = \"private\"\n[sites.aws]\ntier = \"public\"\n\
             [links.wan]\nsites = [\"dc\", \"aws\"]\nrate_mbps = 1000\n{more}\n"
        );
        fs::write(home.config_file(), text).unwrap();
    }
}

fn records(home: &Home) -> Vec<Record> {
    let entries = Entries::open(&LogFolder::open(&home.audit_dir()).unwrap()).unwrap();
    entries.map(|entry| entry.unwrap().record).collect()
}

fn meters(home: &Home) -> Vec<Meter> {
    let meter = |record| if let Record::Meter(meter) = record { Some(meter) } else { None };
    records(home).into_iter().filter_map(meter).collect()
}

/// What a node has paid by its log.
fn paid(home: &Home) -> Money {
    let tally = |meter: &Meter| {
        meter.tariff.map_or(Tally::default(), |tariff| Tally::of(tariff.price, meter.sent))
    };
    meters(home).iter().map(tally).fold(Tally::default(), Tally::plus).money()
}

fn endings(home: &Home) -> Vec<Ending> {
    let ending = |record| if let Record::Stop(stop) = record { Some(stop.ending) } else { None };
    records(home).into_iter().filter_map(ending).collect()
}

/// Waits until the other end has written how the session ended.
async fn ended(home: &Home, endings_there: &[Ending]) {
    for _ in 0..200 {
        if endings(home) == endings_there {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(endings(home), endings_there);
}

fn bounded(amount: &str) -> TransferOptions {
    TransferOptions { max_cost: Some(amount.parse().unwrap()), ..TransferOptions::default() }
}

fn budget(error: &Error) -> String {
    assert_eq!((error.code, error.exit), ("budget", Exit::Refused), "{error}");
    assert!(error.hint.contains("--max-cost") && error.hint.contains("goes on"), "{}", error.hint);
    error.message.clone()
}

/// That `spent` reached `amount` but for a batch, and passed it by no more than one.
fn stopped_in_time(spent: Money, amount: u64, price: u64) {
    let batch = price * BATCH_BYTES / 1_000_000_000;
    let (least, most) = (amount.saturating_sub(3 * batch), amount + batch);
    assert!((least..=most).contains(&spent.0), "{spent} of {}", Money(amount));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_transfer_takes_of_the_wire_is_recorded_with_its_price() {
    let pair = Pair::new().await;
    linked(&pair, "price_per_gb = 0.09");
    let source = pair.path("source");
    write(&source.join("large"), &noise(1, 20_000_000));
    let sent = pair.push(&source, "a").await.expect("pushed").bytes_sent;
    ended(&pair.cloud.home, &[Ending::Complete]).await;
    let (here, there) = (meters(&pair.onprem.home), meters(&pair.cloud.home));
    let sum = |meters: &[Meter]| {
        let of = |count: fn(&Meter) -> u64| meters.iter().map(count).sum::<u64>();
        (of(|meter| meter.sent), of(|meter| meter.received))
    };
    let (out, back) = sum(&here);
    assert!((sent..sent * 11 / 10).contains(&out), "{out} on the wire for {sent}");
    assert!(back < out / 10, "{back} came back");
    // The other end saw the same, but for the last words.
    let (theirs_out, theirs_in) = sum(&there);
    assert!(out.abs_diff(theirs_in) < 100_000, "{out} sent, {theirs_in} arrived");
    assert!(back.abs_diff(theirs_out) < 100_000, "{back} arrived, {theirs_out} sent");
    for meter in here.iter().chain(&there) {
        let tariff = meter.tariff.expect("a price");
        assert_eq!((tariff.price.0.0, tariff.currency.as_str()), (90_000, "USD"));
        assert_eq!(meter.crossing.link.as_str(), "wan");
    }
    // Another price counts from now on, and changes nothing that was paid.
    linked(&pair, "price_per_gb = 0.50");
    let before = paid(&pair.onprem.home);
    write(&source.join("small"), &noise(2, 1_000));
    pair.push(&source, "a").await.expect("pushed");
    assert!(paid(&pair.onprem.home).0 < before.0 + 500_000 / 1000);
    engine(&pair.onprem.home).audit_verify().expect("whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_stops_before_it_costs_more_than_it_may_and_goes_on_when_it_may_cost_more() {
    let pair = Pair::new().await;
    // A megabyte is a unit.
    linked(&pair, "price_per_gb = 1000");
    let source = pair.path("source");
    write(&source.join("large"), &noise(3, 40_000_000));
    let error = pair.push_with(&source, "a", bounded("10")).await.expect_err("too dear");
    let told = budget(&error);
    assert!(told.contains("10.00 USD") && told.contains("next batch"), "{told}");
    stopped_in_time(paid(&pair.onprem.home), 10_000_000, 1_000_000_000);
    assert_eq!(endings(&pair.onprem.home), [Ending::Budget]);
    ended(&pair.cloud.home, &[Ending::Budget]).await;
    assert!(!pair.cloud.root.join("a").exists());
    // The transfer has that amount, however often it is tried.
    let before = paid(&pair.onprem.home);
    for _ in 0..2 {
        let error = pair.push_with(&source, "a", bounded("10")).await.expect_err("still too dear");
        budget(&error);
    }
    assert!(paid(&pair.onprem.home).0 - before.0 < 2_500_000, "nothing much is left to spend");
    let resumed = pair.push_with(&source, "a", bounded("60")).await.expect("enough");
    assert!(resumed.bytes_resumed > 5_000_000, "{resumed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_stops_before_what_it_receives_costs_more_than_it_may() {
    let pair = Pair::new().await;
    linked(&pair, "price_per_gb = 1000");
    write(&pair.cloud.root.join("data"), &noise(4, 40_000_000));
    let pull = |amount: &'static str| {
        let node = engine(&pair.onprem.home);
        let target = pair.path("got");
        async move { node.pull(remote("cloud", "data"), target, bounded(amount)).wait().await }
    };
    let error = pull("10").await.expect_err("too dear");
    assert!(budget(&error).contains("what the receiver pays for"), "{error}");
    let received: u64 = meters(&pair.onprem.home).iter().map(|meter| meter.received).sum();
    stopped_in_time(Money(received), 10_000_000, 1_000_000_000);
    ended(&pair.cloud.home, &[Ending::Budget]).await;
    assert_eq!(endings(&pair.onprem.home), [Ending::Budget]);
    let resumed = pull("100").await.expect("enough");
    assert!(resumed.bytes_resumed > 5_000_000, "{resumed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_transfers_at_once_stop_before_their_budget_is_passed_together() {
    let pair = Pair::new().await;
    let shared = "price_per_gb = 1000\n[budgets.shared]\namount = 20\nper = \"month\"\n\
                  [budgets.others]\namount = 1\nper = \"day\"\ndataset = \"elsewhere\"";
    linked(&pair, shared);
    for (seed, name) in [(5, "a"), (6, "b")] {
        write(&pair.path(name).join("large"), &noise(seed, 30_000_000));
    }
    let (a, b) = (pair.path("a"), pair.path("b"));
    // Each has an engine of its own, as another process has.
    let (one, other) = tokio::join!(pair.push(&a, "a"), pair.push(&b, "b"));
    for ended in [one, other] {
        let told = budget(&ended.expect_err("too dear together"));
        assert!(told.contains("the budget shared of 20.00 USD per month"), "{told}");
    }
    let spent = paid(&pair.onprem.home);
    // What one of them had booked and did not send came back when the other had ended already.
    let (least, most) = (5_000_000, 20_000_000 + BATCH_BYTES);
    assert!((least..=most).contains(&spent.0), "{spent}");
    // After a restart of the machine the log tells what was spent.
    fs::remove_dir_all(pair.onprem.home.state_dir().join("spend")).unwrap();
    write(&pair.path("c"), &noise(7, 30_000_000));
    budget(&pair.push(&pair.path("c"), "c").await.expect_err("not enough is left"));
    let paid = paid(&pair.onprem.home);
    assert!((spent.0..=most).contains(&paid.0), "{spent}, then {paid}");
    // Whoever raises it goes on.
    linked(&pair, &shared.replace("= 20", "= 200"));
    let resumed = pair.push(&a, "a").await.expect("enough");
    assert!(resumed.bytes_resumed > 0, "{resumed:?}");
    let error = pair.push(&pair.path("c"), "elsewhere/c").await.expect_err("another budget");
    assert!(budget(&error).contains("the budget others"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_is_cut_while_a_transfer_runs_stops_it() {
    let pair = Pair::new().await;
    let shared = "price_per_gb = 1000\n[budgets.shared]\namount = 2000\nper = \"day\"";
    linked(&pair, shared);
    let source = pair.path("source");
    write(&source.join("large"), &noise(8, 40_000_000));
    let cut = async {
        tokio::time::sleep(std::time::Duration::from_millis(800)).await;
        linked(&pair, &shared.replace("= 2000", "= 1"));
    };
    let rate = portway::base::Rate::from_mbps(80);
    let options = TransferOptions { limit: rate, ..TransferOptions::default() };
    let (ended, ()) = tokio::join!(pair.push_with(&source, "slow", options), cut);
    assert!(budget(&ended.expect_err("cut")).contains("1.00 USD per day"));
    assert_eq!(endings(&pair.onprem.home), [Ending::Budget]);
}

fn refused_for(error: &Error, code: &str, words: &str) {
    assert_eq!((error.code, error.exit), (code, Exit::Refused), "{error}");
    assert!(error.message.contains(words) && !error.hint.is_empty(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_is_not_used_outside_its_hours_and_what_has_no_price_cannot_be_bounded() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    write(&source, &noise(9, 1_000_000));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 3600 % 24;
    let hours = |from: u64, to: u64| format!("hours = \"{:02}:00-{:02}:00\"", from % 24, to % 24);
    linked(&pair, &hours(now + 3, now + 5));
    let error = pair.push(&source, "a").await.expect_err("closed");
    refused_for(&error, "link-closed", "is open");
    assert!(!pair.cloud.root.join("a").exists());
    linked(&pair, &hours(now + 23, now + 3));
    tokio::time::sleep(SEEN).await;
    pair.push(&source, "a").await.expect("open");
    let error = pair.push_with(&source, "b", bounded("1")).await.expect_err("no price");
    refused_for(&error, "budget", "has no price");
    linked(&pair, "billing = \"flat\"");
    pair.push_with(&source, "b", bounded("1")).await.expect("bytes cost nothing");
}

/// Weights as floats have them: the upper half of each number is like that of the others.
fn floats(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = noise(seed, len);
    for pair in bytes.chunks_exact_mut(2) {
        pair[1] = 0x3e | (pair[1] & 1);
    }
    bytes
}

/// A checkpoint of 24 MB, the next one, of which an eighth is new, and 300 small files.
fn workloads(pair: &Pair) -> [(&'static str, std::path::PathBuf); 3] {
    let first = floats(20, 24_000_000);
    let mut next = first.clone();
    next[6_000_000..9_000_000].copy_from_slice(&floats(21, 3_000_000));
    write(&pair.path("step-1/model"), &first);
    write(&pair.path("step-2/model"), &next);
    for number in 0..300 {
        write(&pair.path(&format!("shards/{number}")), &noise(1000 + number, 16_384));
    }
    [
        ("step-1", pair.path("step-1")),
        ("step-2", pair.path("step-2")),
        ("shards", pair.path("shards")),
    ]
}

fn within_a_tenth(planned: u64, took: u64) -> bool {
    planned.abs_diff(took) * 10 <= took
}

async fn the_plan_is_what_the_push_takes(compress: Compress, link: &str) {
    let pair = Pair::new().await;
    linked(&pair, &format!("price_per_gb = 90\n{link}"));
    for (name, source) in workloads(&pair) {
        let options = || TransferOptions { compress: Some(compress), ..TransferOptions::default() };
        let node = engine(&pair.onprem.home);
        let plan = node.plan(vec![source.clone()], remote("cloud", name), options());
        let plan = plan.await.expect("a plan");
        let sum = || meters(&pair.onprem.home).iter().map(|it| it.sent).sum::<u64>();
        let (before, paid_before) = (sum(), paid(&pair.onprem.home).0);
        let outcome = pair.push_with(&source, name, options()).await.expect("pushed");
        let (took, cost) = (sum() - before, paid(&pair.onprem.home).0 - paid_before);
        assert_eq!(plan.bytes_to_send, outcome.bytes_sent, "{name}");
        assert!(within_a_tenth(plan.bytes_wire, took), "{name}: {plan:?} and {took} on the wire");
        assert_eq!(plan.links.len(), 1, "{plan:?}");
        let link = &plan.links[0];
        assert_eq!((link.name.as_str(), link.taken), ("wan", true));
        let price = link.price.expect("a price").0;
        assert!(within_a_tenth(price, cost), "{name}: {price} planned, {cost} paid");
        assert_eq!(plan.class, "public");
        assert!(plan.decision.contains("nodes"), "{}", plan.decision);
        println!("{name}, {compress:?}: {} planned, {took} on the wire", plan.bytes_wire);
    }
    let report = engine(&pair.onprem.home).cost_report(CostBy::Dataset, None).expect("a report");
    let keys: Vec<&str> = report.rows.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ["shards", "step-1", "step-2"]);
    assert_eq!(report.totals.len(), 1, "{report:?}");
    let total = &report.totals[0];
    assert_eq!(total.price, Some(paid(&pair.onprem.home)), "what is reported is what was paid");
    assert_eq!(total.sent_bytes, report.rows.iter().map(|row| row.sent_bytes).sum::<u64>());
    for by in [CostBy::Link, CostBy::Identity, CostBy::Month] {
        let report = engine(&pair.onprem.home).cost_report(by, Some(0)).expect("a report");
        assert_eq!((report.rows.len(), &report.totals[0]), (1, total), "{by:?}");
    }
    let later = engine(&pair.onprem.home).cost_report(CostBy::Link, Some(i64::MAX));
    assert!(later.expect("a report").rows.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plan_of_content_as_it_is_comes_true() {
    the_plan_is_what_the_push_takes(Compress::Never, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plan_of_content_that_is_made_smaller_comes_true() {
    the_plan_is_what_the_push_takes(Compress::Always, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plan_of_content_that_may_be_made_smaller_comes_true() {
    the_plan_is_what_the_push_takes(Compress::Auto, "limit_mbps = 40").await;
}

fn in_seconds(seconds: u64) -> TransferOptions {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let deadline = Some((now + seconds).cast_signed());
    TransferOptions { deadline, ..TransferOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_there_in_time_is_refused_at_once() {
    let pair = Pair::new().await;
    linked(&pair, "limit_mbps = 8");
    let source = pair.path("source");
    write(&source, &noise(30, 20_000_000));
    let error = pair.push_with(&source, "a", in_seconds(10)).await.expect_err("too late");
    refused_for(&error, "deadline", "over the link wan");
    assert!(error.message.contains(" MB on the wire take "), "{error}");
    assert!(!pair.cloud.root.join("a").exists());
    write(&source, &noise(31, 200_000));
    pair.push_with(&source, "a", in_seconds(60)).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cheapest_link_is_taken_that_is_in_time() {
    let mut pair = Pair::new().await;
    pair.cloud.stop().await;
    let (home, root, port) =
        (pair.cloud.home.clone(), pair.cloud.root.clone(), pair.cloud.address.port());
    pair.cloud = common::Node::serve(&home, &root, ([0, 0, 0, 0], port).into()).await;
    let link = |name: &str, mbps: u64, price: &str, ip: &str| {
        format!(
            "[links.{name}]\nsites = [\"dc\", \"aws\"]\nrate_mbps = {mbps}\nprice_per_gb = {price}\n\
             address = {{ cloud = \"{ip}:{port}\" }}\n"
        )
    };
    let links = link("fast", 1000, "0.09", "127.0.0.1") + &link("cheap", 8, "0.01", "127.0.0.2");
    linked(&pair, &links);
    let source = pair.path("source");
    let push = async |name: &'static str, options: TransferOptions| {
        pair.push_with(&source, name, options).await.expect("pushed");
        meters(&pair.onprem.home).last().expect("a record").crossing.link.to_string()
    };
    write(&source, &noise(32, 300_000));
    assert_eq!(push("a", TransferOptions::default()).await, "cheap");
    assert_eq!(push("b", in_seconds(3600)).await, "cheap");
    write(&source, &noise(33, 30_000_000));
    assert_eq!(push("c", in_seconds(20)).await, "fast");
    let named = TransferOptions { link: Some("fast".to_owned()), ..TransferOptions::default() };
    write(&source, &noise(34, 300_000));
    assert_eq!(push("d", named).await, "fast");
    let wrong = TransferOptions { link: Some("fats".to_owned()), ..TransferOptions::default() };
    let error = pair.push_with(&source, "e", wrong).await.expect_err("no such link");
    assert_eq!((error.code, error.exit), ("unknown-link", Exit::Usage), "{error}");
    assert_eq!(error.hint, "did you mean fast?");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_not_billed_by_bytes_is_reported_by_the_month() {
    let pair = Pair::new().await;
    linked(&pair, "billing = \"p95\"\ncommit_mbps = 200\nprice_per_mbps = 1.5");
    let source = pair.path("source");
    write(&source.join("f"), &noise(40, 300_000));
    pair.push(&source, "a").await.expect("pushed");
    let report = || engine(&pair.onprem.home).cost_report(CostBy::Link, None).expect("a report");
    let months = report().months;
    assert_eq!(months.len(), 1, "{months:?}");
    assert_eq!((months[0].link.as_str(), months[0].billing.as_str()), ("wan", "p95"));
    assert_eq!(months[0].price, Some("300".parse().unwrap()), "the commit is paid for");
    assert!(months[0].p95_bps < 1_000_000, "{months:?}");
    assert_eq!(report().totals[0].price, Some(Money(0)), "no byte adds to the bill");
    linked(&pair, "billing = \"flat\"\nprice_per_month = 800");
    assert_eq!(report().months[0].price, Some("800".parse().unwrap()));
    linked(&pair, "price_per_gb = 1");
    assert!(report().months.is_empty());
}
