//! What training jobs use, between two real nodes: the examples, checkpoints and staging.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its scene fails")]

mod common;
#[path = "../examples/push.rs"]
mod push;
#[path = "../examples/resume.rs"]
mod resume;
#[path = "../examples/stage.rs"]
mod stage;

use std::fs;
use std::time::{Duration, Instant};

use common::{Node, Pair, engine, fingerprint, noise, remote, write};
use portway::api::{Advice, Engine, Keep, Parts, StageOptions, TransferOptions};
use portway::base::{NodeName, Priority, SiteName, Tier};
use portway::config::{Endpoint, Home, add_node};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_push_and_resume_checkpoints() {
    let pair = Pair::new().await;
    let engine = Engine::at_home(Some(pair.onprem.home.config_dir())).expect("an engine");
    let back = pair.path("back");
    fs::create_dir(&back).unwrap();
    fs::create_dir(pair.cloud.root.join("runs")).unwrap();
    assert!(resume::resume(&engine, "cloud:runs", &back).await.expect("asked").is_none());
    let step = |n: u64| pair.path(&format!("step-{n}"));
    for n in [9, 10] {
        write(&step(n).join("model"), &noise(n, 3_000_000));
        let target = format!("cloud:runs/step-{n}");
        let outcome = push::push(&engine, step(n), &target).await.expect("a push");
        assert_eq!(outcome.bytes_total, 3_000_000);
    }
    let found = resume::resume(&engine, "cloud:runs", &back).await.expect("a pull");
    let (newest, local) = found.expect("there are two");
    assert_eq!((newest.step, newest.files, newest.bytes), (Some(10), 1, 3_000_000));
    assert_eq!(fingerprint(&local), fingerprint(&step(10)));
    let none = engine.latest(&remote("cloud", "runs"), Some(&newest)).await.expect("asked");
    assert_eq!(none, None, "there is nothing newer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_keeps_what_it_was_told_and_what_others_pushed() {
    let pair = Pair::new().await;
    let third = engine(&pair.third("edge").await);
    write(&pair.path("ckpt/model"), &noise(1, 100_000));
    let push = async |engine: &Engine, path: &str, keep| {
        let options = TransferOptions { keep, ..TransferOptions::default() };
        let sources = vec![pair.path("ckpt")];
        engine.push(sources, remote("cloud", path), options).wait().await.expect("a push")
    };
    let ours = engine(&pair.onprem.home);
    for n in 1..=3 {
        push(&ours, &format!("runs/step-{n}"), None).await;
    }
    push(&third, "runs/edge-1", None).await;
    let keep = Some(Keep { last: 1, every: Some(2) });
    let removed = push(&ours, "runs/step-5", keep).await.removed;
    assert_eq!(removed, ["step-3", "step-1"]);
    let mut left: Vec<_> = fs::read_dir(pair.cloud.root.join("runs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["edge-1", "step-2", "step-5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_push_publishes_nothing_if_an_object_cannot_be_read() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    write(&source.join("good"), b"good");
    let restless = source.join("restless");
    write(&restless, &noise(1, 8_000_000));
    let options = TransferOptions { whole: true, ..TransferOptions::default() };
    let node = engine(&pair.onprem.home);
    let transfer = node.push(vec![source.clone()], remote("cloud", "x"), options.clone());
    let mut ended = Box::pin(transfer.wait());
    let error = loop {
        tokio::select! {
            result = &mut ended => break result.expect_err("it changes all the time"),
            () = tokio::time::sleep(Duration::from_micros(100)) => {
                use std::io::Write;
                let mut file = fs::File::options().append(true).open(&restless).unwrap();
                file.write_all(b"more").unwrap();
            }
        }
    };
    assert_eq!((error.code, error.advice()), ("incomplete", Advice::Resume));
    assert!(error.message.contains("restless"), "{error}");
    assert!(!pair.cloud.root.join("x").exists());
    let again = pair.push_with(&source, "x", options).await.expect("it is quiet now");
    assert_eq!((again.files, again.failed.len()), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_of_several_nodes_appears_with_its_last_part() {
    let pair = Pair::new().await;
    let (ours, theirs) = (engine(&pair.onprem.home), engine(&pair.third("edge").await));
    let part = |n: u64| pair.path(&format!("rank-{n}"));
    for n in 0..4 {
        write(&part(n).join("model"), &noise(n, 3_000_000));
    }
    let begin = |engine: &Engine, n: u64| {
        let parts = Parts::new(4, "first").ok();
        let options = TransferOptions { parts, ..TransferOptions::default() };
        engine.push(vec![part(n)], remote("cloud", &format!("runs/step-7/rank-{n}")), options)
    };
    let [first, second] = [begin(&ours, 0), begin(&theirs, 1)];
    let (first, second) = tokio::join!(first.wait(), second.wait());
    assert_eq!([first.expect("a part").files, second.expect("a part").files], [1, 1]);
    let broken = begin(&ours, 2);
    broken.interrupt();
    assert_eq!(broken.wait().await.expect_err("it was stopped").advice(), Advice::Resume);
    begin(&theirs, 3).wait().await.expect("a part");
    assert!(!pair.cloud.root.join("runs").exists(), "nobody sees three of four");
    let error = ours.latest(&remote("cloud", "runs"), None).await.expect_err("there is none");
    assert_eq!(error.code, "not-found");
    begin(&ours, 2).wait().await.expect("the last part");
    let found =
        ours.latest(&remote("cloud", "runs"), None).await.expect("asked").expect("it is there");
    assert_eq!((found.step, found.files, found.bytes), (Some(7), 4, 12_000_000));
    for n in 0..4 {
        let there = pair.cloud.root.join(format!("runs/step-7/rank-{n}"));
        assert_eq!(fingerprint(&there), fingerprint(&part(n)), "{n}");
    }
    let verified = ours.verify_remote(found.remote.clone()).await.expect("it is published");
    assert_eq!((verified.files, &verified.root), (4, &found.root));
    // The writer whose answer was lost asks again: its part waits for others, and nothing changes.
    begin(&ours, 2).wait().await.expect("a part");
    let again =
        ours.latest(&remote("cloud", "runs"), None).await.expect("asked").expect("it is there");
    assert_eq!(again.root, verified.root);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_parts_that_end_at_the_same_moment_one_is_the_last() {
    let pair = Pair::new().await;
    let ours = engine(&pair.onprem.home);
    for round in 0..8 {
        let begin = |n: u64| {
            write(&pair.path(&format!("p-{n}")), &noise(n, 20_000));
            let options =
                TransferOptions { parts: Parts::new(6, "").ok(), ..TransferOptions::default() };
            let target = remote("cloud", &format!("runs/step-{round}/p-{n}"));
            ours.push(vec![pair.path(&format!("p-{n}"))], target, options)
        };
        let all: Vec<_> = (0..6).map(begin).collect();
        for transfer in all {
            transfer.wait().await.expect("a part");
        }
        let found = ours.latest(&remote("cloud", "runs"), None).await.expect("asked").expect("one");
        assert_eq!((found.step, found.files), (Some(round), 6));
    }
}

fn shards(pair: &Pair, count: u64) -> Vec<String> {
    let name = |n| format!("deep/shard-{n}");
    for n in 0..count {
        write(&pair.cloud.root.join("tokens").join(name(n)), &noise(n, 2_000_000));
    }
    (0..count).map(name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_arrive_in_order_and_one_that_is_needed_overtakes() {
    let pair = Pair::new().await;
    let mut names = shards(&pair, 24);
    names.reverse();
    let (node, target) = (engine(&pair.onprem.home), pair.path("nvme/tokens"));
    let options =
        StageOptions { order: Some(names.clone()), at_once: 1, ..StageOptions::default() };
    let stage =
        node.stage(remote("cloud", "tokens"), target.clone(), options).await.expect("begun");
    let needed = stage.path("deep/shard-0").await.expect("the last in the order");
    assert_eq!(fs::read(&needed).unwrap(), noise(0, 2_000_000));
    assert!(stage.progress().files_done < 24, "it overtook: {:?}", stage.progress());
    let done = stage.wait().await.expect("all of it");
    assert_eq!((done.files_done, done.bytes_sent), (24, 48_000_000));
    let at = |name: &String| fs::metadata(target.join(name)).unwrap();
    let ctime = |name| {
        std::os::unix::fs::MetadataExt::ctime_nsec(&at(name))
            + 1_000_000_000 * std::os::unix::fs::MetadataExt::ctime(&at(name))
    };
    let times: Vec<i64> = names[..23].iter().map(ctime).collect();
    assert!(times.is_sorted(), "in the order given: {times:?}");

    let none = stage.path("deep/shard-99").await.expect_err("there is none");
    assert_eq!(none.code, "not-found");
    assert_eq!(stage.path("../x").await.expect_err("outside").advice(), Advice::Reconfigure);
    let again = stage::count(&node, "cloud:tokens", &target, names).await.expect("a second job");
    assert_eq!(again, 48_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_jobs_stage_one_directory_and_each_byte_moves_once() {
    let pair = Pair::new().await;
    let names = shards(&pair, 12);
    let (node, target) = (engine(&pair.onprem.home), pair.path("tokens"));
    let begin = || {
        let options = StageOptions { order: Some(names.clone()), ..StageOptions::default() };
        node.stage(remote("cloud", "tokens"), target.clone(), options)
    };
    let (one, two) = tokio::try_join!(begin(), begin()).expect("begun");
    let (one, two) = tokio::try_join!(one.wait(), two.wait()).expect("staged");
    assert_eq!(one.bytes_sent + two.bytes_sent, 24_000_000);
    assert_eq!((one.files_done, two.files_done), (12, 12));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_order_the_files_come_by_name_and_closing_stops_them() {
    let pair = Pair::new().await;
    for n in 0..3 {
        write(&pair.cloud.root.join(format!("flat/s{n}")), &noise(n, 100_000));
    }
    let node = engine(&pair.onprem.home);
    let all = |target| node.stage(remote("cloud", "flat"), target, StageOptions::default());
    let stage = all(pair.path("a")).await.expect("begun");
    assert_eq!(stage.wait().await.expect("staged").files_done, 3);

    let stage = all(pair.path("b")).await.expect("begun");
    let begun = Instant::now();
    stage.close().await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(stage.path("s2").await.expect_err("it is closed").code, "interrupted");
    let missing = node.stage(remote("cloud", "none"), pair.path("c"), StageOptions::default());
    assert_eq!(missing.await.err().expect("there is none").code, "not-found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_of_a_file_are_read_and_verified() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    let content = noise(1, 30_000_000);
    write(&source.join("model"), &content);
    write(&source.join("empty"), b"");
    pair.push(&source, "x").await.expect("a push");
    let node = engine(&pair.onprem.home);
    let file = node.open_file(remote("cloud", "x/model"), true).await.expect("open");
    assert_eq!((file.len(), file.is_verified()), (30_000_000, true));
    let ranges = [(29_999_990, 100), (5, 10), (0, 0), (7, 20_000_000), (40_000_000, 1)];
    let read = file.read(&ranges).await.expect("read");
    let expected = |(at, len): (usize, usize)| {
        content[at.min(content.len())..(at + len).min(content.len())].to_vec()
    };
    for (range, read) in ranges.iter().zip(&read) {
        assert_eq!(*read, expected((range.0 as usize, range.1 as usize)), "{range:?}");
    }
    let fetched = file.bytes_fetched();
    assert!(fetched < 20_000_000 + 3 * (2 << 20), "each chunk once: {fetched}");

    // The session ends when nobody asks for long, or the node comes back; reading goes on.
    file.close().await;
    assert_eq!(file.read(&[(3, 4)]).await.expect("read")[0], expected((3, 4)));
    let empty = node.open_file(remote("cloud", "x/empty"), true).await.expect("open");
    assert!(empty.is_empty() && empty.read(&[(0, 10)]).await.expect("read")[0].is_empty());

    let at = pair.cloud.root.join("x/model");
    let mut rotten = content.clone();
    rotten[10_000_000] ^= 1;
    fs::write(&at, &rotten).unwrap();
    let error = file.read(&[(0, 1)]).await.expect_err("it was written");
    assert_eq!((error.code, error.advice()), ("changed", Advice::Retry));
    let file = node.open_file(remote("cloud", "x/model"), true).await.expect("open");
    let error = file.read(&[(10_000_000, 1)]).await.expect_err("it is not what was published");
    assert_eq!(error.code, "wrong-content");

    write(&pair.cloud.root.join("plain"), &content[..5_000_000]);
    let plain = || remote("cloud", "plain");
    let error = node.open_file(plain(), true).await.err().expect("nobody published it");
    assert_eq!(error.code, "no-manifest");
    let file = node.open_file(plain(), false).await.expect("open");
    assert!(!file.is_verified());
    assert_eq!(
        file.read(&[(4_000_000, 2_000_000)]).await.expect("read")[0],
        content[4_000_000..5_000_000]
    );
    assert_eq!(file.bytes_fetched(), 1_000_000, "no chunks are known, so nothing more");
    let error = node.open_file(remote("cloud", "x"), false).await.err().expect("a directory");
    assert_eq!(error.code, "not-a-file");
}

/// What a node sent in transfers of its own, by its own books.
async fn given(home: &portway::config::Home) -> u64 {
    let status = engine(home).status(None).await.expect("a status");
    let ended = status.recent.iter().map(|(transfer, _)| transfer);
    ended.filter(|it| it.action == "pull").map(|it| it.bytes_sent).sum()
}

/// A second node of `onprem`'s site, which serves, knows the others and is known.
async fn neighbour(pair: &Pair, name: &str) -> Node {
    let home = Home::at(pair.path(&format!("home-{name}")));
    let (node, site): (NodeName, SiteName) = (name.parse().unwrap(), "dc".parse().unwrap());
    let inviter = engine(&pair.onprem.home);
    let token = inviter.invite(node.clone(), site, Tier::Private).await.expect("a token");
    Engine::join(&home, &common::config(&home), &token).await.expect("joined");
    fs::write(
        home.config_file(),
        format!(
            "[border]\ndefault_class = \"public\"\n{}",
            fs::read_to_string(home.config_file()).unwrap_or_default()
        ),
    )
    .unwrap();
    let cloud = Endpoint::Address(pair.cloud.address);
    add_node(&home, &"cloud".parse().unwrap(), &[cloud]).unwrap();
    let root = pair.path(&format!("root-{name}"));
    let served = Node::serve(&home, &root, ([127, 0, 0, 1], 0).into()).await;
    add_node(&pair.onprem.home, &node, &[Endpoint::Address(served.address)]).unwrap();
    served
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_of_a_site_fetch_each_byte_once_from_another_site() {
    let pair = Pair::new().await;
    let mut other = neighbour(&pair, "rack2").await;
    let names = shards(&pair, 12);
    let options = || StageOptions { order: Some(names.clone()), ..StageOptions::default() };
    let (one, two) = (engine(&pair.onprem.home), engine(&other.home));
    let at = |root: &std::path::Path| root.join("staged");
    let (here, there) = (at(&pair.onprem.root), at(&other.root));
    let (first, second) = tokio::try_join!(
        one.stage(remote("cloud", "tokens"), here.clone(), options()),
        two.stage(remote("cloud", "tokens"), there.clone(), options()),
    )
    .expect("begun");
    let (first, second) = tokio::try_join!(first.wait(), second.wait()).expect("staged");
    for name in &names {
        assert_eq!(fs::read(here.join(name)).unwrap(), fs::read(there.join(name)).unwrap());
    }
    let from_site = first.bytes_from_site + second.bytes_from_site;
    assert_eq!(first.bytes_sent + second.bytes_sent, 48_000_000, "{first:?} {second:?}");
    assert_eq!(from_site, 24_000_000, "each file came once from a neighbour");
    assert_eq!(given(&pair.cloud.home).await, 24_000_000, "the source gave each byte once");

    // A third job comes later, finds a neighbour that is gone, and one copy that was changed.
    other.stop().await;
    let changed = here.join(&names[3]);
    fs::write(&changed, noise(99, 2_000_000)).unwrap();
    let third = neighbour(&pair, "rack3").await;
    let node = engine(&third.home);
    let staged = third.root.join("staged");
    let late =
        node.stage(remote("cloud", "tokens"), staged.clone(), options()).await.expect("begun");
    let done = late.wait().await.expect("staged");
    assert_eq!((done.files_done, done.bytes_total), (12, 24_000_000));
    for (n, name) in names.iter().enumerate() {
        assert_eq!(fs::read(staged.join(name)).unwrap(), noise(n as u64, 2_000_000), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_cannot_be_in_time_is_refused_at_once() {
    let pair = Pair::new().await;
    let names = shards(&pair, 2);
    let link = "[sites.dc]\ntier = \"private\"\n[sites.aws]\ntier = \"public\"\n\
                [links.wan]\nsites = [\"dc\", \"aws\"]\nrate_mbps = 8\n";
    let file = pair.onprem.home.config_file();
    let text = fs::read_to_string(&file).unwrap() + link;
    fs::write(&file, text).unwrap();
    let node = engine(&pair.onprem.home);
    let soon = |s: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Some(i64::try_from(now.as_secs() + s).unwrap())
    };
    let pull = |deadline, target: &str| {
        let options = TransferOptions { deadline, ..TransferOptions::default() };
        node.pull(remote("cloud", "tokens"), pair.path(target), options).wait()
    };
    // 4 MB at 8 Mb/s take 4 s.
    let late = pull(soon(2), "late").await.expect_err("it takes longer");
    assert_eq!((late.code, late.advice()), ("deadline", Advice::Reconfigure));
    assert!(!pair.path("late").exists());
    let stage = |deadline, target: &str| {
        let transfer = TransferOptions { deadline, ..TransferOptions::default() };
        let options =
            StageOptions { order: Some(names.clone()), transfer, ..StageOptions::default() };
        node.stage(remote("cloud", "tokens"), pair.path(target), options)
    };
    assert_eq!(stage(soon(2), "staged").await.err().expect("late, too").code, "deadline");
    let staged = stage(soon(600), "staged").await.expect("in time").wait().await.expect("there");
    assert_eq!(staged.bytes_sent, 4_000_000);
    stage(soon(2), "staged").await.expect("what is here does not count");
    pull(soon(600), "in-time").await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_moves_as_others_do_when_nobody_else_does() {
    let pair = Pair::new().await;
    write(&pair.path("src/a"), &noise(1, 3_000_000));
    for priority in Priority::ALL {
        let options = TransferOptions { priority: *priority, ..TransferOptions::default() };
        let name = format!("by-{priority}");
        let pushed =
            pair.push_with(&pair.path("src"), &name, options.clone()).await.expect("pushed");
        assert_eq!(pushed.bytes_total, 3_000_000);
        let back = pair.path(&name);
        let node = engine(&pair.onprem.home);
        node.pull(remote("cloud", &name), back.clone(), options).wait().await.expect("pulled");
        assert_eq!(fs::read(back.join("a")).unwrap(), noise(1, 3_000_000));
    }
}
