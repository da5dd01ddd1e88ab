//! The ready policy: cases, and random requests against a model in plain Rust.

use proptest::prelude::*;

use super::*;

fn reason(request: &Request, roles: &Roles) -> String {
    let decision = builtin().decide(request, roles, NOW);
    format!("{}: {}", decision.verdict, decision.reason.as_str())
}

#[test]
fn one_private_site_is_open_to_its_nodes() {
    let roles = Roles::default();
    for action in [Action::Push, Action::Pull, Action::List, Action::Verify] {
        for class in Classes::default().order() {
            let request = Request { action, class: class.clone(), ..push("dc1", "dc1") };
            assert_eq!(reason(&request, &roles), "granted: permitted by policy nodes-move-data");
        }
    }
    let rdma = Request { transport: Transport::Rdma, ..push("dc1", "dc1") };
    assert_eq!(verdict(&builtin(), &rdma, &roles), Verdict::Granted);
    let up = relabel("dc1", "restricted", None);
    assert_eq!(reason(&up, &roles), "granted: permitted by policy nodes-raise-classes");
    let administer = Request { action: Action::Administer, ..push("dc1", "dc1") };
    assert_eq!(reason(&administer, &roles), "denied: no policy permits it");
    let admin = granted(&administer.who, "admin", "", None);
    assert_eq!(reason(&administer, &admin), "granted: permitted by policy admins-administer");
}

#[test]
fn only_the_lowest_class_leaves_a_private_site_for_a_public_one() {
    let roles = Roles::default();
    let internal = push("dc1", "cloud");
    assert_eq!(
        reason(&internal, &roles),
        "denied: forbidden by policy private-stays-private: only the lowest class leaves a private site for a public one"
    );
    // Neither a role nor the other direction of asking changes that.
    let pull = Request { who: node("cloud"), action: Action::Pull, ..internal.clone() };
    assert_eq!(
        verdict(&builtin(), &pull, &granted(&pull.who, "reader", "", None)),
        Verdict::Denied
    );
    for action in [Action::List, Action::Verify] {
        let asked = Request { action, ..pull.clone() };
        assert_eq!(verdict(&builtin(), &asked, &roles), Verdict::Denied, "{action}");
    }
    let public = Request { class: class("public"), ..internal };
    assert_eq!(verdict(&builtin(), &public, &roles), Verdict::Granted);
    // Into a private site, and between sites of one tier.
    for (from, to) in [("cloud", "dc1"), ("dc1", "dc2"), ("cloud", "cloud2")] {
        assert_eq!(verdict(&builtin(), &push(from, to), &roles), Verdict::Granted, "{from} {to}");
    }
}

#[test]
fn rdma_stays_inside_one_private_site_and_moves_the_classes_configured_whatever_the_policy_says() {
    let open = loaded("@id(\"open\") permit (principal, action, resource);").expect("a policy");
    for policy in [builtin(), open] {
        let decide = |from: &str, to: &str, name: &str| {
            let rdma = Request { transport: Transport::Rdma, class: class(name), ..push(from, to) };
            policy.decide(&rdma, &Roles::default(), NOW)
        };
        assert_eq!(decide("dc1", "dc1", "confidential").verdict, Verdict::Granted);
        for (from, to) in [("dc1", "dc2"), ("dc1", "cloud"), ("cloud", "dc1"), ("cloud", "cloud")] {
            assert_eq!(decide(from, to, "public").by, ["rdma-inside-a-private-site"]);
        }
        assert_eq!(decide("dc1", "dc1", "restricted").by, ["rdma-classes"]);
        assert_eq!(decide("dc1", "dc1", "restricted").verdict, Verdict::Denied);
    }
    let none = Classes::new(vec![class("a"), class("b")], class("b"), Some(vec![class("b")]));
    let policy = Policy::builtin(1, none.expect("classes"), BTreeMap::new()).expect("a policy");
    let rdma = |name: &str| Request {
        transport: Transport::Rdma,
        class: class(name),
        ..push("dc1", "dc1")
    };
    assert_eq!(verdict(&policy, &rdma("b"), &Roles::default()), Verdict::Granted);
    assert_eq!(verdict(&policy, &rdma("a"), &Roles::default()), Verdict::Denied);
}

