//! Sources that change, vanish, cannot be read, or are many.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use portway::api::Exit;
use portway::base::RelPath;
use portway::protocol::ReadJob;
use portway::runtime::source::{Around, SourceFiles, SourceRoot};
use portway::storage::{OsTree, Tree};

use crate::common::{Pair, engine, fingerprint, noise, remote, write};

/// A whole file of one generation: every block says which.
fn generation(number: u64, blocks: usize) -> Vec<u8> {
    number.to_le_bytes().repeat(512).repeat(blocks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_a_file_that_is_replaced_all_the_time_arrives_as_one_version_or_fails_alone() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    write(&source.join("calm"), &noise(1, 100_000));
    write(&source.join("wild"), &generation(0, 2000));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (source, stop) = (pair.path("source"), Arc::clone(&stop));
        let aside = pair.path("aside");
        thread::spawn(move || {
            for number in 1.. {
                if stop.load(Relaxed) {
                    return;
                }
                // Lengths differ too, so a mix could also show as a wrong end.
                fs::write(&aside, generation(number, 1500 + (number % 7) as usize * 100)).unwrap();
                fs::rename(&aside, source.join("wild")).unwrap();
            }
        })
    };
    let mut whole = 0;
    for round in 0..3 {
        let outcome = pair.push(&source, &format!("run{round}")).await.expect("a push");
        let arrived = pair.cloud.root.join(format!("run{round}"));
        assert_eq!(fs::read(arrived.join("calm")).unwrap(), noise(1, 100_000));
        match fs::read(arrived.join("wild")) {
            Ok(bytes) => {
                whole += 1;
                assert!(outcome.failed.is_empty(), "{outcome:?}");
                let mut number = [0; 8];
                number.copy_from_slice(&bytes[..8]);
                let number = u64::from_le_bytes(number);
                let blocks = if number == 0 { 2000 } else { 1500 + (number % 7) as usize * 100 };
                assert!(bytes == generation(number, blocks), "a mix of versions in run {round}");
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::NotFound);
                assert_eq!(outcome.failed.len(), 1, "{outcome:?}");
                assert_eq!((outcome.failed[0].0.as_str(), outcome.files), ("wild", 1));
            }
        }
    }
    stop.store(true, Relaxed);
    writer.join().unwrap();
    eprintln!("{whole} of 3 pushes caught a version");
    let outcome = pair.push(&source, "run0").await.expect("a push when it is calm again");
    assert!(outcome.failed.is_empty());
    assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join("run0")));
}

#[test]
fn f11_a_change_right_after_the_file_was_made_is_noticed_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    for round in 0..20 {
        // Made, scanned, half read, changed in place: within one tick of the kernel's clock.
        fs::write(&path, vec![1; 4 << 20]).unwrap();
        let tree: Arc<dyn Tree> = Arc::new(OsTree::open(dir.path()).unwrap());
        let root = SourceRoot {
            tree,
            path: RelPath::root(),
            place: RelPath::root(),
            around: Around::default(),
        };
        let files = SourceFiles::new(vec![root]);
        let entry = files.scan(10).unwrap().entries.pop().unwrap();
        let mut lease = vec![0; 2 << 20];
        let first = files.read(0, &ReadJob::Next(1, 0, entry.clone()), &mut lease);
        assert!(first.changed.is_empty() && first.more.is_some(), "round {round}: {first:?}");
        File::options().write(true).open(&path).unwrap().write_all_at(&[2; 9], 3 << 20).unwrap();
        let noticed = (1..10).any(|run| {
            let next = files.read(run, &ReadJob::Next(1, 0, entry.clone()), &mut lease);
            assert!(next.ends.is_empty(), "round {round}: a mix passed for the file");
            !next.changed.is_empty()
        });
        assert!(noticed, "round {round}");
    }
}

/// Pushes; removes or replaces something as soon as the first file is being moved.
async fn push_and(
    pair: &Pair,
    source: &Path,
    meddle: impl FnOnce(),
) -> Result<portway::api::Outcome, portway::api::Error> {
    let engine = engine(&pair.onprem.home);
    let options = Default::default();
    let transfer = engine.push(vec![source.to_owned()], remote("cloud", "run"), options);
    let began = Instant::now();
    while transfer.progress().bytes_sent == 0 && began.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    meddle();
    transfer.wait().await
}

