//! A file at a node, open for reading parts of it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use portway::api::{Error, RemoteFile};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::{closed, raised};

/// What is open, and what the last read brought.
#[derive(Default)]
struct Inner {
    open: OnceLock<Arc<RemoteFile>>,
    /// Reads that have ended and were not taken yet, by number.
    read: Mutex<Vec<(u64, Vec<Vec<u8>>)>>,
}

/// A file at a node.
#[pyclass(frozen)]
pub(crate) struct File(Arc<Inner>);

/// Fills a file.
pub(crate) struct Opening(Arc<Inner>);

impl File {
    /// A file that is not open yet, and what opens it.
    pub(crate) fn pending() -> (Self, Opening) {
        let inner = Arc::<Inner>::default();
        (Self(Arc::clone(&inner)), Opening(inner))
    }

    pub(crate) fn opened(&self) -> Result<Arc<RemoteFile>, Error> {
        self.0.open.get().cloned().ok_or_else(closed)
    }

    /// Where a read leaves what it brought.
    pub(crate) fn keeper(&self) -> impl FnOnce(u64, Vec<Vec<u8>>) + Send + 'static {
        let inner = Arc::clone(&self.0);
        move |number, parts| {
            inner.read.lock().unwrap_or_else(PoisonError::into_inner).push((number, parts));
        }
    }
}

impl Opening {
    pub(crate) fn open(self, file: RemoteFile) {
        // Each opening has a file of its own, so it is empty.
        let _ = self.0.open.set(Arc::new(file));
    }
}

#[pymethods]
impl File {
    /// Length in bytes, whether reads are verified, and bytes fetched so far.
    fn facts(&self, py: Python<'_>) -> PyResult<(u64, bool, u64)> {
        let file = self.opened().map_err(|error| raised(py, &error))?;
        Ok((file.len(), file.is_verified(), file.bytes_fetched()))
    }

    /// Takes what the read with this number brought.
    fn take<'py>(&self, py: Python<'py>, number: u64) -> Vec<Bound<'py, PyBytes>> {
        let parts = py.detach(|| {
            let mut read = self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
            let at = read.iter().position(|(n, _)| *n == number);
            at.map(|at| read.swap_remove(at).1).unwrap_or_default()
        });
        parts.iter().map(|part| PyBytes::new(py, part)).collect()
    }
}
