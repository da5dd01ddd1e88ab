//! A server with a valid certificate that keeps to no rule, against `pull`.

use portway::api::{Error, Exit, NodeAddress, Outcome, Remote, TransferOptions};
use portway::base::TransferId;
use portway::encode::Compress;
use portway::transport::quic::QuicListener;
use portway::wire::{Accept, Hello, Operation};

use super::*;
use crate::common::engine;

struct Server {
    pair: Pair,
    listener: QuicListener,
}

impl Server {
    async fn new() -> Self {
        let pair = Pair::new().await;
        let listener = raw::listen(&pair.cloud.home);
        Self { pair, listener }
    }

    /// A pull of `onprem`, and the session in which it asked for it.
    async fn asked(&self) -> (QuicLink, impl Future<Output = Result<Outcome, Error>>) {
        let node = NodeAddress::Address(self.listener.local_addr());
        let source = Remote { node, path: rel("tree"), into: false };
        let options = TransferOptions { retry_s: Some(0), ..TransferOptions::default() };
        let target = self.pair.path("pulled/tree");
        let pulled = engine(&self.pair.onprem.home).pull(source, target, options).wait();
        let link = self.listener.accept().await.unwrap();
        send(&link, hello()).await;
        assert!(matches!(next(&link).await, Ok(Frame::Hello(_))));
        match next(&link).await {
            Ok(Frame::Open(open)) => assert_eq!(open.operation, Operation::Pull),
            other => panic!("{other:?}"),
        }
        (link, pulled)
    }

    /// As `asked`, and the pull was promised what it asked for.
    async fn accepted(&self) -> (QuicLink, impl Future<Output = Result<Outcome, Error>>) {
        let (link, pulled) = self.asked().await;
        send(
            &link,
            Frame::Accept(Accept {
                transfer_id: TransferId(7),
                free_bytes: 0,
                compress: Compress::Never,
                class: None,
                fresh: false,
            }),
        )
        .await;
        (link, pulled)
    }

