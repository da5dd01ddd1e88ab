//! Plans: what a push would move, how it would travel, how long it would take and what it would cost.

use tokio::sync::watch;

use super::engine::{Engine, clock_ms};
use super::push::{Attempted, Push};
use super::retry::Miss;
use super::sources::Sources;
use super::{Compress, Error, Exit, LinkPlan, NodeAddress, Plan, Remote, TransferOptions, rates};
use crate::base::limits::LEASE_BYTES;
use crate::base::{Rate, human, utc};
use crate::config::Link as LinkConfig;
use crate::cost::{Tally, path};
use crate::metrics::TransferMeter;
use crate::transport::{Link, WireMeter};
use crate::wire::Numbers;

/// Up to this rate processors have time to make content smaller, if they may: 1 Gb/s.
const ENCODED_UP_TO: f64 = 125e6;
/// Content that goes as it is on shorter paths, whatever their rate: the messages that are ready before
/// processors were watched for a quarter of a second, of which sixteen are under way at a time.
const UNWATCHED_BYTES: u64 = 16 * LEASE_BYTES as u64;

/// What the way inside of a site is called where links are.
pub(super) const SITE: &str = "site";

impl Engine {
    /// Finds out what a push would move, and changes nothing.
    ///
    /// # Errors
    /// As a push.
    pub async fn plan(
        &self,
        sources: Vec<std::path::PathBuf>,
        target: Remote,
        options: TransferOptions,
    ) -> Result<Plan, Error> {
        let (engine, id) = (self.clone(), super::transfer::random_id());
        let options = TransferOptions { dry_run: true, ..options };
        let job = Push { engine, sources, target, options, id };
        let prepared = job.prepare()?;
        job.plan(&prepared).await.map(|(plan, _)| plan)
    }
}

impl Push {
    /// The link that this push takes, if it was asked to be there in time: the cheapest that can.
    /// `None` leaves the choice as it is.
    pub(super) async fn in_time(&self, prepared: &Sources) -> Result<Option<String>, Error> {
        let Some(deadline) = self.options.deadline else { return Ok(self.options.link.clone()) };
        let options = TransferOptions { dry_run: true, deadline: None, ..self.options.clone() };
        let (engine, id) = (self.engine.clone(), super::transfer::random_id());
        let (sources, target) = (self.sources.clone(), self.target.clone());
        let dry = Self { engine, sources, target, options, id };
        let (_, links) = dry.plan(&prepared.again()).await?;
        meets(&links, deadline).map(|link| link.selectable.then(|| link.name.clone()))
    }

    /// Asks in a session of its own what would move, and what that takes over each way there is.
    async fn plan(&self, prepared: &Sources) -> Result<(Plan, Vec<LinkPlan>), Error> {
        let meter = TransferMeter::new("plan", "", "");
        let (_cancel, cancelled) = watch::channel(false);
        let node = &self.target.node;
        let session = self.engine.connect_over(node, self.options.link.as_deref()).await?;
        let path = match self.engine.path(&session, self.options.transport) {
            Ok(path) => path,
            Err(error) => {
                session.link.close("there is no path for content").await;
                return Err(error);
            }
        };
        let peer = session.link.peer().clone();
        let attempted = match self.attempt(session, prepared, &meter, &cancelled).await {
            Ok(attempted) => attempted,
            Err(Miss::Unheard(error) | Miss::Again(error) | Miss::Final(error)) => {
                return Err(error);
            }
        };
        let Numbers { files, sent, deduplicated, resumed, .. } = attempted.done.published.numbers;
        let encoded = match &attempted.estimate {
            Some(estimate) => estimate.encoded(sent).await,
            None => sent,
        };
        let ours = self.engine.identity()?.id().site.clone();
        let Attempted { wire, compress, ref link, .. } = attempted;
        let (inward, link) = (false, link.clone());
        let seen = Seen { node, inward, sent, encoded, wire, compress, link };
        let links = if ours == peer.site {
            vec![self.engine.link_plan(SITE, None, &seen)]
        } else {
            self.engine.link_plans((&ours, &peer.site, &peer.node), &seen)
        };
        let taken = links.iter().find(|link| link.taken).or(links.first());
        let basis = taken.map_or_else(String::new, |link| link.rate_basis.clone());
        let plan = Plan {
            files,
            files_to_move: prepared.files.needed(),
            bytes_total: sent + deduplicated + resumed,
            bytes_to_send: sent,
            bytes_deduplicated: deduplicated,
            bytes_resumed: resumed,
            bytes_encoded: taken.map_or(sent, |link| link.bytes_encoded),
            bytes_wire: taken.map_or(0, |link| link.bytes_wire),
            estimate_s: taken.and_then(|link| link.estimate_s),
            estimate_basis: basis,
            free_bytes: attempted.free_bytes,
            transport: path.transport.as_str().to_owned(),
            transport_reason: path.reason,
            class: attempted.class.to_string(),
            decision: attempted.reason,
            links: if ours == peer.site { Vec::new() } else { links.clone() },
        };
        Ok((plan, links))
    }
}

