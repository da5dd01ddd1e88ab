//! Jobs of one machine that share a store: one copy on disk, in as many places as they want.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its scene fails")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Pair, engine, noise, remote, write};
use portway::api::{Copies, Engine, Error, StageOptions, StageProgress};
use rustix::fs::{XattrFlags, getxattr, removexattr, setxattr};

const LABEL: &str = "user.portway.class";
const BYTES: usize = 2_000_000;
const NAMES: [&str; 4] = ["s0", "s1", "deep/s2", "s3"];

/// Two nodes, one of which has the shards, an engine of the other, and where a store may be.
async fn scene() -> (Pair, Engine, PathBuf) {
    let pair = Pair::new().await;
    for (n, name) in (0..).zip(NAMES) {
        write(&pair.cloud.root.join("tokens").join(name), &noise(n, BYTES));
    }
    let (node, store) = (engine(&pair.onprem.home), pair.path("store"));
    (pair, node, store)
}

fn options(store: &Path, copies: Copies) -> StageOptions {
    let order = Some(NAMES.map(str::to_owned).to_vec());
    StageOptions { order, store: Some(store.to_owned()), copies, ..StageOptions::default() }
}

async fn stage(
    node: &Engine,
    target: &Path,
    store: &Path,
    copies: Copies,
) -> Result<StageProgress, Error> {
    let stage =
        node.stage(remote("cloud", "tokens"), target.to_owned(), options(store, copies)).await?;
    let first = stage.path("s0").await?;
    assert_eq!(first, target.canonicalize().unwrap().join("s0"), "where the job asked for it");
    stage.wait().await
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn check(dir: &Path) {
    for (n, name) in (0..).zip(NAMES) {
        assert!(fs::read(dir.join(name)).unwrap() == noise(n, BYTES), "{name}");
    }
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["deep", "s0", "s1", "s3"], "nothing else is left there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_with_one_store_have_hard_links_of_one_file() {
    let (pair, node, store) = scene().await;
    let (one, two) = (pair.path("job-1/data"), pair.path("job-2"));
    let begin = |target| stage(&node, target, &store, Copies::HardLink);
    let (first, second) = tokio::join!(begin(&one), begin(&two));
    let (first, second) = (first.expect("staged"), second.expect("staged"));
    assert_eq!(first.bytes_sent + second.bytes_sent, (NAMES.len() * BYTES) as u64);
    for dir in [&one, &two] {
        check(dir);
        for name in NAMES {
            assert_eq!(inode(&dir.join(name)), inode(&store.join(name)), "{name}");
        }
    }

    // Links that come and go change the time that tells of changes; nothing comes again for that.
    fs::remove_dir_all(&one).unwrap();
    let inodes = NAMES.map(|name| inode(&store.join(name)));
    let three = pair.path("job-3");
    let third = begin(&three).await.expect("staged");
    assert_eq!((third.files_done, third.bytes_sent), (4, 0));
    assert_eq!(inodes, NAMES.map(|name| inode(&store.join(name))), "the same files as before");
    check(&three);
    let again = begin(&three).await.expect("staged");
    assert_eq!((again.files_done, again.bytes_sent), (4, 0));

    // A new version reaches those who stage it, and nobody else.
    write(&pair.cloud.root.join("tokens/s0"), &noise(9, BYTES));
    let newer = begin(&three).await.expect("staged");
    assert_eq!(newer.bytes_sent, BYTES as u64);
    assert!(fs::read(three.join("s0")).unwrap() == noise(9, BYTES));
    check(&two);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_job_writes_to_its_link_reaches_no_other_job_that_comes_later() {
    let (pair, node, store) = scene().await;
    let (one, two) = (pair.path("job-1"), pair.path("job-2"));
    stage(&node, &one, &store, Copies::HardLink).await.expect("staged");
    let meta = fs::metadata(one.join("s1")).unwrap();
    fs::write(one.join("s1"), vec![0; BYTES]).unwrap();
    // Even where the times are set back.
    let file = fs::File::options().write(true).open(one.join("s1")).unwrap();
    file.set_modified(meta.modified().unwrap()).unwrap();
    let second = stage(&node, &two, &store, Copies::HardLink).await.expect("staged");
    assert_eq!(second.bytes_sent, BYTES as u64, "that file comes anew");
    check(&two);
    assert_ne!(inode(&one.join("s1")), inode(&store.join("s1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_can_have_no_copies_is_refused_before_anything_moves() {
    let (pair, node, store) = scene().await;
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let here = fs::metadata(pair.path("")).unwrap().dev();
    if fs::metadata(elsewhere.path()).unwrap().dev() == here {
        eprintln!("1 skipped: no other file system to try");
    } else {
        let refused = stage(&node, elsewhere.path(), &store, Copies::HardLink).await;
        assert_eq!(refused.expect_err("another file system").code, "other-filesystem");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
    // tmpfs has no clones.
    let (store, target) = (elsewhere.path().join("store"), elsewhere.path().join("job"));
    let refused = stage(&node, &target, &store, Copies::Reflink).await.expect_err("no clones");
    assert_eq!(refused.code, "no-reflink");
    for dir in [&store, &target] {
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0, "{}", dir.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_has_the_class_of_the_original_or_is_refused() {
    let (pair, node, store) = scene().await;
    let source = pair.cloud.root.join("tokens/s0");
    setxattr(source, LABEL, b"internal", XattrFlags::empty()).expect("a label");
    stage(&node, &pair.path("job-1"), &store, Copies::HardLink).await.expect("staged");
    let mut read = [0; 64];
    let len = getxattr(pair.path("job-1/s0"), LABEL, &mut read[..]);
    assert_eq!(&read[..len.expect("a label")], b"internal");
    removexattr(store.join("s0"), LABEL).expect("removed");
    let refused = stage(&node, &pair.path("job-2"), &store, Copies::HardLink).await;
    assert_eq!(refused.expect_err("it would lose its class").code, "no-label");
    assert!(!pair.path("job-2/s0").exists());
}

/// Runs this test again in a mount namespace of its own, with an XFS there. Tells `None` if this is
/// that run's outside, or if there can be none.
fn on_xfs(test: &str) -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("PORTWAY_XFS_DIR") {
        return Some(dir.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let (image, top) = (dir.path().join("image"), dir.path().join("top"));
    fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
    fs::create_dir(&top).unwrap();
    let script = r#"mkfs.xfs -q "$1" && mount -o loop "$1" "$2" || exit 77
        exec "$3" "$4" --exact --nocapture"#;
    let made = Command::new("mkfs.xfs").arg("-V").output();
    let root = rustix::process::geteuid().is_root();
    if !(root && made.is_ok_and(|made| made.status.success())) {
        eprintln!("1 skipped: no XFS can be made here (as root, with xfsprogs)");
        return None;
    }
    let ran = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([&image, &top])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env("PORTWAY_XFS_DIR", &top)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    if ran.status.code() == Some(77) {
        eprintln!("1 skipped: no XFS can be mounted here");
        return None;
    }
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && told.contains(" 1 passed"), "on XFS: {told}{errors}");
    None
}

#[test]
fn jobs_with_one_store_have_clones_that_share_their_blocks() {
    let Some(dir) = on_xfs("jobs_with_one_store_have_clones_that_share_their_blocks") else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (_pair, node, _) = scene().await;
        let store = dir.join("store");
        let free = || rustix::fs::statvfs(&dir).map(|it| it.f_bfree * it.f_frsize).unwrap();
        stage(&node, &dir.join("job-1"), &store, Copies::Reflink).await.expect("staged");
        let before = free();
        for n in 2..6 {
            let job = dir.join(format!("job-{n}"));
            let done = stage(&node, &job, &store, Copies::Reflink).await.expect("staged");
            assert_eq!((done.files_done, done.bytes_sent), (4, 0));
            check(&job);
            assert_ne!(inode(&job.join("s0")), inode(&store.join("s0")), "a file of its own");
        }
        let taken = before.saturating_sub(free());
        assert!(taken < BYTES as u64, "{taken} bytes for four more jobs of {} each", 4 * BYTES);
        fs::write(dir.join("job-2/s0"), b"mine").unwrap();
        check(&dir.join("job-3"));
        check(&dir.join("store").join("."));
    });
}
