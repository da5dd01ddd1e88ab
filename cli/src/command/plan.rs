//! `portway plan`.

use std::fmt::Write;

use portway::api::{self, Error, Exit, LinkPlan, TransferOptions};
use portway::base::{human, utc};

use crate::args::Plan;
use crate::facade::address;
use crate::out::event::Event;
use crate::setup::{Context, choice, compress, sources};

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
        compress: args.compress.map(compress),
        link: args.link.clone(),
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
        ("on the wire", plan.bytes_wire),
        ("deduplicated", plan.bytes_deduplicated),
        ("resumed", plan.bytes_resumed),
        ("total", plan.bytes_total),
        ("free there", plan.free_bytes),
    ];
    for (name, bytes) in rows {
        let _ = writeln!(text, "  {name:<12} {:>9}", human::bytes(bytes));
    }
    let took = plan.estimate_s;
    let _ = writeln!(text, "  {:<12} {}: {}", "time", time(took), plan.estimate_basis);
    let _ = writeln!(text, "  {:<12} {}: {}", "transport", plan.transport, plan.transport_reason);
    let _ =
        write!(text, "  {:<12} granted for class {}: {}", "decision", plan.class, plan.decision);
    for link in &plan.links {
        let _ = write!(text, "\n  {:<12} {}", "link", link_text(link));
    }
    text
}

fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "not known".to_owned(),
        Some(..1.0) => "less than a second".to_owned(),
        Some(s) => format!("about {}", human::seconds(s)),
    }
}

/// `wan (taken): 12.3 MB on the wire, about 1.20 s, 0.04 USD`
fn link_text(link: &LinkPlan) -> String {
    let taken = if link.taken { " (taken)" } else { "" };
    let price = match (link.price, link.billing.as_deref()) {
        (None, _) => "no price is known".to_owned(),
        (Some(_), Some(billing @ ("flat" | "p95"))) => {
            format!("no price for bytes ({billing} billing)")
        }
        (Some(price), _) => format!("{price} {}", link.currency),
    };
    let mut text = format!(
        "{}{taken}: {} on the wire, {}, {price}",
        link.name,
        human::bytes(link.bytes_wire),
        time(link.estimate_s)
    );
    if let Some(hours) = &link.hours {
        let done = link.done_s.map_or_else(String::new, |at| format!(", done {}", utc::text(at)));
        let _ = write!(text, "; open {hours} UTC{done}");
    }
    text
}
