//! What is typed to make nodes and workloads, and to become one.

use clap::{ArgGroup, Args};
use portway::base::{NodeName, SiteName, Tier};

use super::tier;

/// Who a new node is.
#[derive(Debug, Args)]
pub(crate) struct Member {
    /// The node's name: a-z, 0-9, '-', '_', '.'
    #[arg(long, value_name = "NAME")]
    pub(crate) name: NodeName,
    /// Its site: nodes that share a private fabric
    #[arg(long, value_name = "SITE")]
    pub(crate) site: SiteName,
    /// The site's side of the border
    #[arg(long, value_name = "TIER", value_parser = tier())]
    pub(crate) tier: Tier,
}

/// Who is invited.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("who").required(true))]
pub(crate) struct Invite {
    /// The node's name: a-z, 0-9, '-', '_', '.'
    #[arg(long, value_name = "NAME", group = "who")]
    pub(crate) name: Option<NodeName>,
    /// The name of a workload instead: a job with rights of its own, by its roles
    #[arg(long, value_name = "NAME", group = "who")]
    pub(crate) workload: Option<NodeName>,
    /// Its site: nodes that share a private fabric
    #[arg(long, value_name = "SITE")]
    pub(crate) site: SiteName,
    /// The site's side of the border
    #[arg(long, value_name = "TIER", value_parser = tier())]
    pub(crate) tier: Tier,
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// What `portway invite` printed; - reads it from standard input
    #[arg(value_name = "TOKEN")]
    pub(crate) token: String,
}
