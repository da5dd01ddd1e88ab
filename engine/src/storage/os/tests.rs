//! What only a real tree meets: special files, other processes, races of links.

use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::RenameFlags;

use super::*;
use crate::storage::tests::{content, kind, path, put};

/// How often the racer swaps a directory and a link.
const FLIPS: usize = 20_000;
/// How often at least every call is tried meanwhile.
const ROUNDS_MIN: usize = 100;

fn both(dir: &Path) -> [OsTree; 2] {
    [OsTree::open(dir).unwrap(), OsTree::open_stepwise(dir).unwrap()]
}

#[test]
fn a_fifo_or_socket_is_refused_and_never_blocks() {
    let dir = tempfile::tempdir().unwrap();
    fs::mkfifoat(CWD, dir.path().join("fifo"), Mode::RWXU).unwrap();
    let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
    for tree in both(dir.path()) {
        for (name, is) in [("fifo", Kind::Fifo), ("socket", Kind::Socket)] {
            assert_eq!(tree.meta(&path(name)).unwrap().kind, is);
            for opened in [tree.open(&path(name)), tree.open_rw(&path(name))] {
                let error = opened.err().unwrap();
                assert_eq!(error.to_string(), format!("not a regular file but a {is}"));
            }
            let set = tree.set_meta(&path(name), 0o600, FileTime::default());
            assert_eq!(kind(set), io::ErrorKind::Unsupported);
        }
    }
}

#[test]
fn a_directory_that_others_made_anew_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let tree = OsTree::open(dir.path()).unwrap();
    tree.mkdir(&path("d")).unwrap();
    put(&tree, "d/f", b"old");
    std::fs::remove_dir_all(dir.path().join("d")).unwrap();
    std::fs::create_dir(dir.path().join("d")).unwrap();
    put(&tree, "d/f", b"new");
    assert_eq!(std::fs::read(dir.path().join("d/f")).unwrap(), b"new");
    std::fs::rename(dir.path().join("d"), dir.path().join("e")).unwrap();
    std::fs::create_dir(dir.path().join("d")).unwrap();
    assert_eq!(tree.list(&path("d")).unwrap(), []);
}

#[test]
fn the_tree_follows_its_root_when_that_is_moved() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("a")).unwrap();
    let tree = OsTree::open(&dir.path().join("a")).unwrap();
    std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
    put(&tree, "f", b"x");
    assert!(dir.path().join("b/f").exists());
}

#[test]
fn renaming_without_the_flag_still_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let tree = OsTree::open(dir.path()).unwrap();
    put(&tree, "f", b"f");
    put(&tree, "g", b"g");
    tree.mkdir(&path("d")).unwrap();
    put(&tree, "d/x", b"x");
    tree.mkdir(&path("e")).unwrap();
    tree.symlink(b"nowhere", &path("l")).unwrap();
    let root = tree.dirs.root();
    let rename = |from: &[u8], to: &[u8]| rename::in_two_steps((root, from), (root, to));
    for (from, to) in [("f", "g"), ("f", "d"), ("f", "l"), ("d", "e"), ("d", "g"), ("l", "g")] {
        assert_eq!(rename(from.as_bytes(), to.as_bytes()), Err(Errno::EXIST), "{from} {to}");
    }
    rename(b"f", b"F").unwrap();
    rename(b"d", b"D").unwrap();
    rename(b"l", b"L").unwrap();
    assert_eq!(rename(b"D", b"D/x/y"), Err(Errno::NOTDIR));
    assert_eq!(rename(b"D", b"D/y"), Err(Errno::INVAL));
    let mut names: Vec<_> =
        tree.list(&RelPath::root()).unwrap().into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, [b"D", b"F", b"L", b"e", b"g"]);
    assert_eq!((content(&tree, "F"), content(&tree, "D/x")), (b"f".to_vec(), b"x".to_vec()));
}

#[test]
fn what_only_names_an_inode_can_still_be_given_its_meta() {
    let dir = tempfile::tempdir().unwrap();
    let tree = OsTree::open(dir.path()).unwrap();
    put(&tree, "f", b"");
    let time = FileTime { secs: 99, nanos: 1 };
    set_meta_unreadable(tree.dirs.root(), b"f", 0o200, time).unwrap();
    let meta = tree.meta(&path("f")).unwrap();
    assert_eq!((meta.mode, meta.mtime), (0o200, time));
    tree.symlink(b"f", &path("l")).unwrap();
    let refused = set_meta_unreadable(tree.dirs.root(), b"l", 0o600, time);
    assert_eq!(refused, Err(Errno::OPNOTSUPP));
}

#[test]
fn rings_that_are_asked_for_are_used_or_their_lack_is_told() {
    let dir = tempfile::tempdir().unwrap();
    match (
        OsTree::open_with(dir.path(), Method { backend: Backend::Uring, ..Method::default() }),
        uring::probe(),
    ) {
        (Ok(tree), Ok(())) => assert!(tree.uring),
        (Err(error), Err(_)) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
        (opened, probed) => panic!("{:?} but {probed:?}", opened.err()),
    }
}

