//! Classes that go down, by two identities, and classes that stay where labels do not.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its scene fails")]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{Pair, engine, remote, write};
use portway::api::{Error, Exit, NodeAddress, TransferOptions};
use portway::audit::{Decision, Entries, LogFolder, Record};
use portway::base::{RelPath, TransferId};
use portway::config::{Home, change_roles};
use portway::identity::Identity;
use portway::policy::{Action, Grant, Principal, Verdict};

fn who(home: &Home) -> Principal {
    Principal::from(Identity::load(home.config_dir()).unwrap().id())
}

/// Makes both nodes stewards, where the CA is, and waits until that is seen.
async fn stewards(pair: &Pair) {
    let home = &pair.onprem.home;
    let identity = Identity::load(home.config_dir()).unwrap();
    for who in [who(home), who(&pair.cloud.home)] {
        let role = "steward".parse().unwrap();
        let grant = Grant { identity: who, role, dataset: RelPath::root() };
        change_roles(home, &identity, |roles| roles.grant(grant, None, 0)).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
}

fn decisions(home: &Home) -> Vec<Decision> {
    let entries = Entries::open(&LogFolder::open(&home.audit_dir()).unwrap()).unwrap();
    let decision = |record| match record {
        Record::Decision(decision) if decision.action == Action::Relabel => Some(decision),
        _ => None,
    };
    entries.filter_map(|entry| decision(entry.unwrap().record)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_class_is_lowered_by_two_stewards_and_both_are_recorded() {
    let pair = Pair::new().await;
    let data = pair.path("data");
    write(&data.join("a/x"), b"one");
    write(&data.join("y"), b"two");
    let (onprem, cloud) = (engine(&pair.onprem.home), engine(&pair.cloud.home));
    let class = |text: &str| text.parse().unwrap();
    onprem.raise_class(&data, &class("restricted")).expect("raised");
    let error = onprem.raise_class(&data, &class("internal")).expect_err("that is down");
    assert_eq!(error.code, "lowers", "{error}");
    let error = onprem.propose_lowering(&data.join("a"), &class("internal")).expect_err("held up");
    assert_eq!(error.code, "held-up", "{error}");

    let internal = class("internal");
    let id = onprem.propose_lowering(&data, &internal).expect("proposed");
    assert_eq!(onprem.class_of(&data).unwrap(), class("restricted"), "nothing is lowered yet");
    let node = NodeAddress::Address(pair.onprem.address);
    let refused = |error: Error, code: &str| {
        assert_eq!((error.code, error.exit), (code, Exit::Refused), "{error}");
        assert!(!error.hint.is_empty(), "{error:?}");
    };
    let approve = |by: &portway::api::Engine, id: TransferId, path: &Path| {
        let (by, node, path, class) = (by.clone(), node.clone(), path.to_owned(), internal.clone());
        async move { by.approve_lowering(&node, id, (&path, &class)).await }
    };
    refused(approve(&cloud, id, &data).await.expect_err("no stewards"), "denied");
    stewards(&pair).await;
    refused(approve(&onprem, id, &data).await.expect_err("the same identity"), "denied");
    refused(approve(&cloud, id, &data.join("y")).await.expect_err("another path"), "no-proposal");
    refused(approve(&cloud, TransferId(5), &data).await.expect_err("no such"), "no-proposal");
    let lowered = approve(&cloud, id, &data).await.expect("two stewards");
    assert_eq!((lowered.from, lowered.labelled), (class("restricted"), 4));
    for path in [&data, &data.join("a"), &data.join("a/x"), &data.join("y")] {
        assert_eq!(onprem.class_of(path).unwrap(), internal, "{}", path.display());
    }
    refused(approve(&cloud, id, &data).await.expect_err("once"), "no-proposal");

    let about: Vec<Decision> =
        decisions(&pair.onprem.home).into_iter().filter(|it| it.crossing.transfer == id).collect();
    let verdicts: Vec<Verdict> = about.iter().map(|it| it.verdict).collect();
    let (no, yes) = (Verdict::Denied, Verdict::Granted);
    assert_eq!(verdicts, [no, no, no, yes], "proposed, no stewards, the same one, two");
    assert!(about[0].reason.as_str().contains("proposed"), "{:?}", about[0]);
    let last = about.last().unwrap();
    assert_eq!(last.crossing.who, who(&pair.onprem.home));
    let said = format!("to internal: second identity {}: ", who(&pair.cloud.home).as_str());
    assert!(last.reason.as_str().starts_with(&said), "{last:?}");
    onprem.audit_verify().expect("whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_that_was_changed_or_whose_class_changed_lowers_nothing() {
    let pair = Pair::new().await;
    stewards(&pair).await;
    let data = pair.path("data");
    write(&data.join("x"), b"one");
    let (onprem, cloud) = (engine(&pair.onprem.home), engine(&pair.cloud.home));
    let [public, internal, restricted] =
        ["public", "internal", "restricted"].map(|text| text.parse().unwrap());
    onprem.raise_class(&data, &internal).expect("raised");
    let node = NodeAddress::Address(pair.onprem.address);
    let id = onprem.propose_lowering(&data, &public).expect("proposed");
    let file = pair.onprem.home.lowering_dir().join(id.to_string());
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("internal", "restricted")).unwrap();
    let approved = cloud.approve_lowering(&node, id, (&data, &public)).await;
    assert!(approved.expect_err("changed").to_string().contains("was changed"));
    fs::write(&file, text).unwrap();
    onprem.raise_class(&data, &restricted).expect("raised meanwhile");
    let approved = cloud.approve_lowering(&node, id, (&data, &public)).await;
    let error = approved.expect_err("it is about another class");
    assert_eq!((error.code, error.exit), ("no-proposal", Exit::Refused), "{error}");
    assert_eq!(onprem.class_of(&data).unwrap(), restricted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_class_survives_in_the_manifest_where_labels_are_lost() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    write(&source.join("x"), b"theirs");
    let cloud = engine(&pair.cloud.home);
    let restricted = "restricted".parse().unwrap();
    cloud.raise_class(&source, &restricted).expect("raised");
    let push = cloud.push(vec![source], remote("onprem", "set/one"), TransferOptions::default());
    push.wait().await.expect("into the private site anything may go");
    let root = &pair.onprem.root;
    for path in ["set/one", "set/one/x"] {
        rustix::fs::removexattr(root.join(path), "user.portway.class").unwrap();
    }
    let onprem = engine(&pair.onprem.home);
    for path in ["set", "set/one", "set/one/x"] {
        assert_eq!(onprem.class_of(&root.join(path)).unwrap(), restricted, "{path}");
    }
    for path in ["set", "set/one", "set/one/x"] {
        let options = TransferOptions::default();
        let pull = cloud.pull(remote("onprem", path), pair.path("back"), options);
        assert_eq!(pull.wait().await.expect_err("it may not leave").code, "denied", "{path}");
        let error = pair.push(&root.join(path), "back").await.expect_err("nor be sent");
        assert_eq!(error.code, "denied", "{path}");
    }
    // What comes anew without a label there is of that class too.
    let plain = pair.path("plain");
    write(&plain.join("y"), b"plain");
    let push = cloud.push(vec![plain], remote("onprem", "set/one"), TransferOptions::default());
    push.wait().await.expect("pushed");
    assert_eq!(onprem.class_of(&root.join("set/one/y")).unwrap(), restricted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_above_one_source_says_nothing_of_another() {
    let pair = Pair::new().await;
    let text = fs::read_to_string(pair.onprem.home.config_file()).unwrap();
    let closed = text.replace("default_class = \"public\"", "default_class = \"internal\"");
    fs::write(pair.onprem.home.config_file(), closed).unwrap();
    write(&pair.path("open/a"), b"public");
    write(&pair.path("other/b"), b"internal");
    let at = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(pair.path("open"), "user.portway.class", b"public", at).unwrap();
    let sources = vec![pair.path("open/a"), pair.path("other/b")];
    let onprem = engine(&pair.onprem.home);
    let push = onprem.push(sources, remote("cloud", "both"), TransferOptions::default());
    let error = push.wait().await.expect_err("one of them is internal");
    assert_eq!((error.code, error.exit), ("denied", Exit::Refused), "{error}");
}
