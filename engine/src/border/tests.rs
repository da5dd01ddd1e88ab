//! Ways: what they let through, what they record, and what stops them.

mod looks;
mod purse;
mod receipts;

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use super::testing::{border, push};
use super::{Border, Denied, Follow, Way};
use crate::audit::{Ending, Entries, ExtentSet, Known, LogFolder, Record, verify};
use crate::base::{Extent, RelPath, Tier};
use crate::config::{Config, Home, change_roles};
use crate::identity::Identity;
use crate::policy::{ChangeError, Principal, Roles, RolesMark, Verdict};

/// Longer than a border takes to see that a file changed.
const SEEN: Duration = Duration::from_millis(400);

fn path(text: &str) -> RelPath {
    RelPath::from_typed(text.as_bytes()).expect("a path")
}

/// What the log has behind its key, after it was verified.
fn recorded(home: &Home) -> Vec<Record> {
    let folder = LogFolder::open(&home.audit_dir()).expect("a log");
    let entries = Entries::open(&folder).expect("a log");
    entries.map(|entry| entry.expect("whole").record).skip(1).collect()
}

fn out(border: &Arc<Border>, class: &str) -> Result<Arc<Way>, Denied> {
    border.enter(push(border, "eu", Tier::Public, class)).map(Arc::new)
}

#[test]
fn inside_a_site_nothing_is_recorded() {
    let (_dir, home, border) = border();
    let way = border.enter(push(&border, "dc", Tier::Private, "restricted")).expect("open");
    assert!(!way.crosses());
    way.check().expect("still open");
    way.stop(Ending::Complete, "done", None).expect("nothing to write");
    assert!(!home.audit_dir().exists());
}

#[test]
fn what_may_not_leave_does_not_and_is_recorded() {
    let (_dir, home, border) = border();
    let denied = out(&border, "internal").err().expect("denied");
    assert!(
        matches!(&denied, Denied::Policy(why) if why.contains("private-stays-private")),
        "{denied}"
    );
    let records = recorded(&home);
    assert!(
        matches!(&records[..], [Record::Decision(it)] if it.verdict == Verdict::Denied),
        "{records:?}"
    );
}

#[tokio::test]
async fn what_leaves_is_decided_and_recorded_to_the_extent() {
    let (_dir, home, border) = border();
    let way = out(&border, "public").expect("granted");
    let began = recorded(&home);
    assert!(matches!(&began[..], [Record::Decision(_), Record::Start(_)]), "before any content");
    let (a, b) = (path("a"), path("b/c"));
    let extent = |offset, len| Extent { offset, len };
    way.arrived(&[(a.clone(), extent(0, 10)), (b.clone(), extent(5, 5))]).await.expect("noted");
    way.arrived(&[(a.clone(), extent(10, 10)), (a.clone(), extent(0, 10))]).await.expect("noted");
    let root = crate::base::Digest([3; 32]);
    way.stop(Ending::Complete, "published", Some(root)).expect("recorded");
    assert!(matches!(way.check(), Err(Denied::Policy(_))), "a way that is over leads nowhere");

    let (mut bytes, mut left, mut ends) = (0, ExtentSet::default(), Vec::new());
    for record in recorded(&home) {
        match record {
            Record::Progress(progress) => {
                bytes += progress.bytes;
                left.extend(&progress.left);
            }
            Record::Stop(stop) => {
                bytes += stop.bytes;
                left.extend(&stop.left);
                ends.push((stop.ending, stop.crossing.root));
            }
            _ => {}
        }
    }
    assert_eq!(bytes, 35, "what crossed twice counts twice");
    let seen: Vec<_> = left.iter().map(|(path, extent)| (path.clone(), extent)).collect();
    assert_eq!(seen, [(a, extent(0, 20)), (b, extent(5, 5))]);
    assert_eq!(ends, [(Ending::Complete, Some(root))]);
    let folder = LogFolder::open(&home.audit_dir()).expect("a log");
    verify(&folder, &Known::default()).expect("the log is whole");
}

