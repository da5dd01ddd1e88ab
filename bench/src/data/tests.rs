//! Tests of the data sets.

use std::collections::HashMap;
use std::path::Path;

use super::*;

const BYTES: u64 = 6 << 20;

/// Digest of all names and contents of a small set, in order.
fn digest(root: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    add(root, &mut hasher);
    hasher.finalize().to_hex()[..16].to_owned()
}

fn add(root: &Path, hasher: &mut blake3::Hasher) {
    let mut paths: Vec<_> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        hasher.update(path.file_name().unwrap().as_encoded_bytes());
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            add(&path, hasher);
        } else if kind.is_file() {
            hasher.update(&std::fs::read(&path).unwrap());
        }
    }
}

fn made(kind: Kind, bytes: u64, files: u64) -> (tempfile::TempDir, PathBuf, Made) {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("set");
    let made = simple(kind, out.clone(), bytes, files, 1).unwrap();
    (directory, out, made)
}

/// Every tensor of a checkpoint's files, and each file's header.
fn tensors(root: &Path) -> (HashMap<String, Vec<u8>>, HashMap<String, Vec<u8>>) {
    let (mut tensors, mut headers) = (HashMap::new(), HashMap::new());
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let content = std::fs::read(&path).unwrap();
        if path.extension().unwrap() == "json" {
            headers.insert(file, content);
            continue;
        }
        let length = u64::from_le_bytes(content[..8].try_into().unwrap()) as usize;
        let (header, body) = content.split_at(8 + length);
        let json: serde_json::Value = serde_json::from_slice(&header[8..]).unwrap();
        let mut end = 0;
        for (name, entry) in json.as_object().unwrap() {
            let Some(offsets) = entry.get("data_offsets") else { continue };
            let at = |index: usize| offsets[index].as_u64().unwrap() as usize;
            end = end.max(at(1));
            tensors.insert(name.clone(), body[at(0)..at(1)].to_vec());
        }
        assert_eq!(end, body.len(), "the header describes all of {file}");
        headers.insert(file, header.to_vec());
    }
    (tensors, headers)
}

#[test]
fn sets_are_the_same_bytes_everywhere() {
    let digests = [
        digest(&made(Kind::Ckpt, BYTES, 4).1),
        digest(&made(Kind::CkptNext, BYTES, 4).1),
        digest(&made(Kind::Shards, 0, 3).1),
        digest(&made(Kind::Small, 0, 50).1),
        digest(&made(Kind::Tree, 0, 0).1),
        digest(&made(Kind::Tokens, 0, 2).1),
        digest(&made(Kind::TokensNext, 0, 2).1),
    ];
    assert_eq!(
        digests,
        [
            "7d36243a84fb4a70",
            "5336634619831488",
            "5176652069de80bd",
            "e6353eadc4a9f89d",
            "58de1da13d20daf8",
            "667046f0e6be80bc",
            "bc42519011b0cf58"
        ]
    );
}

#[test]
fn next_checkpoint_says_exactly_what_is_new() {
    let (_a, before, first) = made(Kind::Ckpt, BYTES, 4);
    let (_b, after, next) = made(Kind::CkptNext, BYTES, 4);
    let ((old, old_headers), (new, new_headers)) = (tensors(&before), tensors(&after));
    let changed = |(name, bytes): &(&String, &Vec<u8>)| old.get(*name) != Some(bytes);
    let tensor_bytes: usize = new.iter().filter(changed).map(|(_, bytes)| bytes.len()).sum();
    let other_bytes: usize = new_headers
        .iter()
        .filter(|(name, bytes)| old_headers.get(*name) != Some(bytes))
        .map(|(_, bytes)| bytes.len())
        .sum();
    assert_eq!(next.new_bytes, (tensor_bytes + other_bytes) as u64);
    assert_eq!(first.new_bytes, first.bytes);
    assert_eq!(new.len(), old.len() + 1);
    let share = new.iter().filter(changed).count() * 100 / new.len();
    assert!((23..=27).contains(&share), "{share} % of the tensors changed");
    let adapter = &new["adapter.layers.0.lora_A.weight"];
    assert_eq!(adapter.len() % 2, 1);
}

/// Documents of the first shard of each kind, by the end that each has.
fn documents(root: &Path) -> [Vec<Vec<u8>>; 2] {
    let read = |name: &str| std::fs::read(root.join(name)).unwrap();
    let lines = read("text/shard-00000.jsonl");
    let tokens = read("tokens/shard-00000.bin");
    let pairs: Vec<&[u8]> = tokens.chunks(2).collect();
    [
        lines.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect(),
        pairs.split_inclusive(|pair| **pair == [0, 0]).map(<[&[u8]]>::concat).collect(),
    ]
}

#[test]
fn next_tokens_have_three_documents_of_a_hundred_replaced() {
    let (_a, before, first) = made(Kind::Tokens, 0, 2);
    let (_b, after, next) = made(Kind::TokensNext, 0, 2);
    assert!(first.bytes.abs_diff(16 << 20) < 128 << 10, "{first:?}");
    assert_eq!((first.new_bytes, first.files), (first.bytes, 2));
    let mut new_bytes = 0;
    for (old, new) in documents(&before).iter().zip(documents(&after)) {
        assert_eq!(old.len(), new.len());
        let differ: Vec<_> = old.iter().zip(&new).filter(|(one, other)| one != other).collect();
        let share = differ.len() as f64 / old.len() as f64;
        assert!((0.025..0.035).contains(&share), "{share}");
        new_bytes += differ.iter().map(|(_, new)| new.len() as u64).sum::<u64>();
    }
    assert_eq!(next.new_bytes, new_bytes);
    let line = String::from_utf8(documents(&after)[0][7].clone()).unwrap();
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["id"], "00000-00007");
}

#[test]
fn a_checkpoint_has_the_size_that_was_asked() {
    for bytes in [1 << 20, 10 << 20, 50 << 20] {
        let (_directory, out, made) = made(Kind::Ckpt, bytes, 3);
        let real: u64 = std::fs::read_dir(out)
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert_eq!(real, made.bytes);
        assert!(made.bytes.abs_diff(bytes) < bytes / 10, "{} for {bytes}", made.bytes);
    }
}

#[test]
fn a_directory_that_is_in_use_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("mine"), "x").unwrap();
    assert!(simple(Kind::Small, directory.path().to_owned(), 0, 5, 1).is_err());
}

fn count(root: &Path) -> (u64, u64) {
    let mut sum = (0, 0);
    for entry in std::fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        let meta = std::fs::symlink_metadata(entry.path()).unwrap();
        if meta.is_dir() {
            let below = count(&entry.path());
            sum = (sum.0 + below.0, sum.1 + below.1);
        } else if meta.is_file() {
            sum = (sum.0 + 1, sum.1 + meta.len());
        }
    }
    sum
}

#[test]
fn the_odd_tree_counts_its_files() {
    let (_directory, out, made) = made(Kind::Tree, 0, 0);
    assert_eq!(count(&out), (made.files, made.bytes));
}
