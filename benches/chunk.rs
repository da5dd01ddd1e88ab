//! How fast bytes are copied, cut and digested on one core, in one run so that ratios mean something.
//!
//! `cargo bench -p portway-benches --bench chunk`

use std::fmt::Write;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use portway::base::Digest;
use portway::base::limits::LEASE_BYTES;
use portway::chunk::{ChunkSize, Cuts, Cutter};

/// More than the caches hold, so that every byte comes from memory as it does behind a read.
const DATA_BYTES: usize = 96 << 20;
/// A matrix of a layer, in bytes; not a multiple of the block.
const TENSOR_BYTES: usize = (6 << 20) + 4096;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .configure_from_args();
    let content = random(DATA_BYTES);
    let tensors = checkpoint(&content);
    let by_content = Cutter::Content { avg: ChunkSize::CONTENT };

    let mut group = criterion.benchmark_group("chunk");
    group.throughput(Throughput::Bytes(content.len() as u64));
    let mut copy = vec![0; content.len()];
    group.bench_function("memcpy", |b| b.iter(|| black_box(&mut copy).copy_from_slice(&content)));
    for (name, len) in [("blake3 of 16 KiB", 16 << 10), ("blake3 of 1 MiB", 1 << 20)] {
        group.bench_function(name, |b| {
            b.iter(|| content.chunks(len).for_each(digest));
        });
    }
    group.bench_function("cut by content", |b| b.iter(|| walk(by_content, &content, |_| ())));
    group.bench_function("cut by content, blake3", |b| {
        b.iter(|| walk(by_content, &content, digest));
    });
    group.throughput(Throughput::Bytes(tensors.len() as u64));
    // Reads the header alone: its rate is that of not looking at the bytes.
    group.bench_function("cut by tensor", |b| b.iter(|| walk(Cutter::Tensor, &tensors, |_| ())));
    group.bench_function("cut by tensor, blake3", |b| {
        b.iter(|| walk(Cutter::Tensor, &tensors, digest));
    });
    group.finish();
    criterion.final_summary();
}

/// Cuts `data` a lease at a time and hands each chunk to `take`; returns their count.
fn walk(cutter: Cutter, data: &[u8], mut take: impl FnMut(&[u8])) -> usize {
    let mut cuts = Cuts::new(cutter, data.len() as u64);
    let (mut start, mut count) = (0, 0);
    while start < data.len() {
        let end = (start + LEASE_BYTES).min(data.len());
        let last = end == data.len();
        while let Some(len) = cuts.next(start as u64, &data[start..end], last) {
            take(&data[start..start + len]);
            start += len;
            count += 1;
        }
    }
    black_box(count)
}

fn digest(chunk: &[u8]) {
    black_box(Digest::of(chunk));
}

/// Bytes at random, always the same: xorshift64.
fn random(len: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(len);
    while out.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// A safetensors file with `data` as its matrices and biases.
fn checkpoint(data: &[u8]) -> Vec<u8> {
    let mut json = String::from("{");
    let mut at = 0;
    for layer in 0.. {
        for (name, len) in [("weight", TENSOR_BYTES), ("bias", 4096)] {
            let end = (at + len).min(data.len());
            let comma = if at > 0 { "," } else { "" };
            let _ = write!(
                json,
                r#"{comma}"layers.{layer}.{name}":{{"dtype":"U8","shape":[{}],"data_offsets":[{at},{end}]}}"#,
                end - at
            );
            at = end;
        }
        if at == data.len() {
            break;
        }
    }
    json.push('}');
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), data].concat()
}
