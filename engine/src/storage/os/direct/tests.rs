//! Direct writes: every size at every offset, beside others, and where they are refused.

use std::fs::File;
use std::path::Path;

use rustix::fd::AsFd as _;
use rustix::fs::{Advice, fadvise};
use rustix::io::{IoSliceMut, ReadWriteFlags, preadv2};

use super::*;
use crate::base::limits::LEASE_BYTES;
use crate::buf::{Lease, Slab};
use crate::storage::tests::{kind, path};
use crate::storage::{Method, OsTree, Tree as _};

/// A file system that takes direct writes, if the build has one, and one in memory.
const PLACES: [&str; 2] = [env!("CARGO_MANIFEST_DIR"), "/dev/shm"];

fn on_each(check: fn(&Path)) {
    for place in PLACES {
        match tempfile::Builder::new().prefix(".portway-test-").tempdir_in(place) {
            Ok(dir) => check(dir.path()),
            Err(error) => eprintln!("1 skipped: no directory in {place}: {error}"),
        }
    }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| ((i + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8).collect()
}

/// A lease that holds `content`, aligned as the file is at `offset`.
fn lease(slab: &Slab, offset: u64, content: &[u8]) -> Lease {
    let mut lease = slab.try_lease().unwrap();
    lease.align_to(offset);
    lease[..content.len()].copy_from_slice(content);
    lease
}

/// Whether the page cache holds the byte at `offset`, learnt without reading it from the medium.
/// A file system in memory cannot say.
fn cached(file: &File, offset: u64) -> bool {
    fadvise(file, 0, None, Advice::Random).unwrap();
    let mut byte = [0];
    match preadv2(file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT) {
        Ok(_) => true,
        Err(Errno::AGAIN) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Whether the file system at `dir` really takes direct writes around the cache.
fn is_direct(dir: &Path) -> bool {
    rustix::fs::statfs(dir).unwrap().f_type == 0xEF53
}

#[test]
fn only_whole_blocks_that_lie_in_memory_as_in_the_file_are_split_off() {
    let slab = Slab::new(0);
    let min = DIRECT_BYTES_MIN;
    for (offset, len, expected) in [
        (0, min, Some((0, min))),
        (0, min - 1, None),
        (0, min + 4095, Some((0, min))),
        (1, min + 4095, Some((4095, min))),
        (1, min + 4094, None),
        (4095, min + 1, Some((1, min))),
        (4096, LEASE_BYTES, Some((0, LEASE_BYTES))),
        (511, LEASE_BYTES, Some((4096 - 511, LEASE_BYTES - 4096))),
        (u64::MAX - 10_000_000, 0, None),
        (0, 0, None),
        (77, 1, None),
    ] {
        let lease = lease(&slab, offset, &[]);
        assert_eq!(split(&lease[..len], offset), expected, "{len} at {offset}");
    }
    let odd = lease(&slab, 1, &[]);
    assert_eq!(split(&odd, 0), None);
    assert_eq!(split(&odd, 4097), Some((4095, LEASE_BYTES - 4096)));
}

#[test]
fn any_size_at_any_offset_is_written_whole_and_nothing_else() {
    on_each(|dir| {
        let (tree, slab) = (OsTree::open_direct(dir).unwrap(), Slab::new(0));
        let sizes = [0, 1, 511, 512, 4095, 4096, 4097, DIRECT_BYTES_MIN - 1, DIRECT_BYTES_MIN]
            .into_iter()
            .chain([DIRECT_BYTES_MIN + 8191, LEASE_BYTES - 1, LEASE_BYTES]);
        for (number, len) in sizes.enumerate() {
            for offset in [0_u64, 1, 511, 512, 4095, 4096, 4097, 1_000_003] {
                let name = format!("{len}-{offset}");
                let file = tree.create(&path(&name)).unwrap();
                let mut expected = noise(7, offset as usize + len + 9000);
                // Whole blocks of it are in the cache, and dirty.
                file.write_at(&expected, 0).unwrap();
                let content = noise(number as u64 * 1000 + offset, len);
                let lease = lease(&slab, offset, &content);
                file.write_at(&lease[..len], offset).unwrap();
                expected[offset as usize..][..len].copy_from_slice(&content);
                file.sync().unwrap();
                for _ in 0..2 {
                    assert!(std::fs::read(dir.join(&name)).unwrap() == expected, "{name}");
                    file.drop_cache().unwrap();
                }
                tree.unlink(&path(&name)).unwrap();
            }
        }
    });
}

#[test]
fn whole_blocks_go_around_the_cache_and_the_rest_through_it() {
    on_each(|dir| {
        if !is_direct(dir) {
            return eprintln!("1 skipped: {} is not on ext4", dir.display());
        }
        let slab = Slab::new(0);
        let (content, offset) = (noise(1, LEASE_BYTES), 5000);
        let lease = lease(&slab, offset, &content);
        for direct in [true, false] {
            let tree = OsTree::open_with(dir, Method { direct, ..Method::default() }).unwrap();
            let file = tree.create(&path(&format!("f{direct}"))).unwrap();
            file.write_at(&lease, offset).unwrap();
            let file = File::open(dir.join(format!("f{direct}"))).unwrap();
            assert_eq!(cached(&file, 8192 + 77), !direct);
            assert_eq!(cached(&file, 1 << 20), !direct);
            assert!(cached(&file, offset) && cached(&file, offset + LEASE_BYTES as u64 - 1));
        }
    });
}

#[test]
fn what_a_reader_cached_is_not_read_after_a_direct_write() {
    on_each(|dir| {
        let (tree, slab) = (OsTree::open_direct(dir).unwrap(), Slab::new(0));
        let file = tree.create(&path("f")).unwrap();
        let mut buf = vec![0; LEASE_BYTES];
        for seed in 0..4 {
            let content = noise(seed, LEASE_BYTES);
            file.write_at(&lease(&slab, 0, &content), 0).unwrap();
            assert_eq!(file.read_at(&mut buf, 0).unwrap(), LEASE_BYTES);
            assert!(buf == content);
        }
    });
}

/// Neighbours share a block at each odd bound. They are written by several threads in any order.
#[test]
fn neighbours_that_share_a_block_keep_each_others_bytes() {
    on_each(|dir| {
        let (tree, slab) = (OsTree::open_direct(dir).unwrap(), Slab::new(16 << 20));
        let expected = noise(3, 24_000_000);
        for round in 0..4_usize {
            let file = tree.create(&path("f")).unwrap();
            let mut bounds: Vec<usize> = (0..expected.len()).step_by(400_009 + round).collect();
            bounds.push(expected.len());
            let pieces: Vec<(usize, usize)> = bounds.windows(2).map(|w| (w[0], w[1])).collect();
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let (pieces, file, slab, expected) = (&pieces, &file, &slab, &expected);
                    scope.spawn(move || {
                        // Every fourth piece, from both ends by turns.
                        let mut own: Vec<_> = pieces.iter().skip(thread).step_by(4).collect();
                        while let Some(&(begin, end)) = own.pop() {
                            let lease = lease(slab, begin as u64, &expected[begin..end]);
                            file.write_at(&lease[..end - begin], begin as u64).unwrap();
                            own.reverse();
                        }
                    });
                }
            });
            file.sync().unwrap();
            assert!(std::fs::read(dir.join("f")).unwrap() == expected);
            file.drop_cache().unwrap();
            assert!(std::fs::read(dir.join("f")).unwrap() == expected, "on the medium");
            tree.unlink(&path("f")).unwrap();
        }
    });
}

