//! Whole transfers between a private and a public site: what the border lets through, what it stops,
//! and what both logs say.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its scene fails")]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{Pair, engine, noise, remote, write};
use portway::api::{AuditFilter, Exit, Keep, NodeAddress, Outcome, PeerReport, TransferOptions};
use portway::audit::{Ending, Entries, Format, LogFolder, Record, reconcile};
use portway::base::Rate;
use portway::config::{Home, change_roles};
use portway::identity::Identity;
use portway::policy::{Principal, Verdict};

fn entries(home: &Home) -> Entries {
    Entries::open(&LogFolder::open(&home.audit_dir()).unwrap()).unwrap()
}

fn records(home: &Home) -> Vec<Record> {
    entries(home).map(|entry| entry.unwrap().record).collect()
}

/// Both logs are whole, and say the same of every transfer; returns how many bytes crossed.
fn agree(pair: &Pair) -> u64 {
    for home in [&pair.onprem.home, &pair.cloud.home] {
        engine(home).audit_verify().expect("whole");
    }
    let found = reconcile(entries(&pair.onprem.home), entries(&pair.cloud.home)).unwrap();
    assert!(found.differences.is_empty(), "{:?}", found.differences);
    assert!(found.remarks.is_empty(), "{:?}", found.remarks);
    found.bytes
}

/// Sessions that both ends signed for, by both logs.
fn signed(pair: &Pair) -> u64 {
    reconcile(entries(&pair.onprem.home), entries(&pair.cloud.home)).unwrap().signed
}

/// What has no label is internal again, as without any configuration.
fn close_border(pair: &Pair) {
    fs::write(pair.onprem.home.config_file(), nodes_of(&pair.onprem.home)).unwrap();
}

fn nodes_of(home: &Home) -> String {
    let text = fs::read_to_string(home.config_file()).unwrap();
    text.replace("default_class = \"public\"", "default_class = \"internal\"")
}

fn label(path: &Path, class: &str) {
    let at = class.as_bytes();
    rustix::fs::setxattr(path, "user.portway.class", at, rustix::fs::XattrFlags::empty()).unwrap();
}

