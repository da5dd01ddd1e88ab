//! `portway label`.

use portway::api::{Error, Exit};
use portway::base::human;

use crate::args::Label;
use crate::out::event::Event;
use crate::setup::{Context, shown};

pub(super) fn run(context: &Context<'_>, args: &Label) -> Result<Exit, Error> {
    let engine = context.engine(&context.config()?)?;
    let place = shown(&args.path);
    match &args.class {
        None => {
            let class = engine.class_of(&args.path)?;
            context.out.text(&format!("{place}  {class}"));
            context.out.event(&Event::Label { path: &place, class: class.as_str(), labelled: 0 });
        }
        Some(class) => {
            let labelled = engine.raise_class(&args.path, class)?;
            context.out.event(&Event::Label { path: &place, class: class.as_str(), labelled });
            let count = human::count(labelled);
            context.out.report(&format!("{place} is {class}: {count} got the label"));
        }
    }
    Ok(Exit::Done)
}
