//! Peers that stop and come back, and writers that meet at one target.

use std::fs;
use std::time::{Duration, Instant};

use portway::api::Exit;

use crate::common::{Pair, engine, fingerprint, noise, raw, remote, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_a_node_that_stops_in_mid_transfer_and_comes_back_is_found_again() {
    let mut pair = Pair::new().await;
    let source = pair.path("source");
    for i in 0..4 {
        write(&source.join(format!("part{i}")), &noise(i, 32 << 20));
    }
    let total = 4 * (32_u64 << 20);
    let engine = engine(&pair.onprem.home);
    let transfer = engine.push(vec![source.clone()], remote("cloud", "run"), Default::default());
    for stops in 1..=2_u64 {
        let began = Instant::now();
        let before = transfer.progress().bytes_done();
        while transfer.progress().bytes_done() < before + (4 << 20) {
            assert!(began.elapsed() < Duration::from_mins(1), "{:?}", transfer.progress());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        pair.restart_cloud(|root| {
            assert!(!root.join("run").exists(), "nothing partial is visible");
        })
        .await;
        while transfer.progress().reconnects < stops {
            assert!(began.elapsed() < Duration::from_mins(1), "{:?}", transfer.progress());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let outcome = transfer.wait().await.expect("the same transfer ends well");
    assert_eq!(outcome.bytes_total, total);
    assert_eq!(outcome.bytes_sent + outcome.bytes_deduplicated + outcome.bytes_resumed, total);
    assert!(outcome.bytes_resumed > 0, "{outcome:?}");
    assert!(outcome.bytes_wire < total + 2 * (64 << 20) + total / 10, "{outcome:?}");
    assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join("run")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f2_an_interrupted_push_goes_on_with_the_next_command() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    write(&source.join("large"), &noise(5, 64 << 20));
    let first = engine(&pair.onprem.home);
    let transfer = first.push(vec![source.clone()], remote("cloud", "run"), Default::default());
    while transfer.progress().bytes_sent < 10 << 20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    transfer.interrupt();
    let error = transfer.wait().await.expect_err("an interrupted transfer");
    assert_eq!((error.code, error.exit), ("interrupted", Exit::Interrupted));
    assert!(!pair.cloud.root.join("run").exists());
    let outcome = pair.push(&source, "run").await.expect("the same command again");
    assert!(outcome.bytes_resumed > 0, "{outcome:?}");
    assert_eq!(outcome.bytes_total, outcome.bytes_sent + outcome.bytes_resumed);
    assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join("run")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f29_two_writers_one_wins_and_the_other_gets_conflict() {
    let pair = Pair::new().await;
    let edge = pair.third("edge").await;
    let source = pair.path("source");
    write(&source.join("f"), &noise(1, 1000));
    let holder = raw::opened(&pair.onprem.home, pair.cloud.address, "shared").await;
    let push = |home| {
        let target = remote("cloud", "shared");
        engine(home).push(vec![source.clone()], target, Default::default()).wait()
    };
    let error = push(&edge).await.expect_err("a conflict");
    assert_eq!((error.code, error.exit), ("conflict", Exit::Failed), "{error:?}");
    assert!(error.message.contains("onprem"), "it says who: {error:?}");
    assert!(!pair.cloud.root.join("shared").exists());

    // The same identity takes over: its older session may just not know that it is dead.
    let outcome = push(&pair.onprem.home).await.expect("a push that takes over");
    assert_eq!(outcome.files, 1);
    let how = raw::ending(&holder).await;
    assert!(how.starts_with("conflict") && how.contains("took over"), "{how}");
    assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join("shared")));

    // The same root again, by another node: nothing to do, and a success.
    let again = push(&edge).await.expect("the path is free");
    assert_eq!((again.root, again.bytes_sent), (outcome.root, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f29_a_race_of_two_writers_never_mixes_their_snapshots() {
    let pair = Pair::new().await;
    let edge = pair.third("edge").await;
    let (one, other) = (pair.path("one"), pair.path("other"));
    for i in 0..20 {
        write(&one.join(format!("f{i}")), &noise(i, 300_000));
        write(&other.join(format!("f{i}")), &noise(1000 + i, 300_000));
    }
    for round in 0..5 {
        let path = format!("race{round}");
        let push = |home, source: &std::path::Path| {
            let target = remote("cloud", &path);
            engine(home).push(vec![source.to_owned()], target, Default::default()).wait()
        };
        let (a, b) = tokio::join!(push(&pair.onprem.home, &one), push(&edge, &other));
        assert!(a.is_ok() || b.is_ok(), "{a:?} {b:?}");
        for lost in [&a, &b].into_iter().filter_map(|ended| ended.as_ref().err()) {
            assert_eq!(lost.code, "conflict", "{lost:?}");
        }
        let arrived = fingerprint(&pair.cloud.root.join(&path));
        assert!(
            (a.is_ok() && arrived == fingerprint(&one))
                || (b.is_ok() && arrived == fingerprint(&other)),
            "round {round}: the target is neither snapshot"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f29_many_takeovers_by_one_identity_end_with_one_snapshot() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    write(&source.join("f"), &noise(3, 4 << 20));
    // Each push cancels the one before it, unless that one has published already.
    let pushes: Vec<_> = (0..6)
        .map(|i| {
            // A home of its own for each, since one home does not push twice to one path.
            let home = pair.path(&format!("copy{i}"));
            copy_dir(pair.onprem.home.config_dir(), &home);
            let home = portway::config::Home::at(home);
            let target = remote("cloud", "taken");
            engine(&home).push(vec![source.clone()], target, Default::default())
        })
        .collect();
    let mut done = 0;
    for push in pushes {
        match push.wait().await {
            Ok(_) => done += 1,
            Err(error) => assert!(error.message.contains("took over"), "{error:?}"),
        }
    }
    assert!(done >= 1);
    assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join("taken")));
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
