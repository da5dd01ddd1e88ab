//! Links that take the place of directories while files are placed, and read, below them.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};

use rustix::fs::{RenameFlags, renameat_with};

use crate::common::{Pair, fingerprint, noise, write};

const ROUNDS: u64 = 12;

/// A thread that swaps the directory `d` in a tree with the link `x` beside it, which leads
/// outside, again and again.
struct Flipper {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Flipper {
    fn start(top: &Path, outside: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (top, outside, seen) = (top.to_owned(), outside.to_owned(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut flips = 0;
            while !seen.load(Relaxed) {
                flips += u64::from(flip(&top, &outside));
                // Pauses of many lengths, or the two would fall into step.
                for _ in 0..flips * 7919 % 20_000 {
                    std::hint::spin_loop();
                }
            }
            flips
        });
        Self { stop, thread }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap()
    }
}

fn flip(top: &Path, outside: &Path) -> bool {
    let (d, x) = (top.join("d"), top.join("x"));
    if !d.is_symlink() && !x.is_symlink() {
        // What was placed here took the link's place.
        let _ = fs::remove_dir_all(&x);
        let _ = symlink(outside, &x);
    } else if fs::symlink_metadata(&x).is_err() {
        let _ = fs::create_dir(&x);
    }
    let Ok(dir) = File::open(top) else { return false };
    renameat_with(&dir, "d", &dir, "x", RenameFlags::EXCHANGE).is_ok()
}

/// What must neither change nor travel: the same names as in the tree, with a secret in each.
fn outside(pair: &Pair) -> PathBuf {
    let outside = pair.path("outside");
    for i in 0..8 {
        write(&outside.join(format!("f{i}")), &noise(999, 20_000));
        write(&outside.join(format!("sub/f{i}")), &noise(999, 20_000));
    }
    outside
}

fn version(top: &Path, round: u64) {
    for i in 0..8 {
        write(&top.join(format!("d/f{i}")), &noise(round * 100 + i, 20_000));
        write(&top.join(format!("d/sub/f{i}")), &noise(round * 100 + 50 + i, 20_000));
    }
}

fn holds_the_secret(top: &Path) -> bool {
    let secret = portway::base::Digest::of(&noise(999, 20_000)).to_string();
    top.exists() && fingerprint(top).iter().any(|line| line.contains(&secret))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f35_a_link_that_races_a_push_or_a_pull_never_leads_outside() {
    let pair = Pair::new().await;
    let outside = outside(&pair);
    let untouched = fingerprint(&outside);
    let (source, pushed) = (pair.path("source"), pair.cloud.root.join("run"));
    let (served, pulled) = (pair.cloud.root.join("served"), pair.path("pulled/run"));
    version(&source, 0);
    version(&served, 0);
    pair.push(&source, "run").await.expect("a calm push");
    pair.pull("served", &pulled).await.expect("a calm pull");

    let flippers = [&pushed, &pulled].map(|top| Flipper::start(top, &outside));
    let mut done = 0;
    for round in 1..=ROUNDS {
        version(&source, round);
        version(&served, round);
        done += u64::from(pair.push(&source, "run").await.is_ok());
        done += u64::from(pair.pull("served", &pulled).await.is_ok());
        assert_eq!(fingerprint(&outside), untouched, "round {round}");
    }
    let flips: u64 = flippers.map(Flipper::stop).into_iter().sum();
    assert!(flips > 2 * ROUNDS, "only {flips} flips");
    assert_eq!(fingerprint(&outside), untouched);
    eprintln!("{done} of {} transfers ended well, {flips} flips", 2 * ROUNDS);
    for top in [&pushed, &pulled] {
        fs::remove_dir_all(top).unwrap();
    }
    pair.push(&source, "run").await.expect("a push after the race");
    pair.pull("served", &pulled).await.expect("a pull after the race");
    assert_eq!(fingerprint(&source), fingerprint(&pushed));
    assert_eq!(fingerprint(&served), fingerprint(&pulled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f35_a_link_that_races_a_source_shows_nothing_from_outside() {
    let pair = Pair::new().await;
    let outside = outside(&pair);
    let (source, served) = (pair.path("source"), pair.cloud.root.join("served"));
    version(&source, 0);
    version(&served, 0);
    let flippers = [&source, &served].map(|top| Flipper::start(top, &outside));
    for round in 1..=ROUNDS {
        let _ = pair.push(&source, &format!("run{round}")).await;
        let _ = pair.pull("served", &pair.path(&format!("pulled/run{round}"))).await;
        assert!(!holds_the_secret(&pair.cloud.root.join(format!("run{round}"))), "push {round}");
        assert!(!holds_the_secret(&pair.path(&format!("pulled/run{round}"))), "pull {round}");
    }
    let flips: u64 = flippers.map(Flipper::stop).into_iter().sum();
    assert!(flips > 2 * ROUNDS, "only {flips} flips");
}