#[test]
fn a_class_is_lowered_by_two_stewards() {
    let (one, two) = (node("dc1"), principal("private", "dc1", "node", "gpu-2"));
    let steward = |roles: &Roles, who: &Principal| {
        let grant = Grant { identity: who.clone(), role: role("steward"), dataset: path("") };
        roles.grant(grant, None, NOW).expect("granted")
    };
    let (none, first) = (Roles::default(), steward(&Roles::default(), &one));
    let both = steward(&first, &two);
    let down = |second: Option<&Principal>| relabel("dc1", "public", second.cloned());
    assert_eq!(verdict(&builtin(), &down(Some(&two)), &both), Verdict::Granted);
    assert_eq!(verdict(&builtin(), &down(Some(&two)), &first), Verdict::Denied);
    assert_eq!(verdict(&builtin(), &down(Some(&two)), &none), Verdict::Denied);
    for second in [None, Some(&one)] {
        assert_eq!(builtin().decide(&down(second), &both, NOW).by, ["two-lower-a-class"]);
        let open = loaded("@id(\"open\") permit (principal, action, resource);").expect("open");
        assert_eq!(verdict(&open, &down(second), &both), Verdict::Denied, "no policy lifts it");
    }
    // The same class again is no lowering.
    assert_eq!(verdict(&builtin(), &relabel("dc1", "internal", None), &none), Verdict::Granted);
    // A revoked second identity is none, and neither is one that is nobody.
    let revoked = both.revoke_identity(&two).expect("revoked");
    assert_eq!(builtin().decide(&down(Some(&two)), &revoked, NOW).by, ["revoked-identity"]);
    let nobody: Principal = "spiffe://d/x".parse().expect("visible");
    assert_eq!(verdict(&builtin(), &down(Some(&nobody)), &both), Verdict::Denied);
}

#[test]
fn a_workload_has_the_rights_of_its_roles_and_not_those_of_its_node() {
    let job = principal("private", "dc1", "workload", "train");
    let asked = |action, path_text: &str| Request {
        who: job.clone(),
        action,
        path: path(path_text),
        ..push("dc1", "dc1")
    };
    let roles = granted(&job, "reader", "data/tokens", Some(NOW + 10));
    let decide = |request: &Request, now| builtin().decide(request, &roles, now);
    for action in [Action::Pull, Action::List, Action::Verify] {
        for at in ["data/tokens", "data/tokens/shard-1"] {
            assert_eq!(decide(&asked(action, at), NOW).verdict, Verdict::Granted, "{at}");
        }
        for at in ["data", "data/tokens-2", ""] {
            assert_eq!(decide(&asked(action, at), NOW).verdict, Verdict::Denied, "{at}");
        }
    }
    assert_eq!(decide(&asked(Action::Push, "data/tokens"), NOW).verdict, Verdict::Denied);
    let pull = asked(Action::Pull, "data/tokens");
    let (before, after) = (decide(&pull, NOW + 9), decide(&pull, NOW + 10));
    assert_eq!((before.verdict, before.until), (Verdict::Granted, NOW + 10));
    assert_eq!(after.verdict, Verdict::Denied, "the grant is over");
}

#[test]
fn a_revoked_identity_may_do_nothing() {
    let roles = Roles::default().revoke_identity(&node("dc1")).expect("revoked");
    let decision = builtin().decide(&push("dc1", "dc1"), &roles, NOW);
    assert_eq!(
        (decision.verdict, &decision.by[..]),
        (Verdict::Denied, &["revoked-identity".to_owned()][..])
    );
    let back = roles.readmit(&node("dc1")).expect("readmitted");
    assert_eq!(verdict(&builtin(), &push("dc1", "dc1"), &back), Verdict::Granted);
}

#[test]
fn requests_that_make_no_sense_are_denied_with_the_reason() {
    let roles = Roles::default();
    let with = |change: &dyn Fn(&mut Request)| {
        let mut request = push("dc1", "dc1");
        change(&mut request);
        let decision = builtin().decide(&request, &roles, NOW);
        assert_eq!(decision.verdict, Verdict::Denied);
        assert!(decision.by.is_empty());
        decision.reason.as_str().to_owned()
    };
    assert_eq!(with(&|it| it.class = class("secret")), "the class secret is not configured here");
    assert_eq!(
        with(&|it| it.who = "spiffe://d/me".parse().expect("visible")),
        "spiffe://d/me is not the identity of a node or a workload of a site"
    );
    let long = vec![&[b'a'; 255][..]; 17].join(&b'/');
    assert_eq!(
        with(&|it| it.path = RelPath::from_bytes(&long).expect("a path")),
        "the path has 4351 bytes, more than the 4096 that can be decided about"
    );
    let new = || Some(Relabel { class: class("public"), second: None });
    let misplaced = "a new class belongs to the action relabel, and to no other";
    assert_eq!(with(&|it| it.relabel = new()), misplaced);
    assert_eq!(with(&|it| it.action = Action::Relabel), misplaced);
    assert_eq!(with(&|it| it.to.tier = Tier::Public), "the site dc1 cannot be private and public");
    assert_eq!(
        with(&|it| it.who = principal("public", "dc1", "node", "gpu-1")),
        "the site dc1 cannot be private and public"
    );
    let unknown = Some(Relabel { class: class("secret"), second: None });
    assert_eq!(
        with(&|it| (it.action, it.relabel) = (Action::Relabel, unknown.clone())),
        "the class secret is not configured here"
    );
}

