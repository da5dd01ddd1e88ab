//! `portway label`.

use portway::api::{Error, Exit};
use portway::base::{Class, TransferId, human};

use crate::args::Label;
use crate::facade::{Engine, address};
use crate::out::event::Event;
use crate::setup::{Context, shown};

pub(super) async fn run(context: &Context<'_>, args: &Label) -> Result<Exit, Error> {
    let config = context.config()?;
    if let Some(class) = &args.class {
        known(class, config.classes.order())?;
    }
    let engine = context.engine(&config)?;
    match (&args.class, args.approve, &args.at) {
        (Some(class), Some(id), Some(node)) => {
            approve(context, &engine, args, (class, id, node)).await
        }
        (Some(class), ..) if args.lower => propose(context, &engine, args, class),
        (Some(class), ..) => {
            let labelled = engine.raise_class(&args.path, class).map_err(hinted)?;
            told(context, args, class, labelled);
            Ok(Exit::Done)
        }
        (None, ..) => {
            let (place, class) = (shown(&args.path), engine.class_of(&args.path).map_err(hinted)?);
            context.out.text(&format!("{place}  {class}"));
            context.out.event(&Event::Label { path: &place, class: class.as_str(), labelled: 0 });
            Ok(Exit::Done)
        }
    }
}

/// Refuses what is no class of this home.
fn known(class: &Class, order: &[Class]) -> Result<(), Error> {
    if order.contains(class) {
        return Ok(());
    }
    let all: Vec<_> = order.iter().map(Class::as_str).collect();
    Err(Error::new("class", Exit::Usage, format!("{class} is no class of this home"))
        .hint(format!("the classes, the lowest first, are {}", all.join(", "))))
}

/// What to do about a path that cannot be read; the engine says only why.
fn hinted(error: Error) -> Error {
    if error.hint.is_empty() {
        error.hint("name a file or directory of this machine that you may read")
    } else {
        error
    }
}

fn told(context: &Context<'_>, args: &Label, class: &Class, labelled: u64) {
    let place = shown(&args.path);
    context.out.event(&Event::Label { path: &place, class: class.as_str(), labelled });
    let count = human::count(labelled);
    context.out.report(&format!("{place} is {class}: {count} got the label"));
}

fn propose(
    context: &Context<'_>,
    engine: &Engine,
    args: &Label,
    class: &Class,
) -> Result<Exit, Error> {
    let id = engine.propose_lowering(&args.path, class).map_err(hinted)?;
    // The other identity names it as this node does.
    let path = std::fs::canonicalize(&args.path).unwrap_or_else(|_| args.path.clone());
    let (id, place) = (id.to_string(), shown(&path));
    let node = engine.identity()?.id().node.clone();
    context.out.event(&Event::Proposal { id: &id, path: &place, class: class.as_str() });
    context.out.text(&id);
    context.out.note(&format!(
        "nothing is lowered yet: within a day another identity, a steward like this one, says \
         portway label {place} --class {class} --approve {id} --at {node}"
    ));
    Ok(Exit::Done)
}

async fn approve(
    context: &Context<'_>,
    engine: &Engine,
    args: &Label,
    (class, id, node): (&Class, TransferId, &str),
) -> Result<Exit, Error> {
    let node = address::node(node, &context.config()?)?;
    let lowered = engine.approve_lowering(&node, id, (&args.path, class)).await?;
    told(context, args, class, lowered.labelled);
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_class_is_a_usage_error_that_tells_the_classes() {
        let order = ["public", "secret"].map(|name| name.parse::<Class>().unwrap());
        assert!(known(&order[1], &order).is_ok());
        let error = known(&"bogus".parse().unwrap(), &order).unwrap_err();
        assert_eq!((error.code, error.exit), ("class", Exit::Usage));
        assert!(error.hint.ends_with("public, secret"), "{}", error.hint);
    }

    #[test]
    fn an_error_about_a_path_has_a_hint_and_keeps_the_one_that_it_has() {
        let bare = Error::new("source", Exit::Failed, "cannot read /nope");
        assert!(hinted(bare.clone()).hint.contains("name a file"));
        assert_eq!(hinted(bare.hint("wait")).hint, "wait");
    }
}
