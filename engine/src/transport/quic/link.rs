//! One end of a QUIC session, as the transport port wants it.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::data::{QuicIncoming, send_data};
use super::past::Past;
use super::session::Owner;
use super::socket::SocketBuffers;
use crate::transport::{CARRIER_HEADER_BYTES_MAX, Link, LinkError, Paces, Peer, Waits, WireMeter};

/// One end of a session over QUIC. When the last clone is dropped, so is the session.
///
/// A data message reaches the peer at least once while the session lives: if a connection is lost
/// under it, it goes again on another one, and the peer may see it twice.
#[derive(Clone)]
pub struct QuicLink(pub(super) Arc<Owner>);

impl QuicLink {
    /// Connections of the session that are up now, the control connection included.
    pub fn connections(&self) -> usize {
        self.0.session.live()
    }

    /// The path to the peer as what this end sent found it; `None` where too little was sent, or
    /// the path is short.
    pub fn found(&self) -> Option<Past> {
        Past::found(&self.0.session)
    }

    /// Kernel buffers of the socket that carries the control connection.
    pub fn socket_buffers(&self) -> SocketBuffers {
        self.0.session.buffers
    }
}

impl Link for QuicLink {
    type Incoming = QuicIncoming;
    const HEADER_BYTES_MAX: usize = CARRIER_HEADER_BYTES_MAX;

    fn peer(&self) -> &Peer {
        &self.0.session.peer
    }

    fn remote(&self) -> Option<SocketAddr> {
        self.0.session.remote()
    }

    fn name(&self) -> &'static str {
        "quic"
    }

    async fn send(&self, frame: Bytes) -> Result<(), LinkError> {
        self.0.session.send_frame(frame).await
    }

    async fn recv(&self) -> Result<Bytes, LinkError> {
        self.0.session.recv_frame().await
    }

    async fn send_data(&self, header: Bytes, content: Vec<Bytes>) -> Result<(), LinkError> {
        send_data(&self.0.session, header, content).await
    }

    async fn delivered(&self) {
        self.0.session.delivered().await;
    }

    async fn recv_data(&self) -> Result<QuicIncoming, LinkError> {
        self.0.session.recv_data().await
    }

    fn set_paces(&self, paces: Paces) {
        self.0.session.caps.set(paces);
    }

    fn has_room(&self) -> bool {
        self.0.session.has_room()
    }

    fn runs_dry(&self) -> bool {
        self.0.session.runs_dry()
    }

    fn waits(&self) -> Waits {
        self.0.session.waits()
    }

    fn meter(&self) -> WireMeter {
        self.0.session.meter()
    }

    async fn close(&self, reason: &str) {
        self.0.session.close(reason).await;
    }
}