/// The ready policy, as somebody would write it without Cedar.
fn model(request: &Request, held: &[&str], second_held: &[&str], revoked: bool) -> bool {
    let order = Classes::default();
    let rank = |class: &Class| order.rank(class).expect("known");
    let subject = Subject::of(&request.who).expect("somebody");
    let (from, to) = (&request.from, &request.to);
    if revoked {
        return false;
    }
    if request.transport == Transport::Rdma
        && (from.site != to.site || from.tier == Tier::Public || rank(&request.class) == 3)
    {
        return false;
    }
    let is_node = subject.kind == Kind::Node;
    match (request.action, &request.relabel) {
        (Action::Administer, _) => held.contains(&"admin"),
        (Action::Relabel, Some(new)) => {
            if rank(&new.class) < rank(&request.class) {
                let two = new.second.as_ref().is_some_and(|second| *second != request.who);
                two && held.contains(&"steward") && second_held.contains(&"steward")
            } else {
                held.contains(&"steward") || is_node && subject.side.site == from.site
            }
        }
        (action, _) => {
            let border = from.tier == Tier::Private && to.tier == Tier::Public;
            let open = is_node && (subject.side.site == from.site || subject.side.site == to.site);
            let reads = action != Action::Push && held.contains(&"reader");
            let writes = action != Action::Pull && held.contains(&"writer");
            (open || reads || writes) && !(border && rank(&request.class) > 0)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_ready_policy_is_its_model(
        who in (0..4_usize, 0..2_usize),
        action in 0..6_usize,
        class_at in 0..4_usize,
        route in (0..4_usize, 0..4_usize),
        transport in 0..3_usize,
        new_class in 0..4_usize,
        second in proptest::option::of((0..4_usize, 0..2_usize)),
        grants in prop::collection::vec((0..6_usize, 0..4_usize, any::<bool>(), any::<bool>()), 0..4),
        revoked in prop::bool::weighted(0.1),
    ) {
        let sites = ["dc1", "dc2", "cloud", "cloud2"];
        let someone = |(site, kind): (usize, usize)| {
            let site = sites[site];
            principal(&tier(site).to_string(), site, ["node", "workload"][kind], "x")
        };
        let action = Action::ALL[action];
        let classes = Classes::default();
        let second = second.map(someone);
        let request = Request {
            who: someone(who),
            action,
            path: path("a/b"),
            class: classes.order()[class_at].clone(),
            from: side(sites[route.0]),
            to: side(sites[route.1]),
            transport: Transport::ALL[transport],
            relabel: (action == Action::Relabel).then(|| Relabel {
                class: classes.order()[new_class].clone(),
                second: second.clone(),
            }),
        };
        let names = ["reader", "writer", "steward", "admin", "exporter", "other"];
        let datasets = ["", "a", "a/b", "a/bc"];
        let (mut roles, mut held, mut second_held) = (Roles::default(), vec![], vec![]);
        for (name, dataset, to_second, over) in grants {
            let (name, dataset) = (names[name], datasets[dataset]);
            let identity = match (&request.relabel, to_second) {
                (Some(Relabel { second: Some(second), .. }), true) => second.clone(),
                _ => request.who.clone(),
            };
            let until = over.then_some(NOW - 1);
            let grant = Grant { identity: identity.clone(), role: role(name), dataset: path(dataset) };
            roles = roles.grant(grant, until, NOW - 2).expect("granted");
        }
        // What is held is asked of the bundle grant by grant.
        for (grant, until) in roles.grants() {
            let counts = until.is_none() && grant.dataset.as_bytes() != b"a/bc";
            if counts && grant.identity == request.who {
                held.push(grant.role.as_str());
            }
            let second = request.relabel.as_ref().and_then(|new| new.second.as_ref());
            if counts && Some(&grant.identity) == second {
                second_held.push(grant.role.as_str());
            }
        }
        let expected = model(&request, &held, &second_held, revoked);
        let roles = if revoked { roles.revoke_identity(&request.who).expect("revoked") } else { roles.clone() };
        let decision = READY.with(|policy| policy.decide(&request, &roles, NOW));
        prop_assert_eq!(decision.verdict == Verdict::Granted, expected, "{}", decision.reason.as_str());
    }
}

std::thread_local! {
    static READY: Policy = builtin();
}
