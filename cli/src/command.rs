//! One file per command.

mod audit;
mod completions;
mod config;
mod cost;
mod doctor;
mod grant;
mod init;
mod invite;
mod join;
mod label;
mod limit;
mod ls;
mod nodes;
mod plan;
mod policy;
mod pull;
mod push;
mod serve;
mod status;
mod verify;
mod version;
mod watch;

use std::future::Future;

use portway::api::{Error, Exit, Outcome};

use crate::args::{Cli, Command};
use crate::facade::Transfer;
use crate::out::event::Event;
use crate::out::watch::watch;
use crate::out::{Out, text};
use crate::setup::Context;
use crate::signals::interrupts;

/// Does what was typed.
pub(crate) async fn run(cli: Cli, out: &Out) -> Result<Exit, Error> {
    match &cli.command {
        Command::Completions(args) => return completions::run(args, out),
        Command::Version => return Ok(version::run(out)),
        _ => {}
    }
    let context = Context::new(&cli.global, out)?;
    match cli.command {
        Command::Init(args) => init::run(&context, args),
        Command::Invite(args) => invite::run(&context, args).await,
        Command::Join(args) => join::run(&context, args).await,
        Command::Serve(args) => serve::run(&context, args).await,
        Command::Push(args) => push::run(&context, &args).await,
        Command::Pull(args) => pull::run(&context, &args).await,
        Command::Ls(args) => ls::run(&context, &args).await,
        Command::Watch(args) => watch::run(&context, &args).await,
        Command::Plan(args) => plan::run(&context, &args).await,
        Command::Verify(args) => verify::run(&context, &args).await,
        Command::Status(args) => status::run(&context, &args).await,
        Command::Doctor(args) => doctor::run(&context, &args).await,
        Command::Nodes(args) => nodes::run(&context, args),
        Command::Limit(args) => limit::run(&context, args),
        Command::Label(args) => label::run(&context, &args).await,
        Command::Audit(args) => audit::run(&context, args).await,
        Command::Cost(args) => cost::run(&context, &args),
        Command::Policy(args) => policy::run(&context, args),
        Command::Grant(args) => grant::grant(&context, args),
        Command::Revoke(args) => grant::revoke(&context, &args),
        Command::Config(args) => config::run(&context, &args),
        Command::Completions(_) | Command::Version => Ok(Exit::Done),
    }
}

/// Follows a transfer to its end and tells how it ended.
async fn follow(out: &Out, transfer: Transfer, verb: &str, place: &str) -> Result<Exit, Error> {
    let wait = transfer.clone().wait();
    let progress = || transfer.progress();
    let interrupt = || transfer.interrupt();
    let outcome = watched(out, progress, interrupt, wait).await?;
    Ok(report(out, verb, place, &outcome))
}

async fn watched(
    out: &Out,
    progress: impl Fn() -> portway::metrics::Snapshot,
    interrupt: impl Fn(),
    wait: impl Future<Output = Result<Outcome, Error>>,
) -> Result<Outcome, Error> {
    watch(out, progress, interrupt, wait, interrupts()?).await
}

fn report(out: &Out, verb: &str, place: &str, outcome: &Outcome) -> Exit {
    for (path, reason) in &outcome.skipped {
        out.event(&Event::Skipped { path, reason });
    }
    for (path, reason) in &outcome.failed {
        out.event(&Event::ObjectFailed { path, reason });
    }
    out.report(&text::summary(verb, place, outcome));
    for name in &outcome.removed {
        out.event(&Event::Removed { name });
    }
    for (name, reason) in &outcome.kept {
        out.event(&Event::Kept { name, reason });
    }
    if let Some(why) = &outcome.unsigned {
        out.warning(&format!("the content has arrived, and there is no receipt of it: {why}"));
    }
    let failed = outcome.failed_total;
    if failed > 0 {
        let count = portway::base::human::count(failed);
        let were = if failed == 1 { "object was" } else { "objects were" };
        let message = format!("{count} {were} not published; the others were");
        out.error(
            &Error::new("partial", Exit::Partial, message).hint("the same command tries again"),
        );
    }
    // Programs find the summary last, whatever came before.
    out.event(&Event::summary(outcome));
    if failed > 0 { Exit::Partial } else { Exit::Done }
}

#[cfg(test)]
mod tests;
