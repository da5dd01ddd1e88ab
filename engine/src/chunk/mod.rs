//! Cutters: where the chunks of an object end. `docs/chunks.md` is the byte-exact format.
//!
//! Both ends of a transfer, and one node today and in a year, must cut the same bytes the same way,
//! or nothing is ever found again. So a cutter is a format: it travels in the manifest as a code,
//! and golden vectors pin its boundaries.

mod gear;
mod moved;
mod tensor;

#[cfg(test)]
mod tests;

use crate::base::limits::{CHUNK_BYTES_MAX, TENSOR_BLOCK_BYTES, TENSOR_HEADER_BYTES_MAX};
use gear::Content;
use tensor::{Header, Segments, Step};

pub use moved::{HEAD_FIRST_BYTES, Head, Moved, head_bytes};

/// Objects up to this many bytes are one chunk: they travel packed, and finding a part of one again
/// saves less than asking for it costs.
pub const WHOLE_BYTES_MAX: u64 = 64 << 10;

/// How an object is cut, as its manifest records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cutter {
    /// At the tensor starts of a safetensors file, and in blocks of [`TENSOR_BLOCK_BYTES`] inside a
    /// tensor. From where a file turns out not to be safetensors, as `Content` with the size of
    /// [`ChunkSize::for_object`].
    Tensor,
    /// Where a rolling hash over the last 64 bytes says so.
    Content {
        /// What chunks measure on average; they are a quarter to four times that.
        avg: ChunkSize,
    },
    /// At the multiples of a block.
    Fixed {
        /// The block.
        block: ChunkSize,
    },
}

impl Cutter {
    /// The cutter for an object called `name` of `len` bytes that begins with `head`.
    ///
    /// Of `head` the first nine bytes count; fewer are fine, and choose like any other content.
    pub fn choose(name: &[u8], len: u64, head: &[u8]) -> Self {
        if len <= WHOLE_BYTES_MAX {
            return Self::Fixed { block: ChunkSize::WHOLE };
        }
        let tensors = name.ends_with(b".safetensors")
            && tensor::header_end(head, len).is_some()
            && head.get(tensor::LENGTH_BYTES) == Some(&b'{');
        if tensors { Self::Tensor } else { Self::Content { avg: ChunkSize::for_object(len) } }
    }

    /// The number that stands for this cutter in a manifest: the kind in the low byte, the binary
    /// logarithm of its size in the next.
    pub const fn code(self) -> u32 {
        match self {
            Self::Tensor => 1,
            Self::Content { avg } => 2 | (avg.log2 as u32) << 8,
            Self::Fixed { block } => 3 | (block.log2 as u32) << 8,
        }
    }

    /// The cutter that `code` stands for, or `None` if this version knows none.
    pub fn from_code(code: u32) -> Option<Self> {
        let log2 = code >> 8;
        match code & 0xff {
            1 if log2 == 0 => Some(Self::Tensor),
            2 => ChunkSize::from_log2(log2).map(|avg| Self::Content { avg }),
            3 => ChunkSize::from_log2(log2).map(|block| Self::Fixed { block }),
            _ => None,
        }
    }
}

/// A size that a cutter aims at: a power of two from 4 KiB to [`CHUNK_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkSize {
    log2: u8,
}

impl ChunkSize {
    /// What `Content` aims at unless an object is so large that its chunks would be too many.
    pub const CONTENT: Self = Self { log2: 14 };
    /// The block of objects that are one chunk.
    const WHOLE: Self = Self { log2: WHOLE_BYTES_MAX.ilog2() as u8 };
    const LOG2_MIN: u32 = 12;
    const LOG2_MAX: u32 = CHUNK_BYTES_MAX.ilog2();
    /// `Content` never aims higher of its own accord: dedup fades with larger chunks.
    const CONTENT_LOG2_MAX: u32 = 20;

    /// The size of 2 to the power of `log2` bytes, if it is one that chunks may have.
    pub fn from_log2(log2: u32) -> Option<Self> {
        let known = (Self::LOG2_MIN..=Self::LOG2_MAX).contains(&log2);
        known.then_some(Self { log2: log2 as u8 })
    }

