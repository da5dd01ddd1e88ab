//! What budgets, limits of one transfer and hours let a way pay for.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::*;
use crate::base::TransferId;
use crate::base::limits::LEASE_BYTES;
use crate::border::purse::{Books, Paid};
use crate::border::testing::reopened;
use crate::border::{Ask, SendError};
use crate::cost::Money;
use crate::policy::{Action, Kind};
use crate::transport::{Link, LinkError, MemoryConfig, MemoryLink, Peer, WireMeter, memory_pair};

/// Bytes that cost one unit of the currency.
const UNIT: u64 = 1_000_000;

/// A node whose link to the site `eu` costs a unit for each million bytes.
struct Payer {
    _dir: tempfile::TempDir,
    home: Home,
    border: Arc<Border>,
}

fn payer(more: &str) -> Payer {
    let (dir, home, border) = border();
    configure(&home, "price_per_gb = 1000", more);
    let border = reopened(&home, border.identity());
    Payer { _dir: dir, home, border }
}

fn configure(home: &Home, link: &str, more: &str) {
    let text = format!(
        "[sites.dc]\ntier = \"private\"\n[sites.eu]\ntier = \"public\"\n[links.wan]\n\
         sites = [\"dc\", \"eu\"]\nrate_mbps = 1000\n{link}\n[links.lan]\n\
         sites = [\"dc\", \"eu\"]\nrate_mbps = 1000\n{more}\n"
    );
    std::fs::write(home.config_file(), text).expect("written");
}

fn is_budget(paid: Result<(), Denied>) -> bool {
    match paid {
        Ok(()) => false,
        Err(Denied::Budget(_)) => true,
        Err(other) => panic!("{other}"),
    }
}

impl Payer {
    fn ask(&self, transfer: u128, cost_max: Option<u64>) -> Ask {
        let cost_max = cost_max.map(|units| Money(units * 1_000_000));
        let ask = push(&self.border, "eu", Tier::Public, "public");
        Ask { transfer: TransferId(transfer), cost_max, ..ask }
    }

    fn pull(&self, transfer: u128, cost_max: Option<u64>) -> Ask {
        let ask = self.ask(transfer, cost_max);
        Ask { from: ask.to, to: ask.from, action: Action::Pull, ..ask }
    }

    /// A way, and a number to set to what its session has sent and received of the wire.
    fn enters(&self, ask: Ask) -> Result<(Way, Arc<AtomicU64>), Denied> {
        let (way, wire) = (self.border.enter(ask)?, Arc::new(AtomicU64::new(0)));
        let read = Arc::clone(&wire);
        way.measure(move || {
            let bytes = read.load(Relaxed);
            WireMeter { ip_sent: bytes, ip_received: bytes, ..WireMeter::default() }
        });
        Ok((way, wire))
    }

    fn out(&self, transfer: u128, cost_max: Option<u64>) -> (Way, Arc<AtomicU64>) {
        self.enters(self.ask(transfer, cost_max)).expect("something is left")
    }
}

/// That so many bytes may leave, or that a budget is in the way.
fn leaves(way: &Way, bytes: u64) -> Result<(), Denied> {
    way.leaves(&path("a"), Extent { offset: 0, len: bytes })
}

fn over(way: &Way, wire: &AtomicU64, crossed: u64) {
    wire.store(crossed, Relaxed);
    way.stop(Ending::Complete, "done", None).expect("recorded and settled");
}

#[test]
fn a_budget_counts_only_what_it_is_about() {
    let (_dir, _home, us) = border();
    for (about, bounds) in [
        (String::new(), true),
        (format!("identity = \"{}\"", us.us()), false),
        ("identity = \"spiffe://d/tier/private/site/dc/node/other\"".to_owned(), false),
        ("dataset = \"runs\"".to_owned(), true),
        ("dataset = \"runs/a\"".to_owned(), true),
        ("dataset = \"runs/a/b\"".to_owned(), false),
        ("dataset = \"run\"".to_owned(), false),
        ("link = \"wan\"".to_owned(), true),
        ("link = \"lan\"".to_owned(), false),
    ] {
        for per in ["day", "month", "transfer"] {
            let payer = payer(&format!("[budgets.team]\namount = 2\nper = \"{per}\"\n{about}"));
            let (way, _) = payer.out(1, None);
            assert_eq!(is_budget(leaves(&way, 2 * UNIT + 1)), bounds, "{about} {per}");
        }
    }
    // The identity is that of who asked for the transfer.
    let payer = payer("");
    let ours =
        format!("[budgets.team]\namount = 2\nper = \"day\"\nidentity = \"{}\"", payer.border.us());
    configure(&payer.home, "price_per_gb = 1000", &ours);
    sleep(SEEN);
    let (way, _) = payer.out(1, None);
    assert!(is_budget(leaves(&way, 2 * UNIT + 1)));
    let who = payer.ask(1, None).to.id;
    let (way, _) = payer.enters(Ask { who, ..payer.ask(2, None) }).expect("granted");
    leaves(&way, 2 * UNIT + 1).expect("somebody else's");
}

