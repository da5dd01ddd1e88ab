//! An identity that is renewed while it is used.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::node::Identity;

/// This node's identity as it is now: who accepts sessions with it shows the newest certificate.
#[derive(Debug)]
pub struct Live(RwLock<Identity>);

impl Live {
    /// Begins with this one.
    pub fn new(identity: Identity) -> Self {
        Self(RwLock::new(identity))
    }

    /// The newest.
    pub fn identity(&self) -> Identity {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes another certificate of the same identity.
    pub fn renew(&self, identity: Identity) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = identity;
    }
}

impl ResolvesServerCert for Live {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).certified))
    }
}
