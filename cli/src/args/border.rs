//! What is typed about labels and the audit log.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use portway::base::{Class, TransferId, utc};

#[derive(Debug, Args)]
pub(crate) struct Label {
    /// A file or directory of this machine; with --approve, of the node
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// The class that it gets; without --lower or --approve never a lower one than it has
    #[arg(long, value_name = "CLASS")]
    pub(crate) class: Option<Class>,
    /// Propose a lower class: another identity has to approve it within a day
    #[arg(long, requires = "class", conflicts_with = "approve")]
    pub(crate) lower: bool,
    /// Approve, as another identity, what a node proposed, by the name that --lower printed
    #[arg(long, value_name = "ID", requires_all = ["class", "at"])]
    pub(crate) approve: Option<TransferId>,
    /// The node that proposed it
    #[arg(long, value_name = "NODE", requires = "approve")]
    pub(crate) at: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    pub(crate) command: AuditCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Read the whole log and check every bit, signature and key of it
    Verify,
    /// Write the records to standard output, one in each line
    Export {
        /// How
        #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
        format: AuditFormat,
        /// Leave out what is older, like 2026-11-27 or 2026-11-27T18:30:00Z
        #[arg(long, value_name = "TIME", value_parser = utc::parse)]
        since: Option<i64>,
    },
}

/// How records are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditFormat {
    /// A JSON object each
    #[default]
    Jsonl,
    /// Comma-separated values, with a line of names
    Csv,
}
