//! Elements to byte planes and back. Loops over tiles that stay in the first cache, each simple
//! enough to be vectorised.

use super::Width;

/// What is done to an element before it is split, and undone after it is joined.
#[derive(Debug, Clone, Copy)]
pub enum Form<'a> {
    /// Nothing.
    Plain,
    /// It is turned left by one bit.
    Turned,
    /// The element at the same place of the base is subtracted, and the sign goes to the lowest bit.
    /// The base is as long as the elements.
    Delta(&'a [u8]),
}

/// Elements in a tile.
const TILE: usize = 1024;

/// Splitting and joining elements of one width.
#[derive(Debug, Clone, Copy)]
pub struct Planes(pub Width);

impl Planes {
    /// Splits whole `elements` into `planes`: byte 0 of every element, then byte 1 of every element,
    /// and so on. Bytes of either beyond the shorter one are left alone.
    pub fn split(self, elements: &[u8], form: Form<'_>, planes: &mut [u8]) {
        match self.0 {
            Width::Two => two::split(elements, form, planes),
            Width::Four => four::split(elements, form, planes),
            Width::Eight => eight::split(elements, form, planes),
        }
    }

    /// Joins `planes`, one for each byte of the width and each as long as there are elements, into
    /// `elements`. Where a plane is too short, elements are left alone.
    pub fn join(self, planes: &[&[u8]], form: Form<'_>, elements: &mut [u8]) {
        match self.0 {
            Width::Two => two::join(planes, form, elements),
            Width::Four => four::join(planes, form, elements),
            Width::Eight => eight::join(planes, form, elements),
        }
    }
}

/// Bytes of words of two, each to its plane.
fn scatter2(words: &[u16], planes: &mut [&mut [u8]]) {
    let [low, high] = planes else { return };
    for ((word, low), high) in words.iter().zip(low.iter_mut()).zip(high.iter_mut()) {
        *low = *word as u8;
        *high = (*word >> 8) as u8;
    }
}

/// The other way round.
fn gather2(planes: &[&[u8]], words: &mut [u16]) {
    let [low, high] = planes else { return };
    for ((word, low), high) in words.iter_mut().zip(*low).zip(*high) {
        *word = u16::from(*low) | u16::from(*high) << 8;
    }
}

// Words in halves, and those the same way: this is what the instructions of vectors do.
macro_rules! halves {
    ($scatter:ident, $gather:ident, $word:ty, $half:ty, $scatter_half:ident, $gather_half:ident) => {
        fn $scatter(words: &[$word], planes: &mut [&mut [u8]]) {
            let (mut low, mut high) = ([0; TILE], [0; TILE]);
            let (low, high) = (&mut low[..words.len()], &mut high[..words.len()]);
            for ((word, low), high) in words.iter().zip(&mut *low).zip(&mut *high) {
                *low = *word as $half;
                *high = (*word >> <$half>::BITS) as $half;
            }
            let (low_planes, high_planes) = planes.split_at_mut(planes.len() / 2);
            $scatter_half(low, low_planes);
            $scatter_half(high, high_planes);
        }

        fn $gather(planes: &[&[u8]], words: &mut [$word]) {
            let (mut low, mut high) = ([0; TILE], [0; TILE]);
            let (low, high) = (&mut low[..words.len()], &mut high[..words.len()]);
            let (low_planes, high_planes) = planes.split_at(planes.len() / 2);
            $gather_half(low_planes, low);
            $gather_half(high_planes, high);
            for ((word, low), high) in words.iter_mut().zip(&*low).zip(&*high) {
                *word = <$word>::from(*low) | <$word>::from(*high) << <$half>::BITS;
            }
        }
    };
}

halves!(scatter4, gather4, u32, u16, scatter2, gather2);
halves!(scatter8, gather8, u64, u32, scatter4, gather4);

macro_rules! planes_of {
    ($name:ident, $word:ty, $signed:ty, $scatter:ident, $gather:ident) => {
        mod $name {
            use super::{Form, TILE};

            const WIDTH: usize = size_of::<$word>();

            fn load(tile: &mut [$word], words: &[[u8; WIDTH]]) {
                for (word, bytes) in tile.iter_mut().zip(words) {
                    *word = <$word>::from_le_bytes(*bytes);
                }
            }

            pub(super) fn split(elements: &[u8], form: Form<'_>, planes: &mut [u8]) {
                let (words, _) = elements.as_chunks::<WIDTH>();
                if words.is_empty() {
                    return;
                }
                let mut planes = planes.chunks_exact_mut(words.len());
                let mut planes: [&mut [u8]; WIDTH] =
                    std::array::from_fn(|_| planes.next().unwrap_or_default());
                let mut tile: [$word; TILE] = [0; TILE];
                for (at, words) in words.chunks(TILE).enumerate() {
                    let at = at * TILE;
                    let tile = &mut tile[..words.len()];
                    load(tile, words);
                    match form {
                        Form::Plain => {}
                        Form::Turned => tile.iter_mut().for_each(|w| *w = w.rotate_left(1)),
                        Form::Delta(base) => {
                            let base = base.as_chunks::<WIDTH>().0.get(at..).unwrap_or(&[]);
                            for (word, base) in tile.iter_mut().zip(base) {
                                let less = word.wrapping_sub(<$word>::from_le_bytes(*base));
                                let sign = less.cast_signed() >> (<$signed>::BITS - 1);
                                *word = (less << 1) ^ sign.cast_unsigned();
                            }
                        }
                    }
                    let mut planes =
                        planes.each_mut().map(|plane| plane.get_mut(at..).unwrap_or_default());
                    super::$scatter(tile, &mut planes);
                }
            }

            pub(super) fn join(planes: &[&[u8]], form: Form<'_>, elements: &mut [u8]) {
                let (words, _) = elements.as_chunks_mut::<WIDTH>();
                let mut tile: [$word; TILE] = [0; TILE];
                for (at, words) in words.chunks_mut(TILE).enumerate() {
                    let at = at * TILE;
                    let tile = &mut tile[..words.len()];
                    let planes: [&[u8]; WIDTH] = std::array::from_fn(|byte| {
                        planes.get(byte).and_then(|plane| plane.get(at..)).unwrap_or_default()
                    });
                    super::$gather(&planes, tile);
                    match form {
                        Form::Plain => {}
                        Form::Turned => tile.iter_mut().for_each(|w| *w = w.rotate_right(1)),
                        Form::Delta(base) => {
                            let base = base.as_chunks::<WIDTH>().0.get(at..).unwrap_or(&[]);
                            for (word, base) in tile.iter_mut().zip(base) {
                                let less = (*word >> 1) ^ (*word & 1).wrapping_neg();
                                *word = less.wrapping_add(<$word>::from_le_bytes(*base));
                            }
                        }
                    }
                    for (bytes, word) in words.iter_mut().zip(&*tile) {
                        *bytes = word.to_le_bytes();
                    }
                }
            }
        }
    };
}

planes_of!(two, u16, i16, scatter2, gather2);
planes_of!(four, u32, i32, scatter4, gather4);
planes_of!(eight, u64, i64, scatter8, gather8);