#[test]
fn sessions_share_a_budget_and_give_back_what_did_not_cross() {
    let payer = payer("[budgets.team]\namount = 4\nper = \"month\"");
    let (one, wire_of_one) = payer.out(1, None);
    leaves(&one, 3 * UNIT).expect("of four");
    let (other, wire_of_other) = payer.out(2, None);
    assert!(is_budget(leaves(&other, UNIT + 1)), "three are booked");
    over(&other, &wire_of_other, 0);
    over(&one, &wire_of_one, UNIT);
    let (next, wire) = payer.out(3, None);
    leaves(&next, 3 * UNIT).expect("one is spent");
    // What crosses beside the content is paid, too.
    wire.store(3 * UNIT + 1, Relaxed);
    assert!(is_budget(leaves(&next, 0)));
    over(&next, &wire, 3 * UNIT + 1);
    let last = payer.enters(payer.ask(4, None)).err();
    assert!(matches!(last, Some(Denied::Budget(_))), "nothing is left: {last:?}");
    let records = recorded(&payer.home);
    let Some(Record::Decision(denied)) = records.last() else { panic!("{records:?}") };
    assert_eq!(denied.verdict, Verdict::Denied, "that was decided, and is recorded");
    assert!(denied.reason.as_str().contains("the budget team of 4"), "{:?}", denied.reason);
}

#[test]
fn what_costs_nothing_is_not_stopped_by_a_budget_of_nothing() {
    let payer = payer("[budgets.team]\namount = 0\nper = \"month\"");
    assert!(payer.enters(payer.ask(1, None)).is_err());
    configure(&payer.home, "price_per_gb = 0", "[budgets.team]\namount = 0\nper = \"month\"");
    sleep(SEEN);
    let (way, _) = payer.out(1, None);
    leaves(&way, 9 * UNIT).expect("it is free");
    // Nobody knows what a link without a price costs.
    configure(&payer.home, "", "[budgets.team]\namount = 0\nper = \"month\"");
    sleep(SEEN);
    leaves(&payer.out(2, None).0, 9 * UNIT).expect("it is not counted");
    let bounded = payer.enters(payer.ask(3, Some(1))).err();
    assert!(matches!(&bounded, Some(Denied::Unpriced(why)) if why.contains("no price")));
}

#[test]
fn a_transfer_costs_no_more_than_it_may_in_all_of_its_sessions() {
    let payer = payer("[budgets.team]\namount = 9\nper = \"month\"");
    let (one, wire) = payer.out(1, Some(2));
    leaves(&one, UNIT).expect("of two");
    assert!(is_budget(leaves(&one, UNIT + 1)));
    over(&one, &wire, UNIT);
    let (again, wire) = payer.out(1, Some(2));
    assert!(is_budget(leaves(&again, UNIT + 1)), "the same transfer");
    over(&again, &wire, 0);
    // What the budget gave for what the limit refused, it has again.
    let (other, wire) = payer.out(2, None);
    leaves(&other, 8 * UNIT).expect("one is spent");
    assert!(is_budget(leaves(&other, 1)));
    over(&other, &wire, 0);
    let (third, _) = payer.out(3, Some(2));
    leaves(&third, 2 * UNIT).expect("another transfer");
}

#[test]
fn a_sender_keeps_to_what_its_receiver_pays_for() {
    let payer = payer("");
    let (way, _) =
        payer.enters(Ask { wire_max: Some(UNIT), ..payer.ask(1, None) }).expect("granted");
    leaves(&way, UNIT).expect("so much is paid for");
    let denied = leaves(&way, 1).expect_err("more is not");
    assert!(denied.to_string().contains("what the receiver pays for"), "{denied}");
}

