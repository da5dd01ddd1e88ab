//! From what was typed to what a command can act on: the home, its configuration, the engine.

use std::path::{Path, PathBuf};

use portway::api::{self, Error, Exit, TransferOptions, TransportChoice};
use portway::config::{BorderError, Config, EditError, Home};

use crate::args::{Compress, Deadline, Global, Priority, TransferFlags, Transport};
use crate::facade::Engine;
use crate::out::Out;

/// What every command has at hand.
pub(crate) struct Context<'a> {
    /// Where configuration, identity and state are.
    pub(crate) home: Home,
    /// Where to print.
    pub(crate) out: &'a Out,
    set: Vec<(String, String)>,
}

impl<'a> Context<'a> {
    /// Finds the home.
    pub(crate) fn new(global: &Global, out: &'a Out) -> Result<Self, Error> {
        let home = Home::locate(global.home.as_deref(), |name| std::env::var_os(name))?;
        Ok(Self { home, out, set: global.set.clone() })
    }

    /// Reads and checks the configuration.
    pub(crate) fn config(&self) -> Result<Config, Error> {
        Config::load(&self.home, std::env::vars_os(), &self.set).map_err(|error| (&error).into())
    }

    /// The engine with the configuration as it is.
    pub(crate) fn engine(&self, config: &Config) -> Result<Engine, Error> {
        Engine::open(self.home.clone(), config.clone())
    }
}

/// What the flags of a transfer mean.
pub(crate) fn options(flags: &TransferFlags) -> TransferOptions {
    TransferOptions {
        checksum: flags.checksum,
        dry_run: false,
        retry_s: flags.retry,
        transport: choice(flags.transport),
        compress: flags.compress.map(compress),
        limit: flags.limit,
        max_cost: flags.max_cost,
        link: flags.link.clone(),
        deadline: flags.deadline.map(at),
        priority: priority(flags.priority),
        ..TransferOptions::default()
    }
}

/// What `--compress` means.
pub(crate) fn compress(compress: Compress) -> api::Compress {
    match compress {
        Compress::Auto => api::Compress::Auto,
        Compress::Always => api::Compress::Always,
        Compress::Never => api::Compress::Never,
    }
}

/// What `--priority` means.
fn priority(priority: Priority) -> api::Priority {
    match priority {
        Priority::Interactive => api::Priority::Interactive,
        Priority::Staging => api::Priority::Staging,
        Priority::Bulk => api::Priority::Bulk,
    }
}

/// What `--deadline` means, in seconds since 1970.
fn at(deadline: Deadline) -> i64 {
    match deadline {
        Deadline::In(seconds) => unix_now().saturating_add(seconds),
        Deadline::At(at) => at,
    }
}

/// What `--transport` means.
pub(crate) fn choice(transport: Transport) -> TransportChoice {
    match transport {
        Transport::Auto => TransportChoice::Auto,
        Transport::Rdma => TransportChoice::Rdma,
        Transport::Quic => TransportChoice::Quic,
    }
}

/// The sources of a push or plan; each must be there.
pub(crate) fn sources(typed: &[std::ffi::OsString]) -> Result<Vec<PathBuf>, Error> {
    typed
        .iter()
        .map(|text| {
            let path = crate::facade::address::local(text)?;
            std::fs::symlink_metadata(&path).map_err(|error| unreadable(&path, &error))?;
            Ok(path)
        })
        .collect()
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    let message = format!("{}: {}", shown(path), told(error));
    Error::new("source", Exit::Failed, message).hint("check the path and your rights to read it")
}

/// A path made safe for a terminal.
pub(crate) fn shown(path: &Path) -> String {
    portway::base::human::escaped(path.as_os_str().as_encoded_bytes())
}

/// The system's words without the number that Rust adds.
pub(crate) fn told(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

pub(crate) fn border_error(error: &BorderError) -> Error {
    let exit = match error {
        BorderError::Change(_) => Exit::Usage,
        _ => Exit::Failed,
    };
    Error::new("policy", exit, error.to_string()).hint(error.hint())
}

pub(crate) fn edit_error(error: &EditError) -> Error {
    let (exit, hint) = match error {
        EditError::File { .. } => {
            (Exit::Failed, "check who owns the directory, and its space".to_owned())
        }
        EditError::Unknown { similar, .. } if !similar.is_empty() => {
            (Exit::Usage, format!("did you mean {}?", similar.join(" or ")))
        }
        EditError::Unknown { what, .. } => {
            let command = if *what == "node" { "nodes" } else { "limit" };
            (Exit::Usage, format!("portway {command} lists those that are"))
        }
        EditError::Syntax { .. } | EditError::Shape { .. } => {
            (Exit::Usage, "correct the file by hand; it was not changed".to_owned())
        }
    };
    let code = match error {
        EditError::Unknown { what: "node", .. } => "unknown-node",
        EditError::Unknown { .. } => "unknown-link",
        _ => "config",
    };
    Error::new(code, exit, error.to_string()).hint(hint)
}
