//! How fast content is split, encoded and decoded on one core, and how small it gets.
//!
//! `cargo bench -p portway-benches --bench encode`

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use portway::encode::{CONTENT_BYTES_MAX, Decoder, Encoder, Encoding, Form, Planes, Width};

/// Messages of each kind.
const MESSAGES: usize = 8;
const DATA_BYTES: usize = MESSAGES * CONTENT_BYTES_MAX;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let weights = fp32(&normals(0.02));
    planes(&mut criterion, &weights);
    let squares: Vec<f32> = normals(1e-3).iter().map(|x| x * x).collect();
    for (name, data) in [
        ("bf16 weights", bf16(&normals(0.02))),
        ("fp32 weights", weights),
        ("Adam v", fp32(&squares)),
        ("text", text()),
        ("random", random()),
        ("zeros", vec![0; DATA_BYTES]),
    ] {
        content(&mut criterion, name, &data);
    }
    criterion.final_summary();
}

fn planes(criterion: &mut Criterion, data: &[u8]) {
    let mut group = criterion.benchmark_group("planes");
    group.throughput(Throughput::Bytes(CONTENT_BYTES_MAX as u64));
    let data = &data[..CONTENT_BYTES_MAX];
    let mut out = vec![0; data.len()];
    group.bench_function("memcpy", |b| b.iter(|| black_box(&mut out).copy_from_slice(data)));
    let base = vec![3; data.len()];
    for width in Width::ALL {
        for (name, form) in
            [("plain", Form::Plain), ("turned", Form::Turned), ("delta", Form::Delta(&base))]
        {
            let id = |what| BenchmarkId::new(format!("{what} {}", width.bytes()), name);
            group.bench_function(id("split"), |b| {
                b.iter(|| Planes(width).split(data, form, black_box(&mut out)));
            });
            let planes: Vec<&[u8]> = data.chunks(data.len() / width.bytes()).collect();
            group.bench_function(id("join"), |b| {
                b.iter(|| Planes(width).join(&planes, form, black_box(&mut out)));
            });
        }
    }
    group.finish();
}

fn content(criterion: &mut Criterion, name: &str, data: &[u8]) {
    let mut encoder = Encoder::new();
    let mut out = vec![0; CONTENT_BYTES_MAX];
    let mut messages = Vec::new();
    for message in data.chunks(CONTENT_BYTES_MAX) {
        let encoding = encoder.probe(&[message]);
        messages.push(match encoder.encode(encoding, &[message], None, &mut out) {
            Some(encoded) => (encoded.encoding, out[..encoded.len].to_vec()),
            None => (Encoding::Raw, message.to_vec()),
        });
    }
    let len: usize = messages.iter().map(|(_, content)| content.len()).sum();
    let part = len as f64 / data.len() as f64;
    println!("{name}: {:?}, {part:.4} of the bytes", messages[0].0);

    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("probe", |b| {
        b.iter(|| data.chunks(CONTENT_BYTES_MAX).map(|m| encoder.probe(&[m])).for_each(drop));
    });
    group.bench_function("encode", |b| {
        b.iter(|| {
            for (message, (encoding, _)) in data.chunks(CONTENT_BYTES_MAX).zip(&messages) {
                black_box(encoder.encode(*encoding, &[message], None, &mut out));
            }
        });
    });
    let mut decoder = Decoder::new();
    group.bench_function("decode", |b| {
        b.iter(|| {
            for (message, (encoding, content)) in data.chunks(CONTENT_BYTES_MAX).zip(&messages) {
                let done = decoder.decode(*encoding, content, None, &mut out[..message.len()]);
                assert_eq!(done, Ok(()));
            }
        });
    });
    group.finish();
}

/// Numbers at random, always the same: xorshift64*.
fn numbers() -> impl Iterator<Item = u64> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    })
}

fn random() -> Vec<u8> {
    numbers().take(DATA_BYTES / 8).flat_map(u64::to_le_bytes).collect()
}

/// Normal numbers around zero, by Box and Muller.
fn normals(deviation: f32) -> Vec<f32> {
    let mut units = numbers().map(|n| ((n >> 40) as f32 + 0.5) / (1 << 24) as f32);
    let mut unit = || units.next().unwrap_or(0.5);
    let mut normal = || (-2.0 * unit().ln()).sqrt() * (std::f32::consts::TAU * unit()).cos();
    (0..DATA_BYTES / 4).map(|_| normal() * deviation).collect()
}

fn fp32(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn bf16(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| ((number.to_bits() >> 16) as u16).to_le_bytes()).collect()
}

/// The sources of the engine.
fn text() -> Vec<u8> {
    fn read(path: &Path, text: &mut Vec<u8>) {
        if let Ok(folder) = std::fs::read_dir(path) {
            let mut paths: Vec<_> = folder.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            for path in &paths {
                read(path, text);
            }
        } else {
            text.extend(std::fs::read(path).unwrap_or_default());
        }
    }
    let mut text = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/src"), &mut text);
    text.truncate(DATA_BYTES);
    text
}