#[tokio::test]
async fn a_receiver_pays_for_what_arrived_by_its_own_limit_alone() {
    let payer = payer("[budgets.team]\namount = 1\nper = \"month\"");
    let left = |ask: &Ask| payer.border.wire_left(ask).expect("something");
    let ask = payer.pull(1, Some(2));
    assert_eq!(left(&ask), Some(2 * UNIT));
    assert_eq!(left(&payer.pull(1, None)), None, "not bounded");
    let inside = push(&payer.border, "dc", Tier::Private, "public");
    assert_eq!(left(&Ask { cost_max: ask.cost_max, ..inside }), None, "it costs nothing");

    let (way, wire) = payer.enters(ask.clone()).expect("granted");
    let way = Arc::new(way);
    wire.store(2 * UNIT, Relaxed);
    way.arrived(&[(path("a"), Extent { offset: 0, len: UNIT })]).await.expect("as far as it may");
    // What is on its way when the limit is reached still arrives.
    wire.store(2 * UNIT + LEASE_BYTES as u64, Relaxed);
    way.arrived(&[]).await.expect("a batch more");
    wire.store(2 * UNIT + LEASE_BYTES as u64 + 1, Relaxed);
    assert!(is_budget(way.arrived(&[]).await));
    way.stop(Ending::Interrupted, "whatever", None).expect("recorded");
    assert!(matches!(payer.border.wire_left(&ask), Err(Denied::Budget(_))), "all of it is spent");
    assert_eq!(left(&payer.pull(2, Some(2))), Some(2 * UNIT), "another transfer");
}

#[test]
fn a_budget_that_changes_counts_for_what_is_under_way_and_nothing_is_paid_twice() {
    let budget = |amount: u32| format!("[budgets.team]\namount = {amount}\nper = \"month\"");
    let payer = payer(&budget(2));
    let (way, wire) = payer.out(1, None);
    leaves(&way, 2 * UNIT).expect("all of it");
    wire.store(2 * UNIT, Relaxed);
    configure(&payer.home, "price_per_gb = 1000", &budget(4));
    sleep(SEEN);
    leaves(&way, UNIT).expect("there is more now");
    let (other, wire_of_other) = payer.out(2, None);
    leaves(&other, UNIT).expect("three were spent");
    assert!(is_budget(leaves(&other, 1)), "four are");
    over(&other, &wire_of_other, 0);
    over(&way, &wire, 3 * UNIT);
    let (last, wire) = payer.out(3, None);
    leaves(&last, UNIT).expect("three are spent");
    assert!(is_budget(leaves(&last, 1)));
    over(&last, &wire, 0);
    let (way, _) = payer.out(4, Some(1));
    configure(&payer.home, "price_per_gb = 1000", &budget(1));
    sleep(SEEN);
    assert!(is_budget(leaves(&way, 1)), "it is smaller now");
}

#[test]
fn a_link_is_closed_outside_its_hours() {
    let hour = crate::border::gate::now().secs as u64 / 3600;
    let hours = |from: u64, to: u64| {
        format!("hours = \"{:02}:00-{:02}:00\"", (hour + from) % 24, (hour + to) % 24)
    };
    let payer = payer("");
    configure(&payer.home, &hours(23, 3), "");
    sleep(SEEN);
    let (way, _) = payer.out(1, None);
    leaves(&way, UNIT).expect("open");
    configure(&payer.home, &hours(3, 5), "");
    sleep(SEEN);
    let denied = leaves(&way, 1).expect_err("closed");
    assert!(
        matches!(&denied, Denied::Closed(why) if why.contains("the link wan is open")),
        "{denied}"
    );
    assert!(matches!(payer.enters(payer.ask(2, None)), Err(Denied::Closed(_))));
    way.stop(Ending::Complete, "whatever", None).expect("recorded");
    let Some(Record::Stop(stop)) =
        recorded(&payer.home).into_iter().rfind(|record| matches!(record, Record::Stop(_)))
    else {
        panic!("no stop")
    };
    assert_eq!(stop.ending, Ending::Interrupted);
}

