//! Roots that are full, read-only, linked elsewhere, or whose records are damaged.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use portway::api::{Exit, ServeOptions, TransferOptions};

use crate::common::{Pair, engine, fingerprint, noise, remote, write};

/// Longest that a stopped node's files may stay open.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

/// A file system in memory, unmounted when dropped; `None`, said aloud, where mounting is not
/// permitted.
struct Mount(PathBuf);

impl Mount {
    fn new(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let done = run("mount", &["-t", "tmpfs", "-o", options, "portway-test"], at);
        if !done {
            eprintln!("1 skipped: a tmpfs cannot be mounted here");
            return None;
        }
        Some(Self(at.to_owned()))
    }

    /// Mounts it again with other options. A node that was told to stop may hold files open for a
    /// moment longer, by threads that were about to drop them: it is tried until they are closed.
    fn remount(&self, options: &str) {
        let began = Instant::now();
        while !run("mount", &["-o", &format!("remount,{options}")], &self.0) {
            let open = open_below(&self.0);
            assert!(began.elapsed() < CLOSED_WITHIN, "remount,{options}: still open: {open:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &["-l"], &self.0);
    }
}

/// What this process has open below a directory.
fn open_below(dir: &Path) -> Vec<PathBuf> {
    let own = fs::read_dir("/proc/self/fd").unwrap();
    let names = own.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    names.filter(|name| name.starts_with(dir)).collect()
}

fn run(program: &str, args: &[&str], at: &Path) -> bool {
    let output = Command::new(program).args(args).arg(at).output();
    output.is_ok_and(|output| output.status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f9_a_full_disk_interrupts_and_the_push_goes_on_when_there_is_room() {
    let mut pair = Pair::new().await;
    pair.cloud.stop().await;
    let root = pair.path("small");
    let Some(mount) = Mount::new(&root, "size=32m") else { return };
    pair.cloud.root = root;
    pair.restart_cloud(|_| {}).await;
    let source = pair.path("source");
    for i in 0..6 {
        write(&source.join(format!("f{i}")), &noise(i, 10 << 20));
    }
    let error = pair.push(&source, "run").await.expect_err("a full disk");
    assert_eq!((error.code, error.exit), ("no-space", Exit::Interrupted), "{error:?}");
    assert!(!error.hint.is_empty());
    assert!(!pair.cloud.root.join("run").exists());
    let again = pair.push(&source, "run").await.expect_err("it is still full");
    assert_eq!((again.code, again.exit), ("no-space", Exit::Interrupted), "{again:?}");

    mount.remount("size=256m");
    let outcome = pair.push(&source, "run").await.expect("there is room now");
    assert!(outcome.bytes_resumed > 0, "what had arrived was kept: {outcome:?}");
    assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join("run")));
    pair.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f10_a_read_only_root_is_refused_before_it_serves_and_when_it_turns_so() {
    let mut pair = Pair::new().await;
    pair.cloud.stop().await;
    let root = pair.path("turning");
    let Some(mount) = Mount::new(&root, "size=64m") else { return };
    pair.cloud.root = root.clone();
    pair.restart_cloud(|_| {}).await;
    let source = pair.path("source");
    write(&source.join("f"), &noise(1, 1 << 20));
    pair.push(&source, "before").await.expect("a push");
    // Files that are open for writing hold a remount up, so the node stops first.
    pair.cloud.stop().await;
    mount.remount("ro");
    let options =
        ServeOptions { root: root.clone(), listen: ([127, 0, 0, 1], 0).into(), admin: None };
    match engine(&pair.cloud.home).serve(options).await {
        Err(error) => assert_eq!((error.code, error.exit), ("root", Exit::Failed), "{error:?}"),
        Ok(_) => panic!("a read-only root cannot take a push"),
    }
    assert_eq!(fingerprint(&source), fingerprint(&root.join("before")));
    mount.remount("rw");
    pair.restart_cloud(|_| {}).await;
    pair.push(&source, "after").await.expect("it can be written again");
    pair.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f10_f35_a_target_that_is_a_link_or_lies_below_one_never_leads_outside() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    write(&source.join("f"), &noise(1, 100_000));
    let outside = pair.path("outside");
    write(&outside.join("kept"), b"kept");
    let before = fingerprint(&outside);
    let root = &pair.cloud.root;
    symlink(&outside, root.join("link")).unwrap();
    fs::create_dir(root.join("tree")).unwrap();
    symlink(&outside, root.join("tree/sub")).unwrap();
    write(&source.join("sub/f"), &noise(2, 1000));

    let below = pair.push(&source, "link/run").await.expect_err("a path below a link");
    assert_ne!(below.exit, Exit::Done);
    assert_eq!(fingerprint(&outside), before);
    // A link in the place of the target, or of a directory in it, is replaced or refused; what it
    // points to is not touched either way.
    for (path, link) in [("link", "link"), ("tree", "tree/sub")] {
        match pair.push(&source, path).await {
            Ok(_) => assert_eq!(fingerprint(&source), fingerprint(&root.join(path))),
            Err(error) => {
                assert!(!error.message.is_empty());
                assert!(fs::symlink_metadata(root.join(link)).unwrap().is_symlink());
            }
        }
        assert_eq!(fingerprint(&outside), before);
    }
    pair.push(&source, "plain").await.expect("the node still serves");
}

/// Damage to one of Portway's own files.
fn damage(path: &Path, how: &str) {
    let Ok(mut bytes) = fs::read(path) else { return };
    match how {
        "deleted" => return fs::remove_file(path).unwrap(),
        "emptied" => bytes.clear(),
        "cut" => bytes.truncate(bytes.len() / 2),
        "flipped" => {
            for at in (0..bytes.len()).step_by((bytes.len() / 40).max(1)) {
                bytes[at] ^= 0x40;
            }
        }
        "noise" => bytes = noise(1, bytes.len()),
        other => panic!("{other}"),
    }
    fs::write(path, bytes).unwrap();
}

const HOW: [&str; 5] = ["deleted", "emptied", "cut", "flipped", "noise"];

fn files_below(dir: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_below(&entry.path(), name));
        } else if entry.file_name().to_string_lossy().starts_with(name) {
            found.push(entry.path());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f30_a_damaged_index_or_manifest_costs_time_and_never_correctness() {
    let mut pair = Pair::new().await;
    let source = pair.path("source");
    for i in 0..30 {
        write(&source.join(format!("f{i}")), &noise(i, 50_000));
    }
    pair.push(&source, "run").await.expect("a push");
    let older = pair.path("older.redb");
    fs::copy(pair.cloud.root.join(".portway/index.redb"), &older).unwrap();
    for (round, how) in HOW.into_iter().chain(["older"]).enumerate() {
        write(&source.join("f0"), &noise(1000 + round as u64, 50_000));
        pair.restart_cloud(|root| {
            let index = root.join(".portway/index.redb");
            if how == "older" {
                fs::copy(&older, &index).unwrap();
                return;
            }
            damage(&index, how);
            for manifest in files_below(&root.join(".portway/manifests"), "") {
                damage(&manifest, how);
            }
        })
        .await;
        let outcome = pair.push(&source, "run").await.unwrap_or_else(|e| panic!("{how}: {e:?}"));
        assert!(outcome.verified && outcome.failed.is_empty(), "{how}: {outcome:?}");
        assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join("run")), "{how}");
        let elsewhere = pair.push(&source, &format!("copy-{how}")).await.expect(how);
        assert!(elsewhere.failed.is_empty());
        let copy = pair.cloud.root.join(format!("copy-{how}"));
        assert_eq!(fingerprint(&source), fingerprint(&copy), "{how}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f30_a_damaged_journal_or_staged_file_is_never_believed() {
    let mut pair = Pair::new().await;
    let source = pair.path("source");
    write(&source.join("a"), &noise(1, 3 << 20));
    write(&source.join("b"), &noise(2, 48 << 20));
    for (round, how) in HOW.into_iter().chain(["content", "foreign"]).enumerate() {
        let target = format!("run-{how}");
        // Different content each time, or it would be found in the earlier targets.
        write(&source.join("b"), &noise(100 + round as u64, 48 << 20));
        let engine = engine(&pair.onprem.home);
        let to = remote("cloud", &target);
        let transfer = engine.push(vec![source.clone()], to, Default::default());
        while transfer.progress().bytes_sent < 8 << 20 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        transfer.interrupt();
        transfer.wait().await.expect_err("interrupted");
        pair.restart_cloud(|root| {
            let staging = root.join(".portway/staging");
            let journals = files_below(&staging, "journal");
            assert!(!journals.is_empty(), "the push left a journal");
            match how {
                "content" => {
                    for name in ["a", "b"] {
                        files_below(&staging, name).iter().for_each(|path| damage(path, "flipped"));
                    }
                }
                "foreign" => fs::write(&journals[0], b"another program's file").unwrap(),
                how => journals.iter().for_each(|journal| damage(journal, how)),
            }
        })
        .await;
        let outcome = pair.push(&source, &target).await.unwrap_or_else(|e| panic!("{how}: {e:?}"));
        assert!(outcome.verified && outcome.failed.is_empty(), "{how}: {outcome:?}");
        let arrived = pair.cloud.root.join(&target);
        assert_eq!(fingerprint(&source), fingerprint(&arrived), "{how}");
        fs::remove_dir_all(arrived).unwrap();
    }
}

/// Does to a published file what a disk does that says all is well: its times stay as they were.
fn misplace(path: &Path, how: &str, older: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let (here, there) = (1 << 20..(1 << 20) + 65_536, 3 << 20..(3 << 20) + 65_536);
    match how {
        "rotten" => bytes[here.start] ^= 1,
        "lost" => bytes[here].fill(0),
        "stale" => bytes[here.clone()].copy_from_slice(&older[here]),
        "misdirected" => bytes.copy_within(here, there.start),
        "swapped" => {
            let (low, high) = bytes.split_at_mut(there.start);
            low[here].swap_with_slice(&mut high[..65_536]);
        }
        other => panic!("{other}"),
    }
    // In place: a new file would be another inode.
    let file = fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    file.set_modified(modified).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_f16_verify_finds_what_a_disk_lost_or_misplaced_and_a_push_mends_it() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    let (older, newer) = (noise(1, 5 << 20), noise(2, 5 << 20));
    write(&source.join("calm"), &noise(3, 300_000));
    write(&source.join("large"), &older);
    pair.push(&source, "run").await.expect("the older version");
    write(&source.join("large"), &newer);
    pair.push(&source, "run").await.expect("the newer version");
    let asking = engine(&pair.onprem.home);
    let verify = || asking.verify_remote(remote("cloud", "run"));
    let arrived = pair.cloud.root.join("run");
    for (round, how) in ["rotten", "lost", "stale", "misdirected", "swapped"].iter().enumerate() {
        let report = verify().await.expect("a report");
        assert_eq!((report.files, report.bad_total), (2, 0), "before {how}: {report:?}");
        misplace(&arrived.join("large"), how, &older);
        let report = verify().await.expect("a report");
        assert_eq!(report.bad_total, 1, "{how}: {report:?}");
        assert_eq!(report.bad[0].0, "run/large", "{how}: {report:?}");
        assert!(report.bad[0].1.starts_with("differs in the"), "{how}: {report:?}");

        // What differs is found by its digest, and so never copied to another place either.
        let copy = format!("copy{round}");
        let copied = pair.push(&source, &copy).await.expect("a push to another path");
        assert!(copied.verified && copied.failed.is_empty(), "{how}: {copied:?}");
        assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join(&copy)), "{how}");
        fs::remove_dir_all(pair.cloud.root.join(&copy)).unwrap();

        let options = TransferOptions { checksum: true, ..TransferOptions::default() };
        let mended = pair.push_with(&source, "run", options).await.expect("a push that mends");
        assert!(mended.bytes_sent > 0 && mended.bytes_sent < 2 << 20, "{how}: {mended:?}");
        assert_eq!(fingerprint(&source), fingerprint(&arrived), "{how}");
    }
}
