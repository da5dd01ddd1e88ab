//! Tests of the comparison.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

const META: Options = Options { meta: true, skip_special: false };

fn pair() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (directory.path().join("a"), directory.path().join("b"));
    crate::data::simple(crate::data::Kind::Tree, a.clone(), 0, 0, 1).unwrap();
    crate::data::simple(crate::data::Kind::Tree, b.clone(), 0, 0, 1).unwrap();
    (directory, a, b)
}

#[test]
fn equal_trees_have_no_differences() {
    let (_directory, a, b) = pair();
    assert_eq!(trees(&a, &b, META).unwrap(), Vec::<String>::new());
}

#[test]
fn every_kind_of_difference_is_named() {
    let (_directory, a, b) = pair();
    fs::write(b.join("length-1"), "").unwrap();
    fs::remove_file(b.join("mode-600")).unwrap();
    fs::create_dir(b.join("extra")).unwrap();
    fs::set_permissions(b.join("mode-640"), fs::Permissions::from_mode(0o641)).unwrap();
    fs::remove_file(b.join("links/dangling")).unwrap();
    symlink("elsewhere", b.join("links/dangling")).unwrap();
    fs::remove_file(b.join("mode-755")).unwrap();
    symlink("mode-777", b.join("mode-755")).unwrap();
    let mut dense = fs::read(b.join("sparse.bin")).unwrap();
    dense[5] ^= 1;
    fs::write(b.join("sparse.bin"), dense).unwrap();
    let found = trees(&a, &b, META).unwrap().join("\n");
    for expected in [
        "length-1: has 0 bytes, should have 1",
        "mode-600: missing",
        "extra: not expected",
        "mode-640: mode 641, should be 640",
        "links/dangling: link text differs",
        "mode-755: is a link, should be a file",
        "sparse.bin: content differs",
        "bytes allocated, should be 3145728",
        "length-1: mtime",
    ] {
        assert!(found.contains(expected), "{expected} is not in\n{found}");
    }
}

#[test]
fn special_files_may_be_missing_if_asked() {
    let (_directory, a, b) = pair();
    fs::remove_file(b.join("fifo")).unwrap();
    assert_eq!(trees(&a, &b, Options::default()).unwrap(), ["fifo: missing"]);
    let skip = Options { skip_special: true, ..Options::default() };
    assert_eq!(trees(&a, &b, skip).unwrap(), Vec::<String>::new());
}

#[test]
fn holes_are_equal_to_zeros_and_to_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let path = directory.path().join(name);
        fs::File::options().create(true).truncate(true).read(true).write(true).open(path).unwrap()
    };
    let (hole, zeros, one) = (open("hole"), open("zeros"), open("one"));
    for file in [&hole, &zeros, &one] {
        file.set_len(8 << 20).unwrap();
    }
    zeros.write_all_at(&vec![0; 1 << 20], 3 << 20).unwrap();
    one.write_all_at(&[1], (8 << 20) - 1).unwrap();
    assert!(same_content(&hole, &zeros).unwrap() && same_content(&zeros, &hole).unwrap());
    assert!(!same_content(&hole, &one).unwrap() && !same_content(&one, &zeros).unwrap());
}

#[test]
fn a_missing_root_is_an_error_and_no_equal_tree() {
    let (directory, a, _b) = pair();
    let missing = directory.path().join("missing");
    for (a, b) in [(&missing, &missing), (&missing, &a), (&a, &missing)] {
        for skip_special in [false, true] {
            let args = CompareArgs { a: a.clone(), b: b.clone(), meta: false, skip_special };
            let error = run(&args).unwrap_err().to_string();
            assert_eq!(error, format!("there is no {}", shown(&missing)));
        }
    }
    assert!(trees(&missing, &missing, META).is_err());
    // What was not made at all is told as a difference to who judges a transfer.
    assert_eq!(trees(&a, &missing, META).unwrap(), [".: missing"]);
}