/// A directory beside the tree that must stay as it is.
struct Outside {
    secret: &'static [u8],
    dir: std::path::PathBuf,
    before: Vec<(String, u64, u32, i64, i64)>,
}

impl Outside {
    fn new(base: &Path) -> Self {
        let dir = base.join("outside");
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        let secret = b"secret";
        for name in ["f", "only-outside", "sub/f"] {
            std::fs::write(dir.join(name), secret).unwrap();
        }
        symlink("only-outside", dir.join("l")).unwrap();
        std::fs::create_dir(dir.join("empty")).unwrap();
        let before = Self::look(&dir);
        Self { secret, dir, before }
    }

    fn look(dir: &Path) -> Vec<(String, u64, u32, i64, i64)> {
        let mut seen = Vec::new();
        for at in [dir.to_path_buf(), dir.join("sub")] {
            for entry in std::fs::read_dir(at).unwrap() {
                let entry = entry.unwrap();
                let meta = entry.metadata().unwrap();
                let name = entry.path().to_string_lossy().into_owned();
                seen.push((name, meta.ino(), meta.mode(), meta.mtime_nsec(), meta.ctime_nsec()));
            }
        }
        seen.sort();
        seen
    }

    fn assert_untouched(&self) {
        assert_eq!(Self::look(&self.dir), self.before);
    }
}

/// Every call of the port on names below `dir`; none may show or touch what is outside. Returns
/// how many succeeded.
fn try_everything(tree: &OsTree, dir: &str, outside: &Outside) -> usize {
    let at = |name: &str| {
        // Nothing stays kept, so that each call resolves anew.
        tree.dirs.forget(&RelPath::root());
        path(&format!("{dir}/{name}"))
    };
    let mut worked = 0;
    let mut tell = |ok: bool| worked += usize::from(ok);
    for opened in [tree.open(&at("f")), tree.open_rw(&at("f"))] {
        tell(opened.is_ok());
        if let Ok(file) = opened {
            let mut buf = [0; 6];
            let read = file.read_at(&mut buf, 0).unwrap();
            assert_ne!(&buf[..read], outside.secret);
        }
    }
    tell(tree.open_rw(&at("f")).is_ok_and(|file| file.write_at(b"inside", 0).is_ok()));
    let inos = [outside.before.iter().map(|(_, ino, ..)| *ino).collect::<Vec<_>>()].concat();
    let meta = tree.meta(&at("f"));
    assert!(!meta.as_ref().is_ok_and(|meta| inos.contains(&meta.ino)));
    tell(meta.is_ok());
    assert!(tree.meta(&at("only-outside")).is_err());
    let names = tree.list(&path(dir));
    assert!(!names.iter().flatten().any(|(name, _)| name == b"only-outside"));
    tell(names.is_ok());
    assert_ne!(tree.read_link(&at("l")).unwrap_or_default(), b"only-outside");
    tell(tree.create(&at("new")).is_ok());
    tell(tree.rename(&at("new"), &at("newer"), false).is_ok());
    tell(tree.rename(&at("newer"), &path("aside"), true).is_ok());
    tell(tree.rename(&path("aside"), &at("newer"), true).is_ok());
    tell(tree.unlink(&at("newer")).is_ok());
    tell(tree.mkdir(&at("made")).is_ok());
    tell(tree.set_meta(&at("made"), 0o755, FileTime::default()).is_ok());
    tell(tree.rmdir(&at("made")).is_ok());
    tell(tree.symlink(b"x", &at("link")).is_ok());
    tell(tree.unlink(&at("link")).is_ok());
    tell(tree.set_meta(&at("f"), 0o600, FileTime::default()).is_ok());
    // These would destroy something outside.
    assert!(tree.unlink(&at("only-outside")).is_err());
    assert!(tree.rmdir(&at("empty")).is_err());
    assert!(tree.rename(&at("only-outside"), &path("stolen"), true).is_err());
    worked
}

const CALLS: usize = 16;

#[test]
fn no_link_in_any_place_leads_out() {
    let base = tempfile::tempdir().unwrap();
    let outside = Outside::new(base.path());
    let root = base.path().join("root");
    std::fs::create_dir_all(root.join("real")).unwrap();
    std::fs::write(root.join("real/f"), b"inside").unwrap();
    let absolute = outside.dir.to_string_lossy().into_owned();
    let texts = [
        absolute.as_str(),
        "../outside",
        "./../outside",
        "real/../../outside",
        "chain",
        "/proc/self/root",
        "/proc/self/cwd",
        "../root",
        "..",
        "/",
    ];
    symlink(&absolute, root.join("chain")).unwrap();
    for tree in both(&root) {
        assert_eq!(try_everything(&tree, "real", &outside), CALLS);
        tree.sync_dir(&path("real")).unwrap();
        for text in texts {
            symlink(text, root.join("link")).unwrap();
            for below in ["link", "link/sub", "link/real", "link/outside"] {
                assert_eq!(try_everything(&tree, below, &outside), 0, "{text} {below}");
                assert_eq!(kind(tree.sync_dir(&path(below))), io::ErrorKind::NotADirectory);
            }
            // As the last name a link is opened by nothing and replaced as itself.
            for opened in [tree.open(&path("link")), tree.open_rw(&path("link"))] {
                assert_eq!(kind(opened), io::ErrorKind::InvalidInput);
            }
            assert_eq!(kind(tree.create(&path("link"))), io::ErrorKind::AlreadyExists);
            tree.set_meta(&path("link"), 0, FileTime::default()).unwrap();
            tree.unlink(&path("link")).unwrap();
        }
    }
    outside.assert_untouched();
}

