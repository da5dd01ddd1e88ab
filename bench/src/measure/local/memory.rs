//! Stages that work on bytes in memory.

use std::fmt::Write as _;
use std::hint::black_box;

use anyhow::{Context as _, Result, ensure};
use portway::base::limits::LEASE_BYTES;
use portway::chunk::{ChunkSize, Cuts, Cutter};
use portway::encode::{Decoder, Encoder, Encoding, Layout, Width};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{Case, Step};
use crate::data::values::Values;
use crate::rng::Rng;

/// What one thread works through, in bytes: more than caches hold, as content behind a read is.
const DATA_BYTES: usize = 64 << 20;
/// Bytes of a tensor, as of a layer's matrix; not a multiple of the cutter's block.
const TENSOR_BYTES: usize = (6 << 20) + 4096;
/// Largest payload of a QUIC packet on Ethernet and on jumbo frames, in bytes.
const PACKET_BYTES: [usize; 2] = [1452, 8952];
/// Bytes of a TLS record (RFC 8446, section 5.1).
const RECORD_BYTES: usize = 16 << 10;

/// All of them.
pub(super) fn cases() -> Vec<Case> {
    let lease = LEASE_BYTES as u64;
    let content = ChunkSize::CONTENT;
    let mut cases = vec![
        Case::new("copy", "memory", lease, copy),
        Case::new("digest", "BLAKE3 of 64 KiB", 64 << 10, |i, _| digest(random(i), 64 << 10)),
        Case::new("digest", "BLAKE3 of 64 KiB, in cache", 64 << 10, |i, _| {
            digest(random(i)[..64 << 10].to_vec(), 64 << 10)
        }),
        Case::new("digest", "BLAKE3 of 1 MiB", 1 << 20, |i, _| digest(random(i), 1 << 20)),
        Case::new("cut", "content", lease, move |i, _| {
            cut(Cutter::Content { avg: content }, random(i))
        }),
        Case::new("cut", "tensor", lease, |i, _| cut(Cutter::Tensor, checkpoint(&random(i)))),
    ];
    for (name, kind, encoding) in [
        ("zstd, text", Content::Text, Encoding::Zstd),
        ("planes, bf16 weights", Content::Bf16, Encoding::Turned(Layout::new(Width::Two, 0))),
        ("planes, fp32 weights", Content::F32, Encoding::Turned(Layout::new(Width::Four, 0))),
    ] {
        cases.push(Case::new("encode", name, lease, move |i, _| Ok(encode(kind, encoding, i))));
        cases.push(Case::new("decode", name, lease, move |i, _| decode(kind, encoding, i)));
    }
    for bytes in PACKET_BYTES.into_iter().chain([RECORD_BYTES]) {
        let name = format!("AES-128-GCM of {bytes} bytes");
        cases.push(Case::new("aead", name, bytes as u64, move |i, _| seal(i, bytes)));
    }
    cases
}

fn random(index: usize) -> Vec<u8> {
    let mut bytes = vec![0; DATA_BYTES];
    Rng::named(index as u64, "local").fill(&mut bytes);
    bytes
}

/// Goes through data in parts of `len` bytes, again and again.
struct Turns {
    at: usize,
    len: usize,
}

impl Turns {
    fn next(&mut self, data: &[u8]) -> std::ops::Range<usize> {
        let start = if self.at + self.len > data.len() { 0 } else { self.at };
        self.at = start + self.len;
        start..self.at
    }
}

fn copy(index: usize, _: usize) -> Result<Step> {
    let (from, mut to) = (random(index), vec![0_u8; DATA_BYTES]);
    to.copy_from_slice(&from);
    ensure!(from == to, "a copy differs");
    let mut turns = Turns { at: 0, len: LEASE_BYTES };
    Ok(Box::new(move || {
        let part = turns.next(&from);
        black_box(&mut to)[part.clone()].copy_from_slice(&from[part]);
        Ok(LEASE_BYTES as u64)
    }))
}

fn digest(data: Vec<u8>, len: usize) -> Result<Step> {
    // The digest of no bytes, from the paper's test vectors.
    let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    ensure!(blake3::hash(&[]).to_hex().as_str() == empty, "BLAKE3 gives a wrong digest");
    let mut turns = Turns { at: 0, len };
    Ok(Box::new(move || {
        for _ in 0..LEASE_BYTES / len {
            black_box(blake3::hash(&data[turns.next(&data)]));
        }
        Ok(LEASE_BYTES as u64)
    }))
}

/// Cuts a lease at each step, as a source does.
fn cut(cutter: Cutter, data: Vec<u8>) -> Result<Step> {
    let all = data.len() as u64;
    let mut state = (Cuts::new(cutter, all), 0_usize);
    let mut step = move || -> Result<u64> {
        let (cuts, start) = &mut state;
        let begun = *start;
        let end = (begun + LEASE_BYTES).min(data.len());
        let last = end == data.len();
        while let Some(len) = cuts.next(*start as u64, &data[*start..end], last) {
            *start += black_box(len);
        }
        let done = (*start - begun) as u64;
        ensure!(done > 0, "the cutter found no chunk in a lease");
        if *start == data.len() {
            state = (Cuts::new(cutter, all), 0);
        }
        Ok(done)
    };
    let mut covered = 0;
    while covered < all {
        covered += step()?;
    }
    ensure!(covered == all, "chunks do not add up to the content");
    Ok(Box::new(step))
}

