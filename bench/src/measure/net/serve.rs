//! `serve`: the end that receives, counts, compares and answers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use portway::api::Engine;
use portway::buf::Slab;
use portway::transport::quic::{QuicLink, QuicListener};
use portway::transport::{Incoming as _, Link as _, LinkError};
use tokio::task::JoinSet;

use super::rdma::{self, Lender};
use super::talk::{self, Ask, Buffers, Count};
use super::{HomeArgs, told};
use crate::system;

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen (UDP) [default: `serve.listen` of the configuration]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    home: HomeArgs,
}

/// Leases of a session: messages that are read at once.
const LEASES: usize = 8;
/// Of so many messages one is compared with what was sent: comparing all would cost a receiver a
/// tenth more CPU than receiving does.
const COMPARED_OF: u64 = 8;

/// Listens, says where, and serves until it is stopped.
pub(super) async fn run(args: &ServeArgs) -> Result<()> {
    let (engine, config) = args.home.engine()?;
    let listen = args.listen.unwrap_or(config.settings.serve.listen);
    let listener = engine.bare_listener(listen).map_err(|error| told(&error))?;
    println!("listening on {}", listener.local_addr());
    serve(engine, listener).await;
    Ok(())
}

/// Serves every session that comes.
pub(super) async fn serve(engine: Engine, listener: QuicListener) {
    let buffers = Buffers::from(listener.socket_buffers());
    let mut sessions = JoinSet::new();
    while let Some(link) = listener.accept().await {
        while sessions.try_join_next().is_some() {}
        let lender = Lender::new(engine.clone());
        sessions.spawn(async move {
            let peer = link.peer().node.clone();
            if let Err(error) = session(&link, buffers, lender).await
                && !matches!(error, LinkError::Closed { .. })
            {
                eprintln!("session with {peer}: {error}");
            }
            link.close("done").await;
        });
    }
}

/// What a session received.
#[derive(Default)]
struct Received {
    /// Bytes of whole messages, and when the last of them came, in seconds.
    arrived: Mutex<(u64, f64)>,
    messages: AtomicU64,
    compared: AtomicU64,
    wrong: AtomicU64,
}

impl Received {
    /// Counts a message, and compares its content if it is its turn.
    fn note(&self, found: &[u8], sent: &[u8], began: Instant) {
        {
            let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
            *arrived = (arrived.0 + found.len() as u64, began.elapsed().as_secs_f64());
        }
        if self.messages.fetch_add(1, Relaxed).is_multiple_of(COMPARED_OF) {
            self.compared.fetch_add(1, Relaxed);
            self.wrong.fetch_add(u64::from(!sent.starts_with(found)), Relaxed);
        }
    }

    fn count(&self) -> Count {
        let (bytes, at_s) = *self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        Count {
            bytes,
            at_s,
            compared: self.compared.load(Relaxed),
            wrong: self.wrong.load(Relaxed),
            cpu_s: system::own_cpu_s(),
        }
    }
}

/// Answers until the peer closes.
async fn session(link: &QuicLink, buffers: Buffers, mut lender: Lender) -> Result<(), LinkError> {
    let (received, began) = (Arc::new(Received::default()), Instant::now());
    let mut content = JoinSet::new();
    content.spawn(receive(link.clone(), Arc::clone(&received), began));
    loop {
        let ask: Ask = talk::heard(&link.recv().await?)?;
        // Devices are asked in between, and block for a moment.
        let lend = |ask: &rdma::Ask| tokio::task::block_in_place(|| lender.answer(ask));
        let answer = talk::answer(&ask, || received.count(), buffers, lend);
        talk::say(link, &answer).await?;
    }
}

/// Reads data messages until there are no more.
async fn receive(link: QuicLink, received: Arc<Received>, began: Instant) {
    let slab = Slab::new(LEASES * portway::base::limits::LEASE_BYTES);
    let sent: Bytes = talk::content();
    let mut reads = JoinSet::new();
    while let Ok(incoming) = link.recv_data().await {
        let lease = slab.lease().await;
        while reads.try_join_next().is_some() {}
        let (received, sent) = (Arc::clone(&received), sent.clone());
        reads.spawn(async move {
            if let Ok((lease, bytes)) = incoming.read(lease).await {
                received.note(&lease[..bytes], &sent, began);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_eighth_message_is_compared_and_a_wrong_one_is_counted() {
        let (received, began) = (Received::default(), Instant::now());
        (0..8).for_each(|_| received.note(b"same", b"same", began));
        received.note(b"dame", b"same", began);
        received.note(b"sam", b"same", began);
        let count = received.count();
        assert_eq!((count.bytes, count.compared, count.wrong), (39, 2, 1));
    }

    #[test]
    fn the_time_of_a_count_is_when_the_last_message_came() {
        let (received, began) = (Received::default(), Instant::now());
        received.note(b"same", b"same", began);
        let first = received.count();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let later = received.count();
        assert!((later.bytes, later.at_s) == (first.bytes, first.at_s), "nothing came");
        received.note(b"same", b"same", began);
        assert!(received.count().at_s - first.at_s >= 0.02);
    }
}