#[test]
fn a_link_that_closes_meanwhile_takes_no_more() {
    let payer = payer("");
    configure(&payer.home, "hours = \"08:00-10:00\"", "");
    let config = Config::load(&payer.home, [], &[]).expect("a configuration");
    let us = crate::audit::Place::from(payer.border.us());
    let at = |hour: i64| 1_780_272_000 / 86_400 * 86_400 + hour * 3600;
    let books = |hour| Books { home: &payer.home, config: &config, us: &us, at: at(hour) };
    let ask = payer.ask(1, None);
    assert!(matches!(books(7).purse(&ask), Err(Denied::Closed(_))));
    let mut purse = books(8).purse(&ask).expect("open").expect("it has hours");
    assert_eq!(purse.pay(1, (0, 0), at(10) - 1), Ok(Paid::Done));
    assert!(matches!(purse.pay(1, (0, 0), at(10)), Err(Denied::Closed(_))));
}

#[test]
fn what_crosses_is_recorded_with_its_price_before_the_end_where_it_is_much() {
    let payer = payer("");
    let (way, wire) = payer.out(1, None);
    for n in 0..4 * crate::audit::OBJECTS_PER_RECORD_MAX {
        let progress = |record: &Record| matches!(record, Record::Progress(_));
        if n == 4000 {
            assert!(!recorded(&payer.home).iter().any(progress), "not yet");
        }
        wire.store(n as u64, Relaxed);
        way.leaves(&path(&format!("{n}")), Extent { offset: 0, len: 1 }).expect("granted");
    }
    let records = recorded(&payer.home);
    let Some(Record::Meter(meter)) = records.last() else { panic!("{:?}", records.last()) };
    assert_eq!((meter.sent, meter.received), (4095, 4095));
    assert_eq!(meter.tariff.expect("a price").price.0, Money(1_000_000_000));
    let parts = records.iter().filter_map(|record| match record {
        Record::Progress(it) => Some((it.left.objects(), it.bytes)),
        _ => None,
    });
    assert_eq!(parts.collect::<Vec<_>>(), [(1024, 1024); 4]);
}

/// A link that takes all content at once and delivers it when it is told to.
#[derive(Clone)]
struct Slow(MemoryLink, tokio::sync::watch::Receiver<bool>);

impl Link for Slow {
    type Incoming = <MemoryLink as Link>::Incoming;
    const HEADER_BYTES_MAX: usize = MemoryLink::HEADER_BYTES_MAX;

    fn peer(&self) -> &Peer {
        self.0.peer()
    }

    fn name(&self) -> &'static str {
        "slow"
    }

    async fn send(&self, frame: Bytes) -> Result<(), LinkError> {
        self.0.send(frame).await
    }

    async fn recv(&self) -> Result<Bytes, LinkError> {
        self.0.recv().await
    }

    async fn send_data(&self, _header: Bytes, _content: Vec<Bytes>) -> Result<(), LinkError> {
        Ok(())
    }

    async fn delivered(&self) {
        let _ = self.1.clone().wait_for(|delivered| *delivered).await;
    }

    async fn recv_data(&self) -> Result<Self::Incoming, LinkError> {
        self.0.recv_data().await
    }

    fn meter(&self) -> WireMeter {
        self.0.meter()
    }

    async fn close(&self, reason: &str) {
        self.0.close(reason).await;
    }
}

#[tokio::test]
async fn what_was_paid_for_has_landed_when_the_link_has_delivered_it() {
    let payer = payer("");
    let (way, _) = payer.out(1, Some(2));
    let way = Arc::new(way);
    let (deliver, delivered) = tokio::sync::watch::channel(false);
    let peer = || Peer {
        node: "e1".parse().expect("a name"),
        kind: Kind::Node,
        site: "eu".parse().expect("a name"),
        tier: Tier::Public,
        valid_until_s: u64::MAX,
        enrolling: None,
    };
    let link = Slow(memory_pair(peer(), peer(), MemoryConfig::default()).0, delivered);
    let message = || (Bytes::new(), vec![Bytes::from(vec![0; UNIT as usize])]);
    for _ in 0..2 {
        way.send(&link, message(), &[]).await.expect("it is paid for");
    }
    let denied = way.send(&link, message(), &[]).await.expect_err("it is too dear");
    assert!(matches!(denied, SendError::Denied(Denied::Budget(_))), "{denied:?}");
    let landed = tokio::spawn(async move { way.landed(&link).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!landed.is_finished(), "what was paid for is on its way");
    deliver.send_replace(true);
    landed.await.expect("ended");
}
