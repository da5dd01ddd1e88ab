//! Boundaries are a format: these tests hold them, and what they are for.

use std::collections::HashSet;
use std::fmt::Write;

use super::*;
use crate::base::Digest;

mod properties;

/// Numbers at random from a seed: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.next().to_le_bytes());
        }
        out.truncate(len);
        out
    }
}

/// A safetensors file of tensors with these names and lengths; a name decides the bytes.
fn checkpoint(tensors: &[(String, usize)]) -> Vec<u8> {
    let mut json = String::from(r#"{"__metadata__":{"format":"pt"}"#);
    let mut data = Vec::new();
    for (name, len) in tensors {
        let seed = Digest::of(name.as_bytes()).short() as u64;
        let begin = data.len();
        data.extend(Random(seed).bytes(*len));
        let end = data.len();
        let _ = write!(
            json,
            r#","{name}":{{"dtype":"U8","shape":[{len}],"data_offsets":[{begin},{end}]}}"#
        );
    }
    json.push('}');
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &data].concat()
}

fn with_header(json: &str, data: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), data].concat()
}

/// The chunk ends of one data extent, its bytes arriving in pieces as `feed` says, the way a reader
/// with one lease does it.
fn cut_extent(
    cuts: &mut Cuts,
    offset: usize,
    data: &[u8],
    mut feed: impl FnMut() -> usize,
) -> Vec<usize> {
    let (mut start, mut filled) = (0, 0);
    let mut ends = Vec::new();
    while start < data.len() {
        let last = filled == data.len();
        if let Some(len) = cuts.next((offset + start) as u64, &data[start..filled], last) {
            assert!((1..=CHUNK_BYTES_MAX.min(filled - start)).contains(&len));
            start += len;
            ends.push(offset + start);
        } else {
            assert!(!last && filled - start < CHUNK_BYTES_MAX, "undecided at {start}");
            filled = (filled + feed()).min(data.len()).min(start + CHUNK_BYTES_MAX);
        }
    }
    ends
}

fn cut(cutter: Cutter, data: &[u8]) -> Vec<usize> {
    let mut cuts = Cuts::new(cutter, data.len() as u64);
    let ends = cut_extent(&mut cuts, 0, data, || CHUNK_BYTES_MAX);
    assert_eq!(ends.last().copied().unwrap_or_default(), data.len());
    ends
}

fn content(log2: u32) -> Cutter {
    Cutter::Content { avg: ChunkSize::from_log2(log2).unwrap() }
}

fn chunks<'a>(data: &'a [u8], ends: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends).map(|(start, &end)| &data[start..end])
}

/// Bytes of chunks in `new` that `old` does not have.
fn new_bytes(cutter: Cutter, old: &[u8], new: &[u8]) -> usize {
    let ends = cut(cutter, old);
    let known: HashSet<Digest> = chunks(old, &ends).map(Digest::of).collect();
    let ends = cut(cutter, new);
    chunks(new, &ends).filter(|c| !known.contains(&Digest::of(c))).map(<[u8]>::len).sum()
}

fn digest_of_ends(ends: &[usize]) -> String {
    let bytes: Vec<u8> = ends.iter().flat_map(|&end| (end as u64).to_le_bytes()).collect();
    Digest::of(&bytes).to_string()
}

/// Layers as a transformer has them: two matrices, then biases and norms.
fn layers(count: usize, matrix_bytes: usize) -> Vec<(String, usize)> {
    let mut out = Vec::new();
    for i in 0..count {
        out.push((format!("layers.{i}.attn.weight"), matrix_bytes));
        out.push((format!("layers.{i}.attn.bias"), 4096));
        out.push((format!("layers.{i}.mlp.weight"), matrix_bytes));
        out.push((format!("layers.{i}.mlp.bias"), 8192));
        out.push((format!("layers.{i}.norm"), 512));
    }
    out
}

