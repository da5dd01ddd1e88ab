//! Receipts: what both ends sign, what neither does, and what is kept.

use super::super::testing::invited;
use super::super::{Ask, Closed, Unsigned};
use super::*;
use crate::audit::{
    Checkpoint, Offer, Portable, Reconciled, Record, Statement, Witness, reconcile,
};
use crate::base::Digest;
use crate::identity::AuditKey;

/// Two nodes that moved the same, and what each counted.
struct Scene {
    _dirs: [tempfile::TempDir; 3],
    homes: [Home; 2],
    source: Arc<Border>,
    target: Arc<Border>,
    other: Arc<Border>,
    sent: Closed,
    received: Closed,
}

const ROOT: Digest = Digest([3; 32]);

fn ask(source: &Border, target: &Border) -> Ask {
    let to = target.ourselves();
    Ask { to, ..push(source, "eu", Tier::Public, "public") }
}

fn moved(way: &Way, bytes: u64) -> Closed {
    way.leaves(&path("a"), Extent { offset: 0, len: bytes }).expect("granted");
    way.leaves(&path("b"), Extent { offset: 5, len: 5 }).expect("granted");
    let closed = way.stop(Ending::Complete, "published", Some(ROOT)).expect("recorded");
    closed.expect("it crossed")
}

impl Scene {
    fn new() -> Self {
        Self::moving(100, 100)
    }

    fn moving(sent: u64, received: u64) -> Self {
        let (dir, home, source) = border();
        let (dir_2, home_2, target) = invited(&home, "peer");
        let (dir_3, _, other) = invited(&home, "other");
        let enter = |border: &Arc<Border>| border.enter(ask(&source, &target)).expect("granted");
        let (sent, received) = (moved(&enter(&source), sent), moved(&enter(&target), received));
        let homes = [home, home_2];
        Self { _dirs: [dir, dir_2, dir_3], homes, source, target, other, sent, received }
    }

    fn statement(&self) -> Statement {
        Statement::decode(&self.target.statement(&self.received).expect("said")).expect("whole")
    }

    /// What the source says to a statement.
    fn says(&self, statement: &Statement) -> Result<Offer, String> {
        let offered = self.source.offer(&self.sent, &statement.encode());
        offered.map(|(_, offer)| Offer::decode(&offer).expect("whole")).map_err(|e| e.to_string())
    }

    /// What the target says to an offer.
    fn answers(&self, offer: &Offer) -> Result<(), String> {
        let signed = self.target.countersign(&self.received, &offer.encode());
        signed.map(drop).map_err(|error| error.to_string())
    }

    fn exchange(&self) -> Result<(), Unsigned> {
        let (source, target) = (&self.source, &self.target);
        let statement = target.statement(&self.received)?;
        let (offered, offer) = source.offer(&self.sent, &statement)?;
        let (signed, signature) = target.countersign(&self.received, &offer)?;
        target.keep(signed)?;
        source.keep(source.complete(offered, &signature)?)?;
        Ok(())
    }

    fn reconciled(&self) -> Reconciled {
        let log = |home: &Home| {
            let folder = LogFolder::open(&home.audit_dir()).expect("a log");
            verify(&folder, &Known { receipts: true, ..Known::default() }).expect("whole");
            Entries::open(&folder).expect("a log")
        };
        reconcile(log(&self.homes[0]), log(&self.homes[1])).expect("read")
    }
}

#[test]
fn both_ends_sign_and_keep_the_same_receipt_and_witness() {
    let scene = Scene::new();
    assert_eq!((scene.sent.outward, scene.received.outward), (true, false));
    scene.exchange().expect("signed");
    let found = scene.reconciled();
    assert_eq!((found.differences, found.remarks), (Vec::new(), Vec::new()));
    assert_eq!((found.signed, found.bytes), (1, 105));
    let kept: Vec<Vec<Record>> = scene.homes.iter().map(recorded).collect();
    let [ours, theirs] = &kept[..] else { panic!("two logs") };
    let receipt = |log: &[Record]| match &log[log.len() - 2..] {
        [Record::Receipt(receipt), Record::Witness(witness)] => (receipt.clone(), witness.clone()),
        other => panic!("{other:?}"),
    };
    let ((one, seen), (other, _)) = (receipt(ours), receipt(theirs));
    assert_eq!(one, other);
    let Witness { node, checkpoint: Checkpoint { log, size, .. }, .. } = seen;
    assert_eq!((node, log), (one.body.to.node.clone(), one.body.to.log));
    assert!(size > one.body.to.seq, "it covers the stop record");
}

