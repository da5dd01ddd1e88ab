//! The audit log of this home: verifying it, alone and with a peer, and showing it.

mod peer;
pub(super) mod telling;

use std::io::Write;

use super::engine::Engine;
use super::{Error, Exit};
use crate::audit::{
    Entries, Entry, Export, ExportError, Format, KeyRecord, Known, LogFolder, Place, ReadError,
    Record, Report, Row, VerifyError, verify,
};
use crate::base::{FileTime, NodeName, TransferId};
use crate::identity::{AttestationError, Identity, SpiffeId, UnixTime};
use crate::policy::Principal;

pub use peer::{PeerLog, PeerReport};

/// Which records are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only those about transfers with this node, and its witnesses.
    pub peer: Option<NodeName>,
    /// Only those since then, in seconds since 1970.
    pub since: Option<i64>,
    /// Only those about this transfer.
    pub transfer: Option<TransferId>,
}

impl AuditFilter {
    /// Whether a record is to be shown.
    pub fn wants(&self, entry: &Entry) -> bool {
        self.since.is_none_or(|since| entry.at.secs >= since)
            && self.transfer.is_none_or(|id| entry.record.transfer() == Some(id))
            && self.peer.as_ref().is_none_or(|peer| concerns(&entry.record, peer))
    }
}

/// Whether a record is about something with a node.
fn concerns(record: &Record, node: &NodeName) -> bool {
    let is = |place: &Place| place.node == *node;
    match record {
        Record::Witness(witness) => {
            let id = witness.node.as_str().parse::<SpiffeId>();
            id.is_ok_and(|id| id.node == *node)
        }
        Record::Receipt(receipt) => is(&receipt.body.from.place) || is(&receipt.body.to.place),
        record => record.crossing().is_some_and(|it| is(&it.from) || is(&it.to)),
    }
}

impl Engine {
    /// Reads the whole audit log and checks every bit of it, and that its keys are this node's.
    /// Blocks.
    ///
    /// # Errors
    /// There is none, or the first thing that is wrong with it.
    pub fn audit_verify(&self) -> Result<Report, Error> {
        let (folder, identity) = (self.audit_folder()?, self.identity()?);
        let (judge, node) = (judge(&identity), Principal::from(identity.id()));
        let known =
            Known { judge: Some(&judge), node: Some(&node), receipts: true, ..Known::default() };
        verify(&folder, &known).map_err(|error| damaged(&error))
    }

    /// Writes those records of the audit log of this home that `filter` wants; gives their number.
    /// Blocks.
    ///
    /// # Errors
    /// There is none, it cannot be read, or `out` cannot be written.
    pub fn audit_export(
        &self,
        format: Format,
        filter: &AuditFilter,
        out: &mut dyn Write,
    ) -> Result<u64, Error> {
        let export = self.audit_view()?;
        export.write(out, format, |entry| filter.wants(entry)).map_err(|error| unread(&error))
    }

    /// Gives those records of the audit log of this home that `filter` wants to `see`, as the cells of
    /// an export; gives their number. Blocks.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn audit_show(
        &self,
        filter: &AuditFilter,
        see: &mut dyn FnMut(&Row),
    ) -> Result<u64, Error> {
        let shown = self.audit_view()?.each(
            |entry| filter.wants(entry),
            |row| {
                see(row);
                Ok::<(), ExportError>(())
            },
        );
        shown.map_err(|error| unread(&error))
    }

    fn audit_view(&self) -> Result<Export<Entries>, Error> {
        let opened = Entries::open(&self.audit_folder()?).and_then(|log| Export::new([log]));
        opened.map_err(|error| unread(&error.into()))
    }

    pub(super) fn audit_folder(&self) -> Result<LogFolder, Error> {
        let dir = self.0.home.audit_dir();
        if !dir.exists() {
            return Err(none());
        }
        LogFolder::open(&dir).map_err(|error| {
            let message = format!("{} cannot be opened: {error}", dir.display());
            Error::new("audit", Exit::Failed, message).hint("only the node's own user may read it")
        })
    }
}

/// Says whose keys a log has, by the certificates that this node trusts.
fn judge(
    identity: &Identity,
) -> impl Fn(&KeyRecord, FileTime) -> Result<Principal, AttestationError> {
    |record, at| {
        let secs = u64::try_from(at.secs).unwrap_or(0);
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs));
        let judged = identity.judge_attestation(record.key, &record.attestation, at);
        judged.map(|id| Principal::from(&id))
    }
}

fn none() -> Error {
    Error::new("no-audit-log", Exit::Failed, "there is no audit log: nothing crossed so far")
        .hint("it begins with the first transfer to or from another site")
}

fn damaged(error: &VerifyError) -> Error {
    match error {
        VerifyError::Read(ReadError::Missing) => none(),
        _ => Error::new("audit-damaged", Exit::Failed, error.to_string()).hint(error.hint()),
    }
}

fn unread(error: &ExportError) -> Error {
    match error {
        ExportError::Read(ReadError::Missing) => none(),
        _ => Error::new("audit", Exit::Failed, error.to_string()).hint(error.hint()),
    }
}
