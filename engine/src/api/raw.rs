//! Bare QUIC sessions between nodes, with nothing said on them yet, and bare RDMA ports: for
//! measuring.

use std::net::SocketAddr;
use std::sync::Arc;

use super::connect::{Greet, dial_link};
use super::engine::{Engine, identity_error, quic_options, unix_now};
use super::{Error, Exit, NodeAddress, path};
use crate::identity::{peer_of, server_config};
use crate::transport::LinkError;
use crate::transport::quic::{QuicConfig, QuicLink, QuicListener, QuicOptions, QuicTls};
use crate::transport::rdma::{PortInfo, SystemVerbs};

impl Engine {
    /// The QUIC options of this home's configuration.
    pub fn quic_options(&self) -> QuicOptions {
        quic_options(&self.0.config)
    }

    /// A session with a node of this trust domain, with these options.
    ///
    /// # Errors
    /// There is no identity, the node is not known, or cannot be reached, or refuses; an option is
    /// out of its bounds.
    pub async fn bare_session(
        &self,
        node: &NodeAddress,
        options: QuicOptions,
    ) -> Result<QuicLink, Error> {
        let quic = checked(options)?;
        let (endpoints, expect) = self.locate(node)?;
        let (tls, _) = self.dialling(expect).await?;
        dial_link(&quic, &endpoints, tls, (&node.to_string(), Greet::Wait)).await
    }

    /// Accepts sessions from nodes of this trust domain, and from no joiners.
    ///
    /// # Errors
    /// There is no identity, or the address cannot be listened on.
    pub fn bare_listener(&self, listen: SocketAddr) -> Result<QuicListener, Error> {
        let identity = self.identity()?;
        identity.check(unix_now()).map_err(|e| identity_error(&e))?;
        let server = server_config(&identity, None).map_err(|e| identity_error(&e))?;
        let tls = QuicTls {
            client: None,
            server: Some(server),
            peer: Arc::new(|chain| {
                peer_of(chain, None, unix_now())
                    .map_err(|e| LinkError::Refused { detail: e.to_string() })
            }),
            reset_key: Some(identity.reset_key()),
        };
        QuicListener::bind(listen, &tls, &self.0.quic).map_err(|e| {
            Error::new("listen", Exit::Failed, e.to_string())
                .hint("something else listens there; --listen takes another ADDR:PORT")
        })
    }

    /// The RDMA ports of this node that content may use, at least one, and what opens them.
    ///
    /// # Errors
    /// There is no identity, no device, or none that may be used.
    pub fn bare_ports(&self) -> Result<(Arc<SystemVerbs>, Vec<PortInfo>), Error> {
        let identity = self.identity()?;
        let own = self.0.ports();
        let ports = path::to_measure(&self.0.own(identity.id(), &own))?;
        match self.0.verbs() {
            Ok(verbs) => Ok((Arc::clone(verbs), ports)),
            Err(remark) => Err(Error::new("no-rdma", Exit::Failed, remark.finding.clone())
                .hint(remark.fix.clone())),
        }
    }
}

fn checked(options: QuicOptions) -> Result<QuicConfig, Error> {
    QuicConfig::new(options).map_err(|error| {
        Error::new("options", Exit::Usage, format!("these options cannot be used: {error}"))
            .hint("stay within the bounds that the message names")
    })
}
