//! A directory that is being staged. Its engine's threads do the work.

use std::sync::{Arc, OnceLock};

use portway::api::{self, Error};
use pyo3::prelude::*;

use crate::error::{closed, raised};

/// Empty until staging has begun.
type Begun = Arc<OnceLock<Arc<api::Stage>>>;

/// A directory that is being staged.
#[pyclass(frozen)]
pub(crate) struct Stage(Begun);

/// Fills a stage.
pub(crate) struct Begin(Begun);

impl Stage {
    /// A stage that has not begun, and what begins it.
    pub(crate) fn pending() -> (Self, Begin) {
        let begun = Begun::default();
        (Self(Arc::clone(&begun)), Begin(begun))
    }

    pub(crate) fn begun(&self) -> Result<Arc<api::Stage>, Error> {
        self.0.get().cloned().ok_or_else(closed)
    }
}

impl Begin {
    pub(crate) fn begin(self, stage: api::Stage) -> Result<(), Error> {
        self.0.set(Arc::new(stage)).map_err(|_| closed())
    }
}

#[pymethods]
impl Stage {
    /// How it stands, as JSON.
    fn progress(&self, py: Python<'_>) -> PyResult<String> {
        let now = py.detach(|| self.begun().map(|stage| stage.progress()));
        let now = now.map_err(|error| raised(py, &error))?;
        serde_json::to_string(&now)
            .map_err(|e| raised(py, &Error::new("internal", api::Exit::Failed, e.to_string())))
    }
}
