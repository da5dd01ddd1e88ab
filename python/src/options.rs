//! Words of Python as options of a transfer.

use portway::api::{Compress, Error, Exit, TransferOptions, TransportChoice};
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
}

fn unknown(field: &'static str, word: &str, known: &str) -> Error {
    Error::new("usage", Exit::Usage, format!("{field} cannot be {word:?}"))
        .hint(format!("one of {known}"))
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
        let Self { checksum, retry_s, .. } = self;
        Ok(TransferOptions { checksum, dry_run: false, retry_s, transport, compress })
    }
}
