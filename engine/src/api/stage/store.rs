//! A store that several jobs stage to, and the copies that each of them gets.

use std::path::Path;
use std::sync::Arc;

use super::fetch::BUSY;
use super::{Inner, deep};
use crate::api::calls::local_error;
use crate::api::pull::Place;
use crate::api::retry::{interrupted, stopped};
use crate::api::server::blocking;
use crate::api::verify::published;
use crate::api::{Error, Exit, Outcome};
use crate::base::RelPath;
use crate::runtime::copies::{Copies, CopyError, Standing};

/// So often a file is fetched again that was changed in the store before it was copied.
const CHANGES: usize = 3;

/// Why a file of the store does not come to the target.
enum Missed {
    Copy(CopyError),
    Read(Error),
}

impl From<CopyError> for Missed {
    fn from(error: CopyError) -> Self {
        Self::Copy(error)
    }
}

/// Refuses a target that can have no copies from the store, before anything moves.
pub(super) fn try_out(store: &Place, target: &Path, how: Copies) -> Result<(), Error> {
    store.root.can_copy_out(target, how).map_err(|error| refused(&error, &target.display()))
}

fn refused(error: &CopyError, what: &dyn std::fmt::Display) -> Error {
    let message = format!("the store has no copy for {what}: {error}");
    let (code, exit, hint) = match error {
        CopyError::NoClones => {
            ("no-reflink", Exit::Usage, "take hard links, or a store on XFS or btrfs")
        }
        CopyError::Elsewhere => {
            ("other-filesystem", Exit::Usage, "give a store on the file system of the target")
        }
        CopyError::NoLabel(_) => ("no-label", Exit::Refused, "stage without a store"),
        CopyError::Busy => ("conflict", Exit::Failed, "wait for the job that writes it"),
        CopyError::Changed => ("changed", Exit::Failed, "let nobody write to the store"),
        CopyError::Io(error) => match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                ("no-space", Exit::Interrupted, "make room, then stage again")
            }
            _ => ("target", Exit::Failed, "stage to another directory"),
        },
    };
    Error::new(code, exit, message).hint(hint)
}

impl Inner {
    /// Brings one file to where it is to be seen. Tells `true` if it came from a node of this site.
    pub(super) async fn bring(&self, name: &RelPath) -> Result<(Outcome, bool), Error> {
        let Some((_, how)) = self.copies else { return self.fetch(name).await };
        let mut changes = 0;
        loop {
            self.look(name).await?;
            let fetched = self.fetch(name).await?;
            match self.copy(name, how).await {
                Err(Missed::Copy(CopyError::Changed)) if changes < CHANGES => changes += 1,
                ended => return ended.map(|()| fetched).map_err(|missed| missed.told(name)),
            }
        }
    }

    /// A file in the store that only has got or lost another name is read, so that it need not come
    /// again.
    async fn look(&self, name: &RelPath) -> Result<(), Error> {
        let root = Arc::clone(&self.place.root);
        let path = self.place.path.join_path(name).map_err(|e| deep(name, &e))?;
        let looked = blocking(move || {
            if root.standing(&path).map_err(CopyError::Io)? != Standing::Touched {
                return Ok(());
            }
            root.vouch(&path, || {
                let report = published(&*root.tree, &path);
                let report = report.map_err(|failure| Missed::Read(local_error(&failure)))?;
                Ok(report.bad_total == 0)
            })
        });
        match looked.await? {
            // Whatever is there: the pull sees to it.
            Ok(()) | Err(Missed::Copy(CopyError::Busy | CopyError::Changed)) => Ok(()),
            Err(missed) => Err(missed.told(name)),
        }
    }

    async fn copy(&self, name: &RelPath, how: Copies) -> Result<(), Missed> {
        let path = self.place.path.join_path(name).map_err(|e| Missed::Read(deep(name, &e)))?;
        let mut cancelled = self.cancel.subscribe();
        loop {
            let (root, path) = (Arc::clone(&self.place.root), path.clone());
            let to = self.seen_at(name);
            let copied = blocking(move || root.copy_out(&path, &to, how));
            match copied.await.map_err(Missed::Read)? {
                Err(CopyError::Busy) => {}
                other => return other.map_err(Missed::Copy),
            }
            tokio::select! {
                () = tokio::time::sleep(BUSY) => {}
                () = stopped(&mut cancelled) => return Err(Missed::Read(interrupted())),
            }
        }
    }
}

impl Missed {
    fn told(self, name: &RelPath) -> Error {
        match self {
            Self::Copy(error) => refused(&error, name),
            Self::Read(error) => error,
        }
    }
}
