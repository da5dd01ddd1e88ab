//! A process that runs out of descriptors. It is alone here, since the limit is the process's.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its scene fails")]

mod common;

use std::fs;
use std::time::Duration;

use common::{Pair, engine, fingerprint, noise, remote, write};
use portway::api::TransferOptions;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many descriptors more than are open there may be.
const SPARE: [usize; 12] = [0, 1, 2, 3, 4, 5, 6, 8, 10, 14, 20, 28];

/// Leaves room for `spare` descriptors more than are open.
fn leave(spare: usize, whole: Rlimit) {
    let open = fs::read_dir("/proc/self/fd").unwrap().count() - 1;
    let current = Some((open + spare) as u64);
    setrlimit(Resource::Nofile, Rlimit { current, ..whole }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f37_a_push_that_finds_no_descriptors_goes_on_when_there_are_some() {
    let pair = Pair::new().await;
    let source = pair.path("source");
    let whole = getrlimit(Resource::Nofile);
    let (mut waited, mut refused) = (0, Vec::new());
    for spare in SPARE {
        for i in 0..40 {
            let seed = spare as u64 * 100 + i;
            write(&source.join(format!("d{}/f{i}", i % 7)), &noise(seed, 30_000));
        }
        let target = format!("run{spare}");
        let engine = engine(&pair.onprem.home);
        leave(spare, whole);
        let options = TransferOptions::default();
        let transfer = engine.push(vec![source.clone()], remote("cloud", &target), options);
        let ended = tokio::time::timeout(Duration::from_millis(300), transfer.clone().wait()).await;
        setrlimit(Resource::Nofile, whole).unwrap();
        let ended = match ended {
            Ok(ended) => ended,
            Err(_) => {
                waited += 1;
                transfer.wait().await
            }
        };
        let arrived = pair.cloud.root.join(&target);
        match ended {
            Ok(outcome) => assert!(outcome.failed.is_empty(), "{spare}: {outcome:?}"),
            Err(error) => {
                assert!(!arrived.exists(), "{spare}: {error:?}");
                let wrong = ["conflict", "identity-refused", "denied"].contains(&error.code);
                assert!(!wrong, "{spare}: {error:?}");
                refused.push((spare, error.code, error.message));
                let outcome = pair.push(&source, &target).await.expect("there are descriptors");
                assert!(outcome.failed.is_empty(), "{spare}: {outcome:?}");
            }
        }
        assert_eq!(fingerprint(&source), fingerprint(&arrived), "{spare}");
    }
    eprintln!("{waited} of {} pushes waited, not begun with little: {refused:?}", SPARE.len());
    assert!(waited > 0, "no push met the limit: {refused:?}");
}
