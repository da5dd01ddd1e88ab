//! `portway nodes`.

use portway::api::{Error, Exit};
use portway::base::SiteName;
use portway::config::{Node, add_node, remove_node};

use crate::args::{Nodes, NodesChange};
use crate::out::event::Event;
use crate::setup::{Context, edit_error};

pub(super) fn run(context: &Context<'_>, args: Nodes) -> Result<Exit, Error> {
    match args.change {
        None => list(context)?,
        Some(NodesChange::Add { name, addresses }) => {
            let known =
                add_node(&context.home, &name, &addresses).map_err(|error| edit_error(&error))?;
            changed(context, name.as_str(), if known { "changed" } else { "added" });
        }
        Some(NodesChange::Remove { name }) => {
            remove_node(&context.home, &name).map_err(|error| edit_error(&error))?;
            changed(context, name.as_str(), "removed");
        }
    }
    Ok(Exit::Done)
}

fn changed(context: &Context<'_>, name: &str, change: &str) {
    context.out.event(&Event::NodesChanged { name, change });
    context.out.report(&format!("{name} was {change}"));
}

fn list(context: &Context<'_>) -> Result<(), Error> {
    let nodes = context.config()?.nodes;
    let width = nodes.keys().map(|name| name.as_str().len()).max().unwrap_or(0);
    for (name, node) in &nodes {
        let site = node.site.as_ref().map(SiteName::as_str);
        let addresses = addresses(node);
        let tail = site.map_or_else(String::new, |site| format!("  {site}"));
        context.out.text(&format!("{:<width$}  {}{tail}", name.as_str(), addresses.join(" ")));
        context.out.event(&Event::Node { name: name.as_str(), addresses, site });
    }
    if nodes.is_empty() {
        context.out.note("no node is known yet: portway nodes add NAME ADDR:PORT");
    }
    Ok(())
}

fn addresses(node: &Node) -> Vec<String> {
    node.addresses.iter().map(ToString::to_string).collect()
}
