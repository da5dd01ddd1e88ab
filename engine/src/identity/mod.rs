//! Who a node is: its certificate, the built-in CA, enrolment by one-time tokens, and TLS.
//!
//! A node is an X.509 certificate whose only URI is a SPIFFE id that names its trust domain,
//! tier, site and name ([`SpiffeId`]); a workload has one of its own. Both ends of every session show one and check the other's
//! ([`server_config`], [`client_config`]); everything else fails inside TLS.
//!
//! The first node makes the trust domain and its CA ([`Identity::init`]). It invites others
//! ([`Invites::create`]) with a [`Token`] that holds a one-time key and the CA's fingerprint; the
//! joiner makes its own key, which never travels, and sends a request for a certificate
//! ([`Enrolment`], [`join_config`]). The name in the certificate is the one in the invitation.
//!
//! Below a node's home directory (the folder has mode 0700, private keys 0600):
//!
//! ```text
//! identity/ca.pem         the CA's certificate
//! identity/ca.key         the CA's private key, only where the trust domain began
//! identity/node.pem       this node's certificate, then the CA's; the last file to appear
//! identity/node.key       this node's private key
//! identity/node.key.next  the next one, while a certificate is renewed
//! identity/renew.lock     held by who renews
//! identity/invites.json   invitations, only beside ca.key
//! identity/invites.lock   held while invites.json changes
//! identity/audit.key      the private key that seals this node's audit log, and roles that count
//!                         at this node only
//! identity/audit.lock     held while audit.key is made
//! ```
//!
//! A certificate is renewed when half of its life is over ([`Renewal`]): the CA's node signs for
//! whoever asks with a certificate that is still valid. There is no revocation list of certificates: one is good until it expires. An identity is revoked
//! in the roles of its trust domain, which the CA's key signs.

mod audit_key;
mod base64url;
mod ca;
mod enrol;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod invites;
mod live;
mod node;
mod renew;
mod roles;
mod spiffe;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod verify;

pub use audit_key::{
    Attestation, AttestationError, AuditKey, AuditKeyError, AuditPublicKey, AuditSignature,
};
pub use ca::{CA_VALIDITY_S, Ca, CaError, Issued, NODE_VALIDITY_S};
pub use enrol::{EnrolError, Enrolment};
pub use files::FileError;
pub use invites::{INVITE_TTL_S, INVITES_MAX, Invitation, InviteError, Invites, PendingError};
pub use live::Live;
pub use node::{Identity, IdentityError};
pub use renew::{RenewError, Renewal};
pub use roles::{BundleError, SealError, Voucher};
pub use rustls_pki_types::{CertificateDer, UnixTime};
pub use spiffe::{ParseSpiffeError, SpiffeId, TrustDomain};
pub use tls::{
    ALPN, Alert, Expect, SERVER_NAME, client_config, join_config, joiner_key, live_server_config,
    peer_of, refusal, refusal_text, server_config,
};
pub use token::{ADDRESSES_MAX, Token, TokenError};
pub use verify::{PeerError, Usage, Who};
