//! The audit log of this home: verifying it, and writing it out.

use std::io::Write;

use super::engine::Engine;
use super::{Error, Exit};
use crate::audit::{
    Entries, Export, ExportError, Format, Known, LogFolder, ReadError, Report, VerifyError, verify,
};
use crate::base::FileTime;
use crate::identity::UnixTime;
use crate::policy::Principal;

impl Engine {
    /// Reads the whole audit log and checks every bit of it, and that its keys are this node's.
    /// Blocks.
    ///
    /// # Errors
    /// There is none, or the first thing that is wrong with it.
    pub fn audit_verify(&self) -> Result<Report, Error> {
        let (folder, identity) = (self.audit_folder()?, self.identity()?);
        let judge = |record: &crate::audit::KeyRecord, at: FileTime| {
            let secs = u64::try_from(at.secs).unwrap_or(0);
            let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs));
            let judged = identity.judge_attestation(record.key, &record.attestation, at);
            judged.map(|id| Principal::from(&id))
        };
        let node = Principal::from(identity.id());
        let known =
            Known { judge: Some(&judge), node: Some(&node), receipts: true, ..Known::default() };
        verify(&folder, &known).map_err(|error| match &error {
            VerifyError::Read(ReadError::Missing) => none(),
            _ => Error::new("audit-damaged", Exit::Failed, error.to_string()).hint(error.hint()),
        })
    }

    /// Writes the audit log of this home, from records since `since` on (seconds since 1970); gives
    /// their number. Blocks.
    ///
    /// # Errors
    /// There is none, it cannot be read, or `out` cannot be written.
    pub fn audit_export(
        &self,
        format: Format,
        since: Option<i64>,
        out: &mut dyn Write,
    ) -> Result<u64, Error> {
        let failed = |error: ExportError| match &error {
            ExportError::Read(ReadError::Missing) => none(),
            _ => Error::new("audit", Exit::Failed, error.to_string()).hint(error.hint()),
        };
        let entries = Entries::open(&self.audit_folder()?).map_err(|e| failed(e.into()))?;
        let export = Export::new([entries]).map_err(|e| failed(e.into()))?;
        let wanted = |entry: &crate::audit::Entry| since.is_none_or(|since| entry.at.secs >= since);
        export.write(out, format, wanted).map_err(failed)
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

fn none() -> Error {
    Error::new("no-audit-log", Exit::Failed, "there is no audit log: nothing crossed so far")
        .hint("it begins with the first transfer to or from another site")
}
