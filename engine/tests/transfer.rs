//! Whole transfers between two real nodes over QUIC on loopback.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::{Pair, fingerprint, noise, write};

fn tree(pair: &Pair) -> std::path::PathBuf {
    let top = pair.path("source");
    write(&top.join("model/weights.bin"), &noise(1, 9_000_000));
    write(&top.join("model/copy.bin"), &noise(1, 9_000_000));
    write(&top.join("empty"), b"");
    for i in 0..300 {
        write(&top.join(format!("shards/s{i:03}.jsonl")), &noise(100 + i, 3000 + i as usize));
    }
    fs::create_dir_all(top.join("hollow/inner")).unwrap();
    std::os::unix::fs::symlink("model/weights.bin", top.join("latest")).unwrap();
    fs::set_permissions(top.join("empty"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(top.join("hollow"), fs::Permissions::from_mode(0o750)).unwrap();
    top
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_arrives_as_it_is_and_a_second_push_moves_nothing() {
    let pair = Pair::new().await;
    let source = tree(&pair);
    let first = pair.push(&source, "run1/ckpt").await.expect("the first push");
    assert!(first.verified && first.failed.is_empty(), "{first:?}");
    assert_eq!(first.files, 303);
    assert_eq!(
        first.bytes_total,
        first.bytes_sent + first.bytes_deduplicated + first.bytes_resumed
    );
    assert!(first.bytes_wire >= first.bytes_sent, "{first:?}");
    assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join("run1/ckpt")));

    let second = pair.push(&source, "run1/ckpt").await.expect("the second push");
    assert_eq!((second.bytes_sent, second.root.as_str()), (0, first.root.as_str()));
    assert_eq!(second.bytes_deduplicated, first.bytes_total);

    let elsewhere = pair.push(&source, "run2/ckpt").await.expect("a push to another path");
    assert_eq!(elsewhere.bytes_sent, 0, "every chunk is there under another name");
    assert_eq!(fingerprint(&source), fingerprint(&pair.cloud.root.join("run2/ckpt")));

    let back = pair.path("back");
    let pulled = pair.pull("run1/ckpt", &back).await.expect("a pull");
    assert_eq!(pulled.root, first.root);
    assert_eq!(fingerprint(&source), fingerprint(&back));
}