#[test]
fn a_policy_that_changes_stops_what_is_under_way() {
    let (_dir, home, border) = border();
    let way = out(&border, "public").expect("granted");
    way.check().expect("granted still");
    std::fs::create_dir_all(home.policy_dir()).expect("made");
    let none = "@id(\"nothing\")\nforbid (principal, action, resource);\n";
    std::fs::write(home.policy_file(), none).expect("written");
    sleep(SEEN);
    assert!(matches!(way.check(), Err(Denied::Policy(why)) if why.contains("nothing")));
    std::fs::remove_file(home.policy_file()).expect("removed");
    sleep(SEEN);
    assert!(way.check().is_err(), "a way that was denied stays so");
    way.stop(Ending::Interrupted, "whatever", None).expect("recorded");
    let records = recorded(&home);
    let [.., Record::Decision(decision), Record::Stop(stop)] = &records[..] else {
        panic!("{records:?}")
    };
    assert_eq!((decision.verdict, stop.ending), (Verdict::Denied, Ending::Denied));
    out(&border, "public").expect("granted again");
}

#[test]
fn another_policy_that_grants_goes_on_by_another_permit() {
    let (_dir, home, border) = border();
    let way = out(&border, "public").expect("granted");
    std::fs::create_dir_all(home.policy_dir()).expect("made");
    let all = "@id(\"everything\")\npermit (principal, action, resource);\n";
    std::fs::write(home.policy_file(), all).expect("written");
    sleep(SEEN);
    way.check().expect("granted");
    let records = recorded(&home);
    let [Record::Decision(one), Record::Start(_), Record::Decision(other)] = &records[..] else {
        panic!("{records:?}")
    };
    assert_ne!(one.crossing.policy, other.crossing.policy);
    // That is the one that counts now, and what leaves is by it.
    assert!(way.stands());
    way.leaves(&path("a"), Extent { offset: 0, len: 1 }).expect("granted");
    way.stop(Ending::Complete, "done", None).expect("recorded");
    let more = recorded(&home).split_off(records.len());
    let [Record::Stop(stop)] = &more[..] else { panic!("{more:?}") };
    assert_eq!(stop.crossing.policy, other.crossing.policy);
}

#[test]
fn what_leaves_is_recorded_once_a_second() {
    let (_dir, home, border) = border();
    let way = out(&border, "public").expect("granted");
    let leaves = |n: u64| {
        way.leaves(&path("a"), Extent { offset: n, len: 1 }).expect("granted");
        recorded(&home).len()
    };
    let before = leaves(0);
    assert_eq!(leaves(1), before);
    sleep(Duration::from_millis(1100));
    assert_eq!(leaves(2), before + 1);
    assert_eq!(leaves(3), before + 1);
}

#[test]
fn a_label_that_is_found_raises_the_class_of_all() {
    let (_dir, _home, border) = border();
    let way = out(&border, "public").expect("granted");
    way.found(Some(b"public".to_vec())).expect("as it was asked");
    assert!(matches!(way.found(Some(b"nonsense".to_vec())), Err(Denied::Policy(_))));
    way.check().expect("what cannot be read is not sent, the rest may be");
    assert!(matches!(way.found(Some(b"restricted".to_vec())), Err(Denied::Policy(_))));
    assert_eq!(way.class().as_str(), "restricted");
    assert!(way.check().is_err());
}

#[test]
fn without_its_log_a_node_sends_nothing_out_and_goes_on_inside() {
    let (_dir, home, border) = border();
    std::fs::write(home.audit_dir(), "not a directory").expect("written");
    assert!(matches!(out(&border, "public"), Err(Denied::Audit(_))));
    let inside = border.enter(push(&border, "dc", Tier::Private, "internal"));
    inside.expect("open").check().expect("open");
}

#[test]
fn classes_are_mixed_upwards() {
    let (_dir, _home, border) = border();
    let class = |labels: &[Option<&str>]| {
        let labels = labels.iter().map(|label| label.map(|it| it.as_bytes().to_vec()));
        border.class(labels).map(|class| class.to_string())
    };
    assert_eq!(class(&[]).as_deref(), Ok("internal"));
    assert_eq!(class(&[Some("public")]).as_deref(), Ok("public"));
    assert_eq!(class(&[Some("public"), None]).as_deref(), Ok("internal"));
    assert_eq!(class(&[Some("restricted"), None, Some("public")]).as_deref(), Ok("restricted"));
    assert!(class(&[Some("secret")]).is_err());
}

