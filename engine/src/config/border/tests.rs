//! Policy and roles as files: what counts, what is refused, and that a refusal denies.

use std::time::Duration;

use super::*;
use crate::base::{RelPath, Tier};
use crate::identity::UnixTime;
use crate::policy::{Action, Grant, Principal, Request, Role, Side, Transport, Verdict};

const NOW: i64 = 1_780_272_000;

struct Node {
    _dir: tempfile::TempDir,
    home: Home,
    config: Config,
    identity: Identity,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW as u64));
        let name = |text: &str| text.parse().expect("a name");
        let site = "dc1".parse().expect("a site");
        let identity = Identity::init(dir.path(), name("gpu-1"), site, Tier::Private, now);
        let identity = identity.expect("an identity");
        let home = Home::at(dir.path());
        Self { _dir: dir, home, config: Config::default(), identity }
    }

    fn who(&self) -> Principal {
        Principal::from(self.identity.id())
    }

    fn grant(&self, role: &str) -> Result<(Roles, Voucher), BorderError> {
        let role: Role = role.parse().expect("a role");
        let grant = Grant { identity: self.who(), role, dataset: RelPath::root() };
        change_roles(&self.home, &self.identity, |roles| roles.grant(grant, None, NOW))
    }

    fn write_policy(&self, text: &str) {
        std::fs::create_dir_all(self.home.policy_dir()).expect("a directory");
        std::fs::write(self.home.policy_file(), text).expect("written");
    }

    fn decide(&self, action: Action) -> (Verdict, String) {
        let side = Side { site: "dc1".parse().expect("a site"), tier: Tier::Private };
        let request = Request {
            who: self.who(),
            action,
            path: RelPath::root(),
            class: self.config.classes.default_class().clone(),
            from: side.clone(),
            to: side,
            transport: Transport::Quic,
            relabel: None,
        };
        let decider = Decider::broken(Broken::new("nothing was read"));
        let _ = refresh(&decider, &self.home, Ok(&self.config), &self.identity);
        let decision = decider.decide(&request, NOW);
        (decision.verdict, decision.reason.as_str().to_owned())
    }
}

const OPEN: &str = "@id(\"open\") permit (principal, action, resource);";

#[test]
fn without_files_the_ready_policy_decides() {
    let node = Node::new();
    assert_eq!(node.decide(Action::Push).0, Verdict::Granted);
    assert_eq!(node.decide(Action::Administer).0, Verdict::Denied);
    node.grant("admin").expect("granted");
    assert_eq!(node.decide(Action::Administer).0, Verdict::Granted);
}

#[test]
fn the_number_of_the_policy_grows_when_what_decides_changes_and_only_then() {
    let mut node = Node::new();
    let number = |node: &Node| {
        let (policy, _) = ground(&node.home, &node.config, &node.identity).expect("a policy");
        policy.version().number
    };
    assert_eq!([number(&node), number(&node)], [1, 1]);
    node.write_policy(OPEN);
    assert_eq!([number(&node), number(&node)], [2, 2]);
    // Looking does not count.
    node.write_policy(BUILTIN);
    for _ in 0..2 {
        let looked = read_policy(&node.home, &node.config).expect("a policy");
        assert_eq!(looked.version().number, 3);
    }
    let law = "[sites.dc1]\ntier = \"private\"\njurisdiction = \"de\"\n";
    node.config = Config::parse(Path::new("/x"), law, [], &[]).expect("a configuration");
    assert_eq!(number(&node), 3);
    std::fs::remove_file(node.home.policy_file()).expect("removed");
    assert_eq!(number(&node), 3, "it says what the ready one says");
}