#[test]
fn golden_boundaries_of_content() {
    let data = Random(1).bytes(4 << 20);
    let ends = cut(content(14), &data);
    assert_eq!(ends[..6], [17_181, 34_311, 72_079, 89_506, 107_563, 128_871]);
    assert_eq!(ends.len(), 221);
    let digest = "bd1752ae5afdf0263fd6718cf36abea35b662c8bca8eac233cb95df300ad7382";
    assert_eq!(digest_of_ends(&ends), digest);
    let ends = cut(content(17), &data);
    assert_eq!(ends[..4], [163_691, 340_433, 423_577, 568_843]);
    assert_eq!(ends.len(), 29);
    let digest = "cbe1626ed27873cbc94d90f530756cd1f986f66e950e3858d67b00ca1fbb45cc";
    assert_eq!(digest_of_ends(&ends), digest);
}

#[test]
fn golden_boundaries_of_tensors() {
    let data = checkpoint(&layers(20, (1 << 20) + 4096));
    let digest = "5d4a25b6e54cf7d2055216e653eb5aa46c14fea518b2096bf510d08a94200242";
    assert_eq!(Digest::of(&data).to_string(), digest, "the file itself");
    let ends = cut(Cutter::Tensor, &data);
    assert_eq!(ends[..6], [8679, 1_057_255, 1_061_351, 1_065_447, 2_114_023, 2_118_119]);
    assert_eq!(ends.len(), 126);
    let digest = "e5b74b3a87b4b217ab4f99bda1239b1421a406894dadffaafc8875bd40679073";
    assert_eq!(digest_of_ends(&ends), digest);
}

#[test]
fn content_is_cut_as_the_plain_recipe_says() {
    // The recipe of docs/chunks.md, byte by byte.
    let data = Random(2).bytes(1 << 20);
    let mut gear = Random(u64::from_le_bytes(*b"portway1"));
    let gear: Vec<u64> = (0..256).map(|_| gear.next()).collect();
    let (min, avg, max) = (1024, 4096, 16384);
    let mut ends = Vec::new();
    let mut start = 0;
    while start < data.len() {
        let rest = data.len() - start;
        let hash = |len: usize| {
            let window = &data[start + len - 64..start + len];
            window.iter().fold(0u64, |h, &b| (h << 1).wrapping_add(gear[usize::from(b)]))
        };
        let ends_at = |len: usize| hash(len) < 1 << if len <= avg { 50 } else { 54 };
        let len = (min + 1..max.min(rest)).find(|&len| ends_at(len)).unwrap_or(max.min(rest));
        start += len;
        ends.push(start);
    }
    assert_eq!(cut(content(12), &data), ends);
}

#[test]
fn content_chunks_measure_what_was_asked_on_average() {
    let data = Random(3).bytes(16 << 20);
    for log2 in [12, 14, 16] {
        let mean = data.len() / cut(content(log2), &data).len();
        let asked = 1 << log2;
        assert!((asked..asked * 5 / 4).contains(&mean), "{mean} for {asked}");
    }
}

#[test]
fn an_edit_of_content_changes_the_chunks_around_it_only() {
    let old = Random(4).bytes(8 << 20);
    let mut new = old.clone();
    new.splice(1_000_001..1_000_001, *b"odd");
    new.splice(5_000_000..5_000_007, []);
    let changed = new_bytes(content(14), &old, &new);
    assert!(changed <= 256 << 10, "{changed}");
}

#[test]
fn a_tensor_inserted_into_a_checkpoint_changes_itself_and_little_else() {
    let mut tensors = layers(8, 4 << 20);
    let old = checkpoint(&tensors);
    assert!(old.len() > 64 << 20);
    tensors.insert(3, ("adapter".to_owned(), 1_234_567));
    let new = checkpoint(&tensors);
    let changed = new_bytes(Cutter::Tensor, &old, &new);
    assert!((1_234_567..1_234_567 + (64 << 10)).contains(&changed), "{changed}");
}

