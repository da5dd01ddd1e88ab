//! Where the bytes of an object were in an earlier version of it.
//!
//! Tensors of a safetensors file are found by their names: one of the same name and length is taken for
//! an earlier state of the same tensor, wherever it lies. Other objects have their bytes where they had
//! them, if they are as long as before. It is a guess, and a wrong one costs bytes, never correctness.

use std::collections::HashMap;

use super::tensor;

/// The beginning of an object, as far as it says where tensors lie.
pub struct Head<'a> {
    /// Length of the object in bytes.
    pub len: u64,
    /// Its first [`head_bytes`] bytes; empty if that is `None`.
    pub bytes: &'a [u8],
}

/// Bytes at the beginning of an object that tell how long its header is.
pub const HEAD_FIRST_BYTES: usize = tensor::LENGTH_BYTES;

/// How long the header of an object of `len` bytes is that begins with `first`; `None` if it can have
/// none.
pub fn head_bytes(first: &[u8], len: u64) -> Option<usize> {
    tensor::header_end(first, len).and_then(|end| usize::try_from(end).ok())
}

/// Bytes that moved together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    start: u64,
    end: u64,
    before: u64,
}

/// Where bytes of an object were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moved(Vec<Stretch>);

impl Moved {
    /// Where the bytes of `now` were in `before`.
    pub fn between(now: &Head<'_>, before: &Head<'_>) -> Self {
        let (Some(tensors), Some(earlier)) = (places(now), places(before)) else {
            let whole = Stretch { start: 0, end: now.len, before: 0 };
            return Self(if now.len == before.len { vec![whole] } else { Vec::new() });
        };
        let same = |(name, place): (&String, &(u64, u64))| {
            let (start, len) = *place;
            let (before, _) = *earlier.get(name).filter(|(_, before_len)| *before_len == len)?;
            Some(Stretch { start, end: start + len, before })
        };
        let mut stretches: Vec<Stretch> = tensors.iter().filter_map(same).collect();
        stretches.sort_unstable_by_key(|stretch| stretch.start);
        // Neighbours that moved together are one.
        stretches.dedup_by(|next, last| {
            let joins =
                last.end == next.start && last.end - last.start + last.before == next.before;
            last.end = if joins { next.end } else { last.end };
            joins
        });
        Self(stretches)
    }

    /// Whether nothing of the object was there before.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where the `len` bytes from `offset` on were: places and lengths one after the other, `None` for
    /// what was not there.
    pub fn find(&self, offset: u64, len: u64) -> Vec<(Option<u64>, u64)> {
        let (mut at, end) = (offset, offset.saturating_add(len));
        let mut found = Vec::new();
        let first = self.0.partition_point(|stretch| stretch.end <= offset);
        for stretch in self.0.iter().skip(first).take_while(|stretch| stretch.start < end) {
            if stretch.start > at {
                found.push((None, stretch.start - at));
                at = stretch.start;
            }
            // Tensors of a header that lies may overlap.
            let to = stretch.end.min(end);
            if to > at {
                found.push((Some(stretch.before + (at - stretch.start)), to - at));
                at = to;
            }
        }
        if at < end {
            found.push((None, end - at));
        }
        found
    }
}

/// Where the tensors of an object begin, and their lengths; `None` if it says nothing of tensors.
fn places(head: &Head<'_>) -> Option<HashMap<String, (u64, u64)>> {
    let end = tensor::header_end(head.bytes, head.len)?;
    let json = head.bytes.get(tensor::LENGTH_BYTES..usize::try_from(end).ok()?)?;
    tensor::places(json, end, head.len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(tensors: &[(&str, u64, u64)]) -> Vec<u8> {
        let described = tensors.iter().map(|(name, begin, end)| {
            format!(r#""{name}":{{"dtype":"BF16","shape":[1],"data_offsets":[{begin},{end}]}}"#)
        });
        let json = format!("{{{}}}", described.collect::<Vec<_>>().join(","));
        let mut head = (json.len() as u64).to_le_bytes().to_vec();
        head.extend_from_slice(json.as_bytes());
        head
    }

    #[test]
    fn tensors_are_found_by_name_wherever_they_lie() {
        let before = head(&[("a", 0, 100), ("b", 100, 300), ("c", 300, 310), ("d", 310, 350)]);
        let now = head(&[("new", 0, 50), ("b", 50, 250), ("c", 250, 260), ("a", 260, 361)]);
        let (was, is) = (before.len() as u64, now.len() as u64);
        let moved = Moved::between(
            &Head { len: is + 361, bytes: &now },
            &Head { len: was + 350, bytes: &before },
        );
        // The header and a new tensor were nowhere; b and c moved together; a has another length.
        assert_eq!(moved.find(0, is + 361), [(None, is + 50), (Some(was + 100), 210), (None, 101)]);
        assert_eq!(moved.find(is + 60, 10), [(Some(was + 110), 10)]);
        assert_eq!(moved.find(is + 255, 10), [(Some(was + 305), 5), (None, 5)]);
        assert_eq!(moved.find(is + 300, 10), [(None, 10)]);
        assert!(!moved.is_empty());
    }

    #[test]
    fn what_has_no_tensors_stays_where_it_was_if_it_is_as_long() {
        let of = |len, bytes| Head { len, bytes };
        let moved = Moved::between(&of(1000, b"PK"), &of(1000, b""));
        assert_eq!(moved.find(10, 20), [(Some(10), 20)]);
        assert_eq!(moved.find(990, 20), [(Some(990), 10), (None, 10)]);
        assert!(Moved::between(&of(1000, b""), &of(999, b"")).is_empty());
        let tensors = head(&[("a", 0, 100)]);
        let len = tensors.len() as u64 + 100;
        assert!(Moved::between(&of(len, &tensors), &of(len - 1, b"")).is_empty());
    }

    #[test]
    fn headers_that_lie_are_no_headers() {
        let lies = head(&[("a", 0, u64::MAX), ("b", 5, 1)]);
        let len = lies.len() as u64 + 10;
        let moved = Moved::between(&Head { len, bytes: &lies }, &Head { len, bytes: &lies });
        assert_eq!(moved.find(0, len), [(Some(0), len)]);
        assert_eq!(head_bytes(&[0xff; 8], 1 << 40), None);
        assert_eq!(head_bytes(&lies, len), Some(lies.len()));
    }
}
