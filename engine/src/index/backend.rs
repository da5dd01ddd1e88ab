//! The database's view of a `storage::File`.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;

use crate::storage::File;

/// A [`StorageBackend`] over an open file. Locks stay unsupported: the engine's lock on the root
/// covers the index. Clones share the file.
#[derive(Clone)]
pub(super) struct Backend {
    file: Arc<dyn File>,
    sync_failed: Arc<AtomicBool>,
}

impl Backend {
    pub(super) fn new(file: Arc<dyn File>) -> Self {
        Self { file, sync_failed: Arc::default() }
    }

    /// Whether a sync failed, after which nothing in the file can be relied on.
    pub(super) fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Relaxed)
    }

    /// Bytes that the file takes on the medium.
    pub(super) fn allocated(&self) -> io::Result<u64> {
        Ok(self.file.meta()?.allocated)
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.meta()?.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.file.read_at(out, offset)? == out.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync().inspect_err(|_| self.sync_failed.store(true, Ordering::Relaxed))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(data, offset)
    }
}
