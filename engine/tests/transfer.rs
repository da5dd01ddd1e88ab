//! Whole transfers between two real nodes over QUIC on loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its scene fails")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::{Pair, engine, fingerprint, noise, remote, write};
use portway::api::{Compress, TransferOptions};
use portway::base::Rate;

fn tree(pair: &Pair) -> std::path::PathBuf {
    let top = pair.path("source");
    write(&top.join("model/weights.bin"), &noise(1, 9_000_000));
    write(&top.join("model/copy.bin"), &noise(1, 9_000_000));
    write(&top.join("empty"), b"");
    for i in 0..300 {
        write(&top.join(format!("shards/s{i:03}.jsonl")), &noise(100 + i, 3000 + i as usize));
    }
    fs::create_dir_all(top.join("hollow/inner")).unwrap();
    std::os::unix::fs::symlink("model/weights.bin", top.join("latest")).unwrap();
    fs::set_permissions(top.join("empty"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(top.join("hollow"), fs::Permissions::from_mode(0o750)).unwrap();
    top
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_arrives_as_it_is_and_a_second_push_moves_nothing() {
    let pair = Pair::new().await;
    let source = tree(&pair);
    let first = pair.push(&source, "run1/ckpt").await.expect("the first push");
    assert!(first.verified && first.failed.is_empty(), "{first:?}");
    assert_eq!(first.files, 303);
    assert_eq!(
        first.bytes_total,
        first.bytes_sent + first.bytes_deduplicated + first.bytes_resumed
    );
    assert!(first.bytes_wire >= first.bytes_sent, "{first:?}");
    assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join("run1/ckpt")));

    let second = pair.push(&source, "run1/ckpt").await.expect("the second push");
    assert_eq!((second.bytes_sent, second.root.as_str()), (0, first.root.as_str()));
    assert_eq!(second.bytes_deduplicated, first.bytes_total);

    let elsewhere = pair.push(&source, "run2/ckpt").await.expect("a push to another path");
    assert_eq!(elsewhere.bytes_sent, 0, "every chunk is there under another name");
    assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join("run2/ckpt")));

    let back = pair.path("back");
    let pulled = pair.pull("run1/ckpt", &back).await.expect("a pull");
    assert_eq!(pulled.root, first.root);
    assert_eq!(fingerprint(&source), fingerprint(&back));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_in_one_another_are_verified_by_what_came_last() {
    let pair = Pair::new().await;
    let (source, ours) = (pair.path("m"), engine(&pair.onprem.home));
    write(&source.join("x/a"), &noise(1, 90_000));
    write(&source.join("z"), &noise(2, 90_000));
    pair.push(&source.join("x"), "m/x").await.expect("the inner one");
    write(&source.join("x/a"), &noise(3, 91_000));
    let outer = pair.push(&source, "m").await.expect("the outer one");
    let verify = |at| ours.verify_remote(remote("cloud", at));
    for at in ["m/x", "m", "m/x/a"] {
        let report = verify(at).await.expect("it is described");
        assert_eq!((report.bad.as_slice(), &report.root), (&[][..], &outer.root), "{at}");
    }

    write(&source.join("x/a"), &noise(4, 92_000));
    write(&source.join("x/new"), &noise(5, 10_000));
    let inner = pair.push(&source.join("x"), "m/x").await.expect("the inner one again");
    let report = verify("m/x").await.expect("it is described");
    assert_eq!((report.bad_total, report.files, &report.root), (0, 2, &inner.root));
    let report = verify("m").await.expect("it is described");
    assert_eq!((report.bad_total, report.files, &report.root), (0, 3, &outer.root));

    fs::write(pair.cloud.root.join("m/x/new"), noise(6, 10_000)).unwrap();
    let report = verify("m").await.expect("it is described");
    assert_eq!((report.bad_total, report.bad[0].0.as_str()), (1, "m/x/new"));
}

