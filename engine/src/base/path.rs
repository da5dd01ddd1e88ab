//! A relative path as a list of raw byte components, safe by construction.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::limits::{COMPONENT_BYTES_MAX, LINK_BYTES_MAX, PATH_DEPTH_MAX};

/// A relative path below some root: components separated by single slashes, none of them empty,
/// `.` or `..`, none with a NUL byte. The empty path names the root itself.
///
/// Bytes are kept exactly; a name need not be UTF-8. Values order component by component, which
/// is the canonical order of a manifest: a directory comes right before what is below it. A clone
/// shares the bytes.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RelPath(Arc<[u8]>);

/// Why some bytes are not a path below a root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A component is empty, which includes a leading or doubled slash.
    #[error("a path component is empty")]
    Empty,
    /// A component is `.` or `..`.
    #[error("a path component is '.' or '..'")]
    Dots,
    /// A component holds a NUL byte or a slash.
    #[error("a path component holds a NUL byte or a slash")]
    Byte,
    /// A component is longer than any file system here allows.
    #[error("a path component has {len} bytes, more than {COMPONENT_BYTES_MAX}")]
    ComponentLong {
        /// Its length in bytes.
        len: usize,
    },
    /// There are too many components.
    #[error("a path is deeper than {PATH_DEPTH_MAX} components")]
    Deep,
}

fn check_component(name: &[u8]) -> Result<(), PathError> {
    if name.is_empty() {
        Err(PathError::Empty)
    } else if name == b"." || name == b".." {
        Err(PathError::Dots)
    } else if name.contains(&0) || name.contains(&b'/') {
        Err(PathError::Byte)
    } else if name.len() > COMPONENT_BYTES_MAX {
        Err(PathError::ComponentLong { len: name.len() })
    } else {
        Ok(())
    }
}

impl RelPath {
    /// The root itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// A path from slash-separated bytes, checked strictly: this is how a peer's words come in.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Ok(Self::root());
        }
        let mut depth = 0;
        for name in bytes.split(|&b| b == b'/') {
            check_component(name)?;
            depth += 1;
        }
        if depth > PATH_DEPTH_MAX {
            return Err(PathError::Deep);
        }
        Ok(Self(bytes.into()))
    }

    /// A path as a person types it: leading, trailing and doubled slashes and `.` are dropped.
    /// `..` stays an error.
    pub fn from_typed(bytes: &[u8]) -> Result<Self, PathError> {
        let kept: Vec<&[u8]> =
            bytes.split(|&b| b == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
        Self::from_bytes(&kept.join(&b'/'))
    }

    /// This path with one more component.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        check_component(name)?;
        if self.is_root() {
            return Ok(Self(name.into()));
        }
        if self.depth() >= PATH_DEPTH_MAX {
            return Err(PathError::Deep);
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        Ok(Self(bytes.into()))
    }

    /// `below` placed under this path.
    pub fn join_path(&self, below: &Self) -> Result<Self, PathError> {
        if self.is_root() {
            return Ok(below.clone());
        }
        if below.is_root() {
            return Ok(self.clone());
        }
        if self.depth() + below.depth() > PATH_DEPTH_MAX {
            return Err(PathError::Deep);
        }
        Ok(Self([&self.0[..], b"/", &below.0[..]].concat().into()))
    }

    /// The slash-separated bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of components.
    pub fn depth(&self) -> usize {
        if self.is_root() { 0 } else { self.0.split(|&byte| byte == b'/').count() }
    }

    /// The components from the top down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|name| !name.is_empty())
    }

    /// The last component, or `None` for the root.
    pub fn name(&self) -> Option<&[u8]> {
        self.split_last().map(|(_, name)| name)
    }

    /// The bytes of the path without its last component, and that component; `None` for the root.
    pub fn split_last(&self) -> Option<(&[u8], &[u8])> {
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(at) => Some((&self.0[..at], &self.0[at + 1..])),
            None => (!self.is_root()).then_some((&[], &self.0)),
        }
    }

    /// The path without its last component, or `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        self.split_last().map(|(parent, _)| Self(parent.into()))
    }

    /// Whether a symbolic link at this path with this text stays at or below the root, whatever the
    /// other links there are, as long as each of them passes this check.
    ///
    /// `..` may only lead the text: there it climbs the real directories above the link. After a
    /// name it would climb from wherever another link led.
    pub fn link_stays_below(&self, text: &[u8]) -> bool {
        let long = text.len() > LINK_BYTES_MAX;
        if text.is_empty() || long || text.starts_with(b"/") || text.contains(&0) {
            return false;
        }
        let mut above = self.depth().saturating_sub(1);
        let mut named = false;
        for name in text.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." if named || above == 0 => return false,
                b".." => above -= 1,
                _ => named = true,
            }
        }
        true
    }

    /// What lies below `base` in this path, or `None` if this is not at or below `base`.
    pub fn strip(&self, base: &Self) -> Option<Self> {
        if base.is_root() {
            return Some(self.clone());
        }
        match self.0.strip_prefix(&base.0[..])? {
            [] => Some(Self::root()),
            [b'/', rest @ ..] => Some(Self(rest.into())),
            _ => None,
        }
    }
}