/// A safetensors file with `data` as its matrices.
fn checkpoint(data: &[u8]) -> Vec<u8> {
    let mut json = String::from("{");
    let mut at = 0;
    while at < data.len() {
        let end = (at + TENSOR_BYTES).min(data.len());
        let comma = if at > 0 { "," } else { "" };
        let len = end - at;
        let _ = write!(
            json,
            r#"{comma}"t{at}":{{"dtype":"U8","shape":[{len}],"data_offsets":[{at},{end}]}}"#
        );
        at = end;
    }
    json.push('}');
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), data].concat()
}

/// What is made smaller.
#[derive(Debug, Clone, Copy)]
enum Content {
    Text,
    Bf16,
    F32,
}

impl Content {
    fn bytes(self, index: usize) -> Vec<u8> {
        let mut rng = Rng::named(index as u64, "content");
        let mut bytes = vec![0; 8 * LEASE_BYTES];
        match self {
            Self::Bf16 => Values::new().fill_bf16(&mut rng, &mut bytes),
            Self::F32 => Values::new().fill_f32(&mut rng, &mut bytes),
            Self::Text => {
                bytes.clear();
                while bytes.len() < 8 * LEASE_BYTES {
                    // Words of a small language, the first ones more often.
                    let word = rng.below(4096).min(rng.below(4096));
                    bytes.extend_from_slice(format!("w{word} ").as_bytes());
                }
                bytes.truncate(8 * LEASE_BYTES);
            }
        }
        bytes
    }
}

fn encode(content: Content, encoding: Encoding, index: usize) -> Step {
    let (data, mut encoder) = (content.bytes(index), Encoder::new());
    let (mut out, mut turns) = (vec![0; LEASE_BYTES], Turns { at: 0, len: LEASE_BYTES });
    Box::new(move || {
        let part = &data[turns.next(&data)];
        let encoded = encoder.encode(encoding, &[part], None, &mut out);
        black_box(encoded.context("content does not get smaller")?.len);
        Ok(LEASE_BYTES as u64)
    })
}

fn decode(content: Content, encoding: Encoding, index: usize) -> Result<Step> {
    let (data, mut encoder, mut decoder) = (content.bytes(index), Encoder::new(), Decoder::new());
    let mut out = vec![0; LEASE_BYTES];
    let mut messages = Vec::new();
    for part in data.chunks(LEASE_BYTES) {
        let encoded = encoder.encode(encoding, &[part], None, &mut out);
        let encoded = encoded.context("content does not get smaller")?;
        let message = out[..encoded.len].to_vec();
        decoder.decode(encoded.encoding, &message, None, &mut out)?;
        ensure!(out == part, "what was encoded does not decode to the same");
        messages.push((encoded.encoding, message));
    }
    let mut next = 0;
    Ok(Box::new(move || {
        let (encoding, message) = &messages[next % messages.len()];
        next += 1;
        decoder.decode(*encoding, message, None, black_box(&mut out))?;
        Ok(LEASE_BYTES as u64)
    }))
}

/// Seals packets in place with the cipher of TLS 1.3 and QUIC that both ends here prefer.
fn seal(index: usize, len: usize) -> Result<Step> {
    let failed = |_| anyhow::anyhow!("AES-128-GCM is not there");
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[index as u8; 16]).map_err(failed)?);
    let nonce = |number: u64| {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    };
    let mut data = random(index);
    let mut packet = data[..len].to_vec();
    key.seal_in_place_append_tag(nonce(0), Aad::empty(), &mut packet).map_err(failed)?;
    let opened = key.open_in_place(nonce(0), Aad::empty(), &mut packet).map_err(failed)?;
    ensure!(opened == &data[..len], "what was sealed does not open to the same");
    let (mut turns, mut number) = (Turns { at: 0, len }, 0);
    Ok(Box::new(move || {
        let count = LEASE_BYTES / len;
        for _ in 0..count {
            number += 1;
            let part = turns.next(&data);
            let sealed =
                key.seal_in_place_separate_tag(nonce(number), Aad::empty(), &mut data[part]);
            let _tag = black_box(sealed.map_err(failed)?);
        }
        Ok((count * len) as u64)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_validates_its_work_and_counts_its_bytes() {
        for case in cases() {
            let mut step = (case.work)(0, 1).unwrap_or_else(|e| panic!("{}: {e:#}", case.name));
            let bytes: u64 = (0..3).map(|_| step().expect("it works")).sum();
            assert!(bytes > 2 * LEASE_BYTES as u64 / 2, "{} {}: {bytes}", case.stage, case.name);
            assert!(bytes <= 3 * LEASE_BYTES as u64, "{} {}: {bytes}", case.stage, case.name);
        }
    }

    #[test]
    fn parts_follow_one_another_and_begin_again() {
        let data = [0; 10];
        let mut turns = Turns { at: 0, len: 4 };
        assert_eq!([0; 4].map(|_| turns.next(&data)), [0..4, 4..8, 0..4, 4..8]);
    }
}
