//! Identities between real nodes: revoked and expired in mid-transfer, renewed while transfers run,
//! roles that travel, and workloads with rights of their own.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its scene fails")]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{Node, config, engine, noise, remote, write};
use portway::api::{Engine, Error, Exit, NodeAddress, Outcome, ServeOptions, TransferOptions};
use portway::audit::{Ending, Entries, LogFolder, Record};
use portway::base::{Rate, RelPath, SiteName, Tier};
use portway::config::{Endpoint, Home, Topic, add_node, change_roles, read_roles, remove_node};
use portway::identity::{Expect, Identity, Invites, Renewal, UnixTime, client_config, peer_of};
use portway::policy::{Grant, Principal, Roles};
use portway::transport::quic::{QuicConfig, QuicOptions, QuicTls, dial};
use portway::transport::{Link, LinkError};
use tempfile::TempDir;

/// What has no label may leave, and changes of roles are asked for every second.
const OPEN: &str = "[border]\ndefault_class = \"public\"\n[identity]\nlook_every_s = 1\n";

/// A trust domain that begins with the node `first` of the private site `dc`, which serves.
struct Domain {
    dir: TempDir,
    first: Node,
}

fn anywhere() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn who(home: &Home) -> Principal {
    Principal::from(Identity::load(home.config_dir()).unwrap().id())
}

fn push(home: &Home, source: &Path, node: &str) -> portway::api::Transfer {
    let options = TransferOptions { limit: Rate::from_mbps(16), ..TransferOptions::default() };
    engine(home).push(vec![source.to_owned()], remote(node, "pushed"), options)
}

/// Ends with the error that a push got, which it must get in time.
async fn stopped(push: portway::api::Transfer) -> Error {
    let ended = tokio::time::timeout(Duration::from_mins(1), push.wait()).await;
    ended.expect("in time").expect_err("it is stopped")
}

fn records(home: &Home) -> Vec<Record> {
    let entries = Entries::open(&LogFolder::open(&home.audit_dir()).unwrap()).unwrap();
    entries.map(|entry| entry.unwrap().record).collect()
}

/// None until a session has ended, which the two ends record each at their own time.
fn last_stop(home: &Home) -> Option<(Ending, String)> {
    records(home).into_iter().rev().find_map(|record| match record {
        Record::Stop(stop) => Some((stop.ending, stop.reason.as_str().to_owned())),
        _ => None,
    })
}

impl Domain {
    /// `more` is added to the configuration of the first node.
    async fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("home-first"));
        home.create().unwrap();
        fs::write(home.config_file(), format!("{OPEN}{more}")).unwrap();
        let (name, site) = ("first".parse().unwrap(), "dc".parse().unwrap());
        Engine::init(&home, name, site, Tier::Private).unwrap();
        let first = Node::serve(&home, &dir.path().join("root-first"), anywhere()).await;
        Self { dir, first }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn home(&self, name: &str) -> Home {
        let home = Home::at(self.path(&format!("home-{name}")));
        home.create().unwrap();
        fs::write(home.config_file(), OPEN).unwrap();
        home
    }

    async fn member(&self, name: &str, site: &str, tier: Tier) -> Home {
        let home = self.home(name);
        self.join(&home, name, site, tier).await.expect("joined");
        home
    }

    async fn join(&self, home: &Home, name: &str, site: &str, tier: Tier) -> Result<(), Error> {
        let site: SiteName = site.parse().unwrap();
        let first = engine(&self.first.home);
        let token = first.invite(name.parse().unwrap(), site, tier).await.expect("a token");
        Engine::join(home, &config(home), &token).await.map(drop)
    }

    async fn workload(&self, name: &str, site: &str, tier: Tier) -> Home {
        let (home, site) = (self.home(&format!("{name}-job")), site.parse().unwrap());
        let first = engine(&self.first.home);
        let token =
            first.invite_workload(name.parse().unwrap(), site, tier).await.expect("a token");
        Engine::join(&home, &config(&home), &token).await.expect("joined");
        home
    }

    async fn serve(&self, home: &Home, name: &str) -> Node {
        Node::serve(home, &self.path(&format!("root-{name}")), anywhere()).await
    }

    /// A member that knows where `node` listens.
    async fn client_of(&self, node: &Node, name: &str, site: &str, tier: Tier) -> Home {
        let home = self.member(name, site, tier).await;
        let at = Endpoint::Address(node.address);
        add_node(&home, &"server".parse().unwrap(), &[at]).unwrap();
        home
    }

    /// Changes the roles where the CA is.
    fn change(&self, change: impl FnOnce(&Roles) -> Roles) -> u64 {
        let home = &self.first.home;
        let identity = Identity::load(home.config_dir()).unwrap();
        change_roles(home, &identity, |roles| Ok(change(roles))).unwrap().0.version()
    }

    fn grant(&self, home: &Home, role: &str, dataset: &str) -> u64 {
        let (identity, role) = (who(home), role.parse().unwrap());
        let dataset = RelPath::from_typed(dataset.as_bytes()).unwrap();
        let grant = Grant { identity, role, dataset };
        let version = self.change(|roles| roles.grant(grant, None, 0).unwrap());
        // Longer than a node takes to see it.
        std::thread::sleep(Duration::from_millis(400));
        version
    }
}

