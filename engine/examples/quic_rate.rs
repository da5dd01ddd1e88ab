//! Memory-to-memory rate of QUIC sessions over loopback, both ends in one process.
//!
//! `cargo run --release --example quic_rate -- [GIB] [ROUNDS]` prints, for each number of
//! connections, congestion control and MTU, the median rate of the rounds, the CPU seconds that
//! both ends spent per GB, the packets lost and the MTU at the end. Cases take turns within a
//! round, so that a busy moment of the machine does not fall on one of them.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use portway::base::Tier;
use portway::base::limits::LEASE_BYTES;
use portway::buf::Slab;
use portway::transport::quic::{
    Congestion, QuicConfig, QuicLink, QuicListener, QuicOptions, QuicTls, dial,
};
use portway::transport::{Incoming, Link, LinkError, Peer};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Messages written, and messages read, at the same time.
const TASKS: usize = 4;

#[derive(Clone, Copy)]
struct Case {
    connections: usize,
    congestion: Congestion,
    mtu_max: u16,
    window_bytes: usize,
}

/// Rate in GB/s, CPU seconds per GB, packets lost, MTU.
type Figures = (f64, f64, u64, u16);

fn main() -> Outcome<()> {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<usize>());
    let gib = numbers.next().transpose()?.unwrap_or(2);
    let rounds = numbers.next().transpose()?.unwrap_or(3);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let tls = identity()?;
    let mut cases = Vec::new();
    for mtu_max in [8952, 1452] {
        for congestion in [Congestion::Bbr, Congestion::Cubic] {
            for connections in [1, 2, 3, 5] {
                cases.push(Case { connections, congestion, mtu_max, window_bytes: 32 << 20 });
            }
        }
    }
    for window_bytes in [8 << 20, 16 << 20, 64 << 20] {
        let congestion = Congestion::Bbr;
        cases.push(Case { connections: 2, congestion, mtu_max: 8952, window_bytes });
    }
    let mut figures: Vec<Vec<Figures>> = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for (case, figures) in cases.iter().zip(&mut figures) {
            figures.push(runtime.block_on(measure(*case, &tls, gib << 30))?);
        }
    }
    println!("connections congestion mtu_max window_MiB |  GB/s (min-max) cpu_s/GB   lost  mtu");
    for (case, figures) in cases.iter().zip(&mut figures) {
        figures.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (rate, cpu, lost, mtu) = figures[figures.len() / 2];
        println!(
            "{:11} {:>10} {:7} {:10} | {rate:5.2} ({:.2}-{:.2}) {cpu:8.2} {lost:6} {mtu:4}",
            case.connections,
            case.congestion.to_string(),
            case.mtu_max,
            case.window_bytes >> 20,
            figures[0].0,
            figures[figures.len() - 1].0,
        );
    }
    Ok(())
}

async fn measure(case: Case, tls: &QuicTls, bytes: usize) -> Outcome<Figures> {
    let config = QuicConfig::new(QuicOptions {
        connections: case.connections,
        congestion: case.congestion,
        mtu_max: case.mtu_max,
        window_bytes: case.window_bytes,
        ..QuicOptions::default()
    })?;
    let home = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = QuicListener::bind(home, tls, &config)?;
    let client = dial(&[listener.local_addr()], tls, &config).await?;
    let server = listener.accept().await.ok_or("the listener is closed")?;
    while client.connections() < case.connections {
        tokio::task::yield_now().await;
    }
    let per_task = bytes / LEASE_BYTES / TASKS;
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    let content: Bytes = (0..LEASE_BYTES).map(|i| (i * 31) as u8).collect::<Vec<_>>().into();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        tasks.spawn(write(client.clone(), content.clone(), per_task));
        tasks.spawn(read(server.clone(), per_task));
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome??;
    }
    let gigabytes = (per_task * TASKS * LEASE_BYTES) as f64 / 1e9;
    let rate = gigabytes / began.elapsed().as_secs_f64();
    let cpu = (cpu_seconds()? - cpu) / gigabytes;
    let meter = client.meter();
    client.close("done").await;
    listener.close("done").await;
    Ok((rate, cpu, meter.lost_packets, meter.mtu))
}

async fn write(link: QuicLink, content: Bytes, count: usize) -> Result<(), LinkError> {
    for _ in 0..count {
        link.send_data(Bytes::from_static(b"header"), vec![content.clone()]).await?;
    }
    Ok(())
}

async fn read(link: QuicLink, count: usize) -> Result<(), LinkError> {
    let slab = Slab::new(0);
    let mut lease = slab.lease().await;
    for _ in 0..count {
        (lease, _) = link.recv_data().await?.read(lease).await?;
    }
    Ok(())
}

/// User and system time of this process (proc(5), fields 14 and 15, in hundredths of a second).
fn cpu_seconds() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(ticks.sum::<Result<u64, _>>()? as f64 / 100.0)
}

/// One node, at both ends, under an authority of its own.
fn identity() -> Outcome<QuicTls> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let authority_key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(params.self_signed(&authority_key)?.der().clone())?;
    let roots = Arc::new(roots);
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate()?;
    let node = CertificateParams::new(vec!["portway".to_owned()])?.signed_by(&key, &issuer)?;
    let chain = vec![node.der().clone()];
    let secret = PrivateKeyDer::try_from(key.serialize_der())?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()?;
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), secret.clone_key())?;
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, secret)?;
    let (node, site) = ("node".parse()?, "lab".parse()?);
    let peer = Peer::lasting(node, site, Tier::Private);
    Ok(QuicTls {
        client: Some(Arc::new(client)),
        server: Some(Arc::new(server)),
        peer: Arc::new(move |_| Ok(peer.clone())),
        reset_key: None,
    })
}