    /// Nothing became visible, here or outside, and an honest node can still be pulled from.
    async fn did_no_harm(&self) {
        let pair = &self.pair;
        let names = |dir: &str| {
            let names = fs::read_dir(pair.path(dir)).unwrap();
            let mut names: Vec<_> = names.map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names("pulled"), [".portway"]);
        for outside in ["outside", "x", "etc", "pulled.tmp"] {
            assert!(!pair.path(outside).exists());
        }
        let good = pair.cloud.root.join("good");
        write(&good.join("a/b"), &noise(1, 100_000));
        let outcome = pair.pull("good", &pair.path("pulled/tree")).await.expect("a good pull");
        assert!(outcome.verified && outcome.failed.is_empty());
        assert_eq!(fingerprint(&good), fingerprint(&pair.path("pulled/tree")));
        assert_eq!(names("pulled"), [".portway", "tree"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f33_f34_f35_a_pull_refuses_all_that_a_push_may_not_say() {
    let server = Server::new().await;
    let root = (
        "root-mismatch",
        vec![
            entries(0, vec![dir(""), dir("d")]),
            Frame::EntriesEnd { entries: 2, skipped: 0 },
            Frame::Root { root: Digest::of(b"another"), failed: 0 },
        ],
    );
    let cases = [bad_entries(), bad_offers(), bad_frames(), vec![root]];
    for (expected, frames) in cases.into_iter().flatten() {
        let shown = shown(&frames);
        let (link, pulled) = server.accepted().await;
        let how = say(&link, frames).await;
        assert!(how.contains(expected), "expected {expected:?}, got {how:?} for {shown}");
        let error = pulled.await.expect_err("nothing to pull");
        let told = error.code == expected || error.message.contains(expected);
        assert!(told, "{error:?} for {shown}");
        assert_eq!(error.exit, Exit::Failed, "{error:?} for {shown}");
    }
    server.did_no_harm().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f35_a_pull_takes_no_name_that_leads_out() {
    let server = Server::new().await;
    for bad in bad_paths() {
        let (link, pulled) = server.accepted().await;
        link.send(with_path(&bad, |sound| entries(0, vec![file(sound, 1)]))).await.unwrap();
        let how = ending(&link).await;
        assert!(how.contains("path"), "{bad:?}: {how}");
        let error = pulled.await.expect_err("no such name");
        assert!(error.message.contains("path"), "{bad:?}: {error:?}");
        assert_eq!((error.code, error.exit), ("protocol", Exit::Failed), "{bad:?}: {error:?}");
    }
    for text in ["../../outside", "/etc/passwd", "a/../../x", ".."] {
        let (link, pulled) = server.accepted().await;
        send(&link, entries(0, vec![dir(""), super::link("l", text)])).await;
        match wait_for(&link, "failed").await {
            Frame::Failed { seq, code, .. } => assert_eq!((seq, &*code), (1, "unsafe-link")),
            other => panic!("{other:?}"),
        }
        link.close("over").await;
        pulled.await.expect_err("it was cut off");
    }
    server.did_no_harm().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f33_a_pull_believes_no_content_but_that_of_its_digest() {
    let server = Server::new().await;
    let (link, pulled) = server.accepted().await;
    let (how, asked) = send_wrong_content(&link).await;
    assert_eq!((how.as_str(), asked), ("wrong-content", 3));
    link.close("over").await;
    let error = pulled.await.expect_err("wrong content");
    assert_eq!((error.code, error.exit), ("wrong-content", Exit::Failed), "{error:?}");

    let (first, second) = (&[true][..], &[false, true][..]);
    for (pieces, bytes) in [(first, 999), (first, 1001), (second, 1000)] {
        let (link, pulled) = server.accepted().await;
        send(&link, entries(0, vec![dir(""), file("f", 1000)])).await;
        wait_for(&link, "verdicts").await;
        send(&link, offer(9, &[piece(1, 0, 1000)])).await;
        wait_for(&link, "want").await;
        let header = DataHeader::of(9, pieces.iter().copied());
        let _ = link.send_data(header.encode(), vec![Bytes::from(noise(0, bytes))]).await;
        let how = ending(&link).await;
        assert!(how.contains("length of its pieces"), "{how}");
        link.close("over").await;
        let error = pulled.await.expect_err("content of another length");
        assert!(error.message.contains("length of its pieces"), "{error:?}");
    }
    server.did_no_harm().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f33_a_server_that_answers_a_pull_with_nonsense_is_told_from_a_lost_one() {
    let server = Server::new().await;
    let answers = [
        hello().encode(),
        open("tree").encode(),
        entries(0, vec![file("", 1)]).encode(),
        Bytes::from_static(b"\xff\xff"),
        Bytes::new(),
    ];
    for answer in answers {
        let (link, pulled) = server.asked().await;
        link.send(answer.clone()).await.unwrap();
        let error = pulled.await.expect_err("no answer to a pull");
        assert_eq!((error.code, error.exit), ("protocol", Exit::Failed), "{answer:?}: {error:?}");
    }
    let (link, pulled) = server.accepted().await;
    link.close("gone").await;
    let error = pulled.await.expect_err("a lost server");
    assert_eq!((error.code, error.exit), ("peer-closed", Exit::Interrupted), "{error:?}");
    server.did_no_harm().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f33_versions_without_one_in_common_are_named_to_who_pulls_and_to_who_pushes() {
    let server = Server::new().await;
    let pair = &server.pair;
    let other = Hello { versions: (9000, 9001), ..raw::greeting() };
    let source = pair.path("source");
    write(&source.join("a"), b"content");
    let engine = engine(&pair.onprem.home);
    for push in [false, true] {
        let remote = Remote {
            node: NodeAddress::Address(server.listener.local_addr()),
            path: rel("tree"),
            into: false,
        };
        let options = TransferOptions { retry_s: Some(0), ..TransferOptions::default() };
        let transfer = if push {
            engine.push(vec![source.clone()], remote, options)
        } else {
            engine.pull(remote, pair.path("pulled/tree"), options)
        };
        let ended = transfer.wait();
        let answer = async {
            let link = server.listener.accept().await.unwrap();
            send(&link, Frame::Hello(other.clone())).await;
            // The peer may have asked already; it hears no answer to that.
            ending(&link).await
        };
        let (ended, _) = tokio::join!(ended, answer);
        let error = ended.expect_err("no version in common");
        assert_eq!((error.code, error.exit), ("protocol", Exit::Failed), "{error:?}");
        let told = "raw speaks protocol versions 9000 to 9001, this build";
        assert!(error.message.contains(told), "push {push}: {error:?}");
    }
    server.did_no_harm().await;
}