/// What the session of a plan has seen.
pub(super) struct Seen<'a> {
    pub(super) node: &'a NodeAddress,
    /// Content would come to this node.
    pub(super) inward: bool,
    /// Content that would be sent, and the same if all of it were encoded.
    pub(super) sent: u64,
    pub(super) encoded: u64,
    /// What the session of the plan took of the wire.
    pub(super) wire: WireMeter,
    pub(super) compress: Compress,
    /// The link that it took.
    pub(super) link: Option<String>,
}

impl Seen<'_> {
    /// Content as it is sent with `auto` over a link of this rate: smaller where the link is what is
    /// waited for, after what went while processors were not watched yet.
    fn auto(&self, rate: Option<f64>, unwatched: u64) -> u64 {
        if rate.is_none_or(|rate| rate > ENCODED_UP_TO) {
            return self.sent;
        }
        let plain = self.sent.min(unwatched);
        let smaller = u128::from(self.sent - plain) * u128::from(self.encoded);
        let smaller = smaller.checked_div(u128::from(self.sent)).unwrap_or(0);
        plain + u64::try_from(smaller).unwrap_or(u64::MAX)
    }
}

/// The rate or limit that a link is configured to have.
fn bytes_per_s(link: &LinkConfig) -> Option<f64> {
    link.rate().map(|rate| rate.bytes_per_s() as f64)
}

impl Engine {
    pub(super) fn link_plans(
        &self,
        (ours, theirs, node): (
            &crate::base::SiteName,
            &crate::base::SiteName,
            &crate::base::NodeName,
        ),
        seen: &Seen<'_>,
    ) -> Vec<LinkPlan> {
        let config = &self.0.config;
        let known = config.links_between(ours, theirs);
        if known.is_empty() {
            let internet = self.link_plan("internet", None, seen);
            return vec![LinkPlan { taken: true, ..internet }];
        }
        let plan = |(name, link): (&str, &LinkConfig)| {
            let plan = self.link_plan(name, Some(link), seen);
            let selectable = link.addresses.contains_key(node);
            let taken = seen.link.as_deref() == Some(name);
            LinkPlan { selectable, taken, ..plan }
        };
        known.into_iter().map(plan).collect()
    }

    /// What it takes over one link.
    pub(super) fn link_plan(
        &self,
        name: &str,
        link: Option<&LinkConfig>,
        seen: &Seen<'_>,
    ) -> LinkPlan {
        let wire = &seen.wire;
        let (rate, basis) = self.rate(seen, name, link);
        let encoded = match seen.compress {
            Compress::Always => seen.encoded,
            Compress::Never => seen.sent,
            Compress::Auto if wire.is_far() => seen.auto(rate, 0),
            // What was measured on a short path may have been the processors' rate.
            Compress::Auto => seen.auto(link.and_then(bytes_per_s), UNWATCHED_BYTES),
        };
        // All but content went over the wire for the plan, too.
        let bytes_wire = wire.ip_sent + path::wire_bytes(encoded, wire.mtu);
        let rtt_s = wire.rtt_us as f64 / 1e6;
        let estimate_s = rate.map(|rate| path::transfer_s(bytes_wire, rate, rtt_s));
        let now = i64::try_from(clock_ms() / 1000).unwrap_or(i64::MAX);
        let hours = link.and_then(|link| link.hours);
        let done_s = estimate_s.map(|needs| {
            let needs = needs.ceil() as i64;
            hours.map_or(now.saturating_add(needs), |hours| hours.done(now, needs))
        });
        let currency = self.0.config.settings.cost.currency;
        let tariff = link.and_then(|link| link.tariff(currency));
        LinkPlan {
            name: name.to_owned(),
            bytes_encoded: encoded,
            bytes_wire,
            rate_bps: rate.map(|rate| (rate * 8.0) as u64),
            rate_basis: basis,
            estimate_s,
            done_s,
            hours: hours.map(|hours| hours.to_string()),
            billing: link.map(|link| link.billing.to_string()),
            price: tariff.map(|tariff| Tally::of(tariff.price, bytes_wire).money()),
            currency,
            selectable: false,
            taken: false,
        }
    }

