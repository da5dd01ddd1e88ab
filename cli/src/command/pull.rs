//! `portway pull`.

use portway::api::{Error, Exit};

use super::follow;
use crate::args::Pull;
use crate::facade::address;
use crate::out::event::Event;
use crate::setup::{Context, options, shown};

pub(super) async fn run(context: &Context<'_>, args: &Pull) -> Result<Exit, Error> {
    let config = context.config()?;
    let source = address::remote(&args.source, &config)?;
    let target = address::local(&args.target)?;
    let place = shown(&target);
    let engine = context.engine(&config)?;
    context.out.event(&Event::Start {
        action: "pull",
        sources: vec![source.to_string()],
        target: place.clone(),
    });
    let transfer = engine.pull(source, target, options(&args.flags));
    Box::pin(follow(context.out, transfer, "pulled", &format!("to {place}"))).await
}
