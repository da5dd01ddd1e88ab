//! Content as copies of blocks that the receiver has, and literals: rsync's algorithm, for regions
//! of a few MiB.
//!
//! Andrew Tridgell and Paul Mackerras, "The rsync algorithm", TR-CS-96-05, Australian National
//! University, 1996. The receiver sends [`sum_blocks`] of a region that probably holds most of what
//! it lacks; the sender writes the content with [`Blocks::write`]; the receiver rebuilds it with
//! [`read`]. Sums are short: two blocks may have the same ones, so a digest of what was rebuilt has
//! to be compared.
//!
//! The written form is copies with a literal before each, until all of the content is there:
//! length of the literal, its bytes, and if that is not the end, number of the first block, and
//! number of the blocks less one. Numbers are LEB128, as short as they can be.

use std::iter::successors;

use thiserror::Error;

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 512;
/// Bytes that the sum of a block takes on the wire: 4 of the weak sum, little endian, then the first
/// 6 of BLAKE3.
pub const SUM_BYTES: usize = WEAK_BYTES + STRONG_BYTES;
/// Most blocks of a region, which is then 4 MiB.
pub const BLOCKS_MAX: usize = 8192;

const WEAK_BYTES: usize = 4;
const STRONG_BYTES: usize = 6;

/// The weak sum is the polynomial of a window's bytes at this number, modulo 2^32. Its powers take
/// 2^30 values, the most there can be: it is 5 modulo 8.
const BASE: u32 = 0xc2b2_ae3d;
/// Spreads weak sums over chains: 2^32 by the golden ratio, odd.
const SPREAD: u32 = 0x9e37_79b1;
/// Windows whose sums are computed, and looked up, at once.
const STEP: usize = 8;
/// Powers of `BASE`.
const POWERS: [u32; STEP + 1] = powers();
/// What a byte that leaves the window takes from the sum of the next one.
const LEAVES: [u32; 256] = leaves();

/// Words of the filter, which has 64 bits for each of `BLOCKS_MAX` blocks.
const FILTER_WORDS: usize = BLOCKS_MAX * 64 / u64::BITS as usize;
/// Most blocks of one chain: more are not found, unless as the next of a run.
const CHAIN_MAX: usize = 8;
/// The end of a chain.
const NO_BLOCK: u16 = u16::MAX;
/// So many bytes of content allow one strong sum that matches nothing. By chance there is one in
/// 2^19 bytes; a peer whose weak sums are lies would have one of each byte computed.
const VAIN_BYTES: usize = 256;

/// Longest number: 63 bits, as a length has at most.
const NUMBER_BYTES_MAX: u32 = 9;

type Block = [u8; BLOCK_BYTES];
type Strong = [u8; STRONG_BYTES];

/// The written form is damaged, or was made for another region or another length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("copies and literals that do not make exactly {want} bytes")]
pub struct Malformed {
    /// Bytes that they must make.
    pub want: usize,
}

const fn powers() -> [u32; STEP + 1] {
    let mut powers = [1_u32; STEP + 1];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = powers[i - 1].wrapping_mul(BASE);
        i += 1;
    }
    powers
}

const fn leaves() -> [u32; 256] {
    let (mut power, mut i) = (1_u32, 0);
    while i < BLOCK_BYTES {
        power = power.wrapping_mul(BASE);
        i += 1;
    }
    let mut table = [0; 256];
    i = 1;
    while i < table.len() {
        table[i] = power.wrapping_add(table[i - 1]);
        i += 1;
    }
    table
}

fn weak(window: &Block) -> u32 {
    let digit = |sum: u32, byte: &u8| sum.wrapping_mul(BASE).wrapping_add(u32::from(*byte));
    let (parts, _) = window.as_chunks::<STEP>();
    parts.iter().fold(0, |sum: u32, part| {
        sum.wrapping_mul(POWERS[STEP]).wrapping_add(part.iter().fold(0, digit))
    })
}

fn strong(window: &Block) -> Strong {
    let digest = blake3::hash(window);
    std::array::from_fn(|i| digest.as_bytes()[i])
}

/// What is added to the sum of a window, times `BASE`, when `old` leaves and `new` comes.
fn change(old: u8, new: u8) -> u32 {
    u32::from(new).wrapping_sub(LEAVES[usize::from(old)])
}

/// Sums of the window with this one and of the `STEP` windows after it.
#[inline]
fn roll(weak: u32, old: [u8; STEP], new: [u8; STEP]) -> [u32; STEP + 1] {
    let mut sums = [weak; STEP + 1];
    let mut changes = 0_u32;
    for i in 0..STEP {
        changes = changes.wrapping_mul(BASE).wrapping_add(change(old[i], new[i]));
        // Not from the sum before: all of them then wait for the first alone.
        sums[i + 1] = weak.wrapping_mul(POWERS[i + 1]).wrapping_add(changes);
    }
    sums
}

