//! Content that is encoded on its way.

use super::*;
use crate::encode::{Encoding, Layout, Width};
use crate::storage::mkdir_all;
use crate::wire::{Coded, DataHeader};

/// Files that get smaller: text, numbers like weights, zeros, and small ones; and one that does not.
fn files_that_get_smaller<T: Transport>(scene: &Scene<T>) {
    let write = |at: &str, content: &[u8]| {
        let (tree, at) = (&scene.source.tree, path(&format!("src/{at}")));
        mkdir_all(tree, &at.parent().expect("a directory")).expect("directories");
        let file = tree.create(&at).expect("a file");
        file.write_at(content, 0).expect("content");
    };
    let text: Vec<u8> = (0..900_000_u32).flat_map(|n| format!("{n} ").into_bytes()).collect();
    write("text", &text);
    let weight = |n: u32| (n.wrapping_mul(2_654_435_761) as f32 / 4e9 - 0.5).to_le_bytes();
    let weights: Vec<u8> = (0..900_000).flat_map(weight).collect();
    write("weights", &weights);
    write("odd", &weights[1..300_000]);
    for small in 0..50 {
        write(&format!("small/{small}"), &text[small * 5000..small * 9000 + 300]);
    }
    scene.file("random", 1, 200_000);
}

pub(super) async fn content_that_gets_smaller_does_and_arrives_as_it_was<T: Transport>() {
    let scene = Scene::<T>::new().await;
    files_that_get_smaller(&scene);
    let encodes = scene.transport.session().await.0.wants_encoding();
    let (published, sent) = scene.push("run").await;
    assert_eq!(published.numbers.sent + published.numbers.deduplicated, scene.total());
    if encodes {
        assert!(sent < published.numbers.sent * 2 / 3, "{sent} of {:?}", published.numbers);
    } else {
        assert_eq!(sent, published.numbers.sent);
    }
    scene.survives_a_power_loss("run");
}

pub(super) async fn content_that_does_not_decode_ends_the_session<T: Transport>() {
    let scene = Scene::<T>::new().await;
    let layout = Layout::new(Width::Four, 0);
    for encoding in [Encoding::Zstd, Encoding::Planes(layout), Encoding::Delta(layout)] {
        let (peer, link) = scene.transport.session().await;
        let (context, _stop) = scene.context(link);
        let running = run_with_credit(context, scene.store("run"), Task::Receive, CREDIT);
        let coded = Some(Coded { encoding, len: LEASE_BYTES as u32 });
        let header = DataHeader { coded, ..DataHeader::of(1, [true]) };
        let content = vec![Bytes::from_static(&[7; 5000])];
        let sending = peer.send_data(header.encode(), content);
        let (ended, _) = tokio::join!(in_time(running), sending);
        match ended {
            Err(Lost::Link(LinkError::Protocol { detail })) => {
                assert!(!detail.is_empty(), "{encoding:?}");
            }
            other => panic!("{encoding:?}: {other:?}"),
        }
    }
    assert_eq!(scene.picture_of_target("run"), Vec::<String>::new());
    scene.leases_are_back().await;
    scene.push("run").await;
}
