//! Sessions by hand: frames as a peer may send them that follows no rule.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portway::base::{Priority, RelPath, TransferId};
use portway::config::Home;
use portway::encode::Compress;
use portway::identity::{Expect, Identity, UnixTime, client_config, peer_of, server_config};
use portway::transport::quic::{
    PeerCheck, QuicConfig, QuicLink, QuicListener, QuicOptions, QuicTls, dial,
};
use portway::transport::{Link, LinkError};
use portway::wire::{Frame, Hello, Open, Operation, VERSIONS};

/// Longest that a node may take to answer, or to end a session that broke a rule.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn now() -> UnixTime {
    UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap())
}

fn known_peer() -> PeerCheck {
    Arc::new(|chain| {
        peer_of(chain, None, now()).map_err(|e| LinkError::Refused { detail: e.to_string() })
    })
}

/// A listener with the identity of `home`.
pub fn listen(home: &Home) -> QuicListener {
    let identity = Identity::load(home.config_dir()).unwrap();
    let server = Some(server_config(&identity, None).unwrap());
    let tls = QuicTls { client: None, server, peer: known_peer(), reset_key: None };
    let config = QuicConfig::new(QuicOptions::default()).unwrap();
    QuicListener::bind(([127, 0, 0, 1], 0).into(), &tls, &config).unwrap()
}

pub async fn dial_with(
    address: SocketAddr,
    client: Arc<rustls::ClientConfig>,
) -> Result<QuicLink, LinkError> {
    let tls = QuicTls { client: Some(client), server: None, peer: known_peer(), reset_key: None };
    dial(&[address], &tls, &QuicConfig::new(QuicOptions::default()).unwrap()).await
}

/// A session with the identity of `home`, before any greeting.
pub async fn connect(home: &Home, address: SocketAddr) -> QuicLink {
    let identity = Identity::load(home.config_dir()).unwrap();
    let client = client_config(&identity, Expect::Any).unwrap();
    dial_with(address, client).await.expect("a session")
}

pub async fn greeted(home: &Home, address: SocketAddr) -> QuicLink {
    let link = connect(home, address).await;
    send(&link, hello()).await;
    assert!(matches!(next(&link).await, Ok(Frame::Hello(_))));
    link
}

/// A push to `path` that the node has accepted.
pub async fn opened(home: &Home, address: SocketAddr, path: &str) -> QuicLink {
    let link = greeted(home, address).await;
    send(&link, open(path)).await;
    let answer = next(&link).await;
    assert!(matches!(answer, Ok(Frame::Accept(_))), "{answer:?}");
    link
}

pub fn hello() -> Frame {
    Frame::Hello(greeting())
}

pub fn greeting() -> Hello {
    Hello {
        versions: VERSIONS,
        program: "raw".to_owned(),
        clock_ms: 0,
        rails: Vec::new(),
        no_rails: String::new(),
        roles: None,
    }
}

pub fn open(path: &str) -> Frame {
    Frame::Open(Open {
        operation: Operation::Push,
        transfer_id: TransferId(7),
        path: RelPath::from_bytes(path.as_bytes()).unwrap(),
        checksum: false,
        rails: false,
        compress: Compress::Never,
        limit: None,
        class: None,
        wire_max: None,
        priority: Priority::Interactive,
        fresh: false,
        parts: None,
        basis: None,
        near: false,
    })
}

/// The node may hang up while we still send: what it says is read from its frames.
pub async fn send(link: &QuicLink, frame: Frame) {
    let _ = link.send(frame.encode()).await;
}

pub async fn next(link: &QuicLink) -> Result<Frame, LinkError> {
    let bytes = tokio::time::timeout(PATIENCE, link.recv()).await.expect("a frame or an end")?;
    Ok(Frame::decode(&bytes).expect("the node's frames are sound"))
}

/// How the node ended the session: `code: detail` of its refusal, or its closing words.
pub async fn ending(link: &QuicLink) -> String {
    loop {
        match next(link).await {
            Ok(Frame::Refuse { code, detail, .. }) => return format!("{code}: {detail}"),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}
