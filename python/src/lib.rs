//! The native part of the Python package: engines, and jobs that run in their threads.
//!
//! It knows only what needs Rust. Everything that a user sees is in the Python files beside it:
//! classes, docstrings, exceptions. Reports cross as JSON, which both sides have anyway.

mod engine;
mod error;
mod file;
mod job;
mod log;
mod options;
mod save;
mod stage;

use pyo3::prelude::*;

/// The module `portway._native`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::engine::Engine;
    #[pymodule_export]
    use super::file::File;
    #[pymodule_export]
    use super::job::Job;
    #[pymodule_export]
    use super::log::{log_records, log_start, log_stop};
    #[pymodule_export]
    use super::stage::Stage;
}
