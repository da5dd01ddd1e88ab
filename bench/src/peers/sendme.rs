//! `sendme`, iroh's blobs: the sender digests everything, prints a ticket, and the receiver pulls.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::mover::{Bench, Mover, spawn};
use super::{Meter, Sample, Work};
use crate::nodes::{self, Running};
use crate::system;

/// How long the sender may digest.
const TICKET_TIMEOUT: Duration = Duration::from_mins(10);

/// Nobody's relay, no clipboard, nothing drawn.
const QUIET: [&str; 3] = ["--relay", "disabled", "--no-progress"];

impl Bench {
    /// Moves a tree to the directory of its name below the target. The time begins with the
    /// sender, as others digest while they send.
    pub(super) fn sendme(&self, work: &Work) -> Result<Sample> {
        let place = self.run.join("sendme");
        nodes::remove(&place)?;
        std::fs::create_dir_all(&place)?;
        let (sent, received) = (place.join("send.log"), place.join("receive.log"));
        let mut meter = Meter::begin((Mover::Sendme, work), None, &self.target)?;
        // Both keep what they need in the directory in which they run.
        let mut send = Command::new(&self.programs.sendme);
        send.current_dir(&place).arg("send").args(QUIET).args(["--ticket-type", "addresses"]);
        let mut sender = spawn(send.arg(&work.source), &sent)?;
        meter.server(sender.pid());
        let ticket = wait_ticket(&mut sender, &sent)?;
        let mut receive = Command::new(&self.programs.sendme);
        receive.current_dir(&self.target).arg("receive").args(QUIET).arg(ticket);
        meter.watch(spawn(&mut receive, &received)?).with_context(|| nodes::tail(&received))
    }
}

/// Waits until the sender has printed its ticket.
fn wait_ticket(sender: &mut Running, log: &Path) -> Result<String> {
    let (mut found, mut ended) = (None, None);
    system::wait_until(TICKET_TIMEOUT, || {
        ended = sender.poll();
        found = ticket(&std::fs::read_to_string(log).unwrap_or_default()).map(str::to_owned);
        found.is_some() || ended.is_some()
    });
    if let Some(status) = ended {
        bail!("sendme send ended with {status}: {}", nodes::tail(log));
    }
    ensure!(found.is_some(), "sendme printed no ticket: {}", nodes::tail(log));
    found.context("no ticket")
}

/// The ticket in what the sender has printed so far, once all of it is there.
fn ticket(printed: &str) -> Option<&str> {
    let rest = printed.split_once("sendme receive ")?.1;
    let end = rest.find(char::is_whitespace)?;
    Some(&rest[..end]).filter(|ticket| !ticket.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_taken_from_what_is_printed_once_it_is_whole() {
        let printed = "imported directory /data/set, 3 files, hash b7\n\
                       to get this data, use\nsendme receive blobaaf3\n";
        assert_eq!(ticket(printed), Some("blobaaf3"));
        assert_eq!(ticket(printed.trim_end()), None);
        assert_eq!(ticket("to get this data, use\nsendme rec"), None);
        assert_eq!(ticket(""), None);
    }
}