/// How much of a file the page cache holds is learnt from reads that may not wait for the medium.
fn cached_share(at: &std::path::Path) -> f64 {
    use rustix::io::{IoSliceMut, ReadWriteFlags, preadv2};
    let file = fs::File::open(at).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
    let offsets: Vec<u64> = (0..file.metadata().unwrap().len()).step_by(50_000).collect();
    let hits = offsets.iter().filter(|&&offset| {
        let mut byte = [0];
        preadv2(&file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT).is_ok()
    });
    hits.count() as f64 / offsets.len() as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_direct_writes_receives_around_the_page_cache() {
    let mut pair = Pair::new().await;
    let config = pair.cloud.home.config_file();
    let before = fs::read_to_string(&config).unwrap_or_default();
    let source = tree(&pair);
    for (name, direct, seed) in [("cached", false, 5), ("direct", true, 6)] {
        write(&source.join("large.bin"), &noise(seed, 20_000_003));
        fs::write(&config, format!("{before}\n[storage]\ndirect = {direct}\n")).unwrap();
        pair.restart_cloud(|_| {}).await;
        pair.push(&source, name).await.expect("a push");
        let target = pair.cloud.root.join(name);
        if rustix::fs::statfs(&target).unwrap().f_type == 0xEF53 {
            // What is cut at odd places shares its first and last block.
            let share = cached_share(&target.join("large.bin"));
            assert!(if direct { share < 0.2 } else { share > 0.8 }, "{name}: {share}");
        } else {
            eprintln!("1 skipped: {} is not on ext4", target.display());
        }
        assert_eq!(fingerprint(&source), fingerprint(&target));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_is_made_smaller_when_asked_for_unless_an_end_forbids_it() {
    let mut pair = Pair::new().await;
    let text: Vec<u8> = (0..900_000_u32).flat_map(|n| format!("{n} ").into_bytes()).collect();
    let (source, mut number) = (pair.path("source"), 0);
    let config = pair.cloud.home.config_file();
    let before = fs::read_to_string(&config).unwrap_or_default();
    for forbidden in [false, true] {
        if forbidden {
            fs::write(&config, format!("{before}\n[transfer]\ncompress = \"never\"\n")).unwrap();
            pair.restart_cloud(|_| {}).await;
        }
        for compress in [Compress::Never, Compress::Always] {
            let options = TransferOptions { compress: Some(compress), ..Default::default() };
            // Every time other content, which nobody has yet.
            number += 1;
            let fresh: Vec<u8> = text.iter().map(|byte| byte ^ number).collect();
            write(&source.join("text"), &fresh);
            let smaller = compress == Compress::Always && !forbidden;
            let name = format!("run{number}");
            let pushed = pair.push_with(&source, &name, options.clone()).await.expect("a push");
            assert_eq!(pushed.bytes_sent, text.len() as u64, "{name}");
            assert_eq!(pushed.bytes_wire < pushed.bytes_sent / 2, smaller, "{pushed:?}");
            assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join(&name)));

            let (back, node) = (pair.path(&format!("back{number}/x")), engine(&pair.onprem.home));
            fs::create_dir_all(back.parent().unwrap()).unwrap();
            let pulled = node.pull(remote("cloud", &name), back.clone(), options).wait().await;
            let pulled = pulled.expect("a pull");
            assert_eq!(pulled.bytes_wire < pulled.bytes_sent / 2, smaller, "{pulled:?}");
            assert_eq!(fingerprint(&source), fingerprint(&back));
        }
    }
}

/// Seconds that a push of `bytes` of noise takes, which comes under the name `name`.
async fn timed(pair: &Pair, name: &str, bytes: usize, limit: Option<Rate>) -> f64 {
    let source = pair.path(name);
    write(&source.join("noise"), &noise(bytes as u64 + name.len() as u64, bytes));
    let options = TransferOptions { limit, ..Default::default() };
    let outcome = pair.push_with(&source, name, options).await.expect("a push");
    assert_eq!(outcome.bytes_sent, bytes as u64);
    outcome.elapsed_s
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_whoever_asks_for_it_and_only_then() {
    let pair = Pair::new().await;
    // 6 MB at 40 Mb/s take 1.2 s; without a limit, some hundredths.
    let (bytes, limit) = (6_000_000, Rate::from_mbps(40));
    let least = bytes as f64 * 8.0 / 40e6;
    let slow = timed(&pair, "pushed", bytes, limit).await;
    assert!(slow > least, "{slow} s");

    // A pull asks the other end to hold back.
    let (back, node) = (pair.path("back"), engine(&pair.onprem.home));
    fs::create_dir_all(&back).unwrap();
    let options = TransferOptions { limit, ..Default::default() };
    let pulled = node.pull(remote("cloud", "pushed"), back.join("x"), options).wait().await;
    let slow = pulled.expect("a pull").elapsed_s;
    assert!(slow > least, "{slow} s");

    // A link's limit holds for two pushes together, to two parts in a hundred of a second's bytes: four
    // times the bytes of one take longer still.
    let link = "[sites.dc]\ntier = \"private\"\n[sites.aws]\ntier = \"public\"\n\
                [links.wan]\nsites = [\"dc\", \"aws\"]\nrate_mbps = 100000\nlimit_mbps = 80\n";
    let file = pair.onprem.home.config_file();
    fs::write(&file, fs::read_to_string(&file).unwrap() + link).unwrap();
    let both = tokio::join!(
        timed(&pair, "one", 2 * bytes, None),
        timed(&pair, "other-one", 2 * bytes, None)
    );
    assert!(both.0.max(both.1) > 2.0 * least - 0.02, "{both:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_gets_another_limit_while_a_transfer_runs() {
    let pair = Pair::new().await;
    let link = "[sites.dc]\ntier = \"private\"\n[sites.aws]\ntier = \"public\"\n\
                [links.wan]\nsites = [\"dc\", \"aws\"]\nrate_mbps = 100000\nlimit_mbps = 1\n";
    let file = pair.onprem.home.config_file();
    fs::write(&file, fs::read_to_string(&file).unwrap() + link).unwrap();
    let home = pair.onprem.home.clone();
    let lifted = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        portway::config::set_limit(&home, "wan", None).unwrap();
    });
    // 8 MB at 1 Mb/s would take a minute.
    let took = timed(&pair, "freed", 8_000_000, None).await;
    lifted.await.unwrap();
    assert!((0.3..30.0).contains(&took), "{took} s");
}
