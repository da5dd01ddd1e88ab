//! `portway status`.

use std::fmt::Write;

use portway::api::{Error, Exit};
use portway::base::{human, utc};
use portway::metrics::{NodeStatus, Phase, Snapshot};

use crate::args::OneNode;
use crate::facade::address;
use crate::out::event::Event;
use crate::out::progress::Meter;
use crate::out::text::progress;
use crate::setup::Context;

pub(super) async fn run(context: &Context<'_>, args: &OneNode) -> Result<Exit, Error> {
    let config = context.config()?;
    let node = args.node.as_deref().map(|text| address::node(text, &config)).transpose()?;
    let status = context.engine(&config)?.status(node).await?;
    context.out.event(&Event::Status(&status));
    context.out.text(&text(&status));
    Ok(Exit::Done)
}

pub(super) fn text(status: &NodeStatus) -> String {
    let mut text = format!(
        "{}: portway {}, up {}, {} chunks in the index, {} of {} leases out, {} free",
        status.node,
        status.version,
        human::seconds(status.uptime_ms as f64 / 1e3),
        human::count(status.index_chunks),
        status.leases_out.0,
        status.leases_out.1,
        human::bytes(status.disk_free_bytes)
    );
    if status.valid_until_s > 0 {
        let until = utc::text(i64::try_from(status.valid_until_s).unwrap_or(i64::MAX));
        let _ =
            write!(text, "\ncertificate valid until {until}, roles of version {}", status.roles);
    }
    for problem in &status.problems {
        let _ = write!(text, "\nwarning: {}", human::escaped(problem.as_bytes()));
    }
    if status.running.is_empty() {
        text.push_str("\nno transfer is running");
    }
    for one in &status.running {
        // From the beginning on, for want of an earlier snapshot.
        let mut meter = Meter::default();
        meter.add(&Snapshot {
            elapsed_ms: 0,
            bytes_sent: 0,
            bytes_deduplicated: 0,
            bytes_resumed: 0,
            ..one.clone()
        });
        meter.add(one);
        let _ =
            write!(text, "\nrunning  {}\n         {}", heading(one), progress(one, &meter, false));
        rails(&mut text, one);
    }
    for (one, how) in &status.recent {
        let _ = write!(
            text,
            "\nended    {}\n         {how}: {}, {} in {}",
            heading(one),
            human::files(one.files_done),
            human::bytes(one.bytes_done()),
            human::seconds(one.elapsed_ms as f64 / 1e3)
        );
        rails(&mut text, one);
    }
    text
}

/// A line for each rail of a transfer. State and rate of one that ended say nothing any more.
fn rails(text: &mut String, one: &Snapshot) {
    for rail in &one.rails {
        let name = human::escaped(rail.name.as_bytes());
        let _ = write!(text, "\n         rail {name}");
        if one.phase != Phase::Ended {
            let rate = human::rate(rail.rate_mbps as f64 * 1e6 / 8.0);
            let _ = write!(text, "  {}  {rate}", rail.state.as_str());
        }
        let _ = write!(text, "  {}", human::bytes(rail.bytes));
        for (count, noun) in [(rail.messages, "message"), (rail.errors, "error")] {
            let more = if count == 1 { "" } else { "s" };
            if count > 0 {
                let _ = write!(text, "  {} {noun}{more}", human::count(count));
            }
        }
        if !rail.why.is_empty() {
            let _ = write!(text, ": {}", human::escaped(rail.why.as_bytes()));
        }
    }
}

fn heading(one: &Snapshot) -> String {
    format!("{} {} {} ({})", one.action, one.peer, one.path, one.transfer_id)
}
