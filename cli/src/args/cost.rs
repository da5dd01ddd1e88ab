//! What is typed about cost.

use clap::{Args, Subcommand, ValueEnum};
use portway::base::utc;

#[derive(Debug, Args)]
pub(crate) struct Cost {
    #[command(subcommand)]
    pub(crate) command: CostCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CostCommand {
    /// Say what this node sent to other sites and what it paid for that, by its audit log
    ///
    /// Each byte counts at the price that its link had when it was sent.
    Report {
        /// What a row stands for
        #[arg(long, value_name = "WHAT", default_value = "link")]
        by: CostBy,
        /// Leave out what is older, like 2026-11-27 or 2026-11-27T18:30:00Z
        #[arg(long, value_name = "TIME", value_parser = utc::parse)]
        since: Option<i64>,
        /// How it is written; --json prints events
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: CostFormat,
    },
}

/// What a row of a report stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum CostBy {
    /// A link
    #[default]
    Link,
    /// A dataset
    Dataset,
    /// Whoever asked for the transfer
    Identity,
    /// A month, UTC
    Month,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum CostFormat {
    /// A table for people
    #[default]
    Text,
    /// Comma-separated values, with a line of names
    Csv,
}
