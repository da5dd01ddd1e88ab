//! Errors of the engine become exceptions of the package.

use portway::api::{Error, Exit};
use pyo3::prelude::*;

/// The exception for an error: `portway._errors.of` finds its class.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    let made = py.import("portway._errors").and_then(|errors| {
        let (advice, exit) = (error.advice().as_str(), error.exit as u8);
        errors.call_method1("of", (error.code, &error.message, &error.hint, advice, exit))
    });
    made.map_or_else(|error| error, PyErr::from_value)
}

/// The engine was closed.
pub(crate) fn closed() -> Error {
    Error::new("engine-closed", Exit::Usage, "this engine is closed").hint("make another Engine")
}

/// The engine came here by a fork, which does not bring its threads.
pub(crate) fn forked() -> Error {
    Error::new("forked", Exit::Usage, "this engine belongs to the process that made it")
        .hint("make an Engine in each process, after the fork")
}
