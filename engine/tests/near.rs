//! Files of which a few bytes changed are sent as copies of what the receiver has, between two real nodes.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its scene fails")]

mod common;

use std::fs;

use common::{Pair, engine, fingerprint, noise, remote, write};
use portway::api::{Compress, Outcome, TransferOptions};

/// Bytes of the file.
const BYTES: usize = 4 << 20;
/// Documents that are replaced, and bytes of one.
const DOCUMENTS: usize = 40;
const DOCUMENT_BYTES: usize = 2000;

fn shard() -> Vec<u8> {
    noise(7, BYTES)
}

/// The shard with some documents replaced by longer and shorter ones.
fn edited(seed: u64) -> Vec<u8> {
    let mut content = shard();
    for i in (0..DOCUMENTS).rev() {
        let at = (i * 2 + 1) * BYTES / (2 * DOCUMENTS);
        let new = noise(seed + i as u64, DOCUMENT_BYTES - 100 + 7 * i);
        content.splice(at..at + DOCUMENT_BYTES, new);
    }
    content
}

fn never() -> TransferOptions {
    TransferOptions { compress: Some(Compress::Never), ..TransferOptions::default() }
}

async fn push(pair: &Pair, content: &[u8]) -> Outcome {
    write(&pair.path("shards").join("0.bin"), content);
    let outcome = pair.push_with(&pair.path("shards"), "shards", never()).await.expect("a push");
    assert_eq!(fingerprint(&pair.cloud.root.join("shards")), fingerprint(&pair.path("shards")));
    outcome
}

/// Whether chunks went as copies: the bytes that are new are a fifth of those that have to come.
fn are_copies(outcome: &Outcome) -> bool {
    assert!(outcome.bytes_sent > 10 * (DOCUMENTS * DOCUMENT_BYTES) as u64 / 2, "{outcome:?}");
    assert!(outcome.bytes_deduplicated > 0, "{outcome:?}");
    outcome.bytes_wire < outcome.bytes_sent / 2
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_of_which_a_document_changed_comes_as_copies_of_the_one_before() {
    let pair = Pair::new().await;
    push(&pair, &shard()).await;
    let outcome = push(&pair, &edited(100)).await;
    assert!(are_copies(&outcome), "{outcome:?}");
    assert_eq!(outcome.bytes_discarded, 0, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_sites_no_sums_are_told_of_what_another_node_brought() {
    let pair = Pair::new().await;
    let other = engine(&pair.third("edge").await);
    write(&pair.path("shards").join("0.bin"), &shard());
    let target = remote("cloud", "shards");
    other.push(vec![pair.path("shards")], target, never()).wait().await.expect("a push");
    let outcome = push(&pair, &edited(200)).await;
    assert!(!are_copies(&outcome), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_sites_no_sums_are_told_of_what_was_changed_since() {
    let pair = Pair::new().await;
    push(&pair, &shard()).await;
    let there = pair.cloud.root.join("shards/0.bin");
    fs::write(&there, shard()).unwrap();
    let outcome = push(&pair, &edited(300)).await;
    assert!(!are_copies(&outcome), "{outcome:?}");
}
