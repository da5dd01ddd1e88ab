//! Throughput of quinn with nothing of Portway around it, for `scripts/bench-agree.sh`.
//!
//! `raw_quinn serve MTU` prints its address and certificate; `raw_quinn send ADDR CERTIFICATE SECONDS
//! MTU` prints GB/s over one connection, a stream
//! after the other, and the GB that were sent in all, with the warm-up. Windows, socket buffers, segments
//! of a send and a receive, cipher, congestion control (cubic), order of streams and their length are
//! those that the engine uses, so that only its own work differs.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{
    AsyncUdpSocket, Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig, Runtime as _,
    TokioRuntime, TransportConfig, UdpPoller, VarInt,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{Domain, Protocol, Socket, Type};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Bytes of one stream: a data message of the engine.
const STREAM_BYTES: usize = 2 << 20;
/// The engine's windows and socket buffers, in bytes.
const WINDOW_BYTES: u32 = 28 << 20;
const SOCKET_BYTES: usize = 4 << 20;

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match words[..] {
        ["serve", mtu] => runtime.block_on(serve(mtu.parse()?)),
        ["send", address, certificate, seconds, mtu] => {
            let certificate = from_hex(certificate)?;
            runtime.block_on(send(address.parse()?, certificate, seconds.parse()?, mtu.parse()?))
        }
        _ => Err("raw_quinn serve MTU | raw_quinn send ADDR CERTIFICATE SECONDS MTU".into()),
    }
}

fn transport(mtu: u16) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(mtu);
    transport
        .receive_window(WINDOW_BYTES.into())
        .send_window(WINDOW_BYTES.into())
        .stream_receive_window(VarInt::from_u32(STREAM_BYTES as u32 + 4096))
        .max_concurrent_uni_streams(256_u32.into())
        .send_fairness(false)
        .mtu_discovery_config(Some(discovery));
    Arc::new(transport)
}

/// A socket that says how many datagrams of the MTU fit one send or receive of the kernel's. Without
/// that quinn hands over ten whatever their size: above 6,550 bytes the kernel refuses these, which
/// quinn takes for loss; and the memory to receive has room for 64.
#[derive(Debug)]
struct Fitting {
    inner: Arc<dyn AsyncUdpSocket>,
    mtu: usize,
}

impl AsyncUdpSocket for Fitting {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, buffers, metas)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments().min((65_507 / self.mtu).max(1))
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments().min(65_535_usize.div_ceil(self.mtu))
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

fn endpoint(
    address: SocketAddr,
    mtu: u16,
    server: Option<quinn::ServerConfig>,
) -> Outcome<Endpoint> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    let _ = socket.set_recv_buffer_size(SOCKET_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BYTES);
    socket.bind(&address.into())?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(mtu.max(1472))?;
    let inner = TokioRuntime.wrap_udp_socket(socket.into())?;
    let socket = Arc::new(Fitting { inner, mtu: usize::from(mtu.max(1472)) });
    Ok(Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))?)
}

async fn serve(mtu: u16) -> Outcome<()> {
    let key = rcgen::KeyPair::generate()?;
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?;
    let certificate: CertificateDer<'static> = params.self_signed(&key)?.der().clone();
    let secret = PrivateKeyDer::try_from(key.serialize_der())?;
    let mut shown = String::new();
    for byte in certificate.iter() {
        write!(shown, "{byte:02x}")?;
    }
    let tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], secret)?;
    let crypto = Arc::new(QuicServerConfig::try_from(tls)?);
    let mut config = quinn::ServerConfig::with_crypto(crypto);
    config.transport_config(transport(mtu));
    let endpoint = endpoint((Ipv4Addr::LOCALHOST, 0).into(), mtu, Some(config))?;
    println!("{} {shown}", endpoint.local_addr()?);
    while let Some(incoming) = endpoint.accept().await {
        let connection = incoming.await?;
        tokio::spawn(receive(connection));
    }
    Ok(())
}

/// Reads streams into memory, as a receiver must, and does nothing with them.
async fn receive(connection: Connection) {
    let buffers: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    while let Ok(mut stream) = connection.accept_uni().await {
        let buffers = Arc::clone(&buffers);
        tokio::spawn(async move {
            let kept = buffers.lock().map_or(None, |mut kept| kept.pop());
            let mut memory = kept.unwrap_or_else(|| vec![0; STREAM_BYTES]);
            while let Ok(Some(chunk)) = stream.read_chunk(usize::MAX, false).await {
                let place = chunk.offset as usize;
                memory[place..place + chunk.bytes.len()].copy_from_slice(&chunk.bytes);
            }
            if let Ok(mut kept) = buffers.lock() {
                kept.push(memory);
            }
        });
    }
}

fn from_hex(text: &str) -> Outcome<CertificateDer<'static>> {
    let pairs = (0..text.len()).step_by(2).map(|at| text.get(at..at + 2).ok_or("odd digits"));
    let bytes: Outcome<Vec<u8>> = pairs.map(|pair| Ok(u8::from_str_radix(pair?, 16)?)).collect();
    Ok(bytes?.into())
}

async fn send(
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    seconds: f64,
    mtu: u16,
) -> Outcome<()> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate)?;
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport(mtu));
    let endpoint = endpoint((Ipv4Addr::UNSPECIFIED, 0).into(), mtu, None)?;
    let connection = endpoint.connect_with(config, address, "localhost")?.await?;
    let content = Bytes::from((0..STREAM_BYTES).map(|i| (i * 31) as u8).collect::<Vec<_>>());
    let stream = async || -> Outcome<()> {
        let mut stream = connection.open_uni().await?;
        stream.write_chunk(content.clone()).await?;
        stream.finish()?;
        Ok(())
    };
    // The rate grows from nothing, and the MTU is found.
    let (warm, mut all) = (Instant::now(), 0.0);
    while warm.elapsed() < Duration::from_secs(1) {
        stream().await?;
        all += STREAM_BYTES as f64;
    }
    let (began, mut bytes) = (Instant::now(), 0.0);
    while began.elapsed().as_secs_f64() < seconds {
        stream().await?;
        bytes += STREAM_BYTES as f64;
    }
    let rate = bytes / began.elapsed().as_secs_f64() / 1e9;
    println!("{rate:.4} {:.4}", (all + bytes) / 1e9);
    connection.close(0_u32.into(), b"done");
    endpoint.wait_idle().await;
    Ok(())
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    // What two nodes agree on, as both prefer it.
    provider
        .cipher_suites
        .retain(|suite| suite.suite() == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}
