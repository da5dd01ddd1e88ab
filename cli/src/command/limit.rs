//! `portway limit`.

use portway::api::{Error, Exit};
use portway::base::{Rate, SiteName};
use portway::config::set_limit;

use crate::args::{Cap, Limit};
use crate::out::event::Event;
use crate::setup::{Context, edit_error};

/// Bytes per second of a megabit per second.
const MBPS: u64 = 125_000;

pub(super) fn run(context: &Context<'_>, args: Limit) -> Result<Exit, Error> {
    let Limit { link: Some(link), limit: Some(Cap(limit)) } = args else {
        list(context, None)?;
        return Ok(Exit::Done);
    };
    // What is there has to be right before it is changed.
    context.config()?;
    let mbps = limit.map(whole_mbps).transpose()?;
    set_limit(&context.home, &link, mbps).map_err(|error| edit_error(&error))?;
    list(context, Some(&link))?;
    Ok(Exit::Done)
}

fn whole_mbps(rate: Rate) -> Result<u64, Error> {
    let bytes = rate.bytes_per_s();
    if bytes.is_multiple_of(MBPS) {
        return Ok(bytes / MBPS);
    }
    let message = format!("{rate} is not a whole number of megabits per second");
    let near = bytes.div_ceil(MBPS);
    Err(Error::new("usage", Exit::Usage, message).hint(format!("say {near}Mb/s")))
}

/// Prints one link, or all of them.
fn list(context: &Context<'_>, only: Option<&str>) -> Result<(), Error> {
    let links = context.config()?.links;
    let width = links.keys().map(String::len).max().unwrap_or(0);
    for (name, link) in links.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        let sites = link.sites.each_ref().map(SiteName::as_str);
        let bits = |rate: Rate| rate.bytes_per_s() * 8;
        let rate = Rate::from_mbps(link.rate_mbps);
        let shown = rate.map_or_else(String::new, |rate| rate.to_string());
        let limit = link.limit().map_or_else(|| "none".to_owned(), |limit| limit.to_string());
        context
            .out
            .text(&format!("{name:<width$}  {} - {}  {shown}  limit {limit}", sites[0], sites[1]));
        let limit_bps = link.limit().map(bits);
        context.out.event(&Event::Link { name, sites, rate_bps: rate.map_or(0, bits), limit_bps });
    }
    if links.is_empty() {
        context.out.note(
            "no link is known: write [links.NAME] with sites and rate_mbps into portway.toml \
             (portway config explains them)",
        );
    }
    Ok(())
}
