//! Bytes that look like trained weights: exponents of a bell curve, mantissas of noise.

use crate::rng::Rng;

/// 65,536 bf16 values drawn from a bell curve of standard deviation 0.02, as weights have.
pub(crate) struct Values(Vec<u16>);

impl Values {
    /// The table. It uses sums only, no library function, so that it is the same everywhere.
    pub(crate) fn new() -> Self {
        let mut rng = Rng::new(0x7076_616c);
        // The sum of twelve uniforms has variance one and is close to normal (Irwin-Hall).
        let draw = |rng: &mut Rng| {
            let sum: f32 = (0..12).map(|_| (rng.next() >> 40) as f32 / 16_777_216.0).sum();
            (((sum - 6.0) * 0.02).to_bits() >> 16) as u16
        };
        Self((0..1 << 16).map(|_| draw(&mut rng)).collect())
    }

    /// Fills `out` with bf16 values, little endian.
    pub(crate) fn fill_bf16(&self, rng: &mut Rng, out: &mut [u8]) {
        fill(rng, out, |r| {
            u64::from(self.at(r))
                | u64::from(self.at(r >> 16)) << 16
                | u64::from(self.at(r >> 32)) << 32
                | u64::from(self.at(r >> 48)) << 48
        });
    }

    /// Fills `out` with fp32 values, little endian: a bf16 value above, random mantissa below.
    pub(crate) fn fill_f32(&self, rng: &mut Rng, out: &mut [u8]) {
        fill(rng, out, |r| {
            let low = u64::from(self.at(r)) << 16 | (r >> 32 & 0xffff);
            let high = u64::from(self.at(r >> 16)) << 16 | r >> 48;
            low | high << 32
        });
    }

    fn at(&self, index: u64) -> u16 {
        self.0[(index & 0xffff) as usize]
    }
}

fn fill(rng: &mut Rng, out: &mut [u8], word: impl Fn(u64) -> u64) {
    let mut words = out.chunks_exact_mut(8);
    for place in &mut words {
        place.copy_from_slice(&word(rng.next()).to_le_bytes());
    }
    let rest = words.into_remainder();
    if !rest.is_empty() {
        let last = word(rng.next()).to_le_bytes();
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_few_and_mantissas_many() {
        let mut bytes = vec![0; 1 << 16];
        Values::new().fill_bf16(&mut Rng::new(1), &mut bytes);
        let mut high = [false; 256];
        let mut low = [false; 256];
        for pair in bytes.chunks_exact(2) {
            low[usize::from(pair[0])] = true;
            high[usize::from(pair[1])] = true;
        }
        assert!(high.iter().filter(|seen| **seen).count() < 40);
        assert_eq!(low.iter().filter(|seen| **seen).count(), 256);
    }
}