#[test]
fn a_target_that_counted_something_else_is_not_signed_for() {
    let why = Scene::moving(100, 99).exchange().unwrap_err().to_string();
    assert_eq!(why, "104 bytes crossed there and 105 here");
    let scene = Scene::new();
    let good = scene.statement();
    assert!(scene.says(&good).is_ok());
    let mut left = good.left;
    left.digest = ROOT;
    let class = "internal".parse().expect("a class");
    for (statement, words) in [
        (Statement { bytes: 9, ..good.clone() }, "9 bytes crossed there"),
        (Statement { left, ..good.clone() }, "other extents"),
        (Statement { root: None, ..good.clone() }, "another root digest"),
        (Statement { class, ..good.clone() }, "the class is internal there and public here"),
    ] {
        let why = scene.says(&statement).expect_err(words);
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn only_the_peer_speaks_for_its_log() {
    let scene = Scene::new();
    let good = scene.statement();
    // Another node of the domain, by its own right key.
    let other = scene.other.enter(ask(&scene.source, &scene.other)).expect("granted");
    let other = scene.other.statement(&moved(&other, 100)).expect("said");
    let other = Statement::decode(&other).expect("whole");
    let mut stolen = good.clone();
    stolen.party.key = other.party.key;
    let mut vouched = stolen.clone();
    vouched.attestation = other.attestation.clone();
    let mut ahead = good.clone();
    ahead.party.seq = ahead.checkpoint.size;
    let checkpoint = other.checkpoint;
    let mut forged = good.clone();
    forged.checkpoint.size += 1;
    let mut elsewhere = good.clone();
    elsewhere.party.log = other.party.log;
    for (statement, words) in [
        (other, "names itself as another node"),
        (stolen, "did not sign the key"),
        (vouched, "the key of its log is that of spiffe://"),
        (Statement { checkpoint, ..good.clone() }, "not signed by its key"),
        (forged, "not signed by its key"),
        (elsewhere, "not signed by its key"),
        (ahead, "ends before the record"),
    ] {
        let why = scene.says(&statement).expect_err(words);
        assert!(why.contains(words), "{why}");
    }
    assert!(scene.source.offer(&scene.sent, b"nonsense").is_err());
}

/// Two signed checkpoints of one size that differ: the log was written anew in between.
#[test]
fn a_log_that_shows_other_records_than_before_is_not_signed_for() {
    let scene = Scene::new();
    let shown = scene.statement();
    scene.says(&shown).expect("the first that is seen");
    scene.says(&shown).expect("the same again");
    let key = AuditKey::load_or_create(&scene.homes[1].identity_dir()).expect("its key");
    let Checkpoint { log, size, at, .. } = shown.checkpoint;
    let forked = Checkpoint::sign(&key, log, size, Digest([9; 32]), at);
    let why = scene.says(&Statement { checkpoint: forked, ..shown.clone() }).expect_err("a fork");
    assert!(why.contains("other records than it showed before"), "{why}");
    // Sessions end in any order: an older checkpoint says nothing.
    let newer = Checkpoint::sign(&key, log, size + 5, Digest([8; 32]), at);
    scene.says(&Statement { checkpoint: newer, ..shown.clone() }).expect("it grew");
    scene.says(&shown).expect("an older one");
}

type Change = fn(&mut Offer);

#[test]
fn a_source_that_signs_something_else_is_not_signed_for() {
    let scene = Scene::new();
    let good = scene.says(&scene.statement()).expect("offered");
    let changed = |change: Change| {
        let mut offer = good.clone();
        change(&mut offer);
        scene.answers(&offer).expect_err("it differs")
    };
    let changes: [(Change, &str); 8] = [
        (|it| it.body.bytes += 1, "106 bytes crossed there"),
        (|it| it.body.left.extents += 1, "other extents"),
        (|it| it.body.root = None, "another root digest"),
        (|it| it.body.transfer.0 += 1, "another transfer"),
        (|it| it.body.path = path("runs/b"), "the dataset is runs/b there"),
        (|it| it.body.to.seq += 1, "another receiver"),
        (|it| it.body.from.node = it.body.to.node.clone(), "names itself as another node"),
        (|it| it.signature.0[0] ^= 1, "its signature is wrong"),
    ];
    for (change, words) in changes {
        let why = changed(change);
        assert!(why.contains(words), "{words}: {why}");
    }
    assert_eq!(scene.answers(&good), Ok(()));
    // Nor is one whose countersign is not the target's.
    let statement = scene.statement().encode();
    let (offered, _) = scene.source.offer(&scene.sent, &statement).expect("offered");
    let why = scene.source.complete(offered, &good.signature.encode()).unwrap_err().to_string();
    assert_eq!(why, "its signature is wrong");
    assert!(scene.reconciled().differences.is_empty(), "nothing was kept");
}

#[test]
fn a_dispute_is_kept_and_told() {
    let scene = Scene::moving(100, 99);
    let why = scene.exchange().unwrap_err().to_string();
    scene.source.dispute(&scene.sent, &why).expect("kept");
    let found = scene.reconciled();
    let told: Vec<String> = found.differences.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|text| text.contains("it was not signed for: 104 bytes")), "{told:?}");
    assert!(told.iter().any(|text| text.contains("the number of bytes is 105")), "{told:?}");
}

#[test]
fn content_of_objects_that_were_done_has_no_sum() {
    let (_dir, _home, border) = border();
    let way = out(&border, "public").expect("granted");
    let note = |object: &str, offset| {
        way.leaves(&path(object), Extent { offset, len: 5 }).expect("granted");
    };
    note("a", 0);
    note("b", 0);
    way.settled(&path("a"));
    sleep(Duration::from_millis(1100));
    note("c", 0);
    note("a", 10);
    let closed = way.stop(Ending::Complete, "published", Some(ROOT)).expect("recorded");
    assert!(closed.is_some_and(|closed| closed.account.is_none()), "a was settled and recorded");
}

#[test]
fn a_newer_session_of_a_transfer_ends_an_older_one() {
    let (_dir, home, border) = border();
    let older = out(&border, "public").expect("granted");
    let newer = out(&border, "public").expect("granted");
    assert!(older.check().is_err(), "it is over");
    newer.check().expect("it goes on");
    let closed = older.stop(Ending::Complete, "published", Some(ROOT)).expect("nothing to write");
    assert!(closed.is_none(), "it was stopped before");
    newer.stop(Ending::Complete, "published", Some(ROOT)).expect("recorded");
    let kinds: Vec<&str> = recorded(&home).iter().map(Record::kind).collect();
    let expected = ["decision", "start", "stop", "decision", "start", "stop"];
    assert_eq!(kinds, expected, "one after the other");
}
