//! Remembered answers are the answers that would be given.

use std::sync::Arc;

use super::*;

fn decider() -> Decider {
    Decider::new(builtin(), Roles::default())
}

#[test]
fn an_answer_is_remembered_for_its_minute_and_no_longer() {
    let decider = decider();
    let first = decider.decide(&push("dc1", "dc1"), NOW);
    assert_eq!((first.since, first.until), (NOW, NOW + 30), "to the end of the minute");
    let same = |now| Arc::ptr_eq(&first, &decider.decide(&push("dc1", "dc1"), now));
    assert!(same(NOW) && same(NOW + 29));
    assert!(!same(NOW + 30), "a minute is over");
    let decider = self::decider();
    let first = decider.decide(&push("dc1", "dc1"), NOW);
    let earlier = decider.decide(&push("dc1", "dc1"), NOW - 1);
    assert!(!Arc::ptr_eq(&first, &earlier), "the clock went back");
}

#[test]
fn each_part_of_a_request_has_an_answer_of_its_own() {
    let decider = decider();
    let base = push("dc1", "cloud");
    let public = Request { class: class("public"), ..base.clone() };
    let others = [
        public.clone(),
        Request { who: node("cloud"), ..public.clone() },
        Request { action: Action::List, ..public.clone() },
        Request { path: path("other"), ..public.clone() },
        Request { to: side("dc2"), ..public.clone() },
        Request { from: side("cloud"), ..public.clone() },
        Request { transport: Transport::Rdma, ..public.clone() },
    ];
    let answers: Vec<_> = others.iter().map(|request| decider.decide(request, NOW)).collect();
    assert_eq!(decider.decide(&base, NOW).verdict, Verdict::Denied);
    for (at, request) in others.iter().enumerate() {
        assert!(Arc::ptr_eq(&answers[at], &decider.decide(request, NOW)), "{at} is remembered");
        assert_eq!(*answers[at], builtin().decide(request, &Roles::default(), NOW));
        assert!(answers[..at].iter().all(|other| !Arc::ptr_eq(other, &answers[at])));
    }
}

#[test]
fn another_policy_other_roles_and_a_failure_count_at_once() {
    let decider = decider();
    let request = push("dc1", "dc1");
    assert_eq!(decider.decide(&request, NOW).verdict, Verdict::Granted);
    assert_eq!(decider.version(), Some((builtin().version(), 0)));
    let revoked = Roles::default().revoke_identity(&request.who).expect("revoked");
    decider.replace(builtin(), revoked);
    assert_eq!(decider.decide(&request, NOW).verdict, Verdict::Denied);
    assert_eq!(decider.version(), Some((builtin().version(), 1)));
    let closed = loaded("@id(\"closed\") forbid (principal, action, resource);").expect("a policy");
    decider.replace(closed, Roles::default());
    assert_eq!(decider.decide(&request, NOW).by, ["closed"]);
    decider.replace(builtin(), Roles::default());
    assert_eq!(decider.decide(&request, NOW).verdict, Verdict::Granted);
    decider.fail(Broken::new("policy.cedar cannot be read"));
    let denied = decider.decide(&request, NOW);
    assert_eq!((denied.verdict, denied.policy), (Verdict::Denied, PolicyVersion::default()));
    assert_eq!(denied.reason.as_str(), "policy.cedar cannot be read");
    assert_eq!(decider.version(), None);
    let broken = Decider::broken(Broken::new("no bundle"));
    for action in Action::ALL {
        let request = Request { action: *action, ..request.clone() };
        assert_eq!(broken.decide(&request, NOW).verdict, Verdict::Denied, "{action}");
    }
    broken.replace(builtin(), Roles::default());
    assert_eq!(broken.decide(&request, NOW).verdict, Verdict::Granted);
}

#[test]
fn memory_is_bounded() {
    let decider = Decider::broken(Broken::new("nothing"));
    decider.replace(
        loaded("@id(\"open\") permit (principal, action, resource);").expect("a policy"),
        Roles::default(),
    );
    for n in 0..DECISIONS_MAX + 10 {
        let request = Request { path: path(&n.to_string()), ..push("dc1", "dc1") };
        assert_eq!(decider.decide(&request, NOW).verdict, Verdict::Granted);
    }
    assert!(decider.remembered() <= DECISIONS_MAX);
}
