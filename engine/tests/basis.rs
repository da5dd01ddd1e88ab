//! Checkpoints that are sent as differences to the one before, between two real nodes.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its scene fails")]

mod common;

use std::fs;

use common::{Pair, engine, fingerprint, noise, remote, write};
use portway::api::{Compress, Outcome, Parts, TransferOptions};

/// Elements of the large tensor.
const ELEMENTS: usize = 2_000_000;

/// bf16 weights of normal size, moved by what `step` steps with a small rate would: a safetensors file,
/// with a tensor that was `inserted` before the others.
fn weights(step: u64, inserted: bool) -> Vec<u8> {
    let random = noise(77, ELEMENTS * 4);
    let moves = noise(step, ELEMENTS);
    let words = random.chunks_exact(4).zip(&moves).map(|(raw, by)| {
        // A sum of uniform parts, near enough to a normal distribution.
        let sum: i16 = raw.iter().map(|byte| i16::from(*byte) - 128).sum();
        let value = f32::from(sum) / 6000.0;
        let bits = (value.to_bits() >> 16) as u16;
        if step > 0 { bits.wrapping_add(u16::from(*by) >> 6) } else { bits }
    });
    let large: Vec<u8> = words.flat_map(u16::to_le_bytes).collect();
    let first: Vec<u8> = if inserted { noise(9, 300_000) } else { Vec::new() };
    let at = first.len();
    let adapter = format!(r#""adapter":{{"dtype":"U8","shape":[{at}],"data_offsets":[0,{at}]}},"#);
    let json = format!(
        r#"{{{}"w":{{"dtype":"BF16","shape":[{ELEMENTS}],"data_offsets":[{at},{}]}}}}"#,
        if inserted { &adapter } else { "" },
        at + large.len()
    );
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(json.as_bytes());
    file.extend_from_slice(&first);
    file.extend_from_slice(&large);
    file
}

fn always() -> TransferOptions {
    TransferOptions { compress: Some(Compress::Always), ..TransferOptions::default() }
}

async fn push(pair: &Pair, name: &str, options: TransferOptions) -> Outcome {
    let outcome = pair.push_with(&pair.path(name), &format!("runs/{name}"), options).await;
    let outcome = outcome.expect("a push");
    let there = pair.cloud.root.join("runs").join(name);
    assert_eq!(fingerprint(&there), fingerprint(&pair.path(name)), "{name}");
    outcome
}

fn save(pair: &Pair, name: &str, content: &[u8]) {
    write(&pair.path(name).join("model.safetensors"), content);
}

/// Whether content went as differences: planes alone take more than half of these bytes.
fn are_differences(outcome: &Outcome) -> bool {
    assert!(outcome.bytes_sent > 2 * ELEMENTS as u64 / 2, "{outcome:?}");
    outcome.bytes_wire < outcome.bytes_sent * 2 / 5
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_checkpoint_comes_as_differences_to_the_one_before() {
    let pair = Pair::new().await;
    fs::create_dir(pair.cloud.root.join("runs")).unwrap();
    save(&pair, "ckpt-100", &weights(0, false));
    let first = push(&pair, "ckpt-100", always()).await;
    assert!(!are_differences(&first), "there is nothing before it: {first:?}");
    // The tensor has moved.
    save(&pair, "ckpt-200", &weights(1, true));
    let second = push(&pair, "ckpt-200", always()).await;
    assert!(are_differences(&second), "{second:?}");
    assert_eq!(second.bytes_discarded, 0);
    // A name without a step has a basis only if it is named.
    save(&pair, "last", &weights(2, true));
    let unnamed = push(&pair, "last", always()).await;
    assert!(!are_differences(&unnamed), "{unnamed:?}");
    save(&pair, "best", &weights(3, true));
    let basis = Some(pair.path("last"));
    let named = push(&pair, "best", TransferOptions { basis, ..always() }).await;
    assert!(are_differences(&named), "{named:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_basis_that_is_another_one_costs_bytes_and_nothing_else() {
    let pair = Pair::new().await;
    fs::create_dir(pair.cloud.root.join("runs")).unwrap();
    save(&pair, "ckpt-1", &weights(0, false));
    push(&pair, "ckpt-1", always()).await;
    save(&pair, "ckpt-2", &weights(1, false));
    // The receiver's copy is changed behind its back: one byte of the tensor, its length kept.
    let there = pair.cloud.root.join("runs/ckpt-1/model.safetensors");
    let mut bytes = fs::read(&there).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let modified = fs::metadata(&there).unwrap().modified().unwrap();
    fs::write(&there, &bytes).unwrap();
    fs::File::options().write(true).open(&there).unwrap().set_modified(modified).unwrap();
    let outcome = push(&pair, "ckpt-2", always()).await;
    assert!(outcome.bytes_discarded > 0, "{outcome:?}");
    assert!(outcome.bytes_discarded < outcome.bytes_sent, "only what was different: {outcome:?}");
    // The sender's copy is another one: its stamp says so, and nothing is tried.
    save(&pair, "ckpt-2", &weights(5, false));
    save(&pair, "ckpt-3", &weights(6, false));
    let outcome = push(&pair, "ckpt-3", always()).await;
    assert!(!are_differences(&outcome), "{outcome:?}");
    assert_eq!(outcome.bytes_discarded, 0, "{outcome:?}");
    // It is gone at the receiver, though its manifest is there.
    save(&pair, "ckpt-4", &weights(7, false));
    fs::remove_dir_all(pair.cloud.root.join("runs/ckpt-3")).unwrap();
    let outcome = push(&pair, "ckpt-4", always()).await;
    assert_eq!(outcome.bytes_discarded, 0, "{outcome:?}");
    assert!(!are_differences(&outcome), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_brought_is_no_basis() {
    let pair = Pair::new().await;
    fs::create_dir(pair.cloud.root.join("runs")).unwrap();
    let other = engine(&pair.third("edge").await);
    save(&pair, "ckpt-1", &weights(0, false));
    let target = remote("cloud", "runs/ckpt-1");
    other.push(vec![pair.path("ckpt-1")], target, always()).wait().await.expect("a push");
    save(&pair, "ckpt-2", &weights(1, false));
    let outcome = push(&pair, "ckpt-2", always()).await;
    assert!(!are_differences(&outcome), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_come_as_differences_to_the_same_part_of_the_checkpoint_before() {
    let pair = Pair::new().await;
    let node = engine(&pair.onprem.home);
    let save = |step: u64, part: &str, content: &[u8]| {
        write(&pair.path(&format!("ckpt-{step}")).join(part), content);
    };
    let push = async |step: u64, part: &str| {
        let parts = Some(Parts::new(2, "first").unwrap());
        let source = pair.path(&format!("ckpt-{step}")).join(part);
        let target = remote("cloud", &format!("runs/ckpt-{step}/{part}"));
        let options = TransferOptions { parts, ..always() };
        node.push(vec![source], target, options).wait().await.expect("a push")
    };
    for (step, moved) in [(1, 1), (2, 3)] {
        for (rank, moved) in [("rank0.safetensors", moved), ("rank1.safetensors", moved + 1)] {
            save(step, rank, &weights(moved, false));
            let outcome = push(step, rank).await;
            assert_eq!(are_differences(&outcome), step == 2, "{rank} {step}: {outcome:?}");
        }
        for rank in ["rank0.safetensors", "rank1.safetensors"] {
            let place = format!("ckpt-{step}/{rank}");
            let there = fs::read(pair.cloud.root.join("runs").join(&place)).unwrap();
            assert!(there == fs::read(pair.path(&place)).unwrap(), "{place} differs");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_of_a_basis_that_may_not_leave_any_more() {
    let pair = Pair::new().await;
    fs::create_dir(pair.cloud.root.join("runs")).unwrap();
    save(&pair, "ckpt-1", &weights(0, false));
    push(&pair, "ckpt-1", always()).await;
    // The directory alone has the label: the file's stamp is as it was.
    let flags = rustix::fs::XattrFlags::empty();
    let dir = pair.path("ckpt-1");
    rustix::fs::setxattr(&dir, "user.portway.class", b"restricted", flags).unwrap();
    save(&pair, "ckpt-2", &weights(1, false));
    let outcome = push(&pair, "ckpt-2", always()).await;
    assert!(!are_differences(&outcome), "{outcome:?}");
    rustix::fs::removexattr(&dir, "user.portway.class").unwrap();
    save(&pair, "ckpt-3", &weights(2, false));
    let outcome = push(&pair, "ckpt-3", always()).await;
    assert!(are_differences(&outcome), "{outcome:?}");
}
