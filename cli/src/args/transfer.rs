//! What is typed about transfers.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use portway::base::{Rate, utc};
use portway::cost::Money;

/// Which transport content takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// RDMA where both nodes are of one private site and have it, else QUIC
    #[default]
    Auto,
    /// RDMA, or an error that says why not
    Rdma,
    /// QUIC
    Quic,
}

/// Whether content is made smaller on its way
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compress {
    /// Where processors are idle and the link is what is waited for
    Auto,
    /// Whatever can be made smaller
    Always,
    /// Nothing
    Never,
}

/// How soon a transfer is needed
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Priority {
    /// Somebody waits for it
    #[default]
    Interactive,
    /// A job will need it soon
    Staging,
    /// Whenever there is room
    Bulk,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct TransferFlags {
    /// Read and compare content even where size and times say that nothing changed
    #[arg(long)]
    pub(crate) checksum: bool,
    /// How content travels
    #[arg(long, value_name = "TRANSPORT", default_value = "auto")]
    pub(crate) transport: Transport,
    /// Whether content is made smaller on its way [default: transfer.compress]
    #[arg(long, value_name = "WHEN")]
    pub(crate) compress: Option<Compress>,
    /// Send no more than this, like 200Mb/s (megabits) or 25MB/s (megabytes), headers included
    #[arg(long, value_name = "RATE")]
    pub(crate) limit: Option<Rate>,
    /// Stop, resumably, before the transfer costs more, all its sessions together, in cost.currency
    ///
    /// A push counts what it sends, a pull what it receives, by the price of the link in portway.toml
    /// of this home.
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) max_cost: Option<Money>,
    /// Take this link of portway.toml [default: the cheapest with an address of the node]
    #[arg(long, value_name = "LINK")]
    pub(crate) link: Option<String>,
    /// Give up reconnecting after this long [default: retry.max_s]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) retry: Option<u64>,
    /// How soon it is needed: transfers of a lower priority leave links and processors to others
    #[arg(long, value_name = "PRIORITY", default_value = "interactive")]
    pub(crate) priority: Priority,
    /// Refuse at once what cannot be there in time, like 6h, 30m or 2026-12-31T06:00:00Z
    ///
    /// Of several links with an address of the node, the cheapest is taken that can.
    #[arg(long, value_name = "WHEN", value_parser = deadline)]
    pub(crate) deadline: Option<Deadline>,
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Files and directories of this machine
    #[arg(value_name = "SOURCE", required = true)]
    pub(crate) sources: Vec<OsString>,
    /// Where they go
    #[arg(value_name = "NODE:PATH")]
    pub(crate) target: OsString,
    #[command(flatten)]
    pub(crate) flags: TransferFlags,
    /// All or nothing: publish nothing if any object cannot be moved
    #[arg(long)]
    pub(crate) whole: bool,
    /// PATH is one of N parts of the snapshot that is the directory around it, which appears with the last
    ///
    /// Each part has a writer and a name of its own, and is all or nothing. Nobody sees one before all are
    /// there. What no other part joins for a week is removed.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) parts: Option<u32>,
    /// Name of this attempt to save it: parts of other attempts do not count
    #[arg(
        long,
        value_name = "NAME",
        requires = "parts",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) attempt: String,
    /// An earlier version of SOURCE, which the node may have beside PATH under the same name
    ///
    /// Where both have it, and content is made smaller, it goes as differences to it. [default: the step
    /// before, beside SOURCE, if PATH is called as SOURCE is]
    #[arg(long, value_name = "EARLIER")]
    pub(crate) basis: Option<PathBuf>,
    /// Afterwards keep the N checkpoints of the highest steps beside the target, remove older ones
    ///
    /// The step is the last number of a name up to its first dot. Only what this node has pushed is
    /// removed, and never what has no number or is being read.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep: Option<u32>,
    /// Keep as well every checkpoint whose step is a multiple of this
    #[arg(long, value_name = "STEPS", requires = "keep", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keep_every: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// What to fetch
    #[arg(value_name = "NODE:PATH")]
    pub(crate) source: OsString,
    /// Where it goes on this machine
    #[arg(value_name = "TARGET")]
    pub(crate) target: OsString,
    #[command(flatten)]
    pub(crate) flags: TransferFlags,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// Files and directories of this machine
    #[arg(value_name = "SOURCE", required = true)]
    pub(crate) sources: Vec<OsString>,
    /// Where they would go
    #[arg(value_name = "NODE:PATH")]
    pub(crate) target: OsString,
    /// Read content even where size and times say that nothing changed
    #[arg(long)]
    pub(crate) checksum: bool,
    /// How content would travel
    #[arg(long, value_name = "TRANSPORT", default_value = "auto")]
    pub(crate) transport: Transport,
    /// Whether content would be made smaller on its way [default: transfer.compress]
    #[arg(long, value_name = "WHEN")]
    pub(crate) compress: Option<Compress>,
    /// Ask over this link of portway.toml [default: the cheapest with an address of the node]
    #[arg(long, value_name = "LINK")]
    pub(crate) link: Option<String>,
}

/// When something has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// So many seconds from now on.
    In(i64),
    /// At this time, in seconds since 1970.
    At(i64),
}

fn deadline(text: &str) -> Result<Deadline, &'static str> {
    let told = "a deadline is 6h, 30m, 90s, 2d or 2026-12-31T23:59:59Z, in UTC";
    if let Ok(at) = utc::parse(text) {
        return Ok(Deadline::At(at));
    }
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let (number, unit) = units
        .iter()
        .find_map(|(letter, seconds)| Some((text.strip_suffix(*letter)?, seconds)))
        .ok_or(told)?;
    let number: u32 = number.parse().map_err(|_| told)?;
    Ok(Deadline::In(i64::from(number) * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_a_time_or_how_long_from_now() {
        assert_eq!(deadline("6h"), Ok(Deadline::In(6 * 3600)));
        assert_eq!(deadline("90s"), Ok(Deadline::In(90)));
        assert_eq!(deadline("1970-01-02"), Ok(Deadline::At(86_400)));
        for bad in ["", "h", "6", "6 h", "-1h", "6w", "2026-13-01", "\u{661}h"] {
            assert!(deadline(bad).is_err(), "{bad:?}");
        }
    }
}
