//! A save under way: locked while it is pushed, removed once it is published.

use std::fs::{self, File, TryLockError};
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
        let failed = |e: std::io::Error| {
            Error::new("source", Exit::Failed, format!("cannot use {}: {e}", file.display()))
                .hint("check the staging area")
        };
        let lock = File::open(&file).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let message = format!("another process pushes {}", dir.display());
                Err(Error::new("conflict", Exit::Failed, message).hint("wait for it"))
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// The push has ended. What was not published stays for another push.
    pub(crate) async fn end(self, published: bool) {
        if published {
            let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(&self.dir)).await;
            if let Ok(Err(error)) = removed {
                tracing::warn!(%error, "a published save stays in the staging area");
            }
        }
    }
}