fn version_at(home: &Home) -> u64 {
    let identity = Identity::load(home.config_dir()).unwrap();
    read_roles(home, &identity).map_or(0, |roles| roles.version())
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_mins(1), "{what}: not within 60 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_where_the_ca_is_ends_a_transfer_between_two_other_nodes() {
    let domain = Domain::new("").await;
    let home = domain.member("server", "aws", Tier::Public).await;
    let server = domain.serve(&home, "server").await;
    let client = domain.client_of(&server, "client", "lab", Tier::Private).await;
    let source = domain.path("source");
    write(&source.join("large"), &noise(5, 60_000_000));
    let running = push(&client, &source, "server");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (revoked, begun) = (who(&client), Instant::now());
    domain.change(|roles| roles.revoke_identity(&revoked).unwrap());
    let error = stopped(running).await;
    let took = begun.elapsed();
    assert_eq!((error.code, error.exit), ("revoked", Exit::Refused), "{error}");
    assert!(error.to_string().contains(revoked.as_str()) && !error.hint.is_empty(), "{error}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    until("the stop is recorded", || last_stop(&home).is_some()).await;
    let (ending, reason) = last_stop(&home).unwrap();
    assert!(ending == Ending::Denied && reason.contains("revoked"), "{ending:?}: {reason}");
    assert!(!server.root.join("pushed").exists(), "nothing is published");

    // Nor does anything begin any more, at either end.
    let node = NodeAddress::Address(server.address);
    let error = engine(&client).status(Some(node)).await.expect_err("refused");
    assert_eq!((error.code, error.exit), ("revoked", Exit::Refused), "{error}");
    let error = stopped(push(&client, &source, "server")).await;
    assert_eq!((error.code, error.exit), ("revoked", Exit::Refused), "{error}");

    // It resumes when that is taken back.
    let version = domain.change(|roles| roles.readmit(&revoked).unwrap());
    until("the roles have travelled", || version_at(&home) == version).await;
    let options = TransferOptions::default();
    let resumed = engine(&client).push(vec![source], remote("server", "pushed"), options);
    let resumed: Outcome = resumed.wait().await.expect("it may go on");
    assert!(resumed.bytes_resumed > 0, "{resumed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ends_ends_the_session_and_a_new_one_resumes_it() {
    let domain = Domain::new("lifetime_s = 20\n").await;
    let home = domain.member("server", "lab", Tier::Private).await;
    let server = domain.serve(&home, "server").await;
    let client = domain.client_of(&server, "client", "lab", Tier::Private).await;
    // Without a way to the CA the certificate is not renewed.
    remove_node(&client, &"first".parse().unwrap()).unwrap();
    let source = domain.path("source");
    write(&source.join("large"), &noise(6, 60_000_000));
    let error = stopped(push(&client, &source, "server")).await;
    assert_eq!((error.code, error.exit), ("expired", Exit::Refused), "{error}");
    assert!(error.to_string().contains("client") && !error.hint.is_empty(), "{error}");
    assert!(!client.audit_dir().exists(), "nothing crossed a border");
    let problem = client.problem(Topic::Renewal).expect("a note");
    assert!(problem.contains("the certificate is not renewed"), "{problem}");
    let found = engine(&client).doctor(None).await.unwrap();
    let clock = found.iter().find(|it| it.check == "clock").expect("told");
    assert!(clock.finding.contains("ended") && clock.fix.contains("portway join"), "{clock:?}");
    let error = stopped(push(&client, &source, "server")).await;
    assert_eq!((error.code, error.exit), ("expired", Exit::Refused), "{error}");

    // Another identity does not take its place, and the same one does.
    let other = domain.join(&client, "other", "lab", Tier::Private).await;
    assert_eq!(other.expect_err("another").code, "enrol");
    domain.join(&client, "client", "lab", Tier::Private).await.expect("joined again");
    let options = TransferOptions::default();
    let resumed = engine(&client).push(vec![source], remote("server", "pushed"), options);
    let resumed = resumed.wait().await.expect("it may go on");
    assert!(resumed.bytes_resumed > 0, "{resumed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_and_no_transfer_is_dropped() {
    let domain = Domain::new("lifetime_s = 12\n").await;
    let home = domain.member("server", "aws", Tier::Public).await;
    let server = domain.serve(&home, "server").await;
    let client = domain.client_of(&server, "client", "lab", Tier::Private).await;
    let chain = |home: &Home| Identity::load(home.config_dir()).unwrap().chain()[0].clone();
    let before = [&domain.first.home, &home, &client].map(chain);
    let source = domain.path("source");
    write(&source.join("large"), &noise(7, 60_000_000));
    let running = push(&client, &source, "server");
    let outcome = running.wait().await.expect("it takes longer than a certificate, and ends well");
    assert!(outcome.elapsed_s > 13.0, "{outcome:?}");
    for (home, before) in [&domain.first.home, &home, &client].into_iter().zip(before) {
        assert_ne!(chain(home), before, "{home:?}");
        assert_eq!(home.problem(Topic::Renewal), None);
    }
    // Both logs tell of the new certificates, which vouch for the same keys.
    for home in [&home, &client] {
        let keys = records(home).into_iter().filter(|it| matches!(it, Record::Key(_))).count();
        assert!(keys > 1, "{keys}");
        engine(home).audit_verify().expect("whole");
    }
    // What was published is there, and the identity is the same to who comes later.
    assert_eq!(server.root.join("pushed/large").metadata().unwrap().len(), 60_000_000);
    let status =
        engine(&client).status(Some(NodeAddress::Address(server.address))).await.expect("answered");
    assert!(status.valid_until_s > 0 && status.problems.is_empty(), "{status:?}");
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap())
}

/// The last second of the certificate that a node shows to who dials it now.
async fn shown_until(home: &Home, address: SocketAddr) -> u64 {
    let identity = Identity::load(home.config_dir()).unwrap();
    let tls = QuicTls {
        client: Some(client_config(&identity, Expect::Any).unwrap()),
        server: None,
        peer: Arc::new(|chain| {
            let refused = |e: &dyn std::fmt::Display| LinkError::Refused { detail: e.to_string() };
            peer_of(chain, None, now()).map_err(|e| refused(&e))
        }),
        reset_key: None,
    };
    let quic = QuicConfig::new(QuicOptions::default()).unwrap();
    let link = dial(&[address], &tls, &quic).await.expect("a session");
    let until = link.peer().valid_until_s;
    link.close("seen").await;
    until
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_an_existing_pki_are_taken_up_when_they_change() {
    let domain = Domain::new("").await;
    let issued = domain.member("issued", "lab", Tier::Private).await;
    let files = domain.path("pki");
    fs::create_dir_all(&files).unwrap();
    let copy = || {
        for name in ["ca.pem", "node.key", "node.pem"] {
            fs::copy(issued.identity_dir().join(name), files.join(name)).unwrap();
        }
    };
    copy();
    let home = domain.home("pki-node");
    let at = |name: &str| files.join(name).display().to_string();
    let (ca, certificate, key) = (at("ca.pem"), at("node.pem"), at("node.key"));
    let node = format!("[node]\nca = {ca:?}\ncertificate = {certificate:?}\nkey = {key:?}\n");
    fs::write(home.config_file(), format!("{OPEN}{node}")).unwrap();
    let server = domain.serve(&home, "pki-node").await;
    let first = &domain.first.home;
    let before = shown_until(first, server.address).await;
    // The PKI renews, long before it is due, for another time.
    let due = UnixTime::since_unix_epoch(Duration::from_secs(before));
    let renewal = Renewal::begin(issued.config_dir(), due).unwrap().expect("due by then");
    let id = Identity::load(issued.config_dir()).unwrap().id().clone();
    let invites = Invites::open(first.config_dir()).unwrap().lifetime_s(5000);
    let chain = invites.renew(&id, renewal.request(), now()).unwrap();
    let renewed = renewal.finish(&chain, now()).unwrap();
    copy();
    let begun = Instant::now();
    while shown_until(first, server.address).await != renewed.expires_at().as_secs() {
        assert!(begun.elapsed() < Duration::from_secs(30), "not taken up");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let status = engine(first).status(Some(NodeAddress::Address(server.address))).await.unwrap();
    assert!(status.valid_until_s < before && status.problems.is_empty(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newer_roles_travel_and_two_of_one_version_are_told() {
    let domain = Domain::new("").await;
    let home = domain.member("server", "aws", Tier::Public).await;
    let _server = domain.serve(&home, "server").await;
    assert_eq!(domain.grant(&home, "reader", "."), 1);
    until("the roles have travelled", || version_at(&home) == 1).await;
    // The first node is put back to before that, and grants something else.
    let first = &domain.first.home;
    fs::remove_file(first.roles_file()).unwrap();
    fs::remove_file(first.state_dir().join("policy.seen")).unwrap();
    assert_eq!(domain.grant(&home, "writer", "."), 1);
    until("it is told", || home.problem(Topic::Roles).is_some()).await;
    let told = home.problem(Topic::Roles).unwrap();
    assert!(told.contains("first") && told.contains("same version 1"), "{told}");
    let identity = Identity::load(home.config_dir()).unwrap();
    let kept = read_roles(&home, &identity).unwrap();
    assert_eq!(kept.grants().next().unwrap().0.role.as_str(), "reader", "what counted counts");
    // A version that is newer than both settles it.
    assert_eq!(domain.grant(&home, "steward", "."), 2);
    until("the roles have travelled", || version_at(&home) == 2).await;
    until("it is over", || home.problem(Topic::Roles).is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_has_the_rights_of_its_roles_and_no_others() {
    let domain = Domain::new("").await;
    let first = &domain.first;
    write(&first.root.join("open/tokens"), &noise(8, 3_000_000));
    write(&first.root.join("other/tokens"), &noise(9, 1_000_000));
    // Of the same name as the node, which gives it nothing.
    let home = domain.workload("first", "dc", Tier::Private).await;
    assert!(who(&home).as_str().ends_with("/site/dc/workload/first"));
    let job = Engine::at_home(Some(home.config_dir())).expect("a home like any other");
    let node = || remote("first", ".").node;
    let pull = |from: &str, to: &str| {
        let options = TransferOptions::default();
        job.pull(remote("first", from), domain.path(to), options).wait()
    };
    let refused = |error: Error, code: &str| {
        assert_eq!((error.code, error.exit), (code, Exit::Refused), "{error}");
    };
    refused(pull("open", "a").await.expect_err("no role"), "denied");
    refused(job.list(remote("first", "open")).await.expect_err("no role"), "denied");
    refused(job.status(Some(node())).await.expect_err("not for workloads"), "not-allowed");
    // What the log there has of the node of its name is told to no workload.
    refused(job.audit_verify_with(&node()).await.expect_err("not for workloads"), "not-allowed");

    domain.grant(&home, "reader", "open");
    pull("open", "b").await.expect("it may read this");
    refused(pull("other", "c").await.expect_err("not this"), "denied");
    let source = vec![domain.path("b")];
    let pushed = job.push(source.clone(), remote("first", "open/b"), TransferOptions::default());
    refused(pushed.wait().await.expect_err("a reader does not write"), "denied");
    domain.grant(&home, "writer", "results");
    let pushed = job.push(source, remote("first", "results"), TransferOptions::default());
    pushed.wait().await.expect("it may write there");

    // It neither serves nor admits others.
    let options = ServeOptions { root: domain.path("b"), listen: anywhere(), admin: None };
    let error = job.serve(options).await.err().expect("only nodes serve");
    assert_eq!((error.code, error.exit), ("workload", Exit::Usage), "{error}");
    let record = fs::read(first.home.serve_file()).unwrap();
    fs::write(home.serve_file(), record).unwrap();
    let token = job.invite("x".parse().unwrap(), "dc".parse().unwrap(), Tier::Private).await;
    refused(token.expect_err("it is not the node"), "not-allowed");
}
