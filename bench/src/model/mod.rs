//! The sizing model: from a workload and the links on offer to what to order, and why.

mod arrivals;
mod calendar;
mod need;
mod path;
mod plan;
mod price;
mod reason;
mod share;
mod text;
mod unit;
mod workload;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;

use self::path::Engine;
use self::plan::Plan;
use self::workload::Workload;
use crate::result::{Document, Kind};

pub(crate) use self::text::{hours, wrapped};

/// Arguments of `size`.
#[derive(Debug, Args)]
pub(crate) struct SizeArgs {
    /// The workload: what moves, and the links on offer (`docs/sizing.md`)
    workload: PathBuf,
    /// Print a result for `report` instead of text
    #[arg(long)]
    json: bool,
}

/// Works out and prints the plan; false if no option is enough for all months.
pub(crate) fn run(args: &SizeArgs) -> Result<bool> {
    let shown = args.workload.display();
    let text = std::fs::read_to_string(&args.workload).with_context(|| format!("read {shown}"))?;
    let workload = Workload::parse(&text).with_context(|| format!("{shown}"))?;
    let plan = Plan::make(&workload, Engine::default()).with_context(|| format!("{shown}"))?;
    if args.json {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let (notes, rows) = (reason::sentences(&plan), text::rows(&plan));
        print!("{}", Document::new(Kind::Size, now, notes, rows).to_json()?);
    } else {
        print!("{}", text::page(&plan));
    }
    let advised = plan.advised.map(|number| &plan.options[number]);
    Ok(advised.is_some_and(|option| option.total(workload.months).is_some()))
}

#[cfg(test)]
mod tests;
