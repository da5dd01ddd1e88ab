//! Words of Python as options of a transfer.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use portway::api::{
    Compress, Copies, Error, Exit, Keep, Parts, StageOptions, TransferOptions, TransportChoice,
};
use pyo3::prelude::*;

/// What the keyword arguments of a transfer say.
#[derive(FromPyObject)]
pub(crate) struct Options {
    #[pyo3(item)]
    checksum: bool,
    #[pyo3(item)]
    retry_s: Option<u64>,
    #[pyo3(item)]
    transport: String,
    #[pyo3(item)]
    compress: Option<String>,
    #[pyo3(item)]
    limit: Option<String>,
    #[pyo3(item)]
    max_cost: Option<String>,
    #[pyo3(item)]
    deadline: Option<i64>,
    #[pyo3(item)]
    link: Option<String>,
    #[pyo3(item)]
    priority: String,
    #[pyo3(item)]
    whole: bool,
    #[pyo3(item)]
    parts: Option<u32>,
    #[pyo3(item)]
    attempt: String,
    #[pyo3(item)]
    basis: Option<PathBuf>,
    #[pyo3(item)]
    keep: Option<u32>,
    #[pyo3(item)]
    keep_every: Option<u64>,
}

/// What the keyword arguments of a stage say, but for those of its transfers.
#[derive(FromPyObject)]
pub(crate) struct Staging {
    #[pyo3(item)]
    order: Vec<String>,
    #[pyo3(item)]
    at_once: usize,
    #[pyo3(item)]
    share: bool,
    #[pyo3(item)]
    store: Option<PathBuf>,
    #[pyo3(item)]
    copies: String,
}

impl Staging {
    pub(crate) fn read(self) -> Result<StageOptions, Error> {
        let Self { order, at_once, share, store, copies } = self;
        let copies = match copies.as_str() {
            "reflink" => Copies::Reflink,
            "hardlink" => Copies::HardLink,
            other => return Err(unknown("copies", other, "reflink, hardlink")),
        };
        let order = Some(order);
        Ok(StageOptions { order, at_once, share, store, copies, ..StageOptions::default() })
    }
}

fn unknown(field: &'static str, word: &str, known: &str) -> Error {
    Error::new("usage", Exit::Usage, format!("{field} cannot be {word:?}"))
        .hint(format!("one of {known}"))
}

/// A word that its type reads.
fn read<T: FromStr<Err: Display>>(field: &'static str, word: &str) -> Result<T, Error> {
    word.parse().map_err(|error| {
        Error::new("usage", Exit::Usage, format!("{field} cannot be {word:?}: {error}"))
            .hint("see the documentation of the call")
    })
}

fn parts(count: u32, attempt: &str) -> Result<Parts, Error> {
    Parts::new(count, attempt).map_err(|error| {
        Error::new("usage", Exit::Usage, error.to_string())
            .hint("each of the writers pushes one part, and says how many there are")
    })
}

impl Options {
    pub(crate) fn read(self) -> Result<TransferOptions, Error> {
        let transport = match self.transport.as_str() {
            "auto" => TransportChoice::Auto,
            "rdma" => TransportChoice::Rdma,
            "quic" => TransportChoice::Quic,
            other => return Err(unknown("transport", other, "auto, rdma, quic")),
        };
        let compress = match self.compress.as_deref() {
            None => None,
            Some("auto") => Some(Compress::Auto),
            Some("always") => Some(Compress::Always),
            Some("never") => Some(Compress::Never),
            Some(other) => return Err(unknown("compress", other, "auto, always, never")),
        };
        let keep = match (self.keep, self.keep_every) {
            (None, None) => None,
            (Some(last), every) if last > 0 && every != Some(0) => Some(Keep { last, every }),
            _ => {
                let message = "keep and keep_every cannot be 0, nor keep_every be alone";
                return Err(Error::new("usage", Exit::Usage, message)
                    .hint("keep says how many checkpoints of the highest steps stay"));
            }
        };
        let parts = self.parts.map(|count| parts(count, &self.attempt)).transpose()?;
        let limit = self.limit.map(|rate| read("limit", &rate)).transpose()?;
        let max_cost = self.max_cost.map(|cost| read("max_cost", &cost)).transpose()?;
        let priority = read("priority", &self.priority)?;
        let Self { checksum, retry_s, whole, deadline, link, basis, .. } = self;
        Ok(TransferOptions {
            checksum,
            retry_s,
            transport,
            compress,
            limit,
            max_cost,
            deadline,
            link,
            priority,
            whole,
            parts,
            basis,
            keep,
            ..TransferOptions::default()
        })
    }
}
