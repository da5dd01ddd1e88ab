//! Measurements between two nodes: one serves, the other asks. Both show who they are, as in every
//! session.

mod load;
mod path;
mod probe;
mod quic;
mod rdma;
mod serve;
mod talk;
#[cfg(test)]
pub(crate) mod tests;

use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use portway::api::{Engine, Error, NodeAddress};
use portway::config::{Config, Home};

pub(crate) use path::PathArgs;
pub(crate) use quic::QuicArgs;
pub(crate) use rdma::RdmaArgs;
pub(crate) use serve::ServeArgs;

/// The node that measures.
#[derive(Debug, Clone, Args)]
pub(crate) struct HomeArgs {
    /// Directory of this node's configuration, identity and state [default: as of `portway`]
    #[arg(long, env = "PORTWAY_HOME")]
    pub(crate) home: Option<PathBuf>,
    /// Sets a field of the configuration: section.field=value
    #[arg(long, value_name = "FIELD=VALUE", value_parser = field)]
    pub(crate) set: Vec<(String, String)>,
}

fn field(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').ok_or("a field is set by section.field=value")?;
    Ok((parts.0.to_owned(), parts.1.to_owned()))
}

impl HomeArgs {
    /// The engine of the home, and its configuration.
    pub(crate) fn engine(&self) -> Result<(Engine, Config)> {
        let home = Home::locate(self.home.as_deref(), |name| std::env::var_os(name))
            .context("hint: give --home DIR")?;
        let config = Config::load(&home, std::env::vars_os(), &self.set)
            .context("hint: `portway config --defaults` prints every field and what is allowed")?;
        let engine = Engine::open(home, config.clone()).map_err(|error| told(&error))?;
        Ok((engine, config))
    }
}

/// An error of the engine with its hint.
pub(crate) fn told(error: &Error) -> anyhow::Error {
    if error.hint.is_empty() {
        anyhow!("{}", error.message)
    } else {
        anyhow!("{}\nhint: {}", error.message, error.hint)
    }
}

/// A node as it is typed: a name that the configuration has, or `HOST:PORT`.
pub(crate) fn node(text: &str) -> Result<NodeAddress> {
    let text = text.strip_suffix(':').unwrap_or(text);
    if text.contains(':') {
        let hint = || format!("{text} has no address\nhint: a node is a name or HOST:PORT");
        let found: Option<SocketAddr> = text.to_socket_addrs().with_context(hint)?.next();
        return Ok(NodeAddress::Address(found.with_context(hint)?));
    }
    let name = text.parse().with_context(|| format!("`{text}` is no name of a node"))?;
    Ok(NodeAddress::Name(name))
}

/// Runs a measurement on threads of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(Box::pin(work));
    runtime.shutdown_background();
    result
}

/// Serves until the process is told to stop.
pub(crate) fn serve(args: &ServeArgs) -> Result<bool> {
    block_on(serve::run(args)).map(|()| true)
}

/// Measures QUIC to a node and prints it.
pub(crate) fn quic(args: &QuicArgs) -> Result<bool> {
    block_on(quic::run(args)).map(|()| true)
}

/// Measures RDMA to a node and prints it.
pub(crate) fn rdma(args: &RdmaArgs) -> Result<bool> {
    block_on(rdma::run(args)).map(|()| true)
}

/// Measures the path to a node and prints it.
pub(crate) fn path(args: &PathArgs) -> Result<bool> {
    block_on(path::run(args)).map(|()| true)
}
