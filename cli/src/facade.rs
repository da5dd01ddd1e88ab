//! Where the commands meet the engine: the only file that names its calls.

#![allow(
    clippy::unused_async,
    clippy::unnecessary_wraps,
    dead_code,
    clippy::unused_self,
    clippy::needless_pass_by_value,
    reason = "the signatures are the engine's"
)]

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;

use portway::api::{
    Error, Exit, Finding, ListEntry, NodeAddress, Outcome, Plan, Remote, TransferOptions,
    VerifyReport,
};
use portway::base::{NodeName, SiteName, Tier};
use portway::config::{Config, Home};
use portway::metrics::{NodeStatus, Snapshot, TransferMeter};

#[derive(Clone)]
pub(crate) struct Engine;

pub(crate) struct ServeOptions {
    pub(crate) root: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
}

pub(crate) struct Server;

#[derive(Clone)]
pub(crate) struct Transfer;

pub(crate) struct JoinReport {
    pub(crate) node: NodeName,
    pub(crate) site: SiteName,
    pub(crate) tier: Tier,
    pub(crate) peer: NodeName,
}

fn missing<T>() -> Result<T, Error> {
    Err(Error::new("engine", Exit::Failed, "this build has no engine"))
}

impl Engine {
    pub(crate) fn open(_home: Home, _config: Config) -> Result<Self, Error> {
        Ok(Self)
    }

    pub(crate) fn push(&self, _s: Vec<PathBuf>, _t: Remote, _o: TransferOptions) -> Transfer {
        Transfer
    }

    pub(crate) fn pull(&self, _s: Remote, _t: PathBuf, _o: TransferOptions) -> Transfer {
        Transfer
    }

    pub(crate) async fn plan(
        &self,
        _sources: Vec<PathBuf>,
        _target: Remote,
        _options: TransferOptions,
    ) -> Result<Plan, Error> {
        missing()
    }

    pub(crate) async fn list(&self, _remote: Remote) -> Result<Vec<ListEntry>, Error> {
        missing()
    }

    pub(crate) async fn verify_local(&self, _path: PathBuf) -> Result<VerifyReport, Error> {
        missing()
    }

    pub(crate) async fn verify_remote(&self, _remote: Remote) -> Result<VerifyReport, Error> {
        missing()
    }

    pub(crate) async fn status(&self, _node: Option<NodeAddress>) -> Result<NodeStatus, Error> {
        missing()
    }

    pub(crate) async fn doctor(&self, _node: Option<NodeAddress>) -> Result<Vec<Finding>, Error> {
        missing()
    }

    pub(crate) async fn invite(
        &self,
        _name: NodeName,
        _site: SiteName,
        _tier: Tier,
    ) -> Result<String, Error> {
        missing()
    }

    pub(crate) async fn serve(&self, _options: ServeOptions) -> Result<Server, Error> {
        missing()
    }

    pub(crate) fn init(_h: &Home, _n: NodeName, _s: SiteName, _t: Tier) -> Result<String, Error> {
        missing()
    }

    pub(crate) async fn join(_home: &Home, _token: &str) -> Result<JoinReport, Error> {
        missing()
    }
}

impl Transfer {
    pub(crate) fn progress(&self) -> Snapshot {
        TransferMeter::new("", "", "").snapshot()
    }

    pub(crate) fn interrupt(&self) {}

    pub(crate) async fn wait(self) -> Result<Outcome, Error> {
        missing()
    }
}

impl Server {
    pub(crate) fn node(&self) -> NodeName {
        unreachable!("no server is ever made")
    }

    pub(crate) fn listen(&self) -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0], 0))
    }

    pub(crate) fn admin(&self) -> Option<SocketAddr> {
        None
    }

    pub(crate) async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        shutdown.await;
        Ok(())
    }
}
