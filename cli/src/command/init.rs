//! `portway init`.

use portway::api::{Error, Exit};

use crate::args::Member;
use crate::facade::Engine;
use crate::out::event::Event;
use crate::setup::{Context, shown};

pub(super) fn run(context: &Context<'_>, args: Member) -> Result<Exit, Error> {
    let Member { name, site, tier } = args;
    let identity = Engine::init(&context.home, name.clone(), site.clone(), tier)?;
    context.out.event(&Event::Initialised {
        node: name.as_str(),
        site: site.as_str(),
        tier: &tier.to_string(),
        identity: &identity,
    });
    let dir = shown(context.home.config_dir());
    context.out.report(&format!("{name} of site {site} ({tier}) is {identity}, kept in {dir}"));
    context.out.note("next: portway serve --root DIR, then portway invite for each further node");
    Ok(Exit::Done)
}
