//! `portway invite`.

use portway::api::{Error, Exit};

use crate::args::Member;
use crate::out::event::Event;
use crate::setup::Context;

pub(super) async fn run(context: &Context<'_>, args: Member) -> Result<Exit, Error> {
    let Member { name, site, tier } = args;
    let engine = context.engine(&context.config()?)?;
    let token = engine.invite(name.clone(), site.clone(), tier).await?;
    context.out.event(&Event::Invitation {
        name: name.as_str(),
        site: site.as_str(),
        tier: &tier.to_string(),
        token: &token,
    });
    context.out.text(&token);
    context.out.note(&format!(
        "admits {name} once, within an hour; on the new machine: portway join TOKEN"
    ));
    Ok(Exit::Done)
}
