//! Content encodings of data messages: raw, zstd, byte planes, and differences to a base. Pure.
//!
//! `docs/encoding.md` is the format and argues its limits. [`Encoder`] chooses and encodes,
//! [`Decoder`] decodes; both keep their memory from one message to the next, and belong to one
//! thread at a time.

mod decoder;
mod encoder;
mod near;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod planes;
mod probe;
#[cfg(test)]
mod tests;

pub use self::decoder::{DecodeError, Decoder};
pub use self::encoder::{Encoded, Encoder};
pub use self::near::{BLOCK_BYTES, BLOCKS_MAX, Blocks, Malformed, SUM_BYTES, sum_blocks};
pub use self::planes::{Form, Planes};

use crate::base::limits::LEASE_BYTES;

/// Most bytes of content that are encoded or decoded at once.
pub const CONTENT_BYTES_MAX: usize = LEASE_BYTES;
/// Content below this is sent raw: there is nothing to gain.
pub const CONTENT_BYTES_MIN: usize = 256;
/// Most bytes of a target's files that the content of one message may be copied from.
pub const NEAR_BYTES_MAX: usize = BLOCKS_MAX * BLOCK_BYTES;
/// Bytes of the sums of that many.
pub const NEAR_SUMS_BYTES_MAX: usize = BLOCKS_MAX * SUM_BYTES;
/// An encoding must save at least one part in this many, or the content is sent raw.
pub const SAVING_PARTS: usize = 32;

/// Whether content is to be encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Compress {
    /// Where processors are idle and the link is what is waited for.
    #[default]
    Auto,
    /// Whatever can be made smaller.
    Always,
    /// Nothing.
    Never,
}

impl Compress {
    /// What holds when both ends say something: one that wants none gets none; else one that
    /// always wants it gets it.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, _) | (_, Self::Never) => Self::Never,
            (Self::Always, _) | (_, Self::Always) => Self::Always,
            (Self::Auto, Self::Auto) => Self::Auto,
        }
    }
}

/// Width of an element, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// bf16, fp16, 16-bit tokens.
    Two,
    /// fp32, 32-bit tokens.
    Four,
    /// fp64, 64-bit integers.
    Eight,
}

impl Width {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Two, Self::Four, Self::Eight];

    /// Bytes of an element, which is also the number of planes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// The width of that many bytes.
    pub const fn of(bytes: u8) -> Option<Self> {
        match bytes {
            2 => Some(Self::Two),
            4 => Some(Self::Four),
            8 => Some(Self::Eight),
            _ => None,
        }
    }
}

/// How the content of one data message is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// As it is.
    Raw,
    /// Zstandard frames.
    Zstd,
    /// Elements, byte plane by byte plane, each raw or Zstandard frames.
    Planes(Layout),
    /// As `Planes`, each element first turned left by one bit: the exponent of bf16 and fp32 then
    /// fills the last plane alone, and the sign goes to the first.
    Turned(Layout),
    /// As `Planes`, of the difference of each element to that of a base, as an integer, zigzag.
    Delta(Layout),
    /// Copies of blocks that the receiver told sums of, and what lies between them.
    Blocks,
}

/// Where elements lie in content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    width: Width,
    shift: u8,
}

impl Layout {
    /// Elements of `width` from the byte `shift` (modulo the width) of the content on.
    pub const fn new(width: Width, shift: usize) -> Self {
        Self { width, shift: (shift % width.bytes()) as u8 }
    }

    /// Width of an element.
    pub const fn width(self) -> Width {
        self.width
    }

    /// Bytes of the content before its first element, less than the width.
    pub const fn shift(self) -> usize {
        self.shift as usize
    }

    /// How many whole elements there are in `len` bytes of content.
    pub const fn elements(self, len: usize) -> usize {
        len.saturating_sub(self.shift as usize) / self.width.bytes()
    }

    /// The layout of content that begins `by` bytes later.
    pub const fn moved(self, by: u64) -> Self {
        let width = self.width.bytes();
        let by = (by % width as u64) as usize;
        Self::new(self.width, self.shift as usize + width - by)
    }
}

impl Encoding {
    /// Bytes of the wire form.
    pub const BYTES: usize = 4;

    /// Where elements lie, if there are any.
    pub const fn layout(self) -> Option<Layout> {
        match self {
            Self::Raw | Self::Zstd | Self::Blocks => None,
            Self::Planes(layout) | Self::Turned(layout) | Self::Delta(layout) => Some(layout),
        }
    }

    /// The same for content of the object that begins `by` bytes later.
    pub const fn moved(self, by: u64) -> Self {
        match self {
            Self::Raw | Self::Zstd | Self::Blocks => self,
            Self::Planes(layout) => Self::Planes(layout.moved(by)),
            Self::Turned(layout) => Self::Turned(layout.moved(by)),
            Self::Delta(layout) => Self::Delta(layout.moved(by)),
        }
    }

    /// The wire form: kind, width, shift, zero.
    pub const fn to_bytes(self) -> [u8; Self::BYTES] {
        let kind = match self {
            Self::Raw => 0,
            Self::Zstd => 1,
            Self::Planes(_) => 2,
            Self::Turned(_) => 3,
            Self::Delta(_) => 4,
            Self::Blocks => 5,
        };
        match self.layout() {
            None => [kind, 0, 0, 0],
            Some(layout) => [kind, layout.width.bytes() as u8, layout.shift, 0],
        }
    }

    /// Reads the wire form; of each encoding there is one only.
    ///
    /// # Errors
    /// [`DecodeError::Unknown`] for anything else.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Result<Self, DecodeError> {
        let [kind, width, shift, zero] = bytes;
        let unknown = DecodeError::Unknown { bytes };
        let layout = match Width::of(width) {
            Some(width) if usize::from(shift) < width.bytes() => Some(Layout { width, shift }),
            None if width == 0 && shift == 0 => None,
            _ => return Err(unknown),
        };
        match (kind, layout, zero) {
            (0, None, 0) => Ok(Self::Raw),
            (1, None, 0) => Ok(Self::Zstd),
            (2, Some(layout), 0) => Ok(Self::Planes(layout)),
            (3, Some(layout), 0) => Ok(Self::Turned(layout)),
            (4, Some(layout), 0) => Ok(Self::Delta(layout)),
            (5, None, 0) => Ok(Self::Blocks),
            _ => Err(unknown),
        }
    }
}

/// In the word of a plane's table: the plane is Zstandard frames.
const PLANE_ZSTD: u32 = 1 << 31;
/// Bytes of the word of one plane in the table.
const PLANE_WORD_BYTES: usize = 4;
