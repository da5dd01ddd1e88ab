//! Paths, and the short texts that name things.

use crate::base::limits::{COMPONENT_BYTES_MAX, NAME_BYTES_MAX, PATH_DEPTH_MAX};
use crate::base::{Digest, NodeName, RelPath, SiteName, Tier, TransferId, human};
use crate::transport::quic::Congestion;

/// A path, a NUL byte, and what else: another path, or the text of a link at the first.
pub(super) fn path(data: &[u8]) -> bool {
    let (one, other) = match data.iter().position(|&byte| byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &data[..0]),
    };
    let typed = RelPath::from_typed(one);
    if let Ok(typed) = &typed {
        assert_eq!(RelPath::from_bytes(typed.as_bytes()), Ok(typed.clone()));
        assert_eq!(RelPath::from_typed(typed.as_bytes()).as_ref(), Ok(typed));
    }
    let Ok(path) = RelPath::from_bytes(one) else { return typed.is_ok() };
    assert_eq!(path.as_bytes(), one);
    assert!(path.depth() <= PATH_DEPTH_MAX);
    for name in path.components() {
        assert!((1..=COMPONENT_BYTES_MAX).contains(&name.len()));
        assert!(name != b"." && name != b".." && !name.contains(&0) && !name.contains(&b'/'));
    }
    let joined = path.components().try_fold(RelPath::root(), |path, name| path.join(name));
    assert_eq!(joined.as_ref(), Ok(&path));
    if let (Some(parent), Some(name)) = (path.parent(), path.name()) {
        assert_eq!(parent.join(name).as_ref(), Ok(&path));
        assert!(parent < path);
        let below = path.strip(&parent).expect("a path is below its parent");
        assert_eq!(below.as_bytes(), name);
        assert_eq!(parent.join_path(&below).as_ref(), Ok(&path));
    }
    assert!(!path.to_string().contains(char::is_control));
    if path.link_stays_below(other) {
        assert!(stays_below(&path, other), "{path} -> {}", human::escaped(other));
    }
    if let Ok(other) = RelPath::from_bytes(other) {
        two_paths(&path, &other);
    }
    true
}

fn two_paths(one: &RelPath, other: &RelPath) {
    assert_eq!(one.cmp(other), other.cmp(one).reverse());
    assert_eq!(one == other, one.cmp(other).is_eq());
    if let Ok(below) = one.join_path(other) {
        assert_eq!(below.strip(one).as_ref(), Some(other));
        assert!(below >= *one);
        assert_eq!(below.depth(), one.depth() + other.depth());
        assert_eq!(RelPath::from_bytes(below.as_bytes()), Ok(below));
    }
    if let Some(rest) = one.strip(other) {
        assert_eq!(other.join_path(&rest).as_ref(), Ok(one));
    }
}

/// Follows the text step by step: where it leads, and whether it was outside on the way.
fn stays_below(at: &RelPath, text: &[u8]) -> bool {
    let mut place: Vec<&[u8]> = at.components().collect();
    place.pop();
    for name in text.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                if place.pop().is_none() {
                    return false;
                }
            }
            name => place.push(name),
        }
    }
    !text.starts_with(b"/")
}

pub(super) fn path_seeds() -> Vec<Vec<u8>> {
    let deep = vec![b"a".as_slice(); PATH_DEPTH_MAX].join(&b'/');
    let long = vec![b'x'; COMPONENT_BYTES_MAX];
    let mut seeds: Vec<Vec<u8>> = [
        &b"models/llama/model-00001.safetensors"[..],
        b"a/b/link\0../../x",
        b"a/b/link\0./c//d/.",
        b"a/b\0a/b/c",
        b"a-b\0a/z",
        b"//a/./b//",
        b"dir/\xff\xfe \n\x1b[2J",
        b"",
    ]
    .map(<[u8]>::to_vec)
    .into();
    seeds.extend([deep, long]);
    seeds
}

/// A text that names something.
pub(super) fn text(data: &[u8]) -> bool {
    let shown = human::escaped(data);
    assert!(!shown.contains(char::is_control));
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let mut known = false;
    if let Ok(digest) = text.parse::<Digest>() {
        known = true;
        assert_eq!(digest.to_string(), text.to_ascii_lowercase());
        assert_eq!(Digest::from_slice(&digest.0), Some(digest));
    }
    if let Ok(id) = text.parse::<TransferId>() {
        known = true;
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
    }
    if let Ok(name) = text.parse::<NodeName>() {
        known = true;
        assert_eq!(name.as_str(), text);
        assert!((1..=NAME_BYTES_MAX).contains(&text.len()));
        // A name can be a file's name, and needs no quotes.
        assert!(RelPath::root().join(data).is_ok());
        let json = serde_json::to_vec(&name).expect("a name is a string");
        assert_eq!(serde_json::from_slice::<NodeName>(&json).ok(), Some(name));
    }
    if let Ok(name) = text.parse::<SiteName>() {
        known = true;
        assert_eq!(name.as_str(), text);
    }
    if let Ok(tier) = text.parse::<Tier>() {
        known = true;
        assert_eq!(tier.to_string(), text);
    }
    if let Ok(congestion) = text.parse::<Congestion>() {
        known = true;
        assert_eq!(congestion.to_string(), text);
    }
    known
}

pub(super) fn text_seeds() -> Vec<Vec<u8>> {
    let digest = Digest::of(b"portway").to_string();
    let id = TransferId(7).to_string();
    let texts = [&digest, &id, "gpu-01.rack_2", "onprem", "private", "public", "bbr", "cubic"];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
