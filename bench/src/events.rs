//! Reads the JSON lines that `portway --json` prints.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::Value;

/// How often a growing file is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Arguments of `field`.
#[derive(Debug, Args)]
pub(crate) struct FieldArgs {
    /// Name of the field
    name: String,
    /// Only lines of this event, such as `summary`
    #[arg(long)]
    event: Option<String>,
}

/// Prints the last value that a field has in the JSON lines of standard input.
pub(crate) fn field(args: &FieldArgs) -> Result<bool> {
    let mut last = None;
    for line in std::io::stdin().lock().split(b'\n') {
        let Ok(value) = serde_json::from_slice::<Value>(&line?) else { continue };
        let wanted = args.event.as_deref().is_none_or(|event| value["event"] == event);
        if let (true, Some(field)) = (wanted, value.get(&args.name)) {
            last = Some(field.clone());
        }
    }
    match &last {
        Some(Value::String(text)) => println!("{text}"),
        Some(value) => println!("{value}"),
        None => {}
    }
    Ok(last.is_some())
}

/// Arguments of `wait-progress`.
#[derive(Debug, Args)]
pub(crate) struct WaitProgressArgs {
    /// File that a command with `--json` writes to
    file: PathBuf,
    /// How much is to have moved, in per cent
    percent: u64,
    /// The command's process id: when it is gone, nothing more will come
    pid: u32,
    /// Longest wait in seconds
    #[arg(long, default_value_t = 60)]
    timeout_s: u64,
}

/// Waits until a running transfer has moved a share of its bytes; false if it ended before.
pub(crate) fn wait_progress(args: &WaitProgressArgs) -> Result<bool> {
    let end = Instant::now() + Duration::from_secs(args.timeout_s);
    loop {
        let gone = !Path::new(&format!("/proc/{}", args.pid)).exists();
        let log = Log::read(&args.file);
        if let Some((done, total)) = log.progress()
            && total > 0
            && done * 100 >= total * args.percent
        {
            println!("{done} {total}");
            return Ok(log.summary().is_none());
        }
        if gone || log.summary().is_some() {
            return Ok(false);
        }
        ensure!(Instant::now() < end, "no progress to {} % in time", args.percent);
        std::thread::sleep(POLL);
    }
}

/// What a command has printed so far.
#[derive(Debug, Default)]
pub(crate) struct Log {
    events: Vec<Value>,
}

impl Log {
    /// Reads a file of JSON lines; lines that are not JSON, a torn last one say, are left out.
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read(path).unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n');
        Self { events: lines.filter_map(|line| serde_json::from_slice(line).ok()).collect() }
    }

    /// The closing event, if the command came so far.
    pub(crate) fn summary(&self) -> Option<&Value> {
        self.events.iter().rfind(|event| event["event"] == "summary")
    }

    /// A number of the closing event.
    pub(crate) fn sum(&self, field: &str) -> Option<u64> {
        self.summary().and_then(|summary| summary[field].as_u64())
    }

    /// Bytes settled (sent, deduplicated or resumed) and bytes in all, by the latest event that
    /// knows both. While the sources are still being listed the total is not known yet.
    pub(crate) fn progress(&self) -> Option<(u64, u64)> {
        self.events.iter().rev().filter(|event| event["scan_done"] != false).find_map(|event| {
            let total = event["bytes_total"].as_u64()?;
            let parts = ["bytes_sent", "bytes_deduplicated", "bytes_resumed"];
            let settled = parts.iter().filter_map(|part| event[part].as_u64()).reduce(|a, b| a + b);
            Some((event["bytes_done"].as_u64().or(settled)?, total))
        })
    }

    /// Content sent so far, by the latest event that says so.
    pub(crate) fn sent(&self) -> Option<u64> {
        self.events.iter().rev().find_map(|event| {
            let rest = || {
                let have = ["bytes_deduplicated", "bytes_resumed"].map(|name| event[name].as_u64());
                let have = have.into_iter().flatten().sum::<u64>();
                Some(event["bytes_done"].as_u64()?.saturating_sub(have))
            };
            event["bytes_sent"].as_u64().or_else(rest)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> Log {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Log::read(file.path())
    }

    #[test]
    fn the_latest_progress_counts_and_a_torn_line_does_not() {
        let log = log("words\n{\"event\":\"progress\",\"bytes_done\":5,\"bytes_total\":10}\n\
                       {\"event\":\"progress\",\"bytes_done\":7,\"bytes_resumed\":3,\"bytes_total\":10}\n\
                       {\"event\":\"progress\",\"bytes_do");
        assert_eq!(log.progress(), Some((7, 10)));
        assert_eq!(log.sent(), Some(4));
        assert!(log.summary().is_none());
    }

    #[test]
    fn a_total_that_still_grows_is_none() {
        let log = log("{\"bytes_done\":5,\"bytes_total\":6,\"scan_done\":false}\n");
        assert_eq!(log.progress(), None);
    }

    #[test]
    fn a_summary_is_also_progress() {
        let log = log("{\"event\":\"summary\",\"bytes_total\":9,\"bytes_sent\":4,\
                       \"bytes_deduplicated\":3,\"bytes_resumed\":2}\n");
        assert_eq!(log.progress(), Some((9, 9)));
        assert_eq!(log.sum("bytes_sent"), Some(4));
    }
}