#[test]
fn what_is_refused_goes_through_the_cache_and_is_not_tried_again() {
    let dir = tempfile::tempdir_in(PLACES[0]).unwrap();
    if !is_direct(dir.path()) {
        eprintln!("1 skipped: {} is not on ext4", PLACES[0]);
        return;
    }
    let file = File::create(dir.path().join("f")).unwrap();
    let (slab, allowed) = (Slab::new(0), Allowed::new(true));
    let content = noise(9, LEASE_BYTES);
    let whole = lease(&slab, 0, &content);
    let direct = Direct::new(allowed.clone());
    // As from a device that asks for more than these blocks are aligned to.
    let opened = reopen(file.as_fd()).unwrap();
    assert_eq!(direct.write_blocks(&opened, &whole, 1).unwrap(), 0);
    assert!(!allowed.0.load(Relaxed));
    assert!(!direct.write(file.as_fd(), &whole, 0).unwrap());
    assert!(!Direct::new(allowed).write(file.as_fd(), &whole, 0).unwrap());
    assert_eq!(file.metadata().unwrap().len(), 0, "nothing was written");
    // Any other error is the write's own.
    let unwritable = OwnedFd::from(File::open(dir.path().join("f")).unwrap());
    let direct = Direct { allowed: Allowed::new(true), fd: OnceLock::from(Some(unwritable)) };
    assert_eq!(kind(direct.write(file.as_fd(), &whole, 0)), not_writable());
}

