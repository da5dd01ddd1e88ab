//! Many files: JSON-lines shards of text, and small binary files.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use super::{Made, write};
use crate::rng::{Rng, mix};

/// Files in one directory.
const DIRECTORY_FILES: u64 = 1000;
/// Islands of content in a sparse file, 1 MiB each.
const ISLANDS: u64 = 64;
const ISLAND_BYTES: u64 = 1 << 20;
/// Words of the made-up language.
const WORDS: usize = 4096;

/// Makes `files` shards of about `file_bytes` each, one document a line.
pub(super) fn shards(out: &Path, files: u64, file_bytes: u64, seed: u64) -> Result<Made> {
    let language = Language::new(seed);
    many(out, files, write::first_step(seed), "shard.jsonl", |number, content| {
        let mut rng = Rng::named(seed, &format!("shard {number}"));
        // Between 7/8 and 9/8 of the size, so that no two files need have the same length.
        let length = file_bytes - file_bytes / 8 + rng.below(file_bytes / 4 + 1);
        let mut document = 0;
        while (content.len() as u64) < length {
            let _ = write!(content, "{{\"id\":\"{number:05}-{document:04}\",\"text\":\"");
            document += 1;
            let words = 100 + rng.below(900);
            for _ in 0..words / 4 {
                language.four_words(rng.next(), content);
            }
            content.extend_from_slice(b"\"}\n");
        }
    })
}

/// Makes `files` files of exactly `file_bytes` random bytes each.
pub(super) fn small(out: &Path, files: u64, file_bytes: u64, seed: u64) -> Result<Made> {
    many(out, files, write::first_step(seed), "f.bin", |number, content| {
        content.resize(file_bytes as usize, 0);
        Rng::named(seed, &format!("small {number}")).fill(content);
    })
}

/// Makes one file of `bytes` bytes, all hole but for islands of random bytes, one at each end.
pub(super) fn sparse(out: &Path, bytes: u64, seed: u64) -> Result<Made> {
    let step = write::first_step(seed);
    anyhow::ensure!(bytes >= ISLANDS * ISLAND_BYTES, "a sparse file has at least 64 MiB");
    write::file(&out.join("sparse.bin"), step, |file| {
        file.set_len(bytes)?;
        let mut rng = Rng::named(seed, "sparse");
        let mut content = vec![0; ISLAND_BYTES as usize];
        for island in 0..ISLANDS {
            rng.fill(&mut content);
            let last = bytes - ISLAND_BYTES;
            let at = u128::from(last) * u128::from(island) / u128::from(ISLANDS - 1);
            file.write_all_at(&content, at as u64)?;
        }
        // Allocation is settled, so that it can be compared at once.
        Ok(file.sync_all()?)
    })?;
    Ok(Made { files: 1, bytes, new_bytes: ISLANDS * ISLAND_BYTES })
}

fn many(
    out: &Path,
    files: u64,
    step: u64,
    name: &str,
    body: impl Fn(u64, &mut Vec<u8>) + Sync,
) -> Result<Made> {
    let directory = |number: u64| -> PathBuf { out.join(format!("d{number:03}")) };
    for number in 0..files.div_ceil(DIRECTORY_FILES) {
        std::fs::create_dir(directory(number))?;
    }
    let (stem, extension) = name.split_once('.').unwrap_or((name, "dat"));
    let total = AtomicU64::new(0);
    let starts: Vec<u64> = (0..files).step_by(50).collect();
    write::parallel(&starts, |&start| {
        let mut content = Vec::new();
        for number in start..files.min(start + 50) {
            content.clear();
            body(number, &mut content);
            total.fetch_add(content.len() as u64, Ordering::Relaxed);
            let name = format!("{stem}-{number:05}.{extension}");
            let path = directory(number / DIRECTORY_FILES).join(name);
            write::bytes(&path, step + number, &content)?;
        }
        Ok(())
    })?;
    let bytes = total.into_inner();
    Ok(Made { files, bytes, new_bytes: bytes })
}

/// Words with the frequencies of text: the n-th word is drawn about 1/n as often as the first.
pub(super) struct Language {
    words: Vec<Vec<u8>>,
    /// Word numbers, each as often as its frequency asks.
    draws: Vec<u16>,
}

impl Language {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::named(seed, "words");
        let mut words = Vec::with_capacity(WORDS);
        for _ in 0..WORDS {
            let length = 2 + rng.below(9);
            let mut word: Vec<u8> = (0..length).map(|_| b'a' + rng.below(26) as u8).collect();
            word.push(b' ');
            words.push(word);
        }
        let harmonic: f64 = (1..=WORDS).map(|rank| 1.0 / rank as f64).sum();
        let mut draws = Vec::with_capacity(1 << 16);
        for rank in 1..=WORDS {
            let share = 65536.0 / harmonic / rank as f64;
            draws.extend(std::iter::repeat_n((rank - 1) as u16, share.ceil() as usize));
        }
        draws.resize(1 << 16, 0);
        Self { words, draws }
    }

    fn four_words(&self, random: u64, out: &mut Vec<u8>) {
        for part in 0..4 {
            let draw = self.draws[(random >> (16 * part) & 0xffff) as usize];
            out.extend_from_slice(&self.words[usize::from(draw)]);
        }
    }

    /// Adds a word that may follow another, one of 256, and returns its number.
    pub(super) fn next_word(&self, before: u64, random: u64, out: &mut Vec<u8>) -> u64 {
        let draw = self.draws[(mix(before << 8 | random & 0xff) & 0xffff) as usize];
        out.extend_from_slice(&self.words[usize::from(draw)]);
        draw.into()
    }
}
