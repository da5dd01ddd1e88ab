//! Whole transfers between a private and a public site: what the border lets through, what it stops,
//! and what both logs say.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its scene fails")]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{Pair, engine, noise, remote, write};
use portway::api::{Exit, Outcome, TransferOptions};
use portway::audit::{Ending, Entries, LogFolder, Record, reconcile};
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
    found.bytes
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
async fn what_is_not_public_does_not_leave_whatever_it_is_called() {
    let pair = Pair::new().await;
    let secret = pair.path("data/secret");
    write(&secret.join("weights"), &noise(1, 3_000_000));
    write(&pair.path("data/open"), &noise(2, 1_000_000));
    let public =
        pair.push(&pair.path("data/open"), "open").await.expect("unlabelled is public here");
    assert_eq!(agree(&pair), public.bytes_sent);

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
            Record::Stop(it) => ending = Some(it.ending),
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
            assert_eq!((error.code, error.exit), ("denied", Exit::Refused), "{error}");
            assert!(error.to_string().contains("revoked"), "{error}");
            assert!(!error.hint.is_empty(), "{error}");
        }
    }
}