/// Appends the sums of the whole blocks of `region` to `out`; bytes behind the last whole block have
/// none.
pub fn sum_blocks(region: &[u8], out: &mut Vec<u8>) {
    let (blocks, _) = region.as_chunks::<BLOCK_BYTES>();
    out.reserve(blocks.len() * SUM_BYTES);
    for block in blocks {
        out.extend_from_slice(&weak(block).to_le_bytes());
        out.extend_from_slice(&strong(block));
    }
}

struct Sum {
    weak: u32,
    strong: Strong,
}

/// Blocks of a region that can be found in content by their sums.
pub struct Blocks {
    sums: Vec<Sum>,
    /// A bit for the first bits of each weak sum.
    filter: Vec<u64>,
    /// The first block of each chain; a power of two of them, twice as many as blocks or more.
    heads: Vec<u16>,
    /// The next block of the same chain, of each block.
    nexts: Vec<u16>,
}

impl Blocks {
    /// Takes what [`sum_blocks`] wrote; `None` unless it is a whole number of sums, and at most
    /// [`BLOCKS_MAX`]. Takes 64 KiB of memory, and at most 22 bytes for each block.
    pub fn from_sums(sums: &[u8]) -> Option<Self> {
        let (sums, rest) = sums.as_chunks::<SUM_BYTES>();
        if !rest.is_empty() || sums.len() > BLOCKS_MAX {
            return None;
        }
        let sum = |&[a, b, c, d, ref strong @ ..]: &[u8; SUM_BYTES]| Sum {
            weak: u32::from_le_bytes([a, b, c, d]),
            strong: *strong,
        };
        let mut blocks = Self {
            filter: vec![0; FILTER_WORDS],
            heads: vec![NO_BLOCK; (2 * sums.len()).next_power_of_two().max(2)],
            nexts: vec![NO_BLOCK; sums.len()],
            sums: sums.iter().map(sum).collect(),
        };
        (0..blocks.sums.len()).for_each(|block| blocks.enter(block));
        Some(blocks)
    }

    /// Puts a block at the end of its chain, unless one like it is there or the chain is full.
    fn enter(&mut self, block: usize) {
        let Sum { weak, strong } = self.sums[block];
        let (mut last, mut len) = (None, 0);
        for other in self.chain(weak) {
            let sum = &self.sums[other];
            if sum.weak == weak && sum.strong == strong {
                return;
            }
            (last, len) = (Some(other), len + 1);
        }
        if len == CHAIN_MAX {
            return;
        }
        let head = self.head(weak);
        *last.map_or(&mut self.heads[head], |last| &mut self.nexts[last]) = block as u16;
        let (word, bit) = filter_place(weak);
        self.filter[word] |= bit;
    }

    fn head(&self, weak: u32) -> usize {
        let bits = self.heads.len().ilog2();
        (weak.wrapping_mul(SPREAD) >> (u32::BITS - bits)) as usize
    }

    fn chain(&self, weak: u32) -> impl Iterator<Item = usize> {
        let block = |link: u16| (link != NO_BLOCK).then_some(usize::from(link));
        successors(block(self.heads[self.head(weak)]), move |last| block(self.nexts[*last]))
    }

    /// Writes `content` as copies of blocks and literals into `out`, which is cleared first; false,
    /// with `out` holding anything, as soon as that would take more than `at_most` bytes.
    pub fn write(&self, content: &[u8], at_most: usize, out: &mut Vec<u8>) -> bool {
        out.clear();
        let vain_left = content.len() / VAIN_BYTES + 1;
        let mut search = Search { blocks: self, content, vain_left };
        let mut at = 0;
        while at < content.len() {
            // The length of the literal takes a byte at least.
            let Some(literal_max) = at_most.checked_sub(out.len() + 1) else { return false };
            let Some(found) = search.next(at, literal_max) else {
                let literal = &content[at..];
                return literal.len() <= literal_max && {
                    put_literal(literal, out);
                    out.len() <= at_most
                };
            };
            put_literal(&content[at..found.at], out);
            let count = search.run(&found);
            put_number(found.block, out);
            put_number(count - 1, out);
            at = found.at + count * BLOCK_BYTES;
        }
        out.len() <= at_most
    }
}

/// Word of the filter, and the bit in it.
fn filter_place(weak: u32) -> (usize, u64) {
    let bit = weak >> (u32::BITS - (FILTER_WORDS as u64 * 64).ilog2());
    (bit as usize / 64, 1 << (bit % 64))
}

/// A block that was found, and where in the content.
struct Found {
    at: usize,
    block: usize,
}

struct Search<'a> {
    blocks: &'a Blocks,
    content: &'a [u8],
    /// Strong sums that may still be computed and match nothing.
    vain_left: usize,
}

