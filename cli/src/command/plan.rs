//! `portway plan`.

use std::fmt::Write;

use portway::api::{self, Error, Exit, TransferOptions};
use portway::base::human;

use crate::args::Plan;
use crate::facade::address;
use crate::out::event::Event;
use crate::setup::{Context, choice, sources};

pub(super) async fn run(context: &Context<'_>, args: &Plan) -> Result<Exit, Error> {
    let config = context.config()?;
    let target = address::remote(&args.target, &config)?;
    let sources = sources(&args.sources)?;
    let place = target.to_string();
    let engine = context.engine(&config)?;
    let options = TransferOptions {
        checksum: args.checksum,
        dry_run: true,
        transport: choice(args.transport),
        ..TransferOptions::default()
    };
    let plan = engine.plan(sources, target, options).await?;
    context.out.event(&Event::Plan(&plan));
    context.out.text(&text(&place, &plan));
    if plan.free_bytes < plan.bytes_to_send {
        context.out.warning(&format!(
            "{place} has {} free, less than what would be sent",
            human::bytes(plan.free_bytes)
        ));
    }
    Ok(Exit::Done)
}

pub(super) fn text(place: &str, plan: &api::Plan) -> String {
    let mut text = format!(
        "{} of {} would move to {place}\n",
        human::count(plan.files_to_move),
        human::files(plan.files)
    );
    let rows = [
        ("would send", plan.bytes_to_send),
        ("deduplicated", plan.bytes_deduplicated),
        ("resumed", plan.bytes_resumed),
        ("total", plan.bytes_total),
        ("free there", plan.free_bytes),
    ];
    for (name, bytes) in rows {
        let _ = writeln!(text, "  {name:<12} {:>9}", human::bytes(bytes));
    }
    let time = plan.estimate_s.map_or_else(
        || "not known".to_owned(),
        |s| match s {
            ..1.0 => "less than a second".to_owned(),
            s => format!("about {}", human::seconds(s)),
        },
    );
    let _ = writeln!(text, "  {:<12} {time}: {}", "time", plan.estimate_basis);
    let _ = write!(text, "  {:<12} {}: {}", "transport", plan.transport, plan.transport_reason);
    text
}