/// A large file that is read first, then small ones, further from the front than any read ahead.
fn long_way(source: &Path) {
    write(&source.join("a-first"), &noise(1, 8 << 20));
    for i in 0..50 {
        write(&source.join(format!("z{i:02}")), &noise(100 + i, 3 << 20));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f12_f7_f8_what_vanishes_or_turns_unreadable_fails_alone_and_the_rest_is_published() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    long_way(&source);
    let outcome = push_and(&pair, &source, || {
        fs::remove_file(source.join("z49")).unwrap();
        fs::remove_file(source.join("z48")).unwrap();
        fs::create_dir(source.join("z48")).unwrap();
        fs::remove_file(source.join("z47")).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, source.join("z47"), fifo, mode, 0).unwrap();
        fs::remove_file(source.join("z46")).unwrap();
        std::os::unix::fs::symlink("z46", source.join("z46")).unwrap();
    })
    .await
    .expect("a partial push");
    let mut failed: Vec<_> = outcome.failed.iter().map(|(path, _)| path.as_str()).collect();
    failed.sort_unstable();
    assert_eq!(failed, ["z46", "z47", "z48", "z49"], "{:?}", outcome.failed);
    assert_eq!(outcome.files, 47);
    assert_eq!(
        outcome.bytes_total,
        outcome.bytes_sent + outcome.bytes_deduplicated + outcome.bytes_resumed
    );
    let arrived = pair.cloud.root.join("run");
    assert_eq!(fs::read_dir(&arrived).unwrap().count(), 47);
    for name in ["a-first", "z00", "z45"] {
        assert!(fs::read(source.join(name)).unwrap() == fs::read(arrived.join(name)).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f12_a_push_whose_every_file_vanished_publishes_nothing() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    write(&source.join("only"), &noise(1, 144 << 20));
    // It is open and goes on being readable; but it is no longer what was announced.
    let ended = push_and(&pair, &source, || fs::remove_file(source.join("only")).unwrap()).await;
    match ended {
        Err(error) => assert_eq!(error.exit, Exit::Failed, "{error:?}"),
        Ok(outcome) => panic!("{outcome:?}"),
    }
    assert!(!pair.cloud.root.join("run").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f39_20_000_small_files_cross_and_a_second_push_moves_nothing() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    for i in 0..20_000_u64 {
        let path = source.join(format!("{:03}/{i:05}", i / 100));
        write(&path, &i.to_le_bytes().repeat(8));
    }
    let first = pair.push(&source, "many").await.expect("a push");
    assert_eq!((first.files, first.bytes_total), (20_000, 20_000 * 64));
    assert!(first.failed.is_empty() && first.skipped_total == 0);
    assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join("many")));
    let second = pair.push(&source, "many").await.expect("a second push");
    assert_eq!((second.bytes_sent, second.root), (0, first.root));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f40_a_file_as_long_as_the_file_system_takes_crosses_by_its_holes() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    fs::create_dir_all(&source).unwrap();
    let file = File::create(source.join("vast")).unwrap();
    // 15 TiB: below the 16 TiB of ext4, above 2^32 pages of 4 KiB less one.
    let len = 15_u64 << 40;
    if let Err(error) = file.set_len(len) {
        return eprintln!("1 skipped: no file of 15 TiB can be made here: {error}");
    }
    file.write_all_at(b"end", len - 3).unwrap();
    file.sync_all().unwrap();
    let outcome = pair.push(&source, "vast").await.expect("a push");
    assert_eq!((outcome.bytes_total, outcome.files), (len, 1));
    assert!(outcome.bytes_sent <= 4096, "{outcome:?}");
    let arrived = File::open(pair.cloud.root.join("vast/vast")).unwrap();
    assert_eq!(arrived.metadata().unwrap().len(), len);
    let mut end = [0; 3];
    arrived.read_exact_at(&mut end, len - 3).unwrap();
    assert_eq!(&end, b"end");
}