#[test]
fn a_file_that_cannot_be_opened_again_is_written_through_the_cache() {
    on_each(|dir| {
        let (slab, content) = (Slab::new(0), noise(2, LEASE_BYTES));
        let whole = lease(&slab, 0, &content);
        let file = File::options().read(true).write(true).create_new(true).open(dir.join("f"));
        let file = file.unwrap();
        let direct = Direct { allowed: Allowed::new(true), fd: OnceLock::from(None) };
        assert!(!direct.write(file.as_fd(), &whole, 0).unwrap());
        assert_eq!(file.metadata().unwrap().len(), 0);
    });
}

/// The second descriptor can write: it must not be there for a file that was opened to read.
#[test]
fn a_file_that_was_opened_to_read_is_not_written() {
    on_each(|dir| {
        let (tree, slab) = (OsTree::open_direct(dir).unwrap(), Slab::new(0));
        let whole = lease(&slab, 0, &noise(2, LEASE_BYTES));
        tree.create(&path("f")).unwrap();
        let file = tree.open(&path("f")).unwrap();
        assert_eq!(kind(file.write_at(&whole, 0)), not_writable());
        assert_eq!(file.meta().unwrap().len, 0);
        tree.open_rw(&path("f")).unwrap().write_at(&whole, 0).unwrap();
        assert!(std::fs::read(dir.join("f")).unwrap() == whole[..]);
    });
}

fn not_writable() -> io::ErrorKind {
    io::Error::from(Errno::BADF).kind()
}

/// An ext4 of its own in a file, unmounted when dropped.
struct Small(std::path::PathBuf);

impl Small {
    /// `None`, said aloud, where that is not permitted.
    fn mount(dir: &Path, bytes: u64) -> Option<Self> {
        let (image, at) = (dir.join("image"), dir.join("small"));
        File::create(&image).unwrap().set_len(bytes).unwrap();
        std::fs::create_dir(&at).unwrap();
        let run = |program: &str, options: &[&str], at: &[&Path]| {
            let done = std::process::Command::new(program).args(options).args(at).output();
            done.is_ok_and(|output| output.status.success())
        };
        let done = run("mkfs.ext4", &["-q", "-m", "0"], &[&image])
            && run("mount", &["-o", "loop"], &[&image, &at]);
        if !done {
            eprintln!("1 skipped: an ext4 in a file cannot be mounted here");
        }
        done.then_some(Self(at))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn f9_a_full_disk_is_told_and_what_was_written_before_stays() {
    let dir = tempfile::tempdir_in(PLACES[0]).unwrap();
    let Some(small) = Small::mount(dir.path(), 40 << 20) else { return };
    let (tree, slab) = (OsTree::open_direct(&small.0).unwrap(), Slab::new(0));
    let content = noise(4, LEASE_BYTES);
    let file = tree.create(&path("f")).unwrap();
    let offset = |number: usize| 1000 + (number * LEASE_BYTES) as u64;
    let mut number = 0;
    let error = loop {
        let at = offset(number);
        match file.write_at(&lease(&slab, at, &content), at) {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
        assert!(number < 20, "more than the disk holds");
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(number > 5);
    file.sync().unwrap();
    file.drop_cache().unwrap();
    let mut buf = vec![0; LEASE_BYTES];
    for number in 0..number {
        assert_eq!(file.read_at(&mut buf, offset(number)).unwrap(), LEASE_BYTES);
        assert!(buf == content, "{number}");
    }
    file.set_len(0).unwrap();
    file.write_at(&lease(&slab, 0, &content), 0).unwrap();
}
