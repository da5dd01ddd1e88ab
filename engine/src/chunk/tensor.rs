//! The tensor cutter: reads a safetensors header as it passes and plans the cuts by it.
//!
//! The format: eight bytes of little-endian header length, the header (a JSON object of tensor names
//! with their `data_offsets`, relative to the header's end), the tensors' bytes.
//! <https://github.com/huggingface/safetensors#format>

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{TENSOR_BLOCK_BYTES, TENSOR_HEADER_BYTES_MAX};

/// Bytes of the header's length at the beginning of a file.
pub(super) const LENGTH_BYTES: usize = 8;
/// Most tensors in one file; with more it is cut by content.
const TENSORS_MAX: usize = 1 << 20;
/// Tensors below this many bytes are small: neighbours among them share a chunk.
const SMALL_BYTES: u64 = 16 << 10;
/// Small tensors that share a chunk measure this much on average, in bytes.
const GROUP_BYTES_AVG: u64 = 32 << 10;
/// Most bytes of small tensors that share a chunk.
const GROUP_BYTES_MAX: u64 = 256 << 10;

/// Where the header ends in a file of `object_len` bytes beginning with `head`, if a header can be.
pub(super) fn header_end(head: &[u8], object_len: u64) -> Option<u64> {
    let (length, _) = head.split_first_chunk::<LENGTH_BYTES>()?;
    let header_len = u64::from_le_bytes(*length);
    let end = header_len.checked_add(LENGTH_BYTES as u64)?;
    // The shortest object in JSON is `{}`.
    ((2..=TENSOR_HEADER_BYTES_MAX).contains(&header_len) && end <= object_len).then_some(end)
}

/// What [`Header::next`] found.
pub(super) enum Step {
    /// More bytes are needed.
    More,
    /// A chunk of the header of this length; the header goes on.
    Cut(usize),
    /// The header's last chunk, of this length, and the cuts behind it if it makes sense.
    End(usize, Option<Segments>),
    /// This is no header, and here a chunk begins.
    NotTensors,
}

/// A header that is passing.
#[derive(Default)]
pub(super) struct Header {
    seen: Vec<u8>,
    /// Where it ends in the object; zero until its length is known.
    end: u64,
}

impl Header {
    /// As [`super::Cuts::next`], for bytes that are not empty.
    pub(super) fn next(&mut self, offset: u64, bytes: &[u8], last: bool, object_len: u64) -> Step {
        if offset != self.seen.len() as u64 {
            // A hole in the header.
            return Step::NotTensors;
        }
        if offset == 0 {
            match header_end(bytes, object_len) {
                Some(end) => self.end = end,
                None if bytes.len() < LENGTH_BYTES && !last => return Step::More,
                None => return Step::NotTensors,
            }
        }
        let want = (self.end - offset).min(TENSOR_BLOCK_BYTES as u64) as usize;
        let Some(block) = bytes.get(..want) else {
            return if last { Step::Cut(bytes.len()) } else { Step::More };
        };
        self.seen.extend_from_slice(block);
        if (self.seen.len() as u64) < self.end {
            return Step::Cut(want);
        }
        let json = self.seen.get(LENGTH_BYTES..).unwrap_or_default();
        Step::End(want, Segments::plan(json, self.end, object_len))
    }
}

/// The cuts behind a header: segments, each cut in blocks from its own start.
pub(super) struct Segments {
    /// Where segments start in the object, rising; the last one has no end.
    starts: Vec<u64>,
    /// The segment of the latest chunk.
    at: usize,
}

