//! `portway watch`.

use std::time::Duration;

use portway::api::{Advice, Checkpoint, Error, Exit};
use portway::base::human;

use crate::args::Watch;
use crate::facade::address;
use crate::out::Out;
use crate::out::event::Event;
use crate::setup::Context;
use crate::signals::interrupts;

pub(super) async fn run(context: &Context<'_>, args: &Watch) -> Result<Exit, Error> {
    let config = context.config()?;
    let dir = address::remote(&args.path, &config)?;
    let (engine, out) = (context.engine(&config)?, context.out);
    let mut newest = engine.latest(&dir, None).await?;
    match &newest {
        Some(found) => tell(out, found),
        None if args.once => {
            let message = format!("nothing in {dir} is complete");
            return Err(Error::new("no-checkpoint", Exit::Failed, message)
                .hint("only what was pushed as a whole counts; `portway ls` shows what is there"));
        }
        None => out.note(&format!("nothing in {dir} is complete yet")),
    }
    if args.once {
        return Ok(Exit::Done);
    }
    let mut interrupts = interrupts()?;
    loop {
        tokio::select! {
            _ = interrupts.recv() => return Ok(Exit::Done),
            () = tokio::time::sleep(Duration::from_secs(args.interval)) => {}
        }
        match engine.latest(&dir, newest.as_ref()).await {
            Ok(Some(found)) => {
                tell(out, &found);
                newest = Some(found);
            }
            Ok(None) => {}
            // The node may be on its way back.
            Err(error) if matches!(error.advice(), Advice::Retry | Advice::Resume) => {
                out.warning(&error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
}

fn tell(out: &Out, found: &Checkpoint) {
    let Checkpoint { remote, step, root, files, bytes } = found;
    let path = remote.to_string();
    out.text(&format!("{path}  {}  {}", human::files(*files), human::bytes(*bytes)));
    out.event(&Event::Checkpoint { path, step: *step, root, files: *files, bytes: *bytes });
}
