//! Answers to peers who ask for what our log says of the transfers with them.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::api::calls::{asked, stream};
use crate::api::crossing::spiffe_of;
use crate::api::server::Shared;
use crate::audit::{Entry, LogFolder, Place, ReadError, Record, extract};
use crate::policy::Principal;
use crate::protocol::Failure;
use crate::transport::{Link, Peer};

/// Content in one frame of an answer, in bytes; a frame has room for it.
const PART_BYTES: usize = 240 << 10;
/// Code of a node without a log.
pub(super) const NO_LOG: &str = "no-audit-log";

/// Asks for the part of a log that is about both nodes.
#[derive(Serialize, Deserialize)]
pub(in crate::api) struct AuditRequest {
    /// Records of the last checkpoint of it that the asking node holds; zero if it holds none.
    pub(in crate::api) held: u64,
}

/// Two nodes, and whether a record is about both.
pub(super) struct Between {
    pub(super) us: Place,
    pub(super) them: Place,
}

impl Between {
    /// Whether a record is about a transfer between the two.
    pub(super) fn moves(&self, record: &Record) -> bool {
        let (from, to) = match record {
            Record::Receipt(receipt) => (&receipt.body.from.place, &receipt.body.to.place),
            _ => match record.crossing() {
                Some(crossing) => (&crossing.from, &crossing.to),
                None => return false,
            },
        };
        (from, to) == (&self.us, &self.them) || (from, to) == (&self.them, &self.us)
    }
}

/// Answers `audit`.
pub(in crate::api) async fn audit(shared: &Arc<Shared>, link: &impl Link, body: &[u8]) {
    // Each answer reads the whole log.
    let _turn = shared.audits.lock().await;
    let (node, peer, body) = (Arc::clone(shared), link.peer().clone(), body.to_vec());
    stream(link, move |give| tell(&node, &peer, &body, give)).await;
}

fn tell(
    shared: &Shared,
    peer: &Peer,
    body: &[u8],
    give: &dyn Fn(Bytes) -> bool,
) -> Result<(), Failure> {
    let AuditRequest { held } = asked(body)?;
    let none = || Failure::new(NO_LOG, "nothing crossed there so far");
    let dir = shared.engine.0.home.audit_dir();
    if !dir.exists() {
        return Err(none());
    }
    // What is wrong with a log is its own node's business; that it cannot be told is not.
    let unread = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "the audit log cannot be told");
        Failure::new("audit-damaged", "the audit log there cannot be read")
    };
    let folder = LogFolder::open(&dir).map_err(|error| unread(&error))?;
    let them = spiffe_of(&shared.us, peer);
    let between = Between { us: Place::from(&shared.us), them: Place::from(&them) };
    let them = Principal::from(&them);
    let wanted = |entry: &Entry| match &entry.record {
        Record::Key(_) => true,
        Record::Witness(witness) => witness.node == them,
        record => between.moves(record),
    };
    let mut parts = |bytes: Vec<u8>| {
        let bytes = Bytes::from(bytes);
        let part = |at: usize| bytes.slice(at..bytes.len().min(at + PART_BYTES));
        (0..bytes.len()).step_by(PART_BYTES).all(|at| give(part(at)))
    };
    extract(&folder, held, wanted, &mut parts).map_err(|error| match error {
        ReadError::Missing => none(),
        error => unread(&error),
    })
}