#[test]
fn a_policy_that_is_wrong_missing_or_unreadable_denies_with_the_reason() {
    let mut node = Node::new();
    for (text, reason) in [
        ("@id(\"a\") permit (principal, action, resource)", "policy.cedar: line 1: "),
        ("// empty", "holds 0 policies"),
        (
            "@id(\"a\") permit (principal, action, resource) when { nothing };",
            "policy.cedar: line 1: ",
        ),
    ] {
        node.write_policy(text);
        let (verdict, told) = node.decide(Action::Push);
        assert_eq!(verdict, Verdict::Denied, "{text}");
        assert!(told.contains(reason) && told.contains("portway policy check"), "{told}");
    }
    std::fs::write(node.home.policy_file(), [0xff, 0xfe]).expect("written");
    assert!(node.decide(Action::Push).1.contains("is not a text"));
    std::fs::write(node.home.policy_file(), vec![b' '; POLICY_BYTES_MAX + 1]).expect("written");
    assert!(node.decide(Action::Push).1.contains("more than 65536 bytes"));
    std::fs::remove_file(node.home.policy_file()).expect("removed");
    std::fs::create_dir(node.home.policy_file()).expect("a directory");
    assert_eq!(node.decide(Action::Push).0, Verdict::Denied);
    std::fs::remove_dir(node.home.policy_file()).expect("removed");
    assert_eq!(node.decide(Action::Push).0, Verdict::Granted);
    // One that was named must be there.
    node.config.settings.border.policy = Some("/nowhere/policy.cedar".into());
    let (verdict, told) = node.decide(Action::Push);
    assert_eq!(verdict, Verdict::Denied);
    assert!(
        told.contains("/nowhere/policy.cedar, which border.policy names, is not there"),
        "{told}"
    );
}

#[test]
fn roles_that_are_damaged_foreign_or_older_deny() {
    let node = Node::new();
    node.grant("reader").expect("granted");
    let old = std::fs::read(node.home.roles_file()).expect("a bundle");
    let (roles, voucher) = node.grant("admin").expect("granted");
    assert_eq!((roles.version(), voucher), (2, Voucher::Ca));
    let new = std::fs::read(node.home.roles_file()).expect("a bundle");
    let put = |bytes: &[u8]| std::fs::write(node.home.roles_file(), bytes).expect("written");
    assert_eq!(node.decide(Action::Administer).0, Verdict::Granted);
    for at in 0..new.len() {
        let mut bad = new.clone();
        bad[at] ^= 4;
        put(&bad);
        assert!(read_roles(&node.home, &node.identity).is_err(), "byte {at}");
    }
    assert_eq!(node.decide(Action::Push).0, Verdict::Denied);
    put(&old);
    let (verdict, told) = node.decide(Action::Push);
    assert_eq!(verdict, Verdict::Denied);
    assert!(told.contains("holds version 1 of the roles, and version 2 counted"), "{told}");
    std::fs::remove_file(node.home.roles_file()).expect("removed");
    assert_eq!(node.decide(Action::Push).0, Verdict::Denied, "none is older, too");
    let stranger = Node::new();
    stranger.grant("admin").expect("granted");
    put(&std::fs::read(stranger.home.roles_file()).expect("a bundle"));
    let (verdict, told) = node.decide(Action::Push);
    assert_eq!(verdict, Verdict::Denied);
    assert!(told.contains("trust domain"), "{told}");
    put(&new);
    assert_eq!(node.decide(Action::Administer).0, Verdict::Granted);
}

#[test]
fn a_note_that_is_damaged_or_cannot_be_written_denies() {
    let node = Node::new();
    node.grant("admin").expect("granted");
    assert_eq!(node.decide(Action::Push).0, Verdict::Granted);
    let seen = node.home.seen_file();
    let good = std::fs::read_to_string(&seen).expect("a note");
    assert!(good.starts_with("policy 1 ") && good.ends_with("\nroles 1\n"), "{good}");
    for bad in [
        "",
        "policy 1\nroles 1\n",
        &good[1..],
        good.trim_end(),
        &good.replace("roles 1", "roles x"),
    ] {
        std::fs::write(&seen, bad).expect("written");
        assert!(node.decide(Action::Push).1.contains("policy.seen is damaged"), "{bad:?}");
        assert!(node.grant("reader").is_err());
    }
    std::fs::remove_file(&seen).expect("removed");
    std::fs::create_dir(&seen).expect("a directory");
    assert_eq!(node.decide(Action::Push).0, Verdict::Denied);
}