fn change(home: &Home, change: impl FnOnce(&Roles) -> Result<Roles, ChangeError>) {
    let identity = Identity::load(home.config_dir()).expect("an identity");
    change_roles(home, &identity, change).expect("changed");
    sleep(SEEN);
}

#[test]
fn a_certificate_that_is_over_ends_a_way_within_a_site_too() {
    let (_dir, home, border) = border();
    let until = |site: &str, tier, secs: u64| {
        let mut ask = push(&border, site, tier, "public");
        ask.to.valid_until_s = super::gate::now().secs as u64 + secs;
        ask
    };
    let mut over = until("dc", Tier::Private, 0);
    over.to.valid_until_s -= 1;
    assert!(matches!(border.enter(over), Err(Denied::Expired(_))));
    for (site, tier) in [("dc", Tier::Private), ("eu", Tier::Public)] {
        let way = border.enter(until(site, tier, 1)).expect("good for now");
        way.check().expect("good for now");
        sleep(Duration::from_millis(2100));
        let denied = way.check();
        assert!(
            matches!(&denied, Err(Denied::Expired(why)) if why.contains("node/peer")),
            "{denied:?}"
        );
        way.stop(Ending::Interrupted, "whatever", None).expect("recorded");
    }
    let Some(Record::Stop(stop)) = recorded(&home).pop() else { panic!("no stop") };
    assert_eq!(stop.ending, Ending::Denied);
    assert!(stop.reason.as_str().contains("expired-certificate"), "{:?}", stop.reason);
}

#[tokio::test]
async fn who_is_revoked_ends_a_way_that_somebody_else_asked_for_though_nothing_moves() {
    let (_dir, home, border) = border();
    let ways = [("dc", Tier::Private), ("eu", Tier::Public)].map(|(site, tier)| {
        let ask = push(&border, site, tier, "public");
        let peer = Principal::from(&ask.to.id);
        (Arc::new(border.enter(ask).expect("granted")), peer)
    });
    for (way, peer) in ways {
        change(&home, |roles| roles.revoke_identity(&peer));
        let falls = tokio::time::timeout(Duration::from_secs(10), way.falls()).await;
        let denied = falls.expect("within seconds");
        assert!(matches!(&denied, Denied::Revoked(why) if why.contains(peer.as_str())), "{denied}");
    }
}

#[test]
fn roles_of_others_are_followed_only_where_they_are_newer() {
    let (_dir, home, border) = border();
    let mark = |version, byte| RolesMark { version, digest: crate::base::Digest([byte; 32]) };
    assert_eq!((border.roles(), border.follows(mark(1, 7))), (None, Follow::Take));
    let somebody: Principal = "spiffe://d/tier/public/site/s/node/n".parse().expect("an id");
    change(&home, |roles| roles.revoke_identity(&somebody));
    let ours = border.roles().expect("the CA signed them");
    assert_eq!(ours.version, 1);
    assert_eq!(border.follows(ours), Follow::Same);
    assert_eq!(border.follows(mark(1, 7)), Follow::Fork);
    assert_eq!(border.follows(mark(0, 7)), Follow::Stay);
    assert_eq!(border.follows(mark(2, 7)), Follow::Take);
    // Without the CA, a node signs for itself alone, and tells nobody.
    std::fs::remove_file(home.identity_dir().join("ca.key")).expect("removed");
    change(&home, |roles| roles.readmit(&somebody));
    assert_eq!(border.roles(), None);
    assert_eq!(border.follows(ours), Follow::Hidden);
}

