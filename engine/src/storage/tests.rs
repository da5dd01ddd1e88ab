//! What every tree does, run on each of them.

use super::*;

macro_rules! on_every_tree {
    ($($name:ident,)*) => {
        mod real {
            $(#[test] fn $name() { super::on_disk(super::OsTree::open, super::$name); })*
        }
        mod stepwise {
            $(#[test] fn $name() { super::on_disk(super::OsTree::open_stepwise, super::$name); })*
        }
        mod ring {
            $(#[test] fn $name() { super::on_disk(super::OsTree::open_ring, super::$name); })*
        }
        mod direct {
            $(#[test] fn $name() { super::on_disk(super::OsTree::open_direct, super::$name); })*
        }
        mod memory {
            $(#[test] fn $name() { for seed in 0..8 { super::$name(&super::MemoryTree::new(seed)); } })*
        }
    };
}

on_every_tree! {
    a_file_is_made_once_and_read_back,
    reads_end_where_the_file_ends,
    large_and_many_ranges_are_whole,
    holes_stay_holes,
    names_are_listed_without_order_or_dots,
    a_rename_replaces_only_when_told_to,
    a_directory_cannot_move_into_itself,
    a_renamed_directory_is_not_found_under_its_old_name,
    a_removed_directory_that_is_made_anew_is_empty,
    links_are_named_but_never_followed,
    mode_and_time_are_set,
    what_is_missing_is_not_found,
    the_root_is_neither_made_nor_moved_nor_removed,
    only_regular_files_are_opened,
    an_open_file_outlives_its_name,
    strange_names_are_kept_byte_for_byte,
    paths_longer_than_a_system_call_takes_work,
    directories_are_made_and_removed_with_all_below,
    syncs_succeed_and_room_is_told,
}

fn on_disk(open: impl Fn(&std::path::Path) -> io::Result<OsTree>, check: fn(&dyn Tree)) {
    let dir = tempfile::tempdir().unwrap();
    check(&open(dir.path()).unwrap());
}

pub(super) fn path(text: &str) -> RelPath {
    RelPath::from_bytes(text.as_bytes()).unwrap()
}

pub(super) fn put(tree: &dyn Tree, at: &str, content: &[u8]) -> Arc<dyn File> {
    let file = tree.create(&path(at)).unwrap();
    file.write_at(content, 0).unwrap();
    file
}

pub(super) fn content(tree: &dyn Tree, at: &str) -> Vec<u8> {
    let file = tree.open(&path(at)).unwrap();
    let mut buf = vec![0; file.meta().unwrap().len as usize];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), buf.len());
    buf
}

pub(super) fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    result.err().expect("an error").kind()
}

fn listed(tree: &dyn Tree, at: &str) -> Vec<Vec<u8>> {
    let mut names: Vec<_> =
        tree.list(&path(at)).unwrap().into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

fn a_file_is_made_once_and_read_back(tree: &dyn Tree) {
    put(tree, "f", b"hello");
    assert_eq!(kind(tree.create(&path("f"))), io::ErrorKind::AlreadyExists);
    assert_eq!(content(tree, "f"), b"hello");
    tree.open_rw(&path("f")).unwrap().write_at(b"J", 0).unwrap();
    assert_eq!(content(tree, "f"), b"Jello");
    let meta = tree.meta(&path("f")).unwrap();
    assert_eq!((meta.kind, meta.len, meta.mode), (Kind::File, 5, 0o600));
    assert!(tree.open(&path("f")).unwrap().write_at(b"x", 0).is_err());
}

fn reads_end_where_the_file_ends(tree: &dyn Tree) {
    let file = put(tree, "f", b"0123456789");
    let mut buf = [0xff; 16];
    assert_eq!(file.read_at(&mut buf, 4).unwrap(), 6);
    assert_eq!(&buf[..7], b"456789\xff");
    assert_eq!(file.read_at(&mut buf, 10).unwrap(), 0);
    assert_eq!(file.read_at(&mut buf, 1 << 40).unwrap(), 0);
    file.set_len(3).unwrap();
    file.set_len(6).unwrap();
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 6);
    assert_eq!(&buf[..6], b"012\0\0\0");
}

fn large_and_many_ranges_are_whole(tree: &dyn Tree) {
    let data: Vec<u8> =
        (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = put(tree, "f", &data);
    assert!(content(tree, "f") == data);
    file.write_many(&[(0, &data[100..600_100]), (2_900_000, &data[..300_000]), (7, b"")]).unwrap();
    let (mut a, mut b, mut c) = (vec![0; 600_000], vec![0; 400_000], vec![0; 10]);
    let mut ops: [(u64, &mut [u8]); 3] = [(0, &mut a), (2_900_000, &mut b), (1 << 33, &mut c)];
    assert_eq!(file.read_many(&mut ops).unwrap(), [600_000, 300_000, 0]);
    assert!(a == data[100..600_100] && b[..300_000] == data[..300_000]);
}

fn holes_stay_holes(tree: &dyn Tree) {
    const MIB: u64 = 1 << 20;
    let file = tree.create(&path("f")).unwrap();
    assert_eq!(file.next_data(0).unwrap(), None);
    file.set_len(10 * MIB).unwrap();
    assert_eq!(file.next_data(0).unwrap(), None);
    let block = vec![7; MIB as usize];
    file.write_at(&block, 2 * MIB).unwrap();
    file.write_at(&block, 8 * MIB).unwrap();
    assert_eq!(file.next_data(0).unwrap(), Some(Extent { offset: 2 * MIB, len: MIB }));
    assert_eq!(
        file.next_data(2 * MIB + 5).unwrap(),
        Some(Extent { offset: 2 * MIB + 5, len: MIB - 5 })
    );
    assert_eq!(file.next_data(3 * MIB).unwrap(), Some(Extent { offset: 8 * MIB, len: MIB }));
    assert_eq!(file.next_data(9 * MIB).unwrap(), None);
    assert_eq!(file.next_data(99 * MIB).unwrap(), None);
    file.sync().unwrap();
    let meta = file.meta().unwrap();
    assert!(meta.len == 10 * MIB && meta.allocated < 3 * MIB, "{meta:?}");
    file.drop_cache().unwrap();
    let mut byte = [9];
    file.read_at(&mut byte, 9 * MIB).unwrap();
    assert_eq!(byte, [0]);
}

fn names_are_listed_without_order_or_dots(tree: &dyn Tree) {
    tree.mkdir(&path("d")).unwrap();
    put(tree, "d/b", b"");
    tree.mkdir(&path("d/a")).unwrap();
    tree.symlink(b"b", &path("d/c")).unwrap();
    let mut names = tree.list(&path("d")).unwrap();
    names.sort_by(|(a, _), (b, _)| a.cmp(b));
    let kinds = [(b"a", Kind::Dir), (b"b", Kind::File), (b"c", Kind::Symlink)];
    for ((name, told), (expected, kind)) in names.iter().zip(kinds) {
        assert_eq!(name, expected);
        assert!(told.is_none_or(|told| told == kind));
    }
    assert_eq!(names.len(), 3);
    assert_eq!(listed(tree, ""), [b"d"]);
    assert_eq!(kind(tree.list(&path("d/b"))), io::ErrorKind::NotADirectory);
    assert_eq!(kind(tree.list(&path("d/c"))), io::ErrorKind::NotADirectory);
}

fn a_rename_replaces_only_when_told_to(tree: &dyn Tree) {
    put(tree, "a", b"a");
    put(tree, "b", b"b");
    for there in ["b", "a"] {
        let error = kind(tree.rename(&path("a"), &path(there), false));
        assert_eq!(error, io::ErrorKind::AlreadyExists);
    }
    tree.rename(&path("a"), &path("a"), true).unwrap();
    assert_eq!((content(tree, "a"), content(tree, "b")), (b"a".to_vec(), b"b".to_vec()));
    tree.rename(&path("a"), &path("b"), true).unwrap();
    assert_eq!((listed(tree, ""), content(tree, "b")), (vec![b"b".to_vec()], b"a".to_vec()));
    tree.rename(&path("b"), &path("c"), false).unwrap();
    tree.mkdir(&path("d")).unwrap();
    tree.mkdir(&path("e")).unwrap();
    assert_eq!(kind(tree.rename(&path("c"), &path("d"), true)), io::ErrorKind::IsADirectory);
    assert_eq!(kind(tree.rename(&path("d"), &path("c"), true)), io::ErrorKind::NotADirectory);
    assert_eq!(kind(tree.rename(&path("d"), &path("e"), false)), io::ErrorKind::AlreadyExists);
    tree.rename(&path("d"), &path("e"), true).unwrap();
    put(tree, "e/x", b"");
    tree.mkdir(&path("d")).unwrap();
    assert_eq!(kind(tree.rename(&path("d"), &path("e"), true)), io::ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(tree.rename(&path("zz"), &path("y"), false)), io::ErrorKind::NotFound);
    tree.rename(&path("e/x"), &path("d/y"), false).unwrap();
    assert_eq!((listed(tree, "e").len(), listed(tree, "d")), (0, vec![b"y".to_vec()]));
}

fn a_directory_cannot_move_into_itself(tree: &dyn Tree) {
    mkdir_all(tree, &path("a/b")).unwrap();
    for replace in [true, false] {
        let error = kind(tree.rename(&path("a"), &path("a/b/c"), replace));
        assert_eq!(error, io::ErrorKind::InvalidInput);
    }
    assert_eq!(listed(tree, "a/b").len(), 0);
}

fn a_renamed_directory_is_not_found_under_its_old_name(tree: &dyn Tree) {
    mkdir_all(tree, &path("d/sub")).unwrap();
    put(tree, "d/sub/f", b"old");
    assert_eq!(content(tree, "d/sub/f"), b"old");
    tree.rename(&path("d"), &path("e"), false).unwrap();
    assert_eq!(kind(tree.meta(&path("d/sub/f"))), io::ErrorKind::NotFound);
    mkdir_all(tree, &path("d/sub")).unwrap();
    put(tree, "d/sub/g", b"new");
    assert_eq!(listed(tree, "d/sub"), [b"g"]);
    assert_eq!(listed(tree, "e/sub"), [b"f"]);
    assert_eq!(kind(tree.meta(&path("d/sub/f"))), io::ErrorKind::NotFound);
}

fn a_removed_directory_that_is_made_anew_is_empty(tree: &dyn Tree) {
    mkdir_all(tree, &path("d/sub")).unwrap();
    put(tree, "d/sub/f", b"old");
    remove_all(tree, &path("d")).unwrap();
    assert_eq!(kind(tree.create(&path("d/sub/f"))), io::ErrorKind::NotFound);
    mkdir_all(tree, &path("d/sub")).unwrap();
    put(tree, "d/sub/f", b"new");
    assert_eq!(content(tree, "d/sub/f"), b"new");
}

fn links_are_named_but_never_followed(tree: &dyn Tree) {
    tree.mkdir(&path("d")).unwrap();
    put(tree, "d/f", b"x");
    tree.symlink(b"d", &path("l")).unwrap();
    tree.symlink(b"d/f", &path("m")).unwrap();
    assert_eq!(tree.read_link(&path("l")).unwrap(), b"d");
    assert_eq!(kind(tree.read_link(&path("d"))), io::ErrorKind::InvalidInput);
    assert_eq!(tree.meta(&path("m")).unwrap().kind, Kind::Symlink);
    for opened in [tree.open(&path("m")), tree.open_rw(&path("m")), tree.open(&path("l"))] {
        let error = opened.err().unwrap();
        assert_eq!(error.to_string(), "not a regular file but a symbolic link");
    }
    let below = path("l/f");
    for error in [
        kind(tree.meta(&below)),
        kind(tree.open(&below)),
        kind(tree.open_rw(&below)),
        kind(tree.create(&path("l/new"))),
        kind(tree.mkdir(&path("l/new"))),
        kind(tree.symlink(b"x", &path("l/new"))),
        kind(tree.rename(&below, &path("l/new"), false)),
        kind(tree.rename(&path("m"), &path("l/new"), true)),
        kind(tree.unlink(&below)),
        kind(tree.rmdir(&below)),
        kind(tree.set_meta(&below, 0o600, FileTime::default())),
        kind(tree.list(&path("l"))),
        kind(tree.sync_dir(&path("l"))),
        kind(tree.rmdir(&path("l"))),
    ] {
        assert_eq!(error, io::ErrorKind::NotADirectory);
    }
    let (mode, time) = (tree.meta(&path("m")).unwrap().mode, FileTime { secs: 7, nanos: 0 });
    tree.set_meta(&path("m"), 0o644, time).unwrap();
    let meta = tree.meta(&path("m")).unwrap();
    assert_eq!((meta.mode, meta.mtime), (mode, time));
    assert_eq!(tree.meta(&path("d/f")).unwrap().mode, 0o600);
    assert_eq!(kind(tree.symlink(b"x", &path("m"))), io::ErrorKind::AlreadyExists);
    tree.unlink(&path("m")).unwrap();
    assert_eq!(content(tree, "d/f"), b"x");
}

fn mode_and_time_are_set(tree: &dyn Tree) {
    let file = put(tree, "f", b"x");
    tree.mkdir(&path("d")).unwrap();
    assert_eq!(tree.meta(&path("d")).unwrap().mode, 0o700);
    let early = FileTime { secs: -5, nanos: 999_999_999 };
    let late = FileTime { secs: 1_234_567_890, nanos: 123_456_789 };
    for (at, mode, mtime) in [("f", 0o4755, late), ("d", 0o755, late), ("f", 0, early)] {
        tree.set_meta(&path(at), mode, mtime).unwrap();
        let meta = tree.meta(&path(at)).unwrap();
        assert_eq!((meta.mode, meta.mtime), (mode, mtime), "{at}");
    }
    file.set_meta(0o640, late).unwrap();
    let meta = file.meta().unwrap();
    assert_eq!((meta.mode, meta.mtime), (0o640, late));
    tree.set_meta(&RelPath::root(), 0o711, late).unwrap();
    assert_eq!(tree.meta(&RelPath::root()).unwrap().mode, 0o711);
}

fn what_is_missing_is_not_found(tree: &dyn Tree) {
    put(tree, "f", b"");
    for at in ["x", "x/y"] {
        let at = path(at);
        for error in [
            kind(tree.meta(&at)),
            kind(tree.list(&at)),
            kind(tree.open(&at)),
            kind(tree.open_rw(&at)),
            kind(tree.read_link(&at)),
            kind(tree.rename(&at, &path("y"), true)),
            kind(tree.unlink(&at)),
            kind(tree.rmdir(&at)),
            kind(tree.set_meta(&at, 0, FileTime::default())),
            kind(tree.sync_dir(&at)),
        ] {
            assert_eq!(error, io::ErrorKind::NotFound);
        }
    }
    assert_eq!(kind(tree.create(&path("x/y"))), io::ErrorKind::NotFound);
    assert_eq!(kind(tree.mkdir(&path("x/y"))), io::ErrorKind::NotFound);
    assert_eq!(kind(tree.meta(&path("f/y"))), io::ErrorKind::NotADirectory);
    assert_eq!(kind(tree.create(&path("f/y"))), io::ErrorKind::NotADirectory);
}

fn the_root_is_neither_made_nor_moved_nor_removed(tree: &dyn Tree) {
    let root = RelPath::root();
    tree.mkdir(&path("d")).unwrap();
    assert_eq!(tree.meta(&root).unwrap().kind, Kind::Dir);
    assert_eq!(kind(tree.open(&root)), io::ErrorKind::IsADirectory);
    assert_eq!(kind(tree.create(&root)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(tree.mkdir(&root)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(tree.symlink(b"x", &root)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(tree.rename(&path("d"), &root, false)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(tree.rename(&root, &path("d"), true)), io::ErrorKind::ResourceBusy);
    assert_eq!(kind(tree.rmdir(&root)), io::ErrorKind::ResourceBusy);
    assert_eq!(kind(tree.unlink(&root)), io::ErrorKind::IsADirectory);
    mkdir_all(tree, &root).unwrap();
    tree.sync_dir(&root).unwrap();
}

fn only_regular_files_are_opened(tree: &dyn Tree) {
    tree.mkdir(&path("d")).unwrap();
    assert_eq!(kind(tree.open(&path("d"))), io::ErrorKind::IsADirectory);
    assert_eq!(kind(tree.open_rw(&path("d"))), io::ErrorKind::IsADirectory);
    assert_eq!(kind(tree.unlink(&path("d"))), io::ErrorKind::IsADirectory);
    put(tree, "d/f", b"");
    assert_eq!(kind(tree.rmdir(&path("d"))), io::ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(tree.rmdir(&path("d/f"))), io::ErrorKind::NotADirectory);
}

fn an_open_file_outlives_its_name(tree: &dyn Tree) {
    let file = put(tree, "f", b"kept");
    tree.rename(&path("f"), &path("g"), false).unwrap();
    file.write_at(b"K", 0).unwrap();
    assert_eq!(content(tree, "g"), b"Kept");
    tree.unlink(&path("g")).unwrap();
    let mut buf = [0; 4];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 4);
    assert_eq!(&buf, b"Kept");
}

fn strange_names_are_kept_byte_for_byte(tree: &dyn Tree) {
    let names: [&[u8]; 8] = [
        &[b'n'; 255],
        &[0xff; 255],
        b"a\nb",
        b"\x1b[2J",
        b"-rf",
        b" ",
        b"trailing. ",
        "e\u{301}\u{202e}".as_bytes(),
    ];
    for name in names {
        let at = RelPath::root().join(name).unwrap();
        tree.create(&at).unwrap().write_at(name, 0).unwrap();
        assert_eq!(tree.meta(&at).unwrap().len, name.len() as u64);
    }
    let mut sorted = names.map(<[u8]>::to_vec);
    sorted.sort();
    assert_eq!(listed(tree, ""), sorted);
}

fn paths_longer_than_a_system_call_takes_work(tree: &dyn Tree) {
    let mut dir = path("top");
    for n in 0..40 {
        dir = dir.join(format!("{n:0>200}").as_bytes()).unwrap();
    }
    assert!(dir.as_bytes().len() > 2 * 4096 - 200);
    mkdir_all(tree, &dir).unwrap();
    let at = dir.join(b"f").unwrap();
    tree.create(&at).unwrap().write_at(b"deep", 0).unwrap();
    tree.set_meta(&at, 0o640, FileTime::default()).unwrap();
    tree.rename(&at, &dir.join(b"g").unwrap(), false).unwrap();
    tree.sync_dir(&dir).unwrap();
    let at = dir.join(b"g").unwrap();
    assert_eq!(tree.open(&at).unwrap().meta().unwrap().mode, 0o640);
    assert_eq!(tree.list(&dir).unwrap().len(), 1);
    tree.rename(&path("top"), &path("new"), false).unwrap();
    assert_eq!(kind(tree.meta(&at)), io::ErrorKind::NotFound);
    remove_all(tree, &path("new")).unwrap();
    assert_eq!(listed(tree, "").len(), 0);
}

fn directories_are_made_and_removed_with_all_below(tree: &dyn Tree) {
    mkdir_all(tree, &path("a/b/c")).unwrap();
    mkdir_all(tree, &path("a/b/c")).unwrap();
    put(tree, "a/b/f", b"");
    tree.symlink(b"../..", &path("a/b/l")).unwrap();
    put(tree, "z", b"");
    remove_all(tree, &path("a")).unwrap();
    remove_all(tree, &path("a")).unwrap();
    assert_eq!(listed(tree, ""), [b"z"]);
}

fn syncs_succeed_and_room_is_told(tree: &dyn Tree) {
    tree.mkdir(&path("d")).unwrap();
    let file = put(tree, "d/f", b"x");
    file.sync().unwrap();
    tree.sync_dir(&path("d")).unwrap();
    tree.sync_all().unwrap();
    assert_eq!(kind(tree.sync_dir(&path("d/f"))), io::ErrorKind::NotADirectory);
    assert!(tree.free_bytes().unwrap() > 0);
}
