//! Encoding content, where it pays.

use zstd::zstd_safe::{CCtx, CParameter, ParamSwitch, Strategy};

use super::probe::{self, Sample};
use super::{
    CONTENT_BYTES_MAX, CONTENT_BYTES_MIN, Encoding, Form, Layout, PLANE_WORD_BYTES, PLANE_ZSTD,
    Planes, SAVING_PARTS,
};

/// Level of Zstandard for content that is not split.
const LEVEL: i32 = 1;
/// How far the search for repetitions steps in a plane: planes of numbers hardly repeat, and what
/// is gained comes from the frequencies of their bytes.
const PLANE_STEP: u32 = 1024;
/// log2 of the entries of the table for repetitions in a plane.
const PLANE_HASH_LOG: u32 = 13;
/// Shortest repetition that is looked for in a plane, in bytes.
const PLANE_MATCH_BYTES: u32 = 7;
/// Planes whose frames save less than one part in this many are raw.
const PLANE_SAVING_PARTS: usize = 64;

/// What was encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// What to tell the peer.
    pub encoding: Encoding,
    /// Bytes at the start of `out`.
    pub len: usize,
}

/// Encodes content, one message after the other.
#[derive(Default)]
pub struct Encoder {
    /// For content that is not split, and for planes.
    contexts: Contexts,
    /// Content that came in several parts, one after the other; at most `CONTENT_BYTES_MAX`.
    gathered: Vec<u8>,
    /// Content, split; at most `CONTENT_BYTES_MAX`.
    planes: Vec<u8>,
    sample: Sample,
    /// The same windows of a base.
    base_sample: Sample,
    /// Where samples are encoded to.
    room: Vec<u8>,
}

#[derive(Default)]
struct Contexts {
    whole: Option<CCtx<'static>>,
    plane: Option<CCtx<'static>>,
}

impl Encoder {
    /// An encoder that has taken no memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Guesses the best encoding of content, which is `parts` one after the other, from samples
    /// of 64 KiB in all. Neighbouring messages of one object mostly have the same, if
    /// [`Encoding::moved`]: the answer need not be asked for each.
    pub fn probe(&mut self, parts: &[&[u8]]) -> Encoding {
        self.best(parts, None)
    }

    /// The same, where the peer has `base`, as long as the content: a difference to it is tried too.
    pub fn probe_to(&mut self, parts: &[&[u8]], base: &[u8]) -> Encoding {
        self.best(parts, Some(base).filter(|base| base.len() == length(parts)))
    }

    fn best(&mut self, parts: &[&[u8]], base: Option<&[u8]>) -> Encoding {
        if length(parts) < CONTENT_BYTES_MIN || !self.sample.take(parts) {
            return Encoding::Raw;
        }
        let sample = self.sample.bytes();
        // What is not smaller than this does not pay.
        let room = &mut self.room;
        room.resize(probe::SAMPLE_BYTES, 0);
        let mut best = (Encoding::Raw, most(sample.len()));
        let split = probe::layout(sample);
        if let Some(Encoding::Planes(layout) | Encoding::Turned(layout)) = split {
            let form =
                if matches!(split, Some(Encoding::Turned(_))) { Form::Turned } else { Form::Plain };
            let out = &mut room[..best.1];
            let len = write_planes(&mut self.contexts, &mut self.planes, layout, form, sample, out);
            if let Some((encoding, len)) = split.zip(len) {
                best = (encoding, len);
            }
            if base.is_some_and(|base| self.base_sample.take(&[base])) {
                let base = self.base_sample.bytes().get(layout.shift()..).unwrap_or_default();
                let out = &mut room[..best.1];
                let (contexts, planes) = (&mut self.contexts, &mut self.planes);
                let len = write_planes(contexts, planes, layout, Form::Delta(base), sample, out);
                if let Some(len) = len {
                    best = (Encoding::Delta(layout), len);
                }
            }
        }
        // Splitting is faster, so it wins where both are alike.
        let out = &mut room[..best.1 - best.1 / 32];
        if self.contexts.whole(sample, out).is_some() {
            best.0 = Encoding::Zstd;
        }
        best.0
    }

