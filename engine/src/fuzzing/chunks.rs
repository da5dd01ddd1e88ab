//! Cutters: where chunks end must not depend on how bytes are fed, whatever the bytes say.

use crate::base::limits::CHUNK_BYTES_MAX;
use crate::chunk::{ChunkSize, Cuts, Cutter};

/// Most bytes that are cut.
const BYTES_MAX: usize = 256 << 10;

/// Ends of the chunks of `data`, given to the cutter in parts of `feed` bytes.
fn ends(
    cutter: Cutter,
    object_len: u64,
    data: &[u8],
    mut feed: impl FnMut() -> usize,
) -> Vec<usize> {
    let mut cuts = Cuts::new(cutter, object_len);
    let mut ends = Vec::new();
    let (mut start, mut given) = (0, 0);
    while start < data.len() {
        given = (given + feed().max(1)).clamp(start + 1, data.len());
        let last = given == data.len();
        match cuts.next(start as u64, &data[start..given], last) {
            Some(len) => {
                assert!((1..=given - start).contains(&len) && len <= CHUNK_BYTES_MAX);
                start += len;
                ends.push(start);
            }
            None => assert!(!last, "with the last bytes there is an answer"),
        }
    }
    ends
}

fn cut_alike(cutter: Cutter, object_len: u64, data: &[u8], feed: usize) {
    let at_once = ends(cutter, object_len, data, || data.len());
    let in_parts = ends(cutter, object_len, data, || feed);
    assert_eq!(at_once, in_parts, "{cutter:?}, fed by {feed}");
    assert_eq!(at_once.last().copied().unwrap_or(0), data.len());
}

/// The cutter's code u32 LE, how often the rest is repeated u8, bytes that are fed at a time
/// u16 LE, the rest.
pub(super) fn content(data: &[u8]) -> bool {
    let Some(([code @ .., times, feed_low, feed_high], rest)) = data.split_first_chunk::<7>()
    else {
        return false;
    };
    let code = u32::from_le_bytes(*code);
    let Some(cutter) = Cutter::from_code(code) else { return false };
    assert_eq!(cutter.code(), code);
    let wanted = (rest.len() * (1 + usize::from(*times))).min(BYTES_MAX);
    let repeated: Vec<u8> = rest.iter().copied().cycle().take(wanted).collect();
    let feed = 256 + usize::from(u16::from_le_bytes([*feed_low, *feed_high]));
    if cutter != Cutter::Tensor {
        cut_alike(cutter, repeated.len() as u64, &repeated, feed);
    }
    // The choice of a cutter reads nine bytes of the object.
    let chosen = Cutter::choose(b"x.safetensors", 1 << 30, rest);
    assert_eq!(Cutter::from_code(chosen.code()), Some(chosen));
    true
}

pub(super) fn content_seeds() -> Vec<Vec<u8>> {
    let noise: Vec<u8> = (0u32..512).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let seed = |cutter: Cutter, times: u8, feed: u16| {
        let head = [&cutter.code().to_le_bytes()[..], &[times], &feed.to_le_bytes()].concat();
        [&head[..], &noise].concat()
    };
    let size = |log2| ChunkSize::from_log2(log2).unwrap_or(ChunkSize::CONTENT);
    vec![
        seed(Cutter::Content { avg: size(12) }, 60, 100),
        seed(Cutter::Content { avg: ChunkSize::CONTENT }, 255, 10_000),
        seed(Cutter::Fixed { block: size(12) }, 20, 1),
        seed(Cutter::Tensor, 0, 0),
    ]
}

/// How many zeros follow, in units of 512 bytes u8; bytes that are fed at a time u8; how much longer
/// the object says it is u8; the file.
pub(super) fn tensor(data: &[u8]) -> bool {
    let Some(([zeros, feed, longer], file)) = data.split_first_chunk::<3>() else { return false };
    let mut object = file.to_vec();
    object.resize(file.len() + usize::from(*zeros) * 512, 0);
    let object_len = object.len() as u64 + (u64::from(*longer) << 12);
    // Few bytes at a time, and not too many times.
    let feed = 1 + usize::from(*feed) + object.len() / 512;
    cut_alike(Cutter::Tensor, object_len, &object, feed);
    Cutter::choose(b"x.safetensors", 1 << 30, file) == Cutter::Tensor
}

pub(super) fn tensor_seeds() -> Vec<Vec<u8>> {
    let file = |json: &str, feed: u8| {
        let length = (json.len() as u64).to_le_bytes();
        [&[110, feed, 0][..], &length, json.as_bytes(), b"tensors"].concat()
    };
    vec![
        file(
            r#"{"__metadata__":{"format":"pt"},"a.weight":{"dtype":"BF16","shape":[64,128],"data_offsets":[0,16384]},"a.bias":{"dtype":"F32","shape":[16],"data_offsets":[16384,16448]},"b":{"dtype":"F32","shape":[9,1024],"data_offsets":[16448,53312]}}"#,
            7,
        ),
        file(
            r#"{"t":{"data_offsets":[0,5]},"u":{"data_offsets":[5,9]},"v":{"data_offsets":[9,9]}}"#,
            1,
        ),
        file("{}", 3),
    ]
}
