//! Borders and ways for tests.

use std::sync::Arc;

use tempfile::TempDir;

use super::{Ask, Border, Party, Way};
use crate::base::{Tier, TransferId};
use crate::config::{Config, Home};
use crate::identity::{Enrolment, Identity, Invites, SpiffeId, UnixTime};
use crate::policy::{Action, Kind, Transport};

fn clock() -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(super::gate::now().secs as u64))
}

/// The border of a node `onprem` of the private site `dc`, in a home of its own.
pub(crate) fn border() -> (TempDir, Home, Arc<Border>) {
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::at(dir.path());
    home.create().expect("made");
    let parse = |text: &str| text.parse().expect("a name");
    let site = "dc".parse().expect("a name");
    let now = clock();
    let identity = Identity::init(home.config_dir(), parse("onprem"), site, Tier::Private, now);
    let border = reopened(&home, identity.expect("an identity"));
    (dir, home, border)
}

/// The border of another node of the same trust domain, of the public site `eu`.
pub(super) fn invited(ca: &Home, name: &str) -> (TempDir, Home, Arc<Border>) {
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::at(dir.path());
    home.create().expect("made");
    let invites = Invites::open(ca.config_dir()).expect("a CA");
    let (node, site) = (name.parse().expect("a name"), "eu".parse().expect("a name"));
    let addresses = ["127.0.0.1:1".to_owned()];
    let (who, place) = ((node, Kind::Node), (site, Tier::Public));
    let token = invites.create(who, place, 60, &addresses, clock()).expect("a token");
    let key = token.public_key().expect("a key");
    let enrolment = Enrolment::begin(home.config_dir(), token).expect("begun");
    let chain = invites.redeem(&key, enrolment.request(), clock()).expect("redeemed");
    let identity = enrolment.finish(&chain, clock()).expect("an identity");
    let border = reopened(&home, identity);
    (dir, home, border)
}

/// The same after a restart.
pub(super) fn reopened(home: &Home, identity: Identity) -> Arc<Border> {
    let config = Config::load(home, [], &[]).expect("a configuration");
    Arc::new(Border::open(home, &config, identity))
}

/// A push from this node to a node of `site`.
pub(crate) fn push(border: &Border, site: &str, tier: Tier, class: &str) -> Ask {
    let us = border.ourselves();
    let (site, node) = (site.parse().expect("a name"), "peer".parse().expect("a name"));
    let id = SpiffeId { tier, site, node, ..us.id.clone() };
    let to = Party { id, valid_until_s: u64::MAX };
    Ask {
        transfer: TransferId(7),
        who: us.id.clone(),
        action: Action::Push,
        path: crate::base::RelPath::from_typed(b"runs/a").expect("a path"),
        class: class.parse().expect("a class"),
        from: us,
        to,
        link: "wan".parse().expect("a word"),
        transport: Transport::Quic,
        cost_max: None,
        wire_max: None,
    }
}

/// A way inside one site, where nothing is recorded.
pub(crate) fn inside() -> Arc<Way> {
    let (_dir, _home, border) = border();
    let ask = push(&border, "dc", Tier::Private, "internal");
    Arc::new(border.enter(ask).expect("open to members"))
}
