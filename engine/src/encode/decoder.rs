//! Decoding what a peer sent: every length is checked before it is used.

use thiserror::Error;
use zstd::zstd_safe::DCtx;

use super::near::{self, Malformed};
use super::{CONTENT_BYTES_MAX, Encoding, Form, Layout, PLANE_WORD_BYTES, PLANE_ZSTD, Planes};

/// Why encoded content was not decoded. The message is to be dropped; its chunks can be asked for
/// again, raw.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The wire form of an encoding that is not known here.
    #[error("unknown content encoding {bytes:02x?}")]
    Unknown {
        /// What came.
        bytes: [u8; Encoding::BYTES],
    },
    /// More content is expected than one message carries.
    #[error("{len} bytes of decoded content, more than {CONTENT_BYTES_MAX}")]
    TooLong {
        /// Bytes that the decoded content should have.
        len: usize,
    },
    /// The parts of the content are not as long as they must be together.
    #[error("{have} bytes of encoded content where there must be {want}")]
    Length {
        /// Bytes that there must be.
        want: usize,
        /// Bytes that there are.
        have: usize,
    },
    /// Frames that are damaged, or do not decode to exactly the bytes they stand for.
    #[error("zstd frames that do not decode to {want} bytes")]
    Frames {
        /// Bytes that they must decode to.
        want: usize,
    },
    /// A difference, and no base of that length.
    #[error("a difference to a base of {want} bytes, and a base of {have:?}")]
    Base {
        /// Bytes of the content.
        want: usize,
        /// Bytes of the base that was given.
        have: Option<usize>,
    },
    /// Copies of blocks that are not here, or of which the content does not become that long.
    #[error(transparent)]
    Copies(#[from] Malformed),
    /// There was no memory for a context.
    #[error("no memory for a zstd context")]
    Memory,
}

/// Decodes content, one message after the other.
#[derive(Default)]
pub struct Decoder {
    context: Option<DCtx<'static>>,
    /// Planes that came as frames; at most `CONTENT_BYTES_MAX`.
    planes: Vec<u8>,
}

/// One plane of a message.
#[derive(Clone, Copy, Default)]
struct Plane<'a> {
    bytes: &'a [u8],
    zstd: bool,
}

impl Decoder {
    /// A decoder that has taken no memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes `content` into exactly the whole of `out`. `base` is what the content is a difference
    /// to, as long as `out`; other encodings do not look at it. Takes no more memory than `out` is
    /// long, and a context of some 100 KiB, whatever the content says.
    ///
    /// # Errors
    /// What is wrong with the content; `out` then holds anything.
    pub fn decode(
        &mut self,
        encoding: Encoding,
        content: &[u8],
        base: Option<&[u8]>,
        out: &mut [u8],
    ) -> Result<(), DecodeError> {
        if out.len() > CONTENT_BYTES_MAX {
            return Err(DecodeError::TooLong { len: out.len() });
        }
        match encoding {
            Encoding::Raw if content.len() == out.len() => {
                out.copy_from_slice(content);
                Ok(())
            }
            Encoding::Raw => Err(DecodeError::Length { want: out.len(), have: content.len() }),
            Encoding::Zstd => unpack(&mut self.context, content, out),
            Encoding::Planes(layout) => self.join(layout, Form::Plain, content, out),
            Encoding::Turned(layout) => self.join(layout, Form::Turned, content, out),
            Encoding::Delta(layout) => {
                let missing = DecodeError::Base { want: out.len(), have: base.map(<[u8]>::len) };
                let base = base.filter(|base| base.len() == out.len()).ok_or(missing)?;
                let base = base.get(layout.shift()..).unwrap_or(&[]);
                self.join(layout, Form::Delta(base), content, out)
            }
            Encoding::Blocks => Ok(near::read(base.unwrap_or_default(), content, out)?),
        }
    }

    fn join(
        &mut self,
        layout: Layout,
        form: Form<'_>,
        content: &[u8],
        out: &mut [u8],
    ) -> Result<(), DecodeError> {
        let width = layout.width().bytes();
        let count = layout.elements(out.len());
        let head_len = layout.shift().min(out.len());
        let (head, rest) = out.split_at_mut(head_len);
        let (elements, tail) = rest.split_at_mut(count * width);
        let (planes, ends) = table(content, width, count, head.len() + tail.len())?;
        let (from_head, from_tail) = ends.split_at(head.len());
        head.copy_from_slice(from_head);
        tail.copy_from_slice(from_tail);

        let planes = &planes[..width];
        let packed = planes.iter().filter(|plane| plane.zstd).count() * count;
        if self.planes.len() < packed {
            self.planes.resize(packed, 0);
        }
        let mut parts = self.planes.chunks_exact_mut(count.max(1));
        let mut joined: [&[u8]; 8] = [&[]; 8];
        for (plane, joined) in planes.iter().zip(&mut joined) {
            *joined = if plane.zstd {
                let part = parts.next().unwrap_or_default();
                unpack(&mut self.context, plane.bytes, part)?;
                part
            } else {
                plane.bytes
            };
        }
        Planes(layout.width()).join(&joined[..width], form, elements);
        Ok(())
    }
}

/// The planes that the table at the head of `content` tells of, and the bytes outside the elements.
fn table(
    content: &[u8],
    width: usize,
    count: usize,
    ends: usize,
) -> Result<([Plane<'_>; 8], &[u8]), DecodeError> {
    let short = |want| DecodeError::Length { want, have: content.len() };
    let head = width * PLANE_WORD_BYTES + ends;
    let Some((head, mut rest)) = content.split_at_checked(head) else { return Err(short(head)) };
    let (words, ends) = head.split_at(width * PLANE_WORD_BYTES);
    let mut planes = [Plane::default(); 8];
    for (word, plane) in words.as_chunks().0.iter().zip(&mut planes) {
        let word = u32::from_le_bytes(*word);
        let zstd = word & PLANE_ZSTD != 0;
        let len = (word & !PLANE_ZSTD) as usize;
        // Frames that save nothing are not written; nor are frames of nothing.
        if if zstd { len >= count } else { len != count } {
            return Err(DecodeError::Length { want: count, have: len });
        }
        let Some((bytes, after)) = rest.split_at_checked(len) else {
            return Err(short(content.len() - rest.len() + len));
        };
        *plane = Plane { bytes, zstd };
        rest = after;
    }
    if !rest.is_empty() {
        return Err(short(content.len() - rest.len()));
    }
    Ok((planes, ends))
}

/// Decodes frames into exactly the whole of `out`. In one call `out` is the window: a frame that
/// declares a large one takes no memory for it.
fn unpack(
    context: &mut Option<DCtx<'static>>,
    frames: &[u8],
    out: &mut [u8],
) -> Result<(), DecodeError> {
    let context = match context {
        Some(context) => context,
        None => context.insert(DCtx::try_create().ok_or(DecodeError::Memory)?),
    };
    match context.decompress(out, frames) {
        Ok(len) if len == out.len() => Ok(()),
        Ok(_) | Err(_) => Err(DecodeError::Frames { want: out.len() }),
    }
}