#[test]
fn a_node_without_the_ca_grants_for_itself() {
    let node = Node::new();
    std::fs::remove_file(node.home.identity_dir().join("ca.key")).expect("removed");
    assert_eq!(node.grant("admin").expect("granted").1, Voucher::Node);
    assert_eq!(node.decide(Action::Administer).0, Verdict::Granted);
    std::fs::remove_file(node.home.identity_dir().join("audit.key")).expect("removed");
    assert_eq!(node.decide(Action::Administer).0, Verdict::Denied, "nobody vouches for it now");
}

#[test]
fn changes_at_the_same_time_are_all_kept() {
    let node = Node::new();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let node = &node;
            scope.spawn(move || node.grant(&format!("role-{n}")).expect("granted"));
        }
    });
    let roles = read_roles(&node.home, &node.identity).expect("roles");
    assert_eq!((roles.version(), roles.grants().count()), (8, 8));
}

#[test]
fn a_bundle_of_another_node_is_taken_if_the_ca_signed_it_and_it_is_not_older() {
    let node = Node::new();
    let bundle = || std::fs::read(node.home.roles_file()).expect("a bundle");
    let take = |bytes: &[u8]| {
        take_roles(&node.home, &node.identity, bytes, Path::new("/from/roles.bundle"))
            .map(|roles| roles.version())
            .map_err(|error| error.to_string())
    };
    node.grant("reader").expect("granted");
    let first = bundle();
    let fork = {
        let second = Node { identity: node.identity.clone(), ..Node::new() };
        let to = second.home.identity_dir();
        for file in ["ca.key", "ca.pem"] {
            std::fs::copy(node.home.identity_dir().join(file), to.join(file)).expect("copied");
        }
        second.grant("writer").expect("granted");
        std::fs::read(second.home.roles_file()).expect("a bundle")
    };
    assert_eq!(take(&first), Ok(1));
    let told = "/from/roles.bundle: there are two different roles of version 1";
    assert_eq!(take(&fork), Err(told.to_owned()));
    node.grant("admin").expect("granted");
    let second = bundle();
    let told = "/from/roles.bundle: the roles are version 1, older than version 2 that counts here";
    assert_eq!(take(&first), Err(told.to_owned()));
    assert_eq!(bundle(), second, "what counted goes on to count");
    assert_eq!(take(&second), Ok(2));
    assert!(take(b"nothing").expect_err("refused").starts_with("/from/roles.bundle: "));
    let stranger = Node::new();
    stranger.grant("admin").expect("granted");
    let foreign = std::fs::read(stranger.home.roles_file()).expect("a bundle");
    assert!(take(&foreign).expect_err("refused").contains("trust domain"));
    std::fs::remove_file(node.home.identity_dir().join("ca.key")).expect("removed");
    node.grant("writer").expect("granted");
    let told = "/from/roles.bundle is not signed by the CA of the trust domain";
    assert_eq!(take(&bundle()), Err(told.to_owned()));
}

#[test]
fn a_decider_follows_what_lies_in_the_home() {
    let node = Node::new();
    let decider = Decider::broken(Broken::new("nothing was read"));
    let refresh = || refresh(&decider, &node.home, Ok(&node.config), &node.identity).is_ok();
    assert!(refresh());
    let first = decider.version().expect("it decides");
    assert!(refresh());
    assert_eq!(decider.version(), Some(first));
    node.grant("reader").expect("granted");
    assert!(refresh());
    assert_eq!(decider.version(), Some((first.0, 1)));
    node.write_policy("nothing");
    assert!(!refresh());
    assert_eq!(decider.version(), None, "it denies everything");
    assert_eq!(decider.roles_version().ok(), Some(1), "the roles count all the same");
    node.write_policy(OPEN);
    assert!(refresh());
    assert_eq!(decider.version().map(|(policy, _)| policy.number), Some(2));
}
