//! `portway grant` and `portway revoke`.

use portway::api::{Error, Exit};
use portway::base::RelPath;
use portway::config::change_roles;
use portway::identity::Voucher;
use portway::policy::{self, ChangeError, Roles};

use super::policy::{dataset, identity};
use crate::args::{Grant, Revoke};
use crate::out::event::Event;
use crate::setup::{Context, border_error, unix_now};

pub(super) fn grant(context: &Context<'_>, args: Grant) -> Result<Exit, Error> {
    let who = identity(context, &context.config()?, &args.identity)?;
    let dataset = args.dataset.as_deref().map(dataset).transpose()?;
    let words = match &args.role {
        Some(role) => format!("{who} has the role {role}"),
        None => format!("{who} is readmitted"),
    };
    change(
        context,
        who.as_str(),
        if args.role.is_some() { "granted" } else { "readmitted" },
        &words,
        |roles| match args.role {
            None => roles.readmit(&who),
            Some(role) => {
                let dataset = dataset.unwrap_or_else(RelPath::root);
                let grant = policy::Grant { identity: who.clone(), role, dataset };
                roles.grant(grant, args.until, unix_now())
            }
        },
    )
}

pub(super) fn revoke(context: &Context<'_>, args: &Revoke) -> Result<Exit, Error> {
    let who = identity(context, &context.config()?, &args.identity)?;
    let dataset = args.dataset.as_deref().map(dataset).transpose()?;
    let words = match &args.role {
        Some(role) => format!("{who} has no longer the role {role}"),
        None => format!("{who} is revoked and may do nothing"),
    };
    change(context, who.as_str(), "revoked", &words, |roles| match &args.role {
        None => roles.revoke_identity(&who),
        Some(role) => roles.revoke(&who, role, dataset.as_ref()),
    })
}

/// Writes the next version of the roles, and tells where it counts.
fn change(
    context: &Context<'_>,
    identity: &str,
    change: &str,
    words: &str,
    next: impl FnOnce(&Roles) -> Result<Roles, ChangeError>,
) -> Result<Exit, Error> {
    let own = context.engine(&context.config()?)?.identity()?;
    let changed = change_roles(&context.home, &own, next);
    let (roles, voucher) = changed.map_err(|error| border_error(&error))?;
    let (signed_by, place) = match voucher {
        Voucher::Ca => ("ca", "at every node that has the bundle"),
        Voucher::Node => ("node", "at this node only"),
    };
    let version = roles.version();
    context.out.event(&Event::RolesChanged { identity, change, version, signed_by });
    context.out.report(&format!("{words}; version {version} of the roles counts {place}"));
    Ok(Exit::Done)
}
