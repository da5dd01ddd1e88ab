//! What content looks like: samples, frequencies of bytes by their place, and the entropy of those.

use super::{Encoding, Layout, Width};

/// Bytes of all windows of a sample.
pub(super) const SAMPLE_BYTES: usize = WINDOWS * WINDOW_BYTES;
/// Windows of a sample, spread evenly over the content.
const WINDOWS: usize = 4;
/// A multiple of the largest width, as is the place of each window: so places of bytes within
/// elements are the same in the sample.
const WINDOW_BYTES: usize = 16 << 10;
/// Largest width, in bytes.
const WIDTH_MAX: usize = 8;
/// Every so many groups of `WIDTH_MAX` bytes of a sample one is counted.
const GROUP_STEP: usize = 2;
/// Bits of entropy in a byte above which it counts as random.
const RANDOM_BITS: f32 = 7.6;
/// Bits of entropy in a byte below which a search for repetitions gives more than frequencies.
const SPARSE_BITS: f32 = 0.7;
/// Bytes of a plane that are counted, in parts, to see whether compressing it pays.
const PLANE_SAMPLE_BYTES: usize = 4096;

type Counts = [u32; 256];

/// Some of the content, in one piece.
#[derive(Default)]
pub(super) struct Sample(Vec<u8>);

impl Sample {
    /// Takes windows from content that is `parts` one after the other; whether there is any.
    pub(super) fn take(&mut self, parts: &[&[u8]]) -> bool {
        self.0.clear();
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len <= SAMPLE_BYTES {
            for part in parts {
                self.0.extend_from_slice(part);
            }
        } else {
            for window in 0..WINDOWS {
                let at = (len - WINDOW_BYTES) / (WINDOWS - 1) * window;
                self.window(parts, at / WIDTH_MAX * WIDTH_MAX);
            }
        }
        !self.0.is_empty()
    }

    fn window(&mut self, parts: &[&[u8]], mut skip: usize) {
        let mut wanted = WINDOW_BYTES;
        for part in parts {
            let part = part.get(skip..).unwrap_or_else(|| {
                skip -= part.len();
                &[]
            });
            if part.is_empty() {
                continue;
            }
            skip = 0;
            let taken = part.len().min(wanted);
            self.0.extend_from_slice(&part[..taken]);
            wanted -= taken;
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The best way to split, by the entropy of each byte of an element alone; `None` if none of them
/// has less than random bytes.
pub(super) fn layout(sample: &[u8]) -> Option<Encoding> {
    let mut plain = [[0; 256]; WIDTH_MAX];
    // Eight bits from the highest but one bit of each byte down: the exponent, at the end of a float.
    let mut turned = [[0; 256]; WIDTH_MAX];
    for group in sample.as_chunks::<WIDTH_MAX>().0.iter().step_by(GROUP_STEP) {
        let word = u64::from_le_bytes(*group);
        let turns = word.rotate_left(1).to_le_bytes();
        for place in 0..WIDTH_MAX {
            plain[place][usize::from(group[place])] += 1;
            turned[place][usize::from(turns[place])] += 1;
        }
    }
    let mut best = (None, 1.0);
    let mut consider = |encoding, bits: f32, worth: f32| {
        // Wider and turned only where that gains something.
        let cost = bits * worth;
        if cost < best.1 {
            best = (Some(encoding), cost);
        }
    };
    for (width, worth) in [(Width::Two, 1.0), (Width::Four, 1.01), (Width::Eight, 1.03)] {
        let bytes = width.bytes();
        let bits: f32 = (0..bytes).map(|place| entropy_of(&plain, place, bytes)).sum();
        consider(Encoding::Planes(Layout::new(width, 0)), bits / (8 * bytes) as f32, worth);
        if width == Width::Eight {
            continue;
        }
        for shift in 0..bytes {
            // The first plane has the sign, at random.
            let first = entropy_of(&plain, shift, bytes);
            let others = (1..bytes).map(|byte| entropy_of(&turned, (shift + byte) % bytes, bytes));
            let bits = first + others.sum::<f32>();
            let turned = Encoding::Turned(Layout::new(width, shift));
            consider(turned, bits / (8 * bytes) as f32, worth * 1.005);
        }
    }
    best.0
}

/// Bits of entropy of the byte at `place` of elements of `width` bytes.
fn entropy_of(counts: &[Counts; WIDTH_MAX], place: usize, width: usize) -> f32 {
    let mut all = [0; 256];
    for counts in counts.iter().skip(place).step_by(width) {
        for (sum, count) in all.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    let bits = entropy(&all);
    if bits > RANDOM_BITS { 8.0 } else { bits }
}

fn entropy(counts: &Counts) -> f32 {
    let total: u32 = counts.iter().sum();
    if total == 0 {
        return 0.0;
    }
    let total = total as f32;
    let part = |count: &u32| *count as f32 * (*count as f32).log2();
    total.log2() - counts.iter().filter(|count| **count > 1).map(part).sum::<f32>() / total
}

/// How a plane is best compressed, by the entropy of some of its bytes.
pub(super) fn plane(plane: &[u8]) -> Plane {
    let part = PLANE_SAMPLE_BYTES / WINDOWS;
    let mut counts = [0; 256];
    let mut count = |bytes: &[u8]| bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    if plane.len() <= PLANE_SAMPLE_BYTES {
        count(plane);
    } else {
        let step = (plane.len() - part) / (WINDOWS - 1);
        (0..WINDOWS).for_each(|i| count(&plane[i * step..][..part]));
    }
    match entropy(&counts) {
        bits if bits >= RANDOM_BITS => Plane::Random,
        bits if bits >= SPARSE_BITS => Plane::Dense,
        _ => Plane::Sparse,
    }
}

/// What a plane looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plane {
    /// Compressing it is not worth trying.
    Random,
    /// What there is to gain is in the frequencies of its bytes.
    Dense,
    /// Nearly all of its bytes are the same: frequencies cannot give less than a bit for a byte.
    Sparse,
}