    /// Bytes per second that a link passes, and how that is known.
    fn rate(
        &self,
        seen: &Seen<'_>,
        name: &str,
        link: Option<&LinkConfig>,
    ) -> (Option<f64>, String) {
        let configured = link.and_then(bytes_per_s);
        let limit = link.and_then(LinkConfig::limit).map(Rate::bytes_per_s);
        match (rates::last(&self.0, (seen.node, seen.inward), name), configured) {
            (Some(rate), _) => {
                let bounded = limit.map_or(rate, |limit| rate.min(limit as f64));
                (Some(bounded), "measured with the last transfer to this node".to_owned())
            }
            (None, Some(rate)) => (Some(rate), "its configured rate or limit".to_owned()),
            (None, None) => (None, "nothing is known of this path yet".to_owned()),
        }
    }
}

/// The cheapest of these links by which a plan is done at `deadline`, in seconds since 1970.
pub(super) fn meets(links: &[LinkPlan], deadline: i64) -> Result<&LinkPlan, Error> {
    // Where one can be chosen, the others are not asked for.
    let choice = links.iter().any(|link| link.selectable);
    let usable = || links.iter().filter(|link| link.taken || link.selectable || !choice);
    let in_time = usable().filter(|link| link.done_s.is_some_and(|done| done <= deadline));
    let cheapest = in_time.min_by_key(|link| (link.price.is_none(), link.price, link.done_s));
    if let Some(link) = cheapest {
        return Ok(link);
    }
    let wanted = utc::text(deadline);
    let refused = |message: String| Error::new("deadline", Exit::Refused, message);
    let Some(best) = usable().filter(|link| link.done_s.is_some()).min_by_key(|link| link.done_s)
    else {
        let message = format!(
            "nothing is known of the rate to this node, so nobody can tell whether \
                               it is done at {wanted}"
        );
        return Err(
            refused(message).hint("write [links.NAME] with sites and rate_mbps into portway.toml")
        );
    };
    let (takes, done) = (best.estimate_s.unwrap_or(0.0), best.done_s.unwrap_or(deadline));
    let message = format!(
        "it cannot be there at {wanted}: {} on the wire take {} over the link {}, the fastest, until {}",
        human::bytes(best.bytes_wire),
        human::seconds(takes),
        best.name,
        utc::text(done)
    );
    Err(refused(message).hint("give it more time, or a link with a higher rate or limit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, price: Option<u64>, done_s: i64) -> LinkPlan {
        LinkPlan {
            name: name.to_owned(),
            bytes_encoded: 0,
            bytes_wire: 1_000_000,
            rate_bps: None,
            rate_basis: String::new(),
            estimate_s: Some(10.0),
            done_s: Some(done_s),
            hours: None,
            billing: None,
            price: price.map(crate::cost::Money),
            currency: crate::cost::Currency::default(),
            selectable: true,
            taken: false,
        }
    }

    #[test]
    fn the_cheapest_link_that_is_in_time_is_taken() {
        let slow = || link("slow", Some(1), 100);
        let links = vec![link("dear", Some(9), 10), link("cheap", Some(2), 50), slow()];
        let name = |deadline| meets(&links, deadline).map(|link| link.name.clone());
        assert_eq!(name(100).as_deref(), Ok("slow"));
        assert_eq!(name(99).as_deref(), Ok("cheap"));
        assert_eq!(name(10).as_deref(), Ok("dear"));
        let error = name(9).expect_err("too late");
        assert_eq!((error.code, error.exit), ("deadline", Exit::Refused));
        assert!(error.message.contains("over the link dear"), "{error}");
        let unknown = vec![link("unknown", None, 1), slow()];
        let taken = meets(&unknown, 100).map(|link| link.name.clone());
        assert_eq!(taken.as_deref(), Ok("slow"), "what has a price comes before what has none");
    }

    #[test]
    fn without_a_rate_nobody_can_tell() {
        let links = [LinkPlan { done_s: None, ..link("x", None, 0) }];
        let error = meets(&links, 100);
        assert!(error.expect_err("not known").hint.contains("rate_mbps"));
    }
}
