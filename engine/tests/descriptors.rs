//! A process that runs out of descriptors. Each test is alone here, since the limit is the process's.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its scene fails")]

mod common;

use std::fs;
use std::time::Duration;

use common::{Pair, engine, fingerprint, noise, remote, write};
use portway::api::TransferOptions;
use portway::base::{RelPath, Tier, TransferId};
use portway::border::{Ask, Border, Denied, Party};
use portway::config::{Config, Home};
use portway::identity::{Identity, SpiffeId, UnixTime};
use portway::policy::{Action, Transport};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Mutex;

/// How many descriptors more than are open there may be.
const SPARE: [usize; 12] = [0, 1, 2, 3, 4, 5, 6, 8, 10, 14, 20, 28];

/// Leaves room for `spare` descriptors more than are open.
fn leave(spare: usize, whole: Rlimit) {
    let open = fs::read_dir("/proc/self/fd").unwrap().count() - 1;
    let current = Some((open + spare) as u64);
    setrlimit(Resource::Nofile, Rlimit { current, ..whole }).unwrap();
}

static ALONE: Mutex<()> = Mutex::const_new(());

#[test]
fn what_no_descriptor_was_left_to_read_is_read_again_without_being_touched() {
    let _alone = ALONE.blocking_lock();
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    home.create().unwrap();
    let (name, site) = ("onprem".parse().unwrap(), "dc".parse().unwrap());
    let identity =
        Identity::init(home.config_dir(), name, site, Tier::Private, UnixTime::now()).unwrap();
    let border = Border::open(&home, &Config::load(&home, [], &[]).unwrap(), identity);
    let us = border.ourselves();
    let id = SpiffeId { node: "peer".parse().unwrap(), ..us.id.clone() };
    let peer = Party { id, valid_until_s: u64::MAX };
    let ask = Ask {
        transfer: TransferId(7),
        who: us.id.clone(),
        action: Action::Push,
        path: RelPath::from_typed(b"a").unwrap(),
        class: "internal".parse().unwrap(),
        from: us,
        to: peer.clone(),
        link: "wan".parse().unwrap(),
        transport: Transport::Quic,
        cost_max: None,
        wire_max: None,
    };
    border.would(&ask).expect("open to members");
    fs::create_dir_all(home.policy_dir()).unwrap();
    fs::write(home.policy_file(), "@id(\"open\") permit (principal, action, resource);").unwrap();
    let whole = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), ..whole }).unwrap();
    let all: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    border.look_again();
    let (denied, stands) = (border.would(&ask), border.standing(&peer));
    setrlimit(Resource::Nofile, whole).unwrap();
    drop(all);
    assert!(matches!(denied, Err(Denied::NoDescriptors(_))), "{denied:?}");
    assert!(matches!(stands, Err(Denied::NoDescriptors(_))), "nobody knows who is revoked");
    std::thread::sleep(Duration::from_millis(400));
    border.would(&ask).expect("it is read by now");
    border.standing(&peer).expect("nobody is revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f37_a_push_that_finds_no_descriptors_goes_on_when_there_are_some() {
    let _alone = ALONE.lock().await;
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
