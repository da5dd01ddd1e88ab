//! Shards of training documents, as text and as tokens, and the same with some documents replaced.

use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use super::files::Language;
use super::{Made, write};
use crate::rng::Rng;

/// Documents of a hundred that the next set has replaced.
const REPLACED_PERCENT: u64 = 3;
/// Kinds of tokens, as many as two bytes tell apart; 0 ends a document.
const TOKEN_BITS: u64 = 16;

/// How documents are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One JSON object a line.
    Text,
    /// Two bytes a token, little endian.
    Tokens,
}

/// Makes `files` shards of about `file_bytes` each, half of them text and half tokens; `next` makes them
/// with some documents replaced by others of another length.
pub(super) fn make(
    out: &Path,
    (files, file_bytes): (u64, u64),
    seed: u64,
    step: u64,
    next: bool,
) -> Result<Made> {
    let language = Language::new(seed);
    let mut shards = Vec::new();
    for (form, directory, extension) in
        [(Form::Text, "text", "jsonl"), (Form::Tokens, "tokens", "bin")]
    {
        std::fs::create_dir(out.join(directory))?;
        let each = files / 2 + u64::from(form == Form::Text) * (files % 2);
        shards.extend((0..each).map(|number| (form, directory, extension, number)));
    }
    let (total, new) = (AtomicU64::new(0), AtomicU64::new(0));
    write::parallel(&shards, |&(form, directory, extension, number)| {
        let mut shard = Shard { language: &language, form, number, seed, content: Vec::new() };
        let replaced = shard.fill(file_bytes, next);
        let bytes = shard.content.len() as u64;
        total.fetch_add(bytes, Ordering::Relaxed);
        new.fetch_add(if next { replaced } else { bytes }, Ordering::Relaxed);
        let path = out.join(directory).join(format!("shard-{number:05}.{extension}"));
        write::bytes(&path, step + number, &shard.content)
    })?;
    Ok(Made { files, bytes: total.into_inner(), new_bytes: new.into_inner() })
}

struct Shard<'a> {
    language: &'a Language,
    form: Form,
    number: u64,
    seed: u64,
    content: Vec<u8>,
}

impl Shard<'_> {
    /// Adds documents until those of the first set have so many bytes; returns the bytes of those that
    /// were replaced.
    fn fill(&mut self, bytes: u64, next: bool) -> u64 {
        // Where one is replaced, what follows stays: the first set decides how many there are.
        let (mut first, mut replaced, mut document) = (0, 0, 0);
        while first < bytes {
            let begins = self.content.len();
            let name = format!("{:?} {} {document}", self.form, self.number);
            self.document(document, &mut Rng::named(self.seed, &name));
            first += (self.content.len() - begins) as u64;
            let other = format!("{name} next");
            let mut dice = Rng::named(self.seed, &other);
            if next && dice.below(100) < REPLACED_PERCENT {
                self.content.truncate(begins);
                self.document(document, &mut dice);
                replaced += (self.content.len() - begins) as u64;
            }
            document += 1;
        }
        replaced
    }

    /// Adds one document.
    fn document(&mut self, id: u64, rng: &mut Rng) {
        let bytes = document_bytes(self.form, rng);
        let begins = self.content.len();
        match self.form {
            Form::Text => {
                let _ = write!(self.content, "{{\"id\":\"{:05}-{id:05}\",\"text\":\"", self.number);
                let mut word = rng.below(u64::MAX);
                while ((self.content.len() - begins) as u64) < bytes {
                    word = self.language.next_word(word, rng.next(), &mut self.content);
                }
                self.content.extend_from_slice(b"\"}\n");
            }
            Form::Tokens => {
                for _ in 1..bytes / 2 {
                    self.content.extend_from_slice(&token(rng.next()).to_le_bytes());
                }
                self.content.extend_from_slice(&[0, 0]);
            }
        }
    }
}

/// A length in bytes whose logarithm is normal, with a standard deviation of the natural logarithm of 1: as
/// text some 11 KiB on average, as tokens, of which one is some three bytes of text, some 7; at least 64
/// bytes, at most 512 KiB. It uses whole numbers only, so that it is the same everywhere.
fn document_bytes(form: Form, rng: &mut Rng) -> u64 {
    // Binary logarithms in parts of 2^16. The mean is e^(1/2) medians, so the median of text is
    // 2^(13.46 - 0.72), less what the straight lines of `power` add; the deviation is 1 / ln 2.
    const MEDIAN_TEXT: i64 = 830_000;
    const MEDIAN_TOKENS: i64 = 787_000;
    const DEVIATION: i64 = 94_548;
    // The sum of twelve uniforms has variance one (Irwin-Hall), and mean six.
    let sum: i64 = (0..12).map(|_| (rng.next() >> 48).cast_signed()).sum();
    let median = if form == Form::Text { MEDIAN_TEXT } else { MEDIAN_TOKENS };
    let logarithm = median + (sum - (6 << 16)) * DEVIATION / (1 << 16);
    power(logarithm.clamp(6 << 16, 19 << 16).cast_unsigned())
}

/// Two to the power of so many parts of 2^16, by straight lines between whole powers.
fn power(parts: u64) -> u64 {
    let (whole, rest) = (parts >> 16, parts & 0xffff);
    (1 << whole) + (rest << whole >> 16)
}

/// A token: as many between one power of two and the next as between any two others.
fn token(random: u64) -> u16 {
    let first = 1 << (random % TOKEN_BITS);
    first + (random >> 32 & (u64::from(first) - 1)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_their_mean_and_a_long_tail() {
        let mut rng = Rng::new(1);
        for (form, about) in [(Form::Text, 11 << 10), (Form::Tokens, 7 << 10)] {
            let lengths: Vec<u64> = (0..100_000).map(|_| document_bytes(form, &mut rng)).collect();
            let mean = lengths.iter().sum::<u64>() / 100_000;
            assert!((about * 95 / 100..=about * 105 / 100).contains(&mean), "{mean}");
            let below = lengths.iter().filter(|bytes| **bytes < mean * 62 / 100).count();
            assert!((49_000..=52_000).contains(&below), "the median is below the mean: {below}");
            assert!(lengths.iter().any(|bytes| *bytes > 20 * mean));
        }
    }

    #[test]
    fn tokens_are_as_many_in_each_octave() {
        let mut rng = Rng::new(1);
        let mut octaves = [0_u32; 16];
        for _ in 0..160_000 {
            octaves[token(rng.next()).ilog2() as usize] += 1;
        }
        assert!(octaves.iter().all(|count| (9_500..10_500).contains(count)), "{octaves:?}");
    }
}