#[test]
fn what_changed_counts_for_the_next_question_whatever_is_asked() {
    let (_dir, home, border) = border();
    let party = push(&border, "eu", Tier::Public, "public").to;
    border.standing(&party).expect("nobody is revoked");
    change(&home, |roles| roles.revoke_identity(&(&party.id).into()));
    assert!(matches!(border.standing(&party), Err(Denied::Revoked(_))));
    change(&home, |roles| roles.readmit(&(&party.id).into()));
    assert_eq!(border.roles_version(), 2);
    change(&home, |roles| roles.revoke_identity(&(&party.id).into()));
    assert_eq!(border.roles().expect("signed").version, 3);
    let link = || {
        let (site, node) = ("eu".parse().expect("a name"), "peer".parse().expect("a name"));
        border.link_taken(&site, (&node, None))
    };
    let before = link();
    let wan = "[sites.dc]\ntier = \"private\"\n[sites.eu]\ntier = \"public\"\n[links.wan]\nsites = [\"dc\", \"eu\"]\nrate_mbps = 1000\n";
    std::fs::write(home.config_file(), wan).expect("written");
    sleep(SEEN);
    assert_eq!((before, link().as_deref()), (None, Some("wan")));
    // Who cannot wait asks to look at once.
    std::fs::create_dir_all(home.policy_dir()).expect("made");
    let inside = push(&border, "dc", Tier::Private, "internal");
    border.would(&inside).expect("open to members");
    std::fs::write(home.policy_file(), "@id(\"nothing\")\nforbid (principal, action, resource);\n")
        .expect("written");
    border.look_again();
    assert!(matches!(border.would(&inside), Err(Denied::Policy(why)) if why.contains("nothing")));
}

#[test]
fn a_denial_is_recorded_where_it_is_about_a_border() {
    let (_dir, home, border) = border();
    border.would(&push(&border, "eu", Tier::Public, "public")).expect("public may leave");
    assert!(!home.audit_dir().exists(), "nothing crosses by a question");
    let secret = push(&border, "eu", Tier::Public, "restricted");
    assert!(matches!(border.would(&secret), Err(Denied::Policy(_))));
    let records = recorded(&home);
    assert!(
        matches!(&records[..], [Record::Decision(it)] if it.verdict == Verdict::Denied),
        "{records:?}"
    );
    let mut nobody = push(&border, "dc", Tier::Private, "internal");
    nobody.class = "unheard-of".parse().expect("a class");
    assert!(border.would(&nobody).is_err());
    assert_eq!(recorded(&home).len(), 1, "inside a site nothing is recorded");
}

#[test]
fn a_record_of_another_class_says_which_one() {
    let (_dir, home, border) = border();
    let class = |text: &str| text.parse().expect("a class");
    let (dataset, now) = (path("data"), class("internal"));
    let relabel = |to: &str| {
        let changed =
            border.relabel(crate::base::TransferId(0), (&dataset, &now), &class(to), None);
        let Some(Record::Decision(decision)) = recorded(&home).pop() else { panic!("no decision") };
        assert_eq!(changed.is_ok(), decision.verdict == Verdict::Granted, "{changed:?}");
        assert_eq!(decision.crossing.class, now);
        decision.reason.as_str().to_owned()
    };
    assert!(relabel("restricted").starts_with("to restricted: "));
    assert!(relabel("public").starts_with("to public: rule two-lower-a-class"));
}

#[test]
fn a_configuration_that_became_unreadable_meanwhile_lets_nothing_through() {
    let (_dir, home, before) = border();
    let config = Config::load(&home, [], &[]).expect("a configuration");
    std::fs::write(home.config_file(), "no [configuration").expect("written");
    let border = Arc::new(Border::open(&home, &config, before.identity()));
    for (site, tier) in [("dc", Tier::Private), ("eu", Tier::Public)] {
        let denied = border.would(&push(&border, site, tier, "public"));
        assert!(matches!(denied, Err(Denied::Policy(_))), "{denied:?}");
    }
}

#[test]
fn a_configuration_that_becomes_unreadable_stops_what_is_under_way() {
    let (_dir, home, border) = border();
    let way = border.enter(push(&border, "dc", Tier::Private, "internal")).expect("open");
    std::fs::write(home.config_file(), "no [configuration").expect("written");
    sleep(SEEN);
    assert!(matches!(way.check(), Err(Denied::Policy(_))));
}
