//! `portway invite`.

use portway::api::{Error, Exit};
use portway::identity::SpiffeId;
use portway::policy::Kind;

use crate::args::Invite;
use crate::out::event::Event;
use crate::setup::Context;

pub(super) async fn run(context: &Context<'_>, args: Invite) -> Result<Exit, Error> {
    let Invite { name, workload, site, tier } = args;
    let engine = context.engine(&context.config()?)?;
    let (name, kind) = match (name, workload) {
        (Some(name), _) => (name, "node"),
        (None, Some(name)) => (name, "workload"),
        (None, None) => {
            let message = "an invitation is for a node or for a workload";
            return Err(Error::new("usage", Exit::Usage, message).hint("give --name or --workload"));
        }
    };
    let token = if kind == "node" {
        engine.invite(name.clone(), site.clone(), tier).await?
    } else {
        engine.invite_workload(name.clone(), site.clone(), tier).await?
    };
    context.out.event(&Event::Invitation {
        name: name.as_str(),
        kind,
        site: site.as_str(),
        tier: &tier.to_string(),
        token: &token,
    });
    context.out.text(&token);
    context.out.note(&format!(
        "admits the {kind} {name} once, within an hour; in its home: portway join TOKEN"
    ));
    if kind == "workload" {
        // The whole id, since only sites of portway.toml can be named short.
        let domain = engine.identity()?.id().domain.clone();
        let id = SpiffeId { domain, tier, site, kind: Kind::Workload, node: name };
        context
            .out
            .note(&format!("its rights are its roles: portway grant {id} reader --dataset PATH"));
    }
    Ok(Exit::Done)
}
