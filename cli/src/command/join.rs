//! `portway join`.

use std::io::{self, Read};

use portway::api::{Error, Exit};

use crate::args::Join;
use crate::facade::Engine;
use crate::out::event::Event;
use crate::setup::{Context, told};

/// Longest token, in bytes.
const TOKEN_BYTES_MAX: u64 = 4096;

pub(super) async fn run(context: &Context<'_>, args: Join) -> Result<Exit, Error> {
    let token = if args.token == "-" { from_stdin()? } else { args.token };
    let config = context.config()?;
    let joined = Engine::join(&context.home, &config, token.trim()).await?;
    let (node, site, tier, peer) = (joined.node, joined.site, joined.tier, joined.peer);
    let kind = joined.kind.as_str();
    context.out.event(&Event::Joined {
        node: node.as_str(),
        kind,
        site: site.as_str(),
        tier: &tier.to_string(),
        peer: peer.as_str(),
    });
    context.out.report(&format!(
        "this home is the {kind} {node} of site {site} ({tier}) and knows {peer}"
    ));
    context.out.note(&format!("next: portway push SOURCE {peer}:PATH, or portway doctor {peer}"));
    Ok(Exit::Done)
}

fn from_stdin() -> Result<String, Error> {
    let mut token = String::new();
    io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut token).map_err(|error| {
        let message = format!("standard input cannot be read: {}", told(&error));
        Error::new("token", Exit::Usage, message).hint("portway invite ... | portway join -")
    })?;
    Ok(token)
}
