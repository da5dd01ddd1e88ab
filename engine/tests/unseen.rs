//! What a peer across the border may not read is for it as if it were not there: no answer tells of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its scene fails")]

mod common;

use std::path::Path;

use common::{Pair, config, engine, noise, remote, write};
use portway::api::{Engine, Exit, NodeAddress, Outcome, TransferOptions};
use portway::base::Tier;
use portway::config::Home;

const SIZE: usize = 3_000_000;

fn label(path: &Path, class: &str) {
    let at = class.as_bytes();
    rustix::fs::setxattr(path, "user.portway.class", at, rustix::fs::XattrFlags::empty()).unwrap();
}

/// The home of another node of the private site.
async fn neighbour(pair: &Pair) -> Home {
    let home = Home::at(pair.path("home-neighbour"));
    home.create().unwrap();
    std::fs::write(home.config_file(), "[border]\ndefault_class = \"public\"\n").unwrap();
    let (node, site) = ("neighbour".parse().unwrap(), "dc".parse().unwrap());
    let token = engine(&pair.onprem.home).invite(node, site, Tier::Private).await.unwrap();
    Engine::join(&home, &config(&home), &token).await.expect("joined");
    home
}

async fn push(home: &Home, source: &Path, target: &str, dry_run: bool) -> Outcome {
    let options = TransferOptions { dry_run, ..TransferOptions::default() };
    let push = engine(home).push(vec![source.to_owned()], remote("onprem", target), options);
    push.wait().await.expect("a push into the private site")
}

