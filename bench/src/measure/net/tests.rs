//! Both ends over loopback, as nodes that are enrolled; nothing here depends on speed.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use portway::api::{Engine, NodeAddress};
use portway::config::{Config, Home};
use portway::transport::Link as _;

use super::load::{Load, Measuring};
use super::{node, serve, told};

/// A node of a trust domain of its own.
pub(crate) fn engine(dir: &std::path::Path) -> Engine {
    let home = Home::at(dir);
    let name = |text: &str| text.parse().expect("a name");
    Engine::init(&home, name("one"), "lab".parse().expect("a name"), portway::base::Tier::Private)
        .expect("an identity");
    let config = Config::load(&home, [], &[]).expect("a configuration");
    Engine::open(home, config).expect("an engine")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_measuring_session_counts_compares_and_answers() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = engine(dir.path());
    let listener = engine.bare_listener((Ipv4Addr::LOCALHOST, 0).into()).expect("a listener");
    let address = NodeAddress::Address(listener.local_addr());
    let serving = tokio::spawn(serve::serve(engine.clone(), listener));
    let options = engine.quic_options();
    let connections = options.connections;
    let link = engine.bare_session(&address, options).await.expect("a session");
    let mut measuring = Measuring::begin(link, "one").await.expect("a greeting");
    measuring.attached(connections).await.expect("all connections");
    assert!(measuring.machine.processors > 0 && measuring.buffers.receive > 0);
    let idle = measuring.probe(200.0, Duration::from_millis(300), 1).await.expect("answers");
    let latency = idle.row("idle").expect("a row").latency_s.expect("percentiles");
    assert!(0.0 < latency.p50 && latency.p50 <= latency.p999, "{latency:?}");
    let load = Load { streams: 2, runs: 3, time: Duration::from_millis(900) };
    let loaded = measuring.load(load).await.expect("a load");
    assert_eq!(loaded.samples.len(), 3);
    assert!(loaded.sent_per_byte > 1.0, "headers count: {}", loaded.sent_per_byte);
    assert!(loaded.mtu >= 1200);
    assert!(loaded.cpu_s_per_gb.iter().all(|cpu| *cpu > 0.0), "{:?}", loaded.cpu_s_per_gb);
    measuring.link.close("done").await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_and_nobody_known_are_told_with_a_hint() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = engine(dir.path());
    let says = async |address: NodeAddress| {
        let error = engine.bare_session(&address, engine.quic_options()).await;
        told(&error.err().expect("an error")).to_string()
    };
    let unknown = says(node("nobody").expect("a name")).await;
    assert!(unknown.starts_with("no node is called nobody\nhint: "), "{unknown}");
    let free = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = free.local_addr().expect("an address");
    drop(free);
    let silent = says(NodeAddress::Address(port)).await;
    assert!(silent.contains("cannot be reached") && silent.contains("\nhint: "), "{silent}");
    assert!(node("not a name").is_err() && node("127.0.0.1:x").is_err());
    let typed: SocketAddr = (Ipv4Addr::LOCALHOST, 7717).into();
    assert_eq!(node("127.0.0.1:7717").expect("an address"), NodeAddress::Address(typed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordinary_serve_is_told_apart_from_one_that_measures() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = engine(dir.path());
    let root = dir.path().join("root");
    std::fs::create_dir(&root).expect("a root");
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let options = portway::api::ServeOptions { root, listen, admin: None };
    let server = engine.serve(options).await.expect("a server");
    let address = NodeAddress::Address(server.listen());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async move { drop(stopped.await) }));
    let link = engine.bare_session(&address, engine.quic_options()).await.expect("a session");
    let error = Measuring::begin(link, "one").await.err().expect("it does not measure");
    let words = error.to_string();
    assert!(words.contains("hint: `portway-bench serve` must run there"), "{words}");
    drop(stop);
    serving.await.expect("no panic").expect("stopped");
}
