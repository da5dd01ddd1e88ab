//! A directory that is being staged. Its engine's threads do the work.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portway::api::{self, Error, Exit};
use pyo3::prelude::*;

use crate::error::raised;

/// Empty until staging has begun, and once it is closed: what is open has locks.
type Begun = Arc<Mutex<Option<Arc<api::Stage>>>>;

/// A directory that is being staged.
#[pyclass(frozen)]
pub(crate) struct Stage(Begun);

fn locked(begun: &Begun) -> MutexGuard<'_, Option<Arc<api::Stage>>> {
    begun.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fills a stage.
pub(crate) struct Begin(Begun);

impl Stage {
    /// A stage that has not begun, and what begins it.
    pub(crate) fn pending() -> (Self, Begin) {
        let begun = Begun::default();
        (Self(Arc::clone(&begun)), Begin(begun))
    }

    pub(crate) fn begun(&self) -> Result<Arc<api::Stage>, Error> {
        locked(&self.0).clone().ok_or_else(|| {
            Error::new("interrupted", Exit::Interrupted, "this stage is closed")
                .hint("another stage to the same directory goes on from it")
        })
    }

    /// Nothing more can be asked of it.
    pub(crate) fn take(&self) -> Option<Arc<api::Stage>> {
        locked(&self.0).take()
    }
}

impl Begin {
    pub(crate) fn begin(self, stage: api::Stage) {
        *locked(&self.0) = Some(Arc::new(stage));
    }
}

#[pymethods]
impl Stage {
    /// How it stands, as JSON.
    fn progress(&self, py: Python<'_>) -> PyResult<String> {
        let now = py.detach(|| self.begun().map(|stage| stage.progress()));
        let now = now.map_err(|error| raised(py, &error))?;
        serde_json::to_string(&now)
            .map_err(|e| raised(py, &Error::new("internal", Exit::Failed, e.to_string())))
    }
}