async fn refused(pair: &Pair, source: &Path, target: &str) -> String {
    let error = pair.push(source, target).await.expect_err("it may not leave");
    assert_eq!((error.code, error.exit), ("denied", Exit::Refused), "{error}");
    assert!(!pair.cloud.root.join(target).exists(), "nothing of it is there");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_checkpoints_go_across_the_border_by_their_own_class() {
    let mut pair = Pair::new().await;
    close_border(&pair);
    let config = pair.cloud.home.config_file();
    pair.restart_cloud(|_| {
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("\"public\"", "\"internal\"")).unwrap();
    })
    .await;
    let source = pair.path("ckpt");
    write(&source.join("model"), &noise(1, 100_000));
    label(&source, "public");
    let keep = Some(Keep { last: 1, every: None });
    let push = async |step: u64| {
        let options = TransferOptions { keep, ..TransferOptions::default() };
        pair.push_with(&source, &format!("runs/step-{step}"), options).await.expect("it is public")
    };
    push(1).await;
    let outcome = push(2).await;
    assert_eq!((outcome.removed, outcome.kept), (vec!["step-1".to_owned()], vec![]));

    label(&pair.cloud.root.join("runs/step-2"), "restricted");
    let outcome = push(3).await;
    assert_eq!((outcome.removed, outcome.kept.len()), (vec![], 1));
    let (name, why) = &outcome.kept[0];
    assert!(name == "step-2" && why.contains("forbidden by policy"), "{name}: {why}");
    assert!(pair.cloud.root.join("runs/step-2/model").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_public_does_not_leave_whatever_it_is_called() {
    let pair = Pair::new().await;
    let secret = pair.path("data/secret");
    write(&secret.join("weights"), &noise(1, 3_000_000));
    write(&pair.path("data/open"), &noise(2, 1_000_000));
    let public =
        pair.push(&pair.path("data/open"), "open").await.expect("unlabelled is public here");
    assert_eq!(agree(&pair), public.bytes_sent);
    assert_eq!((signed(&pair), public.unsigned), (1, None));

    let restricted = "restricted".parse().unwrap();
    engine(&pair.onprem.home).raise_class(&secret, &restricted).expect("raised");
    refused(&pair, &secret, "a").await;
    refused(&pair, &pair.path("data"), "b").await;
    // The label stays with the inode.
    fs::rename(secret.join("weights"), pair.path("data/renamed")).unwrap();
    refused(&pair, &pair.path("data/renamed"), "c").await;
    fs::hard_link(pair.path("data/renamed"), pair.path("elsewhere")).unwrap();
    refused(&pair, &pair.path("elsewhere"), "d").await;
    // Neither does the other end get it by asking.
    fs::rename(pair.path("data"), pair.onprem.root.join("data")).unwrap();
    let cloud = engine(&pair.cloud.home);
    let pull = cloud.pull(remote("onprem", "data"), pair.path("got"), TransferOptions::default());
    let error = pull.wait().await.expect_err("it may not leave");
    assert_eq!((error.code, error.exit), ("denied", Exit::Refused), "{error}");
    let error = cloud.open_file(remote("onprem", "data/renamed"), false).await.err().unwrap();
    assert_eq!((error.code, error.exit), ("denied", Exit::Refused), "{error}");
    cloud.open_file(remote("onprem", "data/open"), false).await.expect("that is public");
    let error = cloud.open_file(remote("onprem", "data/none"), false).await.err().unwrap();
    assert_eq!(error.code, "not-found", "{error}");
    // Nor does it learn what is there.
    label(&pair.onprem.root.join("data"), "restricted");
    for path in ["data", "data/nothing"] {
        let error = cloud.list(remote("onprem", path)).await.expect_err("it may not know");
        assert_eq!(error.code, "denied", "{error}");
    }
    let error = cloud.verify_remote(remote("onprem", "data")).await.expect_err("it may not know");
    assert_eq!(error.code, "denied", "{error}");

    let denied =
        |record: &&Record| matches!(record, Record::Decision(it) if it.verdict == Verdict::Denied);
    assert_eq!(records(&pair.onprem.home).iter().filter(denied).count(), 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_label_nothing_leaves_a_private_site() {
    let pair = Pair::new().await;
    close_border(&pair);
    let source = pair.path("source");
    write(&source.join("x"), b"internal");
    let told = refused(&pair, &source, "a").await;
    assert!(told.contains("private-stays-private"), "{told}");
    label(&source, "public");
    pair.push(&source, "a").await.expect("it has a label now");
    write(&source.join("y"), b"confidential");
    label(&source.join("y"), "confidential");
    refused(&pair, &source, "b").await;
    agree(&pair);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_class_is_kept_where_content_goes() {
    let pair = Pair::new().await;
    // From the public site into the private one anything may move.
    let source = pair.path("source");
    write(&source.join("x"), b"theirs");
    label(&source, "confidential");
    let cloud = engine(&pair.cloud.home);
    let pushed = |name: &'static str| {
        let (cloud, source) = (cloud.clone(), source.clone());
        async move {
            let push = cloud.push(vec![source], remote("onprem", name), TransferOptions::default());
            push.wait().await.expect("a push")
        }
    };
    pushed("kept").await;
    let class = |path: &str| {
        let path = pair.onprem.root.join(path);
        engine(&pair.onprem.home).class_of(&path).unwrap().to_string()
    };
    assert_eq!(class("kept"), "confidential");
    assert_eq!(class("kept/x"), "confidential");
    // What is mixed has the highest class.
    label(&pair.onprem.root.join("kept"), "restricted");
    write(&source.join("y"), b"more");
    pushed("kept").await;
    assert_eq!(class("kept/y"), "restricted");
    let back = engine(&pair.cloud.home);
    let pull = back.pull(remote("onprem", "kept"), pair.path("back"), TransferOptions::default());
    assert_eq!(pull.wait().await.expect_err("it may not leave again").code, "denied");
    agree(&pair);
}

/// Starts a push that takes some seconds, and changes something while it runs.
async fn changed_meanwhile(
    pair: &Pair,
    source: &Path,
    change: impl FnOnce() + Send + 'static,
) -> Result<Outcome, portway::api::Error> {
    let meanwhile = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(800)).await;
        change();
    });
    let options = TransferOptions { limit: Rate::from_mbps(80), ..TransferOptions::default() };
    let ended = pair.push_with(source, "slow", options).await;
    meanwhile.await.unwrap();
    ended
}

fn last_stop(home: &Home) -> (Ending, u64) {
    let mut bytes = 0;
    let mut ending = None;
    for record in records(home) {
        match record {
            Record::Start(_) => bytes = 0,
            Record::Progress(it) => bytes += it.left.bytes(),
            Record::Stop(it) => {
                bytes += it.left.bytes();
                ending = Some(it.ending);
            }
            _ => {}
        }
    }
    (ending.expect("a stop"), bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_changes_stops_a_transfer_which_resumes_when_it_changes_back() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    write(&source.join("large"), &noise(5, 40_000_000));
    let home = pair.onprem.home.clone();
    let (policy, dir) = (home.policy_file(), home.policy_dir());
    let at = policy.clone();
    let ended = changed_meanwhile(&pair, &source, move || {
        fs::create_dir_all(dir).unwrap();
        fs::write(at, "@id(\"shut\")\nforbid (principal, action, resource);\n").unwrap();
    });
    let error = ended.await.expect_err("stopped");
    assert_eq!((error.code, error.exit), ("denied", Exit::Refused), "{error}");
    let (ending, left) = last_stop(&pair.onprem.home);
    assert_eq!(ending, Ending::Denied);
    assert!((1..40_000_000).contains(&left), "{left} bytes left");
    assert!(!pair.cloud.root.join("slow").exists());

    fs::remove_file(policy).unwrap();
    let options = TransferOptions::default();
    let resumed = pair.push_with(&source, "slow", options).await.expect("it may go on");
    assert!(resumed.bytes_resumed > 0, "{resumed:?}");
    assert_eq!(last_stop(&pair.onprem.home), last_stop(&pair.cloud.home));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_that_is_raised_stops_a_transfer() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    write(&source.join("large"), &noise(100, 40_000_000));
    let (node, at) = (engine(&pair.onprem.home), source.clone());
    let ended = changed_meanwhile(&pair, &source, move || {
        node.raise_class(&at, &"restricted".parse().unwrap()).expect("raised");
    });
    let error = ended.await.expect_err("stopped");
    assert_eq!((error.code, error.exit), ("denied", Exit::Refused), "{error}");
    assert_eq!(last_stop(&pair.onprem.home).0, Ending::Denied);
    assert!(!pair.cloud.root.join("slow").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_its_log_sends_nothing_out() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    write(&source, b"public");
    fs::write(pair.onprem.home.audit_dir(), "in the way").unwrap();
    let error = pair.push(&source, "a").await.expect_err("no record, no transfer");
    assert_eq!(error.code, "no-audit", "{error}");
    assert!(!pair.cloud.root.join("a").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_sign_for_pushes_and_pulls_and_witness_each_others_logs() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    for n in 0..700 {
        write(&source.join(format!("{n:03}")), &noise(n, 100 + n as usize));
    }
    write(&source.join("large"), &noise(1000, 5_000_000));
    let pushed = pair.push(&source, "a").await.expect("pushed");
    assert_eq!(pushed.unsigned, None);
    let again = pair.push(&source, "a").await.expect("nothing to move");
    assert_eq!((again.bytes_sent, again.unsigned), (0, None));
    let pulled = pair.pull("a", &pair.path("back")).await.expect("pulled");
    assert_eq!(pulled.unsigned, None);
    assert_eq!(agree(&pair), pushed.bytes_sent + pulled.bytes_sent);
    assert_eq!(signed(&pair), 3);
    for (home, peer) in [(&pair.onprem.home, "cloud"), (&pair.cloud.home, "onprem")] {
        let records = records(home);
        let receipts: Vec<_> = records
            .iter()
            .filter_map(|record| match record {
                Record::Receipt(receipt) => Some(receipt),
                _ => None,
            })
            .collect();
        assert_eq!(receipts.len(), 3);
        assert!(receipts.iter().all(|receipt| receipt.check().is_ok()));
        let bytes: u64 = receipts.iter().map(|receipt| receipt.body.bytes).sum();
        assert_eq!(bytes, pushed.bytes_sent + pulled.bytes_sent);
        let witnessed = records.iter().filter_map(|record| match record {
            Record::Witness(it) => Some((it.node.to_string(), it.checkpoint.size)),
            _ => None,
        });
        let witnessed: Vec<_> = witnessed.collect();
        assert_eq!(witnessed.len(), 3, "one for each session");
        assert!(witnessed.iter().all(|(node, _)| node.ends_with(&format!("/node/{peer}"))));
        assert!(witnessed.is_sorted_by_key(|(_, size)| *size), "{witnessed:?}");
    }
    // A plan moves nothing, and nobody signs for it.
    let plan = engine(&pair.onprem.home);
    let options = TransferOptions::default();
    plan.plan(vec![source], remote("cloud", "b"), options).await.expect("planned");
    agree(&pair);
    assert_eq!(signed(&pair), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_changes_while_it_leaves_is_signed_for_all_the_same() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    write(&source.join("a"), &noise(1, 12_000_000));
    write(&source.join("b"), &noise(2, 1_000_000));
    let changed = source.join("a");
    let ended = changed_meanwhile(&pair, &source, move || {
        fs::write(changed, noise(3, 9_000_000)).unwrap();
    });
    let outcome = ended.await.expect("published");
    assert_eq!(outcome.unsigned, None);
    assert!(agree(&pair) > 10_000_000, "both readings of it left");
    assert_eq!(signed(&pair), 1);
}

fn node(name: &str) -> NodeAddress {
    NodeAddress::Name(name.parse().unwrap())
}

/// Verifies both logs from both ends; gives what the one in the private site found.
async fn verified(pair: &Pair) -> PeerReport {
    let theirs = engine(&pair.cloud.home).audit_verify_with(&node("onprem")).await.expect("whole");
    let ours = engine(&pair.onprem.home).audit_verify_with(&node("cloud")).await.expect("whole");
    for report in [&ours, &theirs] {
        assert!(report.reconciled.differences.is_empty(), "{:?}", report.reconciled);
    }
    let amounts = |report: &PeerReport| {
        let found = &report.reconciled;
        (found.transfers, found.signed, found.bytes)
    };
    assert_eq!(amounts(&ours), amounts(&theirs));
    ours
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_proves_what_its_log_says_of_both_and_nothing_else() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    write(&source.join("x"), &noise(1, 2_000_000));
    let nothing = engine(&pair.onprem.home).audit_verify_with(&node("cloud")).await.expect("none");
    assert!(nothing.own.is_none() && nothing.theirs.is_none(), "{nothing:?}");
    let pushed = pair.push(&source, "a").await.expect("pushed");
    // Another node's transfers with the same peer are that node's business.
    let third = engine(&pair.third("edge").await);
    for n in 0..3 {
        let to = remote("cloud", &format!("edge-{n}"));
        third
            .push(vec![source.clone()], to, TransferOptions::default())
            .wait()
            .await
            .expect("pushed");
    }
    let report = verified(&pair).await;
    let found = &report.reconciled;
    assert_eq!((found.transfers, found.signed, found.bytes), (1, 1, pushed.bytes_sent));
    let (own, theirs) = (report.own.as_ref().unwrap(), report.theirs.as_ref().unwrap());
    // A key, a decision, a start, what it took of the wire, a stop, a receipt, and the witness.
    assert_eq!(theirs.told, 7, "{theirs:?}");
    assert!(theirs.records > 15, "{theirs:?}");
    assert!(theirs.held.is_some_and(|held| held < theirs.records), "{theirs:?}");
    assert_eq!(own.held, 1, "{own:?}");
    let pulled = pair.pull("a", &pair.path("back")).await.expect("pulled");
    let found = verified(&pair).await.reconciled;
    assert_eq!((found.signed, found.bytes), (2, pushed.bytes_sent + pulled.bytes_sent));
}

/// Copies the files of a log.
fn copy_log(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(to).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_copy_of_either_log_is_found_with_the_peer() {
    let mut pair = Pair::new().await;
    let source = pair.path("source");
    write(&source.join("x"), &noise(1, 1_000_000));
    pair.push(&source, "a").await.expect("pushed");
    let (ours, theirs) = (pair.onprem.home.audit_dir(), pair.cloud.home.audit_dir());
    copy_log(&ours, &pair.path("ours"));
    copy_log(&theirs, &pair.path("theirs"));
    write(&source.join("y"), &noise(2, 1_000_000));
    pair.push(&source, "b").await.expect("pushed");
    verified(&pair).await;
    copy_log(&ours, &pair.path("ours-now"));
    copy_log(&theirs, &pair.path("theirs-now"));

    copy_log(&pair.path("ours"), &ours);
    engine(&pair.onprem.home).audit_verify().expect("by itself it is whole");
    let error = engine(&pair.onprem.home).audit_verify_with(&node("cloud")).await.unwrap_err();
    assert_eq!((error.code, error.exit), ("audit-damaged", Exit::Failed), "{error}");
    assert!(error.to_string().contains("an old copy was put back"), "{error}");
    // The peer sees it too.
    let error = engine(&pair.cloud.home).audit_verify_with(&node("onprem")).await.unwrap_err();
    assert_eq!((error.code, error.exit), ("audit-peer", Exit::Failed), "{error}");
    assert!(error.to_string().contains("an old copy was put back there"), "{error}");
    copy_log(&pair.path("ours-now"), &ours);
    verified(&pair).await;

    // None at all is a difference in each transfer.
    fs::rename(&ours, pair.path("away")).unwrap();
    let report = engine(&pair.onprem.home).audit_verify_with(&node("cloud")).await.expect("told");
    assert!(report.own.is_none());
    assert_eq!(report.reconciled.differences.len(), 2, "{report:?}");
    fs::rename(pair.path("away"), &ours).unwrap();

    // A peer that denies to have a log is not believed.
    pair.restart_cloud(|_| fs::rename(&theirs, pair_path(&theirs)).unwrap()).await;
    let error = engine(&pair.onprem.home).audit_verify_with(&node("cloud")).await.unwrap_err();
    assert_eq!(error.code, "audit-peer", "{error}");
    pair.cloud.stop().await;
    let error = engine(&pair.onprem.home).audit_verify_with(&node("cloud")).await.unwrap_err();
    assert!(["peer-unreachable", "peer-silent"].contains(&error.code), "{error}");
}

fn pair_path(dir: &Path) -> std::path::PathBuf {
    dir.with_extension("away")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_read_in_parts_is_one_transfer_at_both_ends() {
    let pair = Pair::new().await;
    let content = noise(1, 6_000_000);
    write(&pair.cloud.root.join("data/file"), &content);
    let ours = engine(&pair.onprem.home);
    let file = ours.open_file(remote("cloud", "data/file"), false).await.expect("open");
    for at in [0, 3_000_000, 5_999_990] {
        let parts = file.read(&[(at, 1000)]).await.expect("read");
        let end = content.len().min(at as usize + 1000);
        assert_eq!(parts[0], content[at as usize..end]);
    }
    let fetched = file.bytes_fetched();
    file.close().await;
    // And goes on where its session was lost.
    let other = ours.open_file(remote("cloud", "data/file"), false).await.expect("open");
    other.read(&[(7, 10)]).await.expect("read");
    other.close().await;
    other.read(&[(7, 10)]).await.expect("read again, over another session");
    let again = other.bytes_fetched();
    other.close().await;
    let never = ours.open_file(remote("cloud", "data/file"), false).await.expect("open");
    never.close().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let found = verified(&pair).await.reconciled;
    assert_eq!((found.transfers, found.bytes), (3, fetched + again));
    assert!(found.remarks.is_empty(), "{found:?}");
    for home in [&pair.onprem.home, &pair.cloud.home] {
        let records = records(home);
        let starts = records.iter().filter(|it| matches!(it, Record::Start(_))).count();
        let stops = records.iter().filter(|it| matches!(it, Record::Stop(_))).count();
        assert_eq!((starts, stops), (4, 4), "one for each session of a file");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_shown_by_peer_time_and_transfer() {
    let pair = Pair::new().await;
    write(&pair.path("source/x"), &noise(1, 1000));
    let one = pair.push(&pair.path("source"), "a").await.expect("pushed");
    pair.push(&pair.path("source"), "b").await.expect("pushed");
    let node = engine(&pair.onprem.home);
    let shown = |filter: AuditFilter| {
        let mut kinds = Vec::new();
        let count = node.audit_show(&filter, &mut |row| kinds.push(row.text("kind").unwrap()));
        assert_eq!(count.unwrap(), kinds.len() as u64);
        let mut out = Vec::new();
        let exported = node.audit_export(Format::JsonLines, &filter, &mut out).unwrap();
        assert_eq!(exported, kinds.len() as u64);
        kinds
    };
    let all = shown(AuditFilter::default());
    assert_eq!(all.len(), 13, "{all:?}");
    let transfer = Some(one.transfer_id.parse().unwrap());
    let found = shown(AuditFilter { transfer, ..AuditFilter::default() });
    assert_eq!(found, ["decision", "start", "meter", "stop", "receipt"]);
    let peer = |name: &str| AuditFilter { peer: name.parse().ok(), ..AuditFilter::default() };
    assert_eq!(shown(peer("cloud")).len(), 12);
    assert!(shown(peer("edge")).is_empty());
    let since = |since| AuditFilter { since: Some(since), ..AuditFilter::default() };
    assert_eq!(shown(since(0)).len(), 13);
    assert!(shown(since(i64::MAX)).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_into_a_directory_does_not_lower_the_class_of_what_is_there() {
    let pair = Pair::new().await;
    close_border(&pair);
    let there = pair.onprem.root.join("mixed");
    write(&there.join("ours"), b"internal, without a label");
    let source = pair.path("source");
    write(&source.join("theirs"), b"public");
    label(&source, "public");
    tokio::time::sleep(Duration::from_millis(400)).await;
    let cloud = engine(&pair.cloud.home);
    let options = TransferOptions::default;
    let push =
        |name: &'static str| cloud.push(vec![source.clone()], remote("onprem", name), options());
    push("mixed").wait().await.expect("a push");
    push("new").wait().await.expect("a push");
    let class = |path: &str| {
        let path = pair.onprem.root.join(path);
        engine(&pair.onprem.home).class_of(&path).unwrap().to_string()
    };
    assert_eq!((class("mixed"), class("mixed/ours")), ("internal".into(), "internal".into()));
    assert_eq!((class("new"), class("new/theirs")), ("public".into(), "public".into()));
    let pull = |name: &str| cloud.pull(remote("onprem", name), pair.path("got"), options());
    assert_eq!(pull("mixed/ours").wait().await.expect_err("it may not leave").code, "denied");
    pull("new").wait().await.expect("it came from there");
}

/// Revokes a node in the roles of another one.
fn revoke(at: &Home, whom: &Home) {
    let identity = Identity::load(at.config_dir()).unwrap();
    let whom = Principal::from(Identity::load(whom.config_dir()).unwrap().id());
    change_roles(at, &identity, |roles| roles.revoke_identity(&whom)).expect("revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_identity_is_refused_whatever_it_asks_of_whom() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    write(&source, b"public");
    write(&pair.onprem.root.join("a"), b"public");
    pair.push(&source, "before").await.expect("not revoked yet");
    revoke(&pair.onprem.home, &pair.cloud.home);
    revoke(&pair.cloud.home, &pair.onprem.home);
    tokio::time::sleep(Duration::from_millis(400)).await;
    let options = TransferOptions::default;
    for (who, other) in [(&pair.onprem, "cloud"), (&pair.cloud, "onprem")] {
        let node = engine(&who.home);
        let push = node.push(vec![source.clone()], remote(other, "b"), options()).wait().await;
        let pull = node.pull(remote(other, "a"), pair.path("got"), options()).wait().await;
        let list = node.list(remote(other, "")).await.map(drop);
        for asked in [push.map(drop), pull.map(drop), list] {
            let error = asked.expect_err("revoked");
            assert_eq!((error.code, error.exit), ("revoked", Exit::Refused), "{error}");
            assert!(error.to_string().contains("revoked"), "{error}");
            assert!(!error.hint.is_empty(), "{error}");
        }
    }
}
