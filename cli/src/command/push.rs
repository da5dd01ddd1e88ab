//! `portway push`.

use portway::api::{Error, Exit, Keep, Parts, TransferOptions};

use super::follow;
use crate::args::Push;
use crate::facade::address;
use crate::out::event::Event;
use crate::setup::{Context, options, shown, sources};

pub(super) async fn run(context: &Context<'_>, args: &Push) -> Result<Exit, Error> {
    let config = context.config()?;
    let target = address::remote(&args.target, &config)?;
    let sources = sources(&args.sources)?;
    let place = target.to_string();
    let engine = context.engine(&config)?;
    context.out.event(&Event::Start {
        action: "push",
        sources: sources.iter().map(|path| shown(path)).collect(),
        target: place.clone(),
    });
    let parts = args.parts.map(|count| Parts::new(count, &args.attempt)).transpose();
    let parts = parts.map_err(|e| Error::new("usage", Exit::Usage, e.to_string()))?;
    let keep = args.keep.map(|last| Keep { last, every: args.keep_every });
    let options = TransferOptions {
        whole: args.whole,
        parts,
        keep,
        basis: args.basis.clone(),
        ..options(&args.flags)
    };
    let transfer = engine.push(sources, target, options);
    Box::pin(follow(context.out, transfer, "pushed", &format!("to {place}"))).await
}