impl<'a> Search<'a> {
    fn window(&self, at: usize) -> Option<&'a Block> {
        self.content.get(at..)?.first_chunk()
    }

    /// The first block from `from` on, at most `literal_max` bytes behind it.
    fn next(&mut self, from: usize, literal_max: usize) -> Option<Found> {
        let mut weak = weak(self.window(from)?);
        let filter = self.blocks.filter.first_chunk::<FILTER_WORDS>()?;
        let may_be = |weak: u32| {
            let (word, bit) = filter_place(weak);
            filter[word] & bit != 0
        };
        let last = (self.content.len() - BLOCK_BYTES).min(from.saturating_add(literal_max));
        let (olds, news) = (&self.content[from..last], &self.content[from + BLOCK_BYTES..]);
        let (news, news_rest) = news[..olds.len()].as_chunks::<STEP>();
        let (olds, olds_rest) = olds.as_chunks::<STEP>();
        let mut at = from;
        for (old, new) in olds.iter().zip(news) {
            let [now @ .., after] = roll(weak, *old, *new);
            if now.iter().fold(false, |any, weak| any | may_be(*weak)) {
                for (weak, at) in now.into_iter().zip(at..) {
                    if may_be(weak)
                        && let Some(block) = self.block_of(weak, at)
                    {
                        return Some(Found { at, block });
                    }
                }
            }
            weak = after;
            at += STEP;
        }
        let changes = olds_rest.iter().zip(news_rest).map(|(old, new)| change(*old, *new));
        for change in changes.chain([0]) {
            if may_be(weak)
                && let Some(block) = self.block_of(weak, at)
            {
                return Some(Found { at, block });
            }
            weak = weak.wrapping_mul(BASE).wrapping_add(change);
            at += 1;
        }
        None
    }

    /// The block that the window at `at` is, whose weak sum is `weak`.
    #[cold]
    fn block_of(&mut self, weak: u32, at: usize) -> Option<usize> {
        let sums = &self.blocks.sums;
        let alike = |block: &usize| sums[*block].weak == weak;
        let mut alike = self.blocks.chain(weak).filter(alike).peekable();
        alike.peek()?;
        let left = self.vain_left.checked_sub(1)?;
        let strong = strong(self.window(at)?);
        let found = alike.find(|block| sums[*block].strong == strong);
        if found.is_none() {
            self.vain_left = left;
        }
        found
    }

    /// How many blocks follow each other in the region as in the content, from this one on.
    fn run(&self, found: &Found) -> usize {
        let sums = self.blocks.sums[found.block..].iter();
        let (windows, _) = self.content[found.at..].as_chunks();
        let same = |(sum, window): &(&Sum, &Block)| sum.strong == strong(window);
        1 + sums.zip(windows).skip(1).take_while(same).count()
    }
}

fn put_literal(literal: &[u8], out: &mut Vec<u8>) {
    put_number(literal.len(), out);
    out.extend_from_slice(literal);
}

fn put_number(mut number: usize, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number from the front; `None` unless it is whole and as short as it can be.
fn take_number(from: &mut &[u8]) -> Option<usize> {
    let mut number = 0_u64;
    for i in 0..NUMBER_BYTES_MAX {
        let byte = *from.split_off_first()?;
        number |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let short = byte != 0 || i == 0;
            return usize::try_from(number).ok().filter(|_| short);
        }
    }
    None
}

/// Rebuilds exactly `out.len()` bytes from `region` and what [`Blocks::write`] wrote. Takes no
/// memory, and time by the length of `out`.
///
/// # Errors
/// [`Malformed`]; `out` then holds anything.
pub(super) fn read(region: &[u8], written: &[u8], out: &mut [u8]) -> Result<(), Malformed> {
    let malformed = Malformed { want: out.len() };
    fill(region, written, out).ok_or(malformed)
}

fn fill(region: &[u8], mut written: &[u8], mut out: &mut [u8]) -> Option<()> {
    let (blocks, _) = region.as_chunks::<BLOCK_BYTES>();
    while !out.is_empty() {
        let len = take_number(&mut written)?;
        out = put(written.split_off(..len)?, out)?;
        if out.is_empty() {
            break;
        }
        let first = take_number(&mut written)?;
        let count = take_number(&mut written)?.checked_add(1)?;
        let copied = blocks.get(first..first.checked_add(count)?)?;
        out = put(copied.as_flattened(), out)?;
    }
    written.is_empty().then_some(())
}

/// Copies to the front of `out`; the rest of it.
fn put<'a>(bytes: &[u8], out: &'a mut [u8]) -> Option<&'a mut [u8]> {
    let (front, rest) = out.split_at_mut_checked(bytes.len())?;
    front.copy_from_slice(bytes);
    Some(rest)
}

#[cfg(test)]
mod tests;
