//! Trees as they are: holes, names, kinds, modes, times, links; compared with `rsync -a`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::items_after_statements,
    clippy::default_trait_access,
    clippy::needless_for_each,
    reason = "a test that cannot set up its scene fails, and reads top down"
)]

mod common;

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use common::{Pair, fingerprint, noise, write};
use portway::api::Outcome;
use rustix::fs::{CWD, FileType, Mode, mknodat};

fn set_mtime(path: &Path, secs: u64, nanos: u32) {
    let time = UNIX_EPOCH + Duration::new(secs, nanos);
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

/// Everything that was published adds up.
fn whole(outcome: &Outcome) {
    assert!(outcome.verified && outcome.failed.is_empty(), "{outcome:?}");
    let Outcome { bytes_total, bytes_sent, bytes_deduplicated, bytes_resumed, .. } = outcome;
    assert_eq!(*bytes_total, bytes_sent + bytes_deduplicated + bytes_resumed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f41_holes_stay_holes_at_the_ends_and_in_a_file_of_1_tib() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    fs::create_dir_all(&source).unwrap();
    let sparse = |name: &str, len: u64, data: &[(u64, usize)]| {
        let file = File::create(source.join(name)).unwrap();
        file.set_len(len).unwrap();
        for &(at, bytes) in data {
            file.write_all_at(&noise(at + 1, bytes), at).unwrap();
        }
        file.sync_all().unwrap();
    };
    const MIB: u64 = 1 << 20;
    sparse("hole-first", 8 * MIB, &[(7 * MIB, 1 << 20)]);
    sparse("hole-last", 8 * MIB, &[(0, 70_000)]);
    sparse("only-a-hole", 64 * MIB + 3, &[]);
    sparse("both", 32 * MIB + 5, &[(4 * MIB, 300_000), (20 * MIB, 3_000_000)]);
    sparse("tib", MIB << 20, &[(0, 4096), (MIB << 19, 1 << 20), ((MIB << 20) - 4096, 4096)]);

    let first = pair.push(&source, "sparse").await.expect("a push");
    whole(&first);
    assert!(first.bytes_sent < 8 * MIB, "holes are not sent: {first:?}");
    let target = pair.cloud.root.join("sparse");
    for name in ["hole-first", "hole-last", "only-a-hole", "both", "tib"] {
        let (from, to) = (source.join(name), target.join(name));
        assert_eq!(from.metadata().unwrap().len(), to.metadata().unwrap().len(), "{name}");
        let (was, is) = (allocated(&from), allocated(&to));
        assert!(is <= was + was / 100 + 4096, "{name}: {is} bytes allocated, the source has {was}");
        if name != "tib" {
            assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap(), "{name}");
        }
    }
    for at in [0, MIB << 19, (MIB << 20) - 4096] {
        let (mut was, mut is) = ([0; 4096], [1; 4096]);
        File::open(source.join("tib")).unwrap().read_exact_at(&mut was, at).unwrap();
        File::open(target.join("tib")).unwrap().read_exact_at(&mut is, at).unwrap();
        assert_eq!(was, is, "at {at}");
    }

    // A hole punched where data was is a hole at the target too, after the next push.
    let both = File::options().write(true).open(source.join("both")).unwrap();
    both.set_len(0).unwrap();
    both.set_len(32 * MIB + 5).unwrap();
    both.write_all_at(&noise(9, 300_000), 30 * MIB).unwrap();
    both.sync_all().unwrap();
    whole(&pair.push(&source, "sparse").await.expect("a second push"));
    assert!(fs::read(source.join("both")).unwrap() == fs::read(target.join("both")).unwrap());
    assert!(allocated(&target.join("both")) <= allocated(&source.join("both")) + 4096);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f42_any_name_that_a_file_system_takes_arrives_byte_for_byte() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    let long = vec![b'n'; 255];
    let names: [&[u8]; 14] = [
        b"\xff\xfe not utf-8 \x80",
        &long,
        b"new\nline",
        b"esc\x1b[31mred",
        b"-rf",
        b"--delete",
        b"trailing space ",
        b"trailing dot.",
        b" ",
        b"back\\slash",
        b"...",
        "rtl\u{202e}gpj.exe".as_bytes(),
        "caf\u{e9}".as_bytes(),
        "cafe\u{301}".as_bytes(),
    ];
    for (i, name) in names.iter().enumerate() {
        let name = OsStr::from_bytes(name);
        write(&source.join("files").join(name), &noise(i as u64, 100 + i));
        write(&source.join("dirs").join(name).join(name), &noise(50 + i as u64, 100));
    }
    let outcome = pair.push(&source, "names").await.expect("a push");
    whole(&outcome);
    assert_eq!(outcome.files, 2 * names.len() as u64);
    assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join("names")));
    let back = pair.path("back");
    whole(&pair.pull("names", &back).await.expect("a pull"));
    assert_eq!(fingerprint(&source), fingerprint(&back));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f43_what_is_no_file_is_left_out_with_a_reason_and_counted() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    write(&source.join("file"), b"content");
    let make = |name: &str, kind| mknodat(CWD, source.join(name), kind, Mode::RUSR, 0);
    make("fifo", FileType::Fifo).unwrap();
    let _socket = UnixListener::bind(source.join("socket")).unwrap();
    let mut left_out = vec!["fifo", "socket"];
    match make("device", FileType::CharacterDevice) {
        Ok(()) => left_out.push("device"),
        Err(error) => eprintln!("1 skipped: no device node can be made here: {error}"),
    }
    symlink("/etc/passwd", source.join("absolute")).unwrap();
    symlink("../outside", source.join("leaves")).unwrap();
    left_out.extend(["absolute", "leaves"]);

    let outcome = pair.push(&source, "special").await.expect("a push");
    whole(&outcome);
    assert_eq!((outcome.files, outcome.skipped_total), (1, left_out.len() as u64));
    for name in &left_out {
        let reason = outcome.skipped.iter().find(|(path, _)| path == name);
        assert!(reason.is_some_and(|(_, why)| !why.is_empty()), "{name}: {outcome:?}");
        assert!(fs::symlink_metadata(pair.cloud.root.join("special").join(name)).is_err());
    }
    assert_eq!(fs::read_dir(pair.cloud.root.join("special")).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f43_a_fifo_as_the_source_itself_does_not_block() {
    let pair = Pair::new().await;
    let fifo = pair.path("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let push = pair.push(&fifo, "fifo");
    let ended = tokio::time::timeout(Duration::from_secs(20), push).await.expect("an end");
    if let Ok(outcome) = ended {
        assert_eq!((outcome.files, outcome.skipped_total), (0, 1));
    }
    assert!(fs::symlink_metadata(pair.cloud.root.join("fifo")).is_err());
}

/// Modes, times, links and empty things; nothing in it that Portway leaves out.
fn furnished(source: &Path) {
    for (i, bits) in [0o600, 0o644, 0o755, 0o400, 0o000, 0o777].into_iter().enumerate() {
        let path = source.join(format!("modes/{bits:o}"));
        write(&path, &noise(i as u64, 1000));
        set_mtime(&path, 1_600_000_000 + i as u64, 123_456_789);
        mode(&path, bits);
    }
    write(&source.join("empty"), b"");
    fs::create_dir_all(source.join("hollow/deeper/still")).unwrap();
    write(&source.join("linked/one"), &noise(77, 50_000));
    fs::hard_link(source.join("linked/one"), source.join("linked/two")).unwrap();
    symlink("one", source.join("linked/beside")).unwrap();
    symlink("../modes/644", source.join("linked/up-and-down")).unwrap();
    symlink("nowhere", source.join("linked/dangling")).unwrap();
    symlink("linked", source.join("to-a-directory")).unwrap();
    set_mtime(&source.join("empty"), 0, 1);
    set_mtime(&source.join("linked/one"), 2_000_000_000, 999_999_999);
    mode(&source.join("hollow/deeper"), 0o700);
    mode(&source.join("modes"), 0o555);
    for (i, dir) in ["hollow/deeper/still", "hollow/deeper", "hollow", "linked", "modes", "."]
        .into_iter()
        .enumerate()
    {
        set_mtime(&source.join(dir), 1_500_000_000 + i as u64, 7 + i as u32);
    }
}

fn without_link_times(lines: Vec<String>) -> Vec<String> {
    let timeless = |line: String| match line.split_once(" link ") {
        Some((head, text)) => {
            let name = head.rsplit_once(' ').map_or(head, |(name, _time)| name);
            format!("{name} link {text}")
        }
        None => line,
    };
    lines.into_iter().map(timeless).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f44_modes_times_and_links_agree_with_rsync() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    furnished(&source);
    let outcome = pair.push(&source, "meta").await.expect("a push");
    whole(&outcome);
    assert_eq!(outcome.skipped_total, 0, "{outcome:?}");
    let ours = fingerprint(&pair.cloud.root.join("meta"));
    assert_eq!(fingerprint(&source), ours);
    let inode = |name| pair.cloud.root.join("meta/linked").join(name).metadata().unwrap().ino();
    assert_ne!(inode("one"), inode("two"), "hard links arrive as files");

    let theirs = pair.path("rsynced");
    let slashed = source.join("");
    match Command::new("rsync").arg("-a").arg(&slashed).arg(theirs.join("")).status() {
        Ok(status) => {
            assert!(status.success());
            // Times of links were compared with the source above: not every rsync sets them.
            assert_eq!(without_link_times(fingerprint(&theirs)), without_link_times(ours));
            let mut diff = Command::new("diff");
            diff.args(["-r", "--no-dereference"]).arg(&source).arg(pair.cloud.root.join("meta"));
            assert!(diff.status().unwrap().success());
        }
        Err(error) => eprintln!("1 skipped: no comparison with rsync: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f44_changed_modes_and_times_alone_cross_with_the_next_push() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    furnished(&source);
    pair.push(&source, "meta").await.expect("a push");
    mode(&source.join("modes/644"), 0o640);
    set_mtime(&source.join("modes/755"), 1_000_000_000, 1);
    mode(&source.join("hollow"), 0o711);
    fs::remove_file(source.join("to-a-directory")).unwrap();
    symlink("hollow", source.join("to-a-directory")).unwrap();
    set_mtime(&source, 1_400_000_000, 5);
    let second = pair.push(&source, "meta").await.expect("a second push");
    whole(&second);
    assert_eq!(second.bytes_sent, 0, "content is known: {second:?}");
    assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join("meta")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f44_set_user_id_set_group_id_and_sticky_bits_do_not_travel() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    write(&source.join("tool"), b"#!/bin/sh\n");
    fs::create_dir_all(source.join("shared")).unwrap();
    mode(&source.join("tool"), 0o6755);
    mode(&source.join("shared"), 0o3775);
    whole(&pair.push(&source, "bits").await.expect("a push"));
    let bits = |name| pair.cloud.root.join("bits").join(name).metadata().unwrap().mode() & 0o7777;
    assert_eq!((bits("tool"), bits("shared")), (0o755, 0o775));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_push_reads_nothing_and_checksum_reads_everything() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    for i in 0..40 {
        write(&source.join(format!("f{i}")), &noise(i, 20_000));
    }
    write(&source.join("large"), &noise(99, 5_000_000));
    let first = pair.push(&source, "again").await.expect("a push");
    let plan = |checksum| {
        let options = portway::api::TransferOptions { checksum, ..Default::default() };
        let engine = common::engine(&pair.onprem.home);
        let source = source.clone();
        async move {
            engine.plan(vec![source], common::remote("cloud", "again"), options).await.unwrap()
        }
    };
    let known = plan(false).await;
    assert_eq!((known.files_to_move, known.bytes_to_send), (0, 0), "{known:?}");
    assert_eq!((known.files, known.bytes_total), (41, first.bytes_total));
    let compared = plan(true).await;
    assert_eq!((compared.files_to_move, compared.bytes_to_send), (41, 0), "{compared:?}");

    // Same length, time and mode, other content: only --checksum may trust nothing but content.
    let damaged = pair.cloud.root.join("again/large");
    let mtime = damaged.metadata().unwrap().modified().unwrap();
    let file = File::options().write(true).open(&damaged).unwrap();
    file.write_all_at(b"rot", 1_000_000).unwrap();
    file.set_times(FileTimes::new().set_modified(mtime)).unwrap();
    drop(file);
    let options = portway::api::TransferOptions { checksum: true, ..Default::default() };
    let mended = pair.push_with(&source, "again", options).await.expect("a push with checksums");
    whole(&mended);
    assert!(mended.bytes_sent > 0 && mended.bytes_sent < 4_000_000, "{mended:?}");
    assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join("again")));
}