    /// Encodes content, which is `parts` one after the other, to the start of `out`. `base` is what
    /// an [`Encoding::Delta`] is to, as long as the content, and the peer must have the same.
    ///
    /// `None` if that does not save one part in [`SAVING_PARTS`], if `out` is too small, if the
    /// content is longer than [`CONTENT_BYTES_MAX`], or if the base does not fit: it is then to be
    /// sent raw, as it is. `out` then holds anything.
    pub fn encode(
        &mut self,
        encoding: Encoding,
        parts: &[&[u8]],
        base: Option<&[u8]>,
        out: &mut [u8],
    ) -> Option<Encoded> {
        let len = length(parts);
        if !(CONTENT_BYTES_MIN..=CONTENT_BYTES_MAX).contains(&len) {
            return None;
        }
        let room = out.len().min(most(len));
        let out = &mut out[..room];
        let Self { contexts, gathered, planes, .. } = self;
        let content = match parts {
            [one] => *one,
            _ => {
                gathered.clear();
                for part in parts {
                    gathered.extend_from_slice(part);
                }
                gathered
            }
        };
        let (layout, form) = match encoding {
            // Blocks are written where their sums are.
            Encoding::Raw | Encoding::Blocks => return None,
            Encoding::Zstd => {
                return contexts.whole(content, out).map(|len| Encoded { encoding, len });
            }
            Encoding::Planes(layout) => (layout, Form::Plain),
            Encoding::Turned(layout) => (layout, Form::Turned),
            Encoding::Delta(layout) => {
                let base = base.filter(|base| base.len() == len)?;
                (layout, Form::Delta(base.get(layout.shift()..)?))
            }
        };
        let len = write_planes(contexts, planes, layout, form, content, out)?;
        Some(Encoded { encoding, len })
    }
}

fn length(parts: &[&[u8]]) -> usize {
    parts.iter().fold(0, |sum, part| sum.saturating_add(part.len()))
}

/// Most bytes that the encoding of `len` may have, to be worth it.
fn most(len: usize) -> usize {
    len - len.div_ceil(SAVING_PARTS)
}

/// Writes table, ends and planes; `None` if there is no room in `out`.
fn write_planes(
    contexts: &mut Contexts,
    planes: &mut Vec<u8>,
    layout: Layout,
    form: Form<'_>,
    content: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    let width = layout.width().bytes();
    let count = layout.elements(content.len());
    if count == 0 {
        return None;
    }
    let (head, rest) = content.split_at(layout.shift());
    let (elements, tail) = rest.split_at(count * width);
    let (table, rest) = out.split_at_mut_checked(width * PLANE_WORD_BYTES)?;
    let (to_head, rest) = rest.split_at_mut_checked(head.len())?;
    let (to_tail, mut rest) = rest.split_at_mut_checked(tail.len())?;
    to_head.copy_from_slice(head);
    to_tail.copy_from_slice(tail);

    if planes.len() < elements.len() {
        planes.resize(elements.len(), 0);
    }
    let planes = &mut planes[..elements.len()];
    Planes(layout.width()).split(elements, form, planes);
    let mut len = table.len() + head.len() + tail.len();
    for (plane, word) in planes.chunks_exact(count).zip(table.as_chunks_mut().0) {
        let room = rest.len().min(count - count.div_ceil(PLANE_SAVING_PARTS));
        let packed = match probe::plane(plane) {
            probe::Plane::Random => None,
            probe::Plane::Dense => contexts.plane(plane, &mut rest[..room]),
            probe::Plane::Sparse => contexts.whole(plane, &mut rest[..room]),
        };
        let taken = packed.unwrap_or(count);
        let (to_plane, after) = rest.split_at_mut_checked(taken)?;
        *word = match packed {
            Some(taken) => taken as u32 | PLANE_ZSTD,
            None => {
                to_plane.copy_from_slice(plane);
                taken as u32
            }
        }
        .to_le_bytes();
        len += taken;
        rest = after;
    }
    Some(len)
}

impl Contexts {
    /// A frame of content that is not split; its length if it fits into `out`.
    fn whole(&mut self, content: &[u8], out: &mut [u8]) -> Option<usize> {
        pack(&mut self.whole, &[CParameter::CompressionLevel(LEVEL)], content, out)
    }

    /// A frame of one plane; its length if it fits into `out`.
    fn plane(&mut self, plane: &[u8], out: &mut [u8]) -> Option<usize> {
        let settings = [
            CParameter::CompressionLevel(LEVEL),
            CParameter::Strategy(Strategy::ZSTD_fast),
            CParameter::TargetLength(PLANE_STEP),
            CParameter::HashLog(PLANE_HASH_LOG),
            CParameter::MinMatch(PLANE_MATCH_BYTES),
            // With a step, frequencies would not be used unless asked for.
            CParameter::LiteralCompressionMode(ParamSwitch::Enable),
        ];
        pack(&mut self.plane, &settings, plane, out)
    }
}

fn pack(
    context: &mut Option<CCtx<'static>>,
    settings: &[CParameter],
    content: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    let context = match context {
        Some(context) => context,
        None => {
            let mut made = CCtx::try_create()?;
            for setting in settings {
                made.set_parameter(*setting).ok()?;
            }
            context.insert(made)
        }
    };
    context.compress2(out, content).ok()
}