    /// What `Content` aims at in an object of `len` bytes.
    ///
    /// 16 KiB up to 1 GiB; from there it doubles whenever the object is four times as long, and
    /// whenever there would be more than 2^20 chunks; at most 1 MiB. Steps are few because an object
    /// that grows past one is cut anew.
    pub fn for_object(len: u64) -> Self {
        let first = u32::from(Self::CONTENT.log2);
        let fits = |log2: u32| len <= 1 << (30 + 2 * (log2 - first)).min(log2 + 20);
        let log2 = (first..Self::CONTENT_LOG2_MAX).find(|&log2| fits(log2));
        Self { log2: log2.unwrap_or(Self::CONTENT_LOG2_MAX) as u8 }
    }

    /// The size in bytes.
    pub const fn bytes(self) -> usize {
        1 << self.log2
    }
}

/// The cuts of one object, found while its bytes stream by.
///
/// A state machine without I/O: call [`next`](Self::next) with what is at hand, and with more bytes
/// of the same chunk when it asks for them. How the bytes are fed never changes where the cuts are.
pub struct Cuts {
    object_len: u64,
    state: State,
}

/// ```text
/// Header --parsed--> Segments
///    '--no safetensors--> Content        Fixed        (the others never change)
/// ```
enum State {
    Fixed { block_bytes: u64 },
    Content(Content),
    Header(Header),
    Segments(Segments),
}

impl Cuts {
    /// Cuts for an object of `object_len` bytes, from its beginning.
    ///
    /// `Tensor` collects the header while it passes: [`TENSOR_HEADER_BYTES_MAX`] of memory at most.
    pub fn new(cutter: Cutter, object_len: u64) -> Self {
        let state = match cutter {
            Cutter::Fixed { block } => State::Fixed { block_bytes: block.bytes() as u64 },
            Cutter::Content { avg } => State::Content(Content::new(avg)),
            Cutter::Tensor => State::Header(Header::default()),
        };
        Self { object_len, state }
    }

    /// Length of the chunk that begins at `offset`, where `bytes` begin too, or `None` if it takes
    /// more bytes to tell (or there are none).
    ///
    /// After a length, the next call begins where that chunk ends, or further on if a hole follows.
    /// After `None`, the next call repeats the offset with at least the same bytes. With `last` no
    /// byte follows before a hole or the end, so the answer is `None` only for no bytes at all;
    /// with [`CHUNK_BYTES_MAX`] bytes it is never `None`.
    pub fn next(&mut self, offset: u64, bytes: &[u8], last: bool) -> Option<usize> {
        if bytes.is_empty() {
            return None;
        }
        if let State::Header(header) = &mut self.state {
            match header.next(offset, bytes, last, self.object_len) {
                Step::More => return None,
                Step::Cut(len) => return Some(len),
                Step::End(len, segments) => {
                    self.state = segments.map_or_else(|| self.fallback(), State::Segments);
                    return Some(len);
                }
                Step::NotTensors => self.state = self.fallback(),
            }
        }
        match &mut self.state {
            State::Fixed { block_bytes } => {
                take(*block_bytes - offset % *block_bytes, bytes.len(), last)
            }
            State::Content(content) => content.next(offset, bytes, last),
            State::Segments(segments) => take(segments.rest_of_chunk(offset), bytes.len(), last),
            // Left above; a header never stays one without an answer.
            State::Header(_) => None,
        }
    }

    fn fallback(&self) -> State {
        State::Content(Content::new(ChunkSize::for_object(self.object_len)))
    }
}

/// A chunk of `want` bytes out of `have`: whole, or what there is if nothing follows.
fn take(want: u64, have: usize, last: bool) -> Option<usize> {
    if want <= have as u64 { Some(want as usize) } else { last.then_some(have) }
}

const _: () = assert!(TENSOR_BLOCK_BYTES <= CHUNK_BYTES_MAX);
const _: () = assert!(WHOLE_BYTES_MAX <= CHUNK_BYTES_MAX as u64);
