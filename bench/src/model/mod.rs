//! The sizing model: from a workload and the links on offer to what to order, and why.

mod arrivals;
mod calendar;
mod measured;
mod need;
mod path;
mod plan;
mod price;
mod reason;
mod replay;
mod sample;
mod share;
mod text;
pub(crate) mod unit;
mod workload;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::path::Engine;
use self::plan::Plan;
use self::workload::{Flow, Workload};
use crate::result::{Document, Kind};

pub(crate) use self::calendar::DAYS;
pub(crate) use self::replay::{ReplayArgs, run as replay};
pub(crate) use self::text::{hours, wrapped};

/// Arguments of `size`.
#[derive(Debug, Args)]
pub(crate) struct SizeArgs {
    /// The workload: what moves, and the links on offer (`docs/sizing.md`)
    workload: PathBuf,
    /// A result of `portway-bench local` on a node: its stages and disks are limits too
    #[arg(long, value_name = "RESULT.json")]
    measured: Option<PathBuf>,
    /// A typical checkpoint or data set: what is new in it, and how small that gets, is taken for
    /// flows with `changed` or `encoded` = "measured"
    #[arg(long, value_name = "DIR")]
    sample: Option<PathBuf>,
    /// What the receiver has before the sample comes: the checkpoint before it
    #[arg(long, value_name = "DIR", requires = "sample")]
    base: Option<PathBuf>,
    /// Print a result for `report` instead of text
    #[arg(long)]
    json: bool,
}

/// Works out and prints the plan; false if no option is enough for all months.
pub(crate) fn run(args: &SizeArgs) -> Result<bool> {
    let shown = args.workload.display();
    let text = std::fs::read_to_string(&args.workload).with_context(|| format!("read {shown}"))?;
    let mut workload = Workload::parse(&text).with_context(|| format!("{shown}"))?;
    let mut engine = Engine::default();
    if let Some(path) = &args.measured {
        let document = Document::read(path)?;
        measured::apply(&document, &mut workload.node, &mut engine)
            .with_context(|| format!("{}", path.display()))?;
    }
    let found = match &args.sample {
        Some(sample) => Some(sample::measure(sample, args.base.as_deref())?.apply(&mut workload)?),
        None => None,
    };
    ensure!(
        found.is_some() || !workload.flows.iter().any(Flow::is_measured),
        "{shown}: a flow has `changed` or `encoded` = \"measured\": give --sample DIR"
    );
    let plan = Plan::make(&workload, engine).with_context(|| format!("{shown}"))?;
    let mut reasons = reason::sentences(&plan);
    reasons.extend(found);
    if args.json {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        print!("{}", Document::new(Kind::Size, now, reasons, text::rows(&plan)).to_json()?);
    } else {
        print!("{}", text::page(&plan, &reasons));
    }
    let advised = plan.advised.map(|number| &plan.options[number]);
    Ok(advised.is_some_and(|option| option.total(workload.months).is_some()))
}

#[cfg(test)]
mod tests;