#[test]
fn a_link_that_races_a_directory_never_leads_out() {
    let base = tempfile::tempdir().unwrap();
    let outside = Outside::new(base.path());
    let root = base.path().join("root");
    std::fs::create_dir_all(root.join("d/sub")).unwrap();
    for name in ["d/f", "d/sub/f"] {
        std::fs::write(root.join(name), b"inside").unwrap();
    }
    symlink(&outside.dir, root.join("x")).unwrap();
    let trees = both(&root);
    let (done, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let worked = std::thread::scope(|scope| {
        scope.spawn(|| {
            let dir = std::fs::File::open(&root).unwrap();
            let mut flips = 0;
            while flips < FLIPS || rounds.load(Ordering::Acquire) < ROUNDS_MIN {
                fs::renameat_with(&dir, "d", &dir, "x", RenameFlags::EXCHANGE).unwrap();
                flips += 1;
                // Pauses of many lengths, or the two would fall into step.
                for _ in 0..flips * 7919 % 2048 {
                    std::hint::spin_loop();
                }
            }
            done.store(true, Ordering::Release);
        });
        let mut worked = 0;
        while !done.load(Ordering::Acquire) {
            for tree in &trees {
                for below in ["d", "d/sub"] {
                    worked += try_everything(tree, below, &outside);
                }
            }
            // Seldom, since the racer waits for it too.
            if rounds.fetch_add(1, Ordering::Release).is_multiple_of(64) {
                let _ = trees[0].sync_dir(&path("d"));
            }
        }
        worked
    });
    outside.assert_untouched();
    let tried = rounds.into_inner() * 4 * CALLS;
    println!("{worked} of {tried} calls met the directory, the others the link");
}

#[test]
fn the_labels_of_many_names_are_those_of_each() {
    let dir = tempfile::tempdir().unwrap();
    let tree = OsTree::open(dir.path()).unwrap();
    for name in ["d", "d/below"] {
        tree.mkdir(&path(name)).unwrap();
    }
    for name in ["d/a", "d/b"] {
        tree.create(&path(name)).unwrap();
    }
    symlink("a", dir.path().join("d/link")).unwrap();
    tree.set_label(&path("d/b"), b"internal").unwrap();
    tree.set_label(&path("d/below"), b"restricted").unwrap();
    let names: [&[u8]; 5] = [b"a", b"b", b"below", b"link", b"absent"];
    let told = |found: io::Result<_>| found.map_err(|error| error.kind());
    let each = names.map(|name| told(tree.label(&path("d").join(name).unwrap())));
    let all = tree.labels(&path("d"), &names).unwrap();
    assert_eq!(all.into_iter().map(told).collect::<Vec<_>>(), each);
    assert_eq!(each[1], Ok(Some(b"internal".to_vec())));
    assert_eq!(each[4], Err(io::ErrorKind::NotFound));
    assert_eq!(tree.labels(&path("absent"), &names).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(tree.labels(&path("d/a"), &names).is_err(), "a file has no names below it");
}

/// The names that are expected differ between root and anyone else; both are worth a run.
#[test]
fn what_may_be_written_and_owned_is_what_the_system_says() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("closed")).unwrap();
    let tree = OsTree::open(dir.path()).unwrap();
    let at = |text: &str| RelPath::from_bytes(text.as_bytes()).unwrap();
    let closed = at("closed");
    assert!(tree.may_write(&closed).unwrap() && tree.owns(&closed).unwrap());
    tree.set_meta(&closed, 0o555, FileTime::default()).unwrap();
    let made = tree.mkdir(&at("closed/made")).is_ok();
    assert_eq!(tree.may_write(&closed).unwrap(), made);
    assert!(tree.owns(&closed).unwrap() && tree.owns(&RelPath::root()).unwrap());
    assert_eq!(tree.owns(&at("missing")).unwrap_err().kind(), io::ErrorKind::NotFound);
    let all = OsTree::open(Path::new("/")).unwrap();
    assert_eq!(all.may_write(&at("usr")).unwrap(), made, "made by root, or by nobody");
    assert_eq!(all.owns(&at("usr")).unwrap(), made);
}
