//! What is typed about labels and the audit log.

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use clap::{Args, Subcommand, ValueEnum};
use portway::base::{Class, NodeName, TransferId, utc};

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
    Verify {
        /// Ask this node for its part too: compare both logs to the byte, and each with what the other
        /// end saw of it
        #[arg(long, value_name = "NODE")]
        peer: Option<NodeName>,
    },
    /// List the records, one in each line, the newest last
    Show {
        #[command(flatten)]
        which: AuditWhich,
    },
    /// Write the records to standard output for programs, one in each line
    Export {
        /// How
        #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
        format: AuditFormat,
        #[command(flatten)]
        which: AuditWhich,
    },
}

/// Which records.
#[derive(Debug, Args)]
pub(crate) struct AuditWhich {
    /// Only what is about transfers with this node, and its witnesses
    #[arg(long, value_name = "NODE")]
    pub(crate) peer: Option<NodeName>,
    /// Leave out what is older: 2026-11-27, 2026-11-27T18:30:00Z, or as long ago as 30m, 2h or 3d
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<i64>,
    /// Only this transfer
    #[arg(long, value_name = "ID")]
    pub(crate) transfer: Option<TransferId>,
}

/// A time, or how long ago it is.
fn since(text: &str) -> Result<i64, String> {
    let now = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    ago(text, i64::try_from(now).unwrap_or(i64::MAX)).map_or_else(
        || {
            utc::parse(text)
                .map_err(|error| format!("{error}; or how long ago, like 30m, 2h or 3d"))
        },
        Ok,
    )
}

/// The time that was so long before `now`.
fn ago(text: &str, now: i64) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 = number.parse().ok().filter(|_| digits)?;
    Some(now - number.checked_mul(unit)?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_be_told_by_how_long_ago_it_is() {
        assert_eq!(ago("90s", 1000), Some(910));
        assert_eq!(ago("2h", 10_000), Some(2800));
        assert_eq!(ago("3d", 300_000), Some(40_800));
        for text in ["", "h", "-1h", "+1h", "1.5h", "3 d", "2w", "99999999999999999999d"] {
            assert_eq!(ago(text, 1000), None, "{text:?}");
        }
        assert_eq!(since("1970-01-02"), Ok(86_400));
        assert!(since("yesterday").unwrap_err().contains("30m"));
    }
}
