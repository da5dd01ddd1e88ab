//! A save under way: locked while it is pushed, removed once it is published.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;

use portway::api::{Error, Exit};

/// A save in its staging area; `portway/_saves.py` tells what is in it.
pub(crate) struct Save {
    dir: PathBuf,
    _lock: File,
}

impl Save {
    /// The right to push it.
    pub(crate) fn take(dir: PathBuf) -> Result<Self, Error> {
        let file = dir.join("save.json");
        let failed = |e: io::Error| {
            Error::new("source", Exit::Failed, format!("cannot use {}: {e}", file.display()))
                .hint("check the staging area")
        };
        let others = || {
            let message = format!("another process pushes {}", dir.display());
            Error::new("conflict", Exit::Failed, message).hint("wait for it")
        };
        let lock = match File::open(&file) {
            // Published and removed just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(others()),
            opened => opened.map_err(failed)?,
        };
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(others()),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// The push has ended. What was not published stays for another push.
    pub(crate) async fn end(self, published: bool) {
        if published {
            let removed = tokio::task::spawn_blocking(move || {
                // At once, so that a kill does not leave a part of it for another push.
                let gone = self.dir.with_extension("tmp");
                fs::rename(&self.dir, &gone).and_then(|()| fs::remove_dir_all(&gone))
            });
            let removed = removed.await;
            if let Ok(Err(error)) = removed {
                tracing::warn!(%error, "a published save stays in the staging area");
            }
        }
    }
}
