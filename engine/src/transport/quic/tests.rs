//! What QUIC alone must do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ConnectionError, Endpoint};
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use super::error::Code;
use super::preamble::{Preamble, introduce};
use super::testing::{Authority, HOME, Relay, Site, anonymous};
use super::{BindError, Congestion, QuicListener, QuicOptions, QuicTls, dial, dial_ahead};
use crate::base::limits::LEASE_BYTES;
use crate::transport::rdma::RdmaLink;
use crate::transport::tests::{content, read};
use crate::transport::{Incoming, Link, LinkError};

/// No step of any test takes this long unless it hangs.
const HANG: Duration = Duration::from_mins(1);

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(HANG, future).await.expect("a step hangs")
}

/// A bare QUIC connection of this identity, with no first words said.
async fn bare(site: &Site, tls: &QuicTls) -> (Endpoint, Connection) {
    let endpoint = Endpoint::client(HOME).expect("endpoint");
    let crypto = tls.client_crypto().expect("a client").expect("suites");
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(site.config.transport(1 << 20, 0, None));
    let connecting =
        endpoint.connect_with(config, site.listener.local_addr(), "portway").expect("connecting");
    let connection = in_time(connecting).await.expect("connected");
    (endpoint, connection)
}

async fn close_code(connection: &Connection) -> u64 {
    match in_time(connection.closed()).await {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_falls_silent_in_its_handshake_is_forgotten_and_holds_nobody_up() {
    let site = Site::new(QuicOptions { handshake_ms: 4_000, ..QuicOptions::default() });
    // A genuine first datagram, caught by a socket that never answers.
    let trap = UdpSocket::bind(HOME).await.expect("bind");
    let lost = Endpoint::client(HOME).expect("endpoint");
    let crypto = site.client.client_crypto().expect("a client").expect("suites");
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let trap_address = trap.local_addr().expect("address");
    let _connecting = lost.connect_with(config, trap_address, "portway").expect("connecting");
    let mut initial = vec![0; 65_536];
    let len = in_time(trap.recv(&mut initial)).await.expect("an Initial packet");

    let silent = UdpSocket::bind(HOME).await.expect("bind");
    let target = site.listener.local_addr();
    silent.send_to(b"\xc3 this is no QUIC at all", target).await.expect("sent");
    silent.send_to(&initial[..len], target).await.expect("sent");
    while site.listener.half_open() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let honest = in_time(dial(&[target], &site.client, &site.config)).await;
    honest.map(|_| ()).expect("a session");
    while site.listener.half_open() > 0 {
        in_time(sleep(Duration::from_millis(10))).await;
    }
}

#[tokio::test]
async fn a_client_that_never_says_its_first_words_is_closed_at_the_deadline() {
    let site = Site::new(QuicOptions { handshake_ms: 3_000, ..QuicOptions::default() });
    let (_endpoint, connection) = bare(&site, &site.client).await;
    assert_eq!(close_code(&connection).await, Code::Late as u64);
}

#[tokio::test]
async fn a_client_that_trickles_its_first_words_is_closed_at_the_deadline() {
    let site = Site::new(QuicOptions { handshake_ms: 3_000, ..QuicOptions::default() });
    let (_endpoint, connection) = bare(&site, &site.client).await;
    let (mut send, _recv) = connection.open_bi().await.expect("a stream");
    send.write_all(b"PWAY").await.expect("written");
    let trickle = tokio::spawn(async move {
        while send.write_all(b"\x01").await.is_ok() && send.id().index() == 0 {
            sleep(Duration::from_millis(200)).await;
        }
    });
    assert_eq!(close_code(&connection).await, Code::Late as u64);
    in_time(trickle).await.expect("no panic");
}

#[tokio::test]
async fn an_attach_of_an_unknown_session_is_refused() {
    let site = Site::new(QuicOptions::default());
    let (client, _server) = site.pair().await;
    let (_endpoint, connection) = bare(&site, &site.client).await;
    let mut streams = connection.open_bi().await.expect("a stream");
    let preamble = Preamble { index: 1, count: 2, token: [7; 16] };
    let refused = in_time(introduce(&mut streams, &preamble, &site.config)).await;
    assert!(matches!(refused, Err(LinkError::Protocol { .. })), "{refused:?}");
    assert_eq!(client.connections(), 2);
}

#[tokio::test]
async fn an_attach_with_a_known_token_but_another_identity_or_place_is_refused() {
    let site = Site::new(QuicOptions { connections: 1, ..QuicOptions::default() });
    let (_endpoint, control) = bare(&site, &site.client).await;
    let mut streams = control.open_bi().await.expect("a stream");
    let first = Preamble { index: 0, count: 2, token: [9; 16] };
    in_time(introduce(&mut streams, &first, &site.config)).await.expect("welcome");
    let server = in_time(site.listener.accept()).await.expect("a session");

    let second = Preamble { index: 1, ..first };
    let thief = site.authority.node("thief");
    for (tls, preamble, welcome) in [
        (&thief, second, false),
        (&site.client, Preamble { count: 3, ..second }, false),
        (&site.client, second, true),
        (&site.client, second, false),
        (&site.client, first, false),
    ] {
        let (_endpoint, connection) = bare(&site, tls).await;
        let mut streams = connection.open_bi().await.expect("a stream");
        let answer = in_time(introduce(&mut streams, &preamble, &site.config)).await;
        assert_eq!(answer.is_ok(), welcome, "{preamble:?} {answer:?}");
        if welcome {
            while server.connections() < 2 {
                in_time(sleep(Duration::from_millis(1))).await;
            }
            // Kept open: its place stays taken.
            std::mem::forget((streams, connection));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_has_room_until_more_was_handed_to_it_than_can_be_under_way() {
    for connections in [1, 2] {
        let site = Site::new(QuicOptions { connections, ..QuicOptions::default() });
        let (client, server) = site.pair().await;
        // As transfers see it: with rails possible, and none there.
        let link = RdmaLink::plain(client);
        assert!(link.has_room(), "nothing was sent over {connections} connections");
        // Twice the window, and nobody reads.
        let sends: Vec<_> = (0..2 * site.config.options().window_bytes / LEASE_BYTES)
            .map(|_| {
                let (link, content) = (link.clone(), Bytes::from(vec![7; LEASE_BYTES]));
                tokio::spawn(async move { link.send_data(Bytes::new(), vec![content]).await })
            })
            .collect();
        while link.has_room() {
            in_time(sleep(Duration::from_millis(1))).await;
        }
        // One message more, and it does not run dry either.
        while link.runs_dry() {
            in_time(sleep(Duration::from_millis(1))).await;
        }
        sends.iter().for_each(tokio::task::JoinHandle::abort);
        drop(server);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_in_mid_transfer_loses_no_message() {
    let site = Site::new(QuicOptions { connections: 3, ..QuicOptions::default() });
    let (client, server) = site.pair().await;
    let count = 48;
    let sender = tokio::spawn({
        let client = client.clone();
        async move {
            for number in 0..count {
                let header = Bytes::copy_from_slice(&(number as u64).to_le_bytes());
                client.send_data(header, vec![content(number, 1 << 20)]).await.expect("sent");
            }
        }
    });
    let mut seen = vec![false; count];
    let mut messages = 0;
    while seen.iter().any(|seen| !seen) {
        let incoming = in_time(server.recv_data()).await.expect("received");
        messages += 1;
        if messages == 10 {
            client.0.session.lose(1);
        }
        let header = incoming.header().first_chunk().expect("a header");
        let number = u64::from_le_bytes(*header) as usize;
        match in_time(read(incoming)).await {
            Ok(arrived) => {
                assert!(arrived == content(number, 1 << 20));
                seen[number] = true;
            }
            Err(error) => assert!(matches!(error, LinkError::Cut), "{error:?}"),
        }
    }
    in_time(sender).await.expect("all sent");
    assert_eq!((client.connections(), server.connections()), (2, 2));
    // With the last data connection gone, the control connection carries data too.
    client.0.session.lose(2);
    client.send_data(Bytes::from_static(b"last"), Vec::new()).await.expect("sent");
    loop {
        // Copies of earlier messages may come first.
        let incoming = in_time(server.recv_data()).await.expect("received");
        if incoming.header() == b"last" {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bbr_finds_the_rate_of_a_real_connection() {
    let options =
        QuicOptions { connections: 1, congestion: Congestion::Bbr, ..QuicOptions::default() };
    let site = Site::new(options);
    let (client, server) = site.pair().await;
    let count = 64;
    let sender = tokio::spawn({
        let client = client.clone();
        async move {
            for number in 0..count {
                let content = vec![content(number, 1 << 20)];
                client.send_data(Bytes::from_static(b"part"), content).await.expect("sent");
            }
        }
    });
    for _ in 0..count {
        let incoming = in_time(server.recv_data()).await.expect("received");
        assert_eq!(in_time(read(incoming)).await.expect("whole").len(), 1 << 20);
    }
    in_time(sender).await.expect("all sent");
    let bps = client.0.session.pacing_bps(0).expect("a controller that knows a rate");
    assert!(bps > 10_000_000, "64 MiB over loopback in less than a minute: {bps} bits a second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_dropped_while_its_window_is_full_is_heard_to_end() {
    let site = Site::new(QuicOptions { connections: 1, ..QuicOptions::default() });
    let relay = Relay::to(site.listener.local_addr()).await;
    let (client, server) = site.pair_through(relay.address).await;
    relay.silent_after(0);
    let mut stream = client.0.session.fate.control.open_uni().await.expect("a stream");
    let content = vec![7; 1 << 20];
    let flood = async { while stream.write(&content).await.is_ok() {} };
    timeout(Duration::from_millis(100), flood).await.expect_err("nothing is acknowledged");
    relay.silent_after(u64::MAX);
    drop((client, stream));
    match in_time(server.recv()).await {
        Err(LinkError::Closed { reason }) => assert_eq!(reason, "the session was dropped"),
        other => panic!("{:?}", other.map(|_| ())),
    }
}

#[tokio::test]
async fn a_lost_control_connection_ends_the_session() {
    let site = Site::new(QuicOptions { connections: 3, ..QuicOptions::default() });
    let (client, server) = site.pair().await;
    client.0.session.lose(0);
    assert!(in_time(server.recv_data()).await.is_err());
    assert!(in_time(client.recv_data()).await.is_err());
    assert!(in_time(server.send_data(Bytes::new(), Vec::new())).await.is_err());
    while client.connections() + server.connections() > 0 {
        in_time(sleep(Duration::from_millis(1))).await;
    }
}

#[tokio::test]
async fn a_data_message_given_up_by_its_sender_is_cut_and_the_session_goes_on() {
    let site = Site::new(QuicOptions { connections: 1, ..QuicOptions::default() });
    let (client, server) = site.pair().await;
    let mut stream = client.0.session.fate.control.open_uni().await.expect("a stream");
    stream.write_all(&[0, 0, 100, 0, 0, 0, 1, 2, 3]).await.expect("written");
    let incoming = in_time(server.recv_data()).await.expect("received");
    stream.finish().expect("finished");
    assert!(matches!(in_time(read(incoming)).await, Err(LinkError::Cut)));
    client.send(Bytes::from_static(b"on")).await.expect("sent");
    assert_eq!(in_time(server.recv()).await.expect("received"), "on");
}

#[tokio::test]
async fn lengths_over_the_limits_end_the_session_before_anything_is_allocated() {
    let site = Site::new(QuicOptions { connections: 1, ..QuicOptions::default() });
    // A frame, a content and a header that are longer than ever accepted.
    for (control, words) in [
        (true, &[0xff, 0xff, 0xff, 0xff][..]),
        (false, &[0, 0, 1, 0, 0x20, 0][..]),
        (false, &[1, 0x20, 0, 0, 0, 0][..]),
    ] {
        let (_endpoint, connection) = bare(&site, &site.client).await;
        let mut streams = connection.open_bi().await.expect("a stream");
        let preamble = Preamble { index: 0, count: 1, token: [words[0]; 16] };
        in_time(introduce(&mut streams, &preamble, &site.config)).await.expect("welcome");
        let server = in_time(site.listener.accept()).await.expect("a session");
        if control {
            streams.0.write_all(words).await.expect("written");
        } else {
            let mut data = connection.open_uni().await.expect("a stream");
            data.write_all(words).await.expect("written");
        }
        assert!(matches!(in_time(server.recv()).await, Err(LinkError::Protocol { .. })));
        assert_eq!(close_code(&connection).await, Code::Protocol as u64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mtu_grows_to_jumbo_frames_and_stays_there() {
    let site = Site::new(QuicOptions::default());
    let (client, server) = site.pair().await;
    let sender = tokio::spawn({
        let client = client.clone();
        async move {
            for _ in 0..32 {
                let message = vec![content(0, LEASE_BYTES)];
                client.send_data(Bytes::new(), message).await.expect("sent");
            }
        }
    });
    for _ in 0..32 {
        let incoming = in_time(server.recv_data()).await.expect("received");
        in_time(read(incoming)).await.expect("read");
    }
    in_time(sender).await.expect("all sent");
    let meter = client.meter();
    assert!(meter.mtu > 8000, "{meter:?}");
    assert!(meter.sent >= 64 << 20, "{meter:?}");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_in_words() {
    let site = Site::new(QuicOptions::default());
    let refused =
        in_time(dial(&[site.listener.local_addr()], &anonymous(), &site.config)).await.map(|_| ());
    match refused {
        Err(LinkError::Refused { detail }) => {
            assert_eq!(detail, "the peer requires a certificate of its trust domain");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused() {
    let site = Site::new(QuicOptions::default());
    let stranger = Authority::new().node("client");
    let refused =
        in_time(dial(&[site.listener.local_addr()], &stranger, &site.config)).await.map(|_| ());
    assert!(matches!(refused, Err(LinkError::Refused { .. })), "{refused:?}");
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_unreachable_at_once() {
    let site = Site::new(QuicOptions { handshake_ms: 60_000, ..QuicOptions::default() });
    let gone = UdpSocket::bind(HOME).await.expect("bind").local_addr().expect("address");
    let refused = in_time(dial(&[gone], &site.client, &site.config)).await.map(|_| ());
    assert!(
        matches!(&refused, Err(LinkError::Unreachable { address, .. })
            if *address == gone.to_string()),
        "{refused:?}"
    );
    // The next address gets its turn.
    let target = site.listener.local_addr();
    in_time(dial(&[gone, target], &site.client, &site.config))
        .await
        .map(|_| ())
        .expect("a session");
}

#[tokio::test]
async fn a_listener_without_room_says_so() {
    let site = Site::new(QuicOptions { sessions_max: 1, ..QuicOptions::default() });
    let (_client, server) = site.pair().await;
    let target = [site.listener.local_addr()];
    let refused = in_time(dial(&target, &site.client, &site.config)).await.map(|_| ());
    match refused {
        Err(LinkError::Closed { reason }) => assert!(reason.contains("no room"), "{reason}"),
        other => panic!("{other:?}"),
    }
    drop(server);
    in_time(dial(&target, &site.client, &site.config)).await.map(|_| ()).expect("a session");
}

#[tokio::test]
async fn what_is_said_ahead_of_the_welcome_is_read_and_all_connections_attach() {
    let site = Site::new(QuicOptions::default());
    let target = [site.listener.local_addr()];
    let client = in_time(dial_ahead(&target, &site.client, &site.config)).await.expect("begun");
    client.send(Bytes::from_static(b"first words")).await.expect("sent");
    let server = in_time(site.listener.accept()).await.expect("a session");
    server.send(Bytes::from_static(b"welcome")).await.expect("sent");
    assert_eq!(in_time(server.recv()).await.expect("received"), "first words");
    assert_eq!(in_time(client.recv()).await.expect("received"), "welcome");
    while client.connections() < 2 || server.connections() < 2 {
        in_time(sleep(Duration::from_millis(1))).await;
    }
}

#[tokio::test]
async fn who_begins_ahead_hears_of_a_refusal_with_the_first_frame() {
    let site = Site::new(QuicOptions { sessions_max: 1, ..QuicOptions::default() });
    let target = [site.listener.local_addr()];
    let stranger = Authority::new().node("client");
    let (_held, _server) = site.pair().await;
    let begun = in_time(dial_ahead(&target, &site.client, &site.config)).await.expect("begun");
    match in_time(begun.recv()).await {
        Err(LinkError::Closed { reason }) => assert!(reason.contains("no room"), "{reason}"),
        other => panic!("{other:?}"),
    }
    for who in [&anonymous(), &stranger] {
        let refused = match in_time(dial_ahead(&target, who, &site.config)).await {
            Ok(begun) => in_time(begun.recv()).await.map(|_| ()),
            Err(error) => Err(error),
        };
        assert!(matches!(refused, Err(LinkError::Refused { .. })), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_welcomes_counts_as_one_that_was_not_reached() {
    let site =
        Site::new(QuicOptions { handshake_ms: 300, idle_ms: 60_000, ..QuicOptions::default() });
    let crypto = site.authority.node("server").server_crypto().expect("a server").expect("suites");
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(site.config.transport(1 << 20, 1, None));
    let mute = Endpoint::server(config, HOME).expect("endpoint");
    let target = mute.local_addr().expect("address");
    let accepted = tokio::spawn(async move {
        let incoming = mute.accept().await.expect("a connection");
        let _kept = incoming.await.expect("connected");
        std::future::pending::<()>().await;
    });
    let begun = in_time(dial_ahead(&[target], &site.client, &site.config)).await.expect("begun");
    match in_time(begun.recv()).await {
        Err(LinkError::Unreachable { detail, .. }) => {
            assert!(detail.contains("no answer within"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
    accepted.abort();
}

#[tokio::test]
async fn a_closing_listener_tells_its_sessions_and_ends() {
    let site = Site::new(QuicOptions::default());
    let (client, server) = site.pair().await;
    server.send(Bytes::from_static(b"bye")).await.expect("sent");
    in_time(site.listener.close("maintenance")).await;
    assert_eq!(in_time(client.recv()).await.expect("received"), "bye");
    match in_time(client.recv()).await {
        Err(LinkError::Closed { reason }) => assert_eq!(reason, "maintenance"),
        other => panic!("{other:?}"),
    }
    assert!(in_time(site.listener.accept()).await.is_none());
}

#[tokio::test]
async fn a_node_that_was_restarted_says_at_once_that_it_knows_nothing_of_a_session() {
    let site = Site::new(QuicOptions::default());
    let identity = site.authority.node("server");
    let killed = QuicListener::bind(HOME, &identity, &site.config).expect("listener");
    let relay = Relay::to(killed.local_addr()).await;
    let client =
        in_time(dial(&[relay.address], &site.client, &site.config)).await.expect("a session");
    let _silent = in_time(killed.accept()).await.expect("a session");

    let restarted = QuicListener::bind(HOME, &identity, &site.config).expect("listener");
    relay.turn_to(restarted.local_addr());
    let lost = client.recv();
    // Nothing is sent but what keeps the session alive.
    let patience = site.config.idle() / 2;
    match timeout(patience, lost).await.expect("told long before the session would time out") {
        Err(LinkError::Closed { reason }) => assert!(reason.contains("no longer"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_taken_address_is_an_error_that_names_it() {
    let site = Site::new(QuicOptions::default());
    let taken: SocketAddr = site.listener.local_addr();
    match QuicListener::bind(taken, &site.authority.node("server"), &site.config) {
        Err(error @ BindError::Address { address, .. }) => {
            assert_eq!(address, taken);
            assert!(error.to_string().starts_with(&format!("cannot listen on {taken}: Addr")));
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
}