impl Ord for RelPath {
    /// Where two paths differ first, a slash ends the shorter name: it comes before any other byte,
    /// and behind the end of a path.
    fn cmp(&self, other: &Self) -> Ordering {
        let (ours, theirs) = (&*self.0, &*other.0);
        let (ours_words, theirs_words) = (ours.as_chunks::<8>().0, theirs.as_chunks::<8>().0);
        let same = ours_words.iter().zip(theirs_words).take_while(|(one, other)| one == other);
        let at = 8 * same.count();
        let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
        let differ = ours[at..].iter().zip(&theirs[at..]).find(|(one, other)| one != other);
        match differ {
            Some((&one, &other)) => rank(one).cmp(&rank(other)),
            None => ours.len().cmp(&theirs.len()),
        }
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Escaped for terminals and logs: control bytes and bytes that are not UTF-8 show as `\xNN`.
impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str(".") } else { f.write_str(&super::human::escaped(&self.0)) }
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_would_leave_the_root_are_refused() {
        for bad in ["/a", "a//b", "a/", "..", "a/../b", "./a", "a/.", "a\0b", "/"] {
            assert!(RelPath::from_bytes(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(RelPath::from_bytes(&[b'a'; 256]).is_err());
        assert!(RelPath::from_bytes("a/".repeat(PATH_DEPTH_MAX).as_bytes()).is_err());
        assert!(
            RelPath::from_bytes(&vec![b"a".as_slice(); PATH_DEPTH_MAX + 1].join(&b'/')).is_err()
        );
        assert!(RelPath::from_typed(b"../a").is_err());
    }

    #[test]
    fn links_that_climb_out_are_told_from_those_that_stay() {
        let at = RelPath::from_typed(b"a/b/link").unwrap_or_default();
        for inside in ["x", "../x", "../../x", "./x", "c//d/.", ".."] {
            assert!(at.link_stays_below(inside.as_bytes()), "{inside}");
        }
        for outside in ["/x", "../../../x", "../../a/../x", "c/../..", "/", ""] {
            assert!(!at.link_stays_below(outside.as_bytes()), "{outside}");
        }
    }

    #[test]
    fn typed_paths_are_tidied() {
        let path = RelPath::from_typed(b"//a/./b//").unwrap_or_default();
        assert_eq!(path.as_bytes(), b"a/b");
        assert_eq!(RelPath::from_typed(b"/"), Ok(RelPath::root()));
    }

    #[test]
    fn order_is_by_component_so_a_directory_precedes_its_siblings_with_a_longer_name() {
        let path = |s: &str| RelPath::from_bytes(s.as_bytes()).unwrap_or_default();
        assert!(path("a") < path("a/z"));
        assert!(path("a/z") < path("a-b"));
        assert!(RelPath::root() < path("a") && path("a") < path("a\u{1}"));
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(RelPath::root()));
        assert_eq!(path("a/b").strip(&path("a")), Some(path("b")));
        assert_eq!(path("ab").strip(&path("a")), None);
    }

    #[test]
    fn order_is_that_of_the_lists_of_components() {
        let names =
            ["a", "a\u{1}", "a-", "a0", "same-long-beginning", "same-long-beginning-b", "b"];
        let mut paths = vec![RelPath::root()];
        for depth in 0..3 {
            let below: Vec<RelPath> = paths.clone();
            paths.extend(
                below.iter().filter(|path| path.depth() == depth).flat_map(|path| {
                    names.iter().filter_map(|name| path.join(name.as_bytes()).ok())
                }),
            );
        }
        for one in &paths {
            for other in paths.iter().step_by(3) {
                assert_eq!(
                    one.cmp(other),
                    one.components().cmp(other.components()),
                    "{one} {other}"
                );
            }
        }
    }
}