impl Segments {
    /// The segments of a file whose header is `json` and ends at `header_end`; `None` if the header
    /// is malformed or its tensors overlap or lie beyond the file's end.
    fn plan(json: &[u8], header_end: u64, object_len: u64) -> Option<Self> {
        let Tensors(mut tensors) = serde_json::from_slice(json).ok()?;
        let data_len = object_len.checked_sub(header_end)?;
        tensors.sort_unstable_by_key(|tensor| (tensor.begin, tensor.end));
        let mut starts = vec![header_end];
        let mut group = Group::Closed;
        for (i, tensor) in tensors.iter().enumerate() {
            let next = tensors.get(i + 1).map_or(data_len, |next| next.begin);
            if tensor.begin > tensor.end || tensor.end > next || next > data_len {
                return None;
            }
            // Bytes that belong to no tensor go with the one before them.
            let len = next - tensor.begin;
            if len > 0 && group.add(len, tensor.mark) {
                let start = header_end + tensor.begin;
                // The first tensor starts where the header ends.
                if starts.last() != Some(&start) {
                    starts.push(start);
                }
            }
        }
        starts.shrink_to_fit();
        Some(Self { starts, at: 0 })
    }

    /// Bytes from `offset` to the end of its chunk. Offsets must not fall from call to call.
    pub(super) fn rest_of_chunk(&mut self, offset: u64) -> u64 {
        let ahead = self.starts.get(self.at + 1..).unwrap_or_default();
        self.at += ahead.iter().take_while(|&&start| start <= offset).count();
        let start = self.starts.get(self.at).copied().unwrap_or_default();
        let block_bytes = TENSOR_BLOCK_BYTES as u64;
        let to_block = block_bytes - offset.saturating_sub(start) % block_bytes;
        match self.starts.get(self.at + 1) {
            Some(next) => to_block.min(next - offset),
            None => to_block,
        }
    }
}

/// The group of small tensors that is being filled.
#[derive(Clone, Copy)]
enum Group {
    Closed,
    Open { bytes: u64 },
}

impl Group {
    /// Takes a tensor of `len` bytes; tells whether it starts a new segment.
    ///
    /// A group ends behind a tensor whose own mark says so, with a likelihood that grows with its
    /// length. A tensor more or less changes the group around it and no other.
    fn add(&mut self, len: u64, mark: u32) -> bool {
        let small = len < SMALL_BYTES;
        let (starts, bytes) = match *self {
            Self::Open { bytes } if small && bytes + len <= GROUP_BYTES_MAX => (false, bytes + len),
            Self::Open { .. } | Self::Closed => (true, len),
        };
        let goes_on = small && u64::from(mark) * GROUP_BYTES_AVG >= len << u32::BITS;
        *self = if goes_on { Self::Open { bytes } } else { Self::Closed };
        starts
    }
}

/// Where the tensors of an object of `object_len` bytes begin, by their names, and how long they are;
/// the header is `json` and ends at `header_end`. `None` if it is malformed.
pub(super) fn places(
    json: &[u8],
    header_end: u64,
    object_len: u64,
) -> Option<HashMap<String, (u64, u64)>> {
    let Tensors(tensors) = serde_json::from_slice(json).ok()?;
    let data_len = object_len.checked_sub(header_end)?;
    let place = |Tensor { name, begin, end, .. }: Tensor| {
        let len = end.checked_sub(begin).filter(|_| end <= data_len)?;
        Some((name, (header_end + begin, len)))
    };
    tensors.into_iter().map(place).collect()
}

/// What a header says of a tensor.
struct Tensor {
    name: String,
    begin: u64,
    end: u64,
    /// A number at random, but always the same for the same name.
    mark: u32,
}

impl Tensor {
    fn mark(name: &str) -> u32 {
        let hash = blake3::hash(name.as_bytes());
        hash.as_bytes().first_chunk().map_or(0, |head| u32::from_le_bytes(*head))
    }
}

/// A whole header.
struct Tensors(Vec<Tensor>);

/// The part of a tensor's description that says where it lies.
#[derive(Deserialize)]
struct Place {
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TensorsVisitor)
    }
}

struct TensorsVisitor;

impl<'de> Visitor<'de> for TensorsVisitor {
    type Value = Tensors;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {TENSORS_MAX} tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tensors, A::Error> {
        let mut tensors = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if tensors.len() == TENSORS_MAX {
                return Err(serde::de::Error::invalid_length(TENSORS_MAX + 1, &self));
            }
            let Place { data_offsets: (begin, end) } = map.next_value()?;
            let mark = Tensor::mark(&name);
            tensors.push(Tensor { name, begin, end, mark });
        }
        Ok(Tensors(tensors))
    }
}