#[test]
fn a_changed_byte_changes_one_block_and_not_the_header() {
    let old = checkpoint(&layers(1, 8 << 20));
    let mut new = old.clone();
    new[6 << 20] ^= 1;
    assert_eq!(new_bytes(Cutter::Tensor, &old, &new), 1 << 20);
}

#[test]
fn a_small_tensor_inserted_among_thousands_changes_its_group_only() {
    let mut random = Random(5);
    let mut tensors: Vec<_> =
        (0..4000).map(|i| (format!("scale.{i}"), 1 + (random.next() % 4096) as usize)).collect();
    let old = checkpoint(&tensors);
    let count = cut(Cutter::Tensor, &old).len();
    let average = old.len() / count;
    assert!((16 << 10..48 << 10).contains(&average), "{average}");
    tensors.insert(1000, ("new".to_owned(), 777));
    let new = checkpoint(&tensors);
    let header = u64::from_le_bytes(*new.first_chunk().unwrap()) as usize;
    let changed = new_bytes(Cutter::Tensor, &old, &new) - header;
    assert!(changed <= 256 << 10, "{changed}");
}

#[test]
fn a_header_of_several_blocks_is_read_while_it_passes() {
    let mut tensors: Vec<_> = (0..20_000)
        .map(|i| (format!("a.rather.long.name.of.a.tensor.that.fills.the.header.{i}"), 8))
        .collect();
    tensors.push(("large".to_owned(), (1 << 20) + 5));
    let data = checkpoint(&tensors);
    let header_end = 8 + u64::from_le_bytes(*data.first_chunk().unwrap()) as usize;
    assert!(header_end > CHUNK_BYTES_MAX);
    let ends = cut(Cutter::Tensor, &data);
    assert_eq!(ends[..3], [1 << 20, 2 << 20, header_end]);
    assert_eq!(ends[ends.len() - 3..], [data.len() - (1 << 20) - 5, data.len() - 5, data.len()]);
}