/// Datasets of both classes at the private node, from its neighbour.
async fn scene(pair: &Pair) -> Home {
    let home = neighbour(pair).await;
    for (name, class, seed) in [("secret", "confidential", 1), ("open", "public", 2)] {
        let source = pair.path(name);
        write(&source.join("data"), &noise(seed, SIZE));
        label(&source, class);
        push(&home, &source, &format!("sets/{name}"), false).await;
    }
    home
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_that_the_peer_may_not_read_is_sent_again_and_found_inside_the_site() {
    let pair = Pair::new().await;
    let home = scene(&pair).await;
    let (secret, open) = (pair.path("guess-secret"), pair.path("guess-open"));
    write(&secret.join("x"), &noise(1, SIZE));
    write(&open.join("x"), &noise(2, SIZE));
    let moved = |outcome: &Outcome| (outcome.bytes_sent, outcome.bytes_deduplicated);
    let size = SIZE as u64;

    // A plan tells no more than a push.
    let cloud = &pair.cloud.home;
    assert_eq!(moved(&push(cloud, &secret, "planned", true).await), (size, 0));
    assert_eq!(moved(&push(cloud, &open, "planned", true).await), (0, size));
    assert_eq!(
        moved(&push(cloud, &secret, "guess", false).await),
        (size, 0),
        "as if it were nowhere"
    );
    assert_eq!(moved(&push(cloud, &open, "known", false).await), (0, size), "it may read that");
    // What it sent itself it may be told of.
    let again = push(cloud, &secret, "guess", false).await;
    assert_eq!((again.bytes_sent, again.bytes_resumed + again.bytes_deduplicated), (0, size));
    // Nobody of the site notices anything.
    let inside = pair.path("inside");
    write(&inside.join("y"), &noise(1, SIZE));
    assert_eq!(moved(&push(&home, &inside, "inside", false).await), (0, size));

    // A private node that pulls tells the public one no more: what it has does not matter.
    write(&pair.cloud.root.join("theirs/z"), &noise(1, SIZE));
    let pull = engine(&pair.onprem.home).pull(
        remote("cloud", "theirs"),
        pair.onprem.root.join("pulled"),
        TransferOptions::default(),
    );
    assert_eq!(moved(&pull.wait().await.expect("a pull")), (size, 0));
    assert_eq!(std::fs::read(pair.onprem.root.join("pulled/z")).unwrap(), noise(1, SIZE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_staged_by_another_source_is_not_told_of_across_the_border() {
    let pair = Pair::new().await;
    let home = scene(&pair).await;
    let source = pair.path("large");
    let large = noise(3, 24_000_000);
    write(&source.join("data"), &large);
    // A push inside the site that is broken off.
    let limit = portway::base::Rate::from_mbps(40);
    let options = TransferOptions { limit, ..TransferOptions::default() };
    let transfer = engine(&home).push(vec![source.clone()], remote("onprem", "both"), options);
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    transfer.interrupt();
    transfer.wait().await.expect_err("broken off");
    let staged = pair.onprem.root.join(".portway/staging");
    assert!(std::fs::read_dir(&staged).unwrap().count() > 0, "something of it is staged");

    let outcome = push(&pair.cloud.home, &source, "both", false).await;
    let size = large.len() as u64;
    assert_eq!((outcome.bytes_sent, outcome.bytes_deduplicated), (size, 0), "{outcome:?}");
    assert_eq!(std::fs::read(pair.onprem.root.join("both/data")).unwrap(), large);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_question_tells_of_what_the_peer_may_not_see() {
    let pair = Pair::new().await;
    let home = scene(&pair).await;
    let (cloud, neighbour) = (engine(&pair.cloud.home), engine(&home));
    let sets = || remote("onprem", "sets");
    let names = |entries: Vec<portway::api::ListEntry>| {
        let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
        names.sort();
        names
    };
    assert_eq!(names(neighbour.list(sets()).await.unwrap()), ["open", "secret"]);
    assert_eq!(names(cloud.list(sets()).await.unwrap()), ["open"], "a name may be as telling");
    // The names rank `secret` above `open`.
    let newest =
        |found: Option<portway::api::Checkpoint>| found.map(|it| it.remote.path.to_string());
    let found = neighbour.latest(&sets(), None).await.unwrap();
    assert_eq!(newest(found).as_deref(), Some("sets/secret"));
    let found = cloud.latest(&sets(), None).await.unwrap();
    assert_eq!(newest(found).as_deref(), Some("sets/open"));
    cloud.verify_remote(remote("onprem", "sets/open")).await.expect("it may know");

    // Whether something is there or not, the answer is the same.
    let told = |error: portway::api::Error| (error.code, error.exit);
    let denied = ("denied", Exit::Refused);
    for path in ["sets/secret", "sets/secret/data", "sets/secret/none"] {
        assert_eq!(told(cloud.list(remote("onprem", path)).await.unwrap_err()), denied, "{path}");
        let error = cloud.verify_remote(remote("onprem", path)).await.unwrap_err();
        assert_eq!(told(error), denied, "{path}");
        let error = cloud.open_file(remote("onprem", path), false).await.err().unwrap();
        assert_eq!(told(error), denied, "{path}");
        let pull = cloud.pull(remote("onprem", path), pair.path("got"), TransferOptions::default());
        assert_eq!(told(pull.wait().await.unwrap_err()), denied, "{path}");
    }
    let pull =
        cloud.pull(remote("onprem", "sets/none"), pair.path("got"), TransferOptions::default());
    assert_eq!(pull.wait().await.unwrap_err().code, "not-found", "that it may know");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_is_denied_leaves_nothing_behind() {
    let pair = Pair::new().await;
    let home = pair.onprem.home.clone();
    std::fs::create_dir_all(home.policy_dir()).unwrap();
    let shut = "@id(\"shut\")\nforbid (principal, action, resource);\n";
    std::fs::write(home.policy_file(), shut).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    let source = pair.path("source");
    write(&source.join("x"), b"unwanted");
    let options = TransferOptions::default();
    let push = engine(&pair.cloud.home).push(vec![source], remote("onprem", "a"), options);
    assert_eq!(push.wait().await.expect_err("denied there").code, "denied");
    assert!(!pair.onprem.root.join(".portway/staging").exists(), "not even a place to stage it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_that_is_found_on_the_way_is_kept_at_the_other_end() {
    let pair = Pair::new().await;
    let home = neighbour(&pair).await;
    let source = pair.path("source");
    write(&source.join("plain"), b"public");
    write(&source.join("deep/down"), b"secret");
    label(&source.join("deep/down"), "restricted");
    // Inside a site the labels below the source are not read before it begins.
    push(&home, &source, "kept", false).await;
    label(&source.join("plain"), "confidential");
    push(&home, &source.join("plain"), "one", false).await;
    let node = engine(&pair.onprem.home);
    let class = |path: &str| node.class_of(&pair.onprem.root.join(path)).unwrap().to_string();
    assert_eq!(class("kept/deep/down"), "restricted");
    assert_eq!(class("kept"), "restricted", "what is mixed has the highest class");
    assert_eq!(class("one"), "confidential");
    let pull = engine(&pair.cloud.home).pull(
        remote("onprem", "kept/deep"),
        pair.path("got"),
        TransferOptions::default(),
    );
    assert_eq!(pull.wait().await.expect_err("it may not leave").code, "denied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_site_is_told_of_its_own_transfers_only() {
    let pair = Pair::new().await;
    let home = scene(&pair).await;
    let source = pair.path("theirs");
    write(&source.join("x"), &noise(3, 1000));
    push(&pair.cloud.home, &source, "theirs", false).await;
    let onprem = NodeAddress::Address(pair.onprem.address);
    let paths = async |home: &Home| -> Vec<String> {
        let status = engine(home).status(Some(onprem.clone())).await.expect("answered");
        status.recent.into_iter().map(|(snapshot, _)| snapshot.path).collect()
    };
    assert_eq!(paths(&pair.cloud.home).await, ["theirs"]);
    let all = paths(&home).await;
    assert!(all.len() == 3 && all.iter().any(|path| path == "sets/secret"), "{all:?}");
}
