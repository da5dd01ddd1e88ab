//! `portway verify`.

use std::fmt::Write;

use portway::api::{Error, Exit, VerifyReport};
use portway::base::human;

use crate::args::Verify;
use crate::facade::address::{self, Place};
use crate::out::event::Event;
use crate::setup::{Context, shown};

pub(super) async fn run(context: &Context<'_>, args: &Verify) -> Result<Exit, Error> {
    let config = context.config()?;
    let place = address::place(&args.path, &config)?;
    let engine = context.engine(&config)?;
    let (name, report) = match place {
        Place::Local(path) => (shown(&path), engine.verify_local(path).await?),
        Place::Remote(path) => (path.to_string(), engine.verify_remote(path).await?),
    };
    context.out.event(&Event::Verified(&report));
    context.out.report(&text(&name, &report));
    if report.bad_total == 0 {
        return Ok(Exit::Done);
    }
    let count = human::count(report.bad_total);
    let message = format!("{name}: {count} of its objects differ from the manifest");
    Err(Error::new("verify-mismatch", Exit::Failed, message)
        .hint("send the snapshot again: what is intact does not move"))
}

pub(super) fn text(name: &str, report: &VerifyReport) -> String {
    let verdict = if report.bad_total == 0 { "is intact" } else { "is DAMAGED" };
    let mut text = format!(
        "{name} {verdict}: {}, {} read in {} ({})\n  root         {}",
        human::files(report.files),
        human::bytes(report.bytes),
        human::seconds(report.elapsed_s),
        human::rate(report.bytes as f64 / report.elapsed_s.max(1e-3)),
        report.root
    );
    for (path, how) in &report.bad {
        let _ = write!(text, "\n  differs      {path}: {how}");
    }
    let more = report.bad_total.saturating_sub(report.bad.len() as u64);
    if more > 0 {
        let _ = write!(text, "\n  differs      and {} more", human::count(more));
    }
    text
}