#[test]
fn a_header_that_makes_no_sense_leaves_the_rest_to_content() {
    let body = Random(6).bytes(300_000);
    let tensor = |begin: u64, end: u64| format!(r#"{{"data_offsets":[{begin},{end}]}}"#);
    let overlapping = format!(r#"{{"a":{},"b":{}}}"#, tensor(0, 100), tensor(99, 200));
    let backwards = format!(r#"{{"a":{}}}"#, tensor(9, 3));
    let beyond = format!(r#"{{"a":{}}}"#, tensor(0, 300_001));
    let enormous = format!(r#"{{"a":{}}}"#, tensor(u64::MAX, u64::MAX));
    let deep = "[".repeat(100_000);
    let bad =
        [&overlapping, &backwards, &beyond, &enormous, &deep, "[]", "{\"a\":{}}", "\u{0}\u{0}"];
    for json in bad {
        let data = with_header(json, &body);
        let ends = cut(Cutter::Tensor, &data);
        let header_end = 8 + json.len();
        let rest: Vec<usize> =
            cut(content(14), &body).into_iter().map(|end| header_end + end).collect();
        assert_eq!(ends[0], header_end);
        assert_eq!(ends[1..], rest, "{json:.40}");
    }
}

#[test]
fn a_header_length_that_cannot_be_is_content_from_the_start() {
    for length in [0, 1, 300_000, TENSOR_HEADER_BYTES_MAX + 1, u64::MAX - 7, u64::MAX] {
        let mut data = Random(7).bytes(300_000);
        data[..8].copy_from_slice(&length.to_le_bytes());
        assert_eq!(cut(Cutter::Tensor, &data), cut(content(14), &data), "{length}");
    }
    assert_eq!(cut(Cutter::Tensor, b"short"), [5]);
}

#[test]
fn tensors_in_any_order_with_gaps_and_empty_ones_are_cut_at_their_starts() {
    let json = r#"{"c":{"data_offsets":[200000,300000]},"e":{"data_offsets":[150000,150000]},
        "a":{"data_offsets":[10,100000],"more":[{}]},"b":{"data_offsets":[100000,150000]}}"#;
    let data = with_header(json, &Random(8).bytes(400_000));
    let ends = cut(Cutter::Tensor, &data);
    let header_end = 8 + json.len();
    let starts = [0, 10, 100_000, 150_000, 200_000, 400_000];
    assert_eq!(ends, starts.map(|start| header_end + start));
}

#[test]
fn blocks_keep_their_place_behind_a_hole() {
    let data = checkpoint(&[("a".to_owned(), 5 << 20)]);
    let header_end = data.len() - (5 << 20);
    let mut cuts = Cuts::new(Cutter::Tensor, data.len() as u64);
    let before = cut_extent(&mut cuts, 0, &data[..1 << 20], || 4096);
    assert_eq!(before, [header_end, 1 << 20]);
    let from = 3 << 20;
    let after = cut_extent(&mut cuts, from, &data[from..], || 4096);
    let expected = [3, 4, 5].map(|block| header_end + (block << 20));
    assert_eq!(after, expected);
    let mut cuts = Cuts::new(Cutter::Fixed { block: ChunkSize::WHOLE }, 1 << 20);
    assert_eq!(cut_extent(&mut cuts, 5000, &data[5000..70_000], || 4096), [65_536, 70_000]);
}

#[test]
fn the_cutter_follows_name_length_and_head() {
    let head = checkpoint(&[("a".to_owned(), 200_000)]);
    let len = head.len() as u64;
    assert_eq!(Cutter::choose(b"model.safetensors", len, &head), Cutter::Tensor);
    assert_eq!(Cutter::choose(b"model.bin", len, &head), content(14));
    assert_eq!(Cutter::choose(b"model.safetensors", len, &head[..8]), content(14));
    assert_eq!(Cutter::choose(b"model.safetensors", len, &[b'{'; 4096]), content(14));
    assert_eq!(Cutter::choose(b"", len, &[]), content(14));
    let whole = Cutter::choose(b"model.safetensors", WHOLE_BYTES_MAX, &head);
    assert_eq!(cut(whole, &head[..WHOLE_BYTES_MAX as usize]), [WHOLE_BYTES_MAX as usize]);
}

#[test]
fn sizes_grow_so_that_no_object_has_too_many_chunks() {
    let gib = 1u64 << 30;
    let steps = [(1, 14), (4, 15), (16, 16), (64, 17), (256, 18), (512, 19)];
    for (gibs, log2) in steps {
        assert_eq!(ChunkSize::for_object(gibs * gib), ChunkSize::from_log2(log2).unwrap());
        assert_eq!(ChunkSize::for_object(gibs * gib + 1), ChunkSize::from_log2(log2 + 1).unwrap());
        assert!((gibs * gib) >> log2 <= 1 << 20);
    }
    assert_eq!(ChunkSize::for_object(0), ChunkSize::CONTENT);
    assert_eq!(ChunkSize::for_object(u64::MAX).bytes(), 1 << 20);
}

#[test]
fn a_cutter_survives_its_code_and_unknown_codes_are_refused() {
    for code in (0..=0xffff).chain([1 << 16, 0x0100_0e02, u32::MAX]) {
        if let Some(cutter) = Cutter::from_code(code) {
            assert_eq!(cutter.code(), code);
        }
    }
    assert_eq!(Cutter::Tensor.code(), 1);
    assert_eq!(content(14).code(), 0x0e02);
    assert_eq!(Cutter::Fixed { block: ChunkSize::WHOLE }.code(), 0x1003);
    for code in [0, 4, 2, 3, 0x0e01, 0x0b02, 0x1602, 0x0100_0e02] {
        assert_eq!(Cutter::from_code(code), None, "{code:#x}");
    }
}
