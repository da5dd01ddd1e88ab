//! Texts that are policies, texts that are not, and names that try to be more than names.

use super::*;

fn mistakes(text: &str) -> Vec<Mistake> {
    match loaded(text) {
        Err(PolicyError::Mistakes { mistakes }) => mistakes,
        other => panic!("{text}: {other:?}"),
    }
}

fn named(body: &str) -> String {
    format!("@id(\"it\")\n{body}")
}

#[test]
fn the_ready_policy_is_without_mistakes_and_warnings() {
    assert_eq!(builtin().warnings(), []);
    assert_eq!(builtin().ids().len(), 7);
    assert_eq!(builtin().version().number, 7);
    // It names no class, so that it fits any order.
    let one = Classes::new(vec![class("only")], class("only"), None).expect("an order");
    assert!(Policy::builtin(1, one, BTreeMap::new()).is_ok());
}

#[test]
fn a_mistake_has_its_line_column_and_width() {
    let found = mistakes(
        "@id(\"it\")\npermit (principal, action, resource)\nwhen { principal.sight == context.from };",
    );
    let place = found[0].place.as_ref().expect("a place");
    assert_eq!((place.line, place.column, place.width), (3, 8, 15));
    assert_eq!(place.text, "when { principal.sight == context.from };");
    assert!(found[0].message.contains("sight"), "{}", found[0].message);
    assert_eq!(found[0].help.as_deref(), Some("did you mean `site`?"));
    let found = mistakes("@id(\"it\") permit (principal, action resource);");
    let place = found[0].place.as_ref().expect("a place");
    assert_eq!((place.line, place.column), (1, 37));
    // The end of a text has no characters, and is pointed at all the same.
    let found = mistakes("@id(\"it\")\npermit");
    let place = found[0].place.as_ref().expect("a place");
    assert_eq!((place.line, place.width), (2, 1));
}

#[test]
fn what_the_schema_does_not_have_is_refused() {
    for body in [
        "permit (principal, action == Action::\"copy\", resource);",
        "permit (principal == User::\"a\", action, resource);",
        "permit (principal, action, resource) when { context.to.tier == Tier::\"pubic\" };",
        "permit (principal, action, resource) when { context.to.tier == \"public\" };",
        "permit (principal, action, resource) when { context.lowers };",
        "permit (principal, action == Action::\"relabel\", resource) when { context.second.kind == Kind::\"node\" };",
        "permit (principal, action, resource) when { resource.class };",
        "permit (principal, action, resource) when { 1 + \"a\" == 2 };",
        "permit (principal, action, resource)",
    ] {
        assert!(!mistakes(&named(body)).is_empty(), "{body}");
    }
}

#[test]
fn a_class_that_is_not_configured_is_refused_with_its_place() {
    let text = named(
        "permit (principal, action, resource)\nwhen { resource.class in Class::\"internl\" };",
    );
    let found = mistakes(&text);
    assert_eq!(found[0].message, "Class::\"internl\" is no class");
    assert_eq!(
        found[0].help.as_deref(),
        Some("the classes are public, internal, confidential, restricted")
    );
    let place = found[0].place.as_ref().expect("a place");
    assert_eq!((place.line, place.column, place.width), (3, 26, 16));
}

#[test]
fn a_class_that_is_not_configured_is_told_once() {
    let text = named(
        "permit (principal, action, resource) when { resource.class in Class::\"a\" \
         || resource.class in Class::\"b\" || resource.class == Class::\"a\" };",
    );
    let told: Vec<_> = mistakes(&text).into_iter().map(|mistake| mistake.message).collect();
    assert_eq!(told, ["Class::\"a\" is no class", "Class::\"b\" is no class"]);
}

#[test]
fn ids_are_told_in_alphabetical_order() {
    let names = ["d", "b", "e", "a", "f", "c"];
    let text = names.map(|id| format!("@id(\"{id}\") permit (principal, action, resource);"));
    assert_eq!(loaded(&text.concat()).expect("a policy").ids(), ["a", "b", "c", "d", "e", "f"]);
}

#[test]
fn every_policy_has_an_id_of_its_own_and_a_reason_of_one_line() {
    let body = "permit (principal, action, resource);";
    for id in ["", "@id(\"\") ", "@id(\"A b\") ", "@id(\"a\\nb\") ", "@name(\"a\") "] {
        let found = mistakes(&format!("@id(\"one\") {body}\n{id}{body}"));
        assert_eq!(found[0].message, "policy 2 of the text has no usable @id", "{id}");
    }
    let twice = mistakes(&format!("@id(\"a\") {body} @id(\"a\") {body}"));
    assert_eq!(twice[0].message, "there are two policies with the @id a");
    let long = "x".repeat(REASON_CHARS_MAX + 1);
    for reason in [long.as_str(), "a\\nb"] {
        let found = mistakes(&format!("@id(\"a\") @reason(\"{reason}\") {body}"));
        assert_eq!(found[0].message, "the @reason of a is too long, or not one line");
    }
    let longest = "x".repeat(REASON_CHARS_MAX);
    assert!(loaded(&format!("@id(\"a\") @reason(\"{longest}\") {body}")).is_ok());
    let template = mistakes("@id(\"a\") permit (principal == ?principal, action, resource);");
    assert!(template[0].message.contains("templates"), "{template:?}");
}

#[test]
fn a_text_that_is_empty_too_long_or_holds_too_much_is_refused() {
    assert_eq!(loaded("// nothing").map(|_| ()), Err(PolicyError::Count { count: 0 }));
    let policy = |n: usize| format!("@id(\"p{n}\") permit (principal, action, resource);\n");
    let many: String = (0..=POLICIES_MAX).map(policy).collect();
    assert_eq!(loaded(&many).map(|_| ()), Err(PolicyError::Count { count: 257 }));
    let most: String = (0..POLICIES_MAX).map(policy).collect();
    assert!(loaded(&most).is_ok());
    let mut long = most;
    long.extend(std::iter::repeat_n(' ', POLICY_BYTES_MAX + 1 - long.len()));
    assert_eq!(loaded(&long).map(|_| ()), Err(PolicyError::Large { len: POLICY_BYTES_MAX + 1 }));
    long.pop();
    assert!(loaded(&long).is_ok());
}

#[test]
fn a_text_nested_as_deep_as_it_can_be_is_answered() {
    let pairs =
        [("(", ")"), ("!", ""), ("[", "]"), ("if true then ", " else true"), ("true || ", "")];
    for (open, close) in pairs {
        let nested = |depth: usize| {
            let body = format!("{}true{}", open.repeat(depth), close.repeat(depth));
            named(&format!("permit (principal, action, resource) when {{ {body} }};"))
        };
        let most = nested(POLICY_BYTES_MAX / (open.len() + close.len()) - 100);
        assert!(most.len() <= POLICY_BYTES_MAX);
        assert!(loaded(&most).is_err(), "{open}");
        // Up to the bound, Cedar answers, and what it answers can be used.
        for depth in 1..500 {
            if let Ok(policy) = loaded(&nested(depth)) {
                verdict(&policy, &push("dc1", "dc1"), &Roles::default());
            }
        }
    }
}

#[test]
fn the_digest_is_of_everything_that_decides() {
    let text = named("permit (principal, action, resource);");
    let digest = |text: &str, classes: Classes, sites: &[(&str, &str)]| {
        let sites = sites.iter().map(|(site, law)| {
            (site.parse().expect("a site"), law.parse().expect("a jurisdiction"))
        });
        let policy = Policy::load(text, 1, classes, sites.collect()).expect("a policy");
        policy.version().digest
    };
    let order = |names: &[&str], default: &str, plain: &[&str]| {
        let list = |names: &[&str]| names.iter().map(|name| class(name)).collect::<Vec<_>>();
        Classes::new(list(names), class(default), Some(list(plain))).expect("an order")
    };
    let base = || order(&["a", "b", "c"], "a", &["a"]);
    let all = [
        digest(&text, base(), &[]),
        digest(&format!("{text} "), base(), &[]),
        digest(&text, order(&["a", "c", "b"], "a", &["a"]), &[]),
        digest(&text, order(&["a", "b", "c"], "b", &["a"]), &[]),
        digest(&text, order(&["a", "b", "c"], "a", &["a", "b"]), &[]),
        digest(&text, order(&["a", "b"], "a", &["a"]), &[]),
        digest(&text, base(), &[("dc1", "us")]),
        digest(&text, base(), &[("dc1", "de")]),
        digest(&text, base(), &[("dc2", "us")]),
        digest(&text, base(), &[("dc1u", "s")]),
        digest(&text, order(&["a", "b"], "a", &["a", "b"]), &[]),
        digest(&text, order(&["a", "b"], "a", &[]), &[("b", "a")]),
    ];
    for (at, digest) in all.iter().enumerate() {
        assert!(!all[..at].contains(digest), "{at}");
    }
    assert_eq!(digest(&text, base(), &[]), all[0]);
}

#[test]
fn a_policy_whose_evaluation_fails_denies_even_if_another_permits() {
    // The sum of two times that lie far apart cannot be held: Cedar would leave the policy out.
    let text = "@id(\"open\") permit (principal, action, resource);\n@id(\"late\") forbid (principal, action, resource)\n\
        when { context.policy + 9223372036854775807 > 0 };";
    let decision =
        loaded(text).expect("a policy").decide(&push("dc1", "dc1"), &Roles::default(), NOW);
    assert_eq!(decision.verdict, Verdict::Denied);
    assert_eq!(decision.by, ["late"]);
    assert!(decision.reason.as_str().contains("overflow"), "{}", decision.reason.as_str());
}

#[test]
fn policies_see_classes_sites_directories_jurisdictions_roles_and_time() {
    let sites = BTreeMap::from([("dc1".parse().expect("a site"), "de".parse().expect("a law"))]);
    let holds = |condition: &str| {
        let text = named(&format!("permit (principal, action, resource) when {{ {condition} }};"));
        let policy = Policy::load(&text, 7, Classes::default(), sites.clone());
        let policy = policy.unwrap_or_else(|error| panic!("{condition}: {error}"));
        let roles = granted(&node("dc1"), "exporter", "checkpoints", None);
        verdict(&policy, &push("dc1", "cloud"), &roles) == Verdict::Granted
    };
    for yes in [
        "principal.name == \"gpu-1\" && principal.domain == \"d\"",
        "principal == Identity::\"spiffe://d/tier/private/site/dc1/node/gpu-1\"",
        "principal in Role::\"exporter\"",
        "resource.class in Class::\"internal\"",
        "resource.class in Class::\"restricted\"",
        "!(resource.class in Class::\"public\")",
        "!resource.class.lowest && !resource.class.highest",
        "resource in Dataset::\"checkpoints\" && resource in Dataset::\".\"",
        "!(resource in Dataset::\"checkpoint\")",
        "resource.path like \"checkpoints/*\"",
        "resource.site == Site::\"dc1\"",
        "context.from == Site::\"dc1\" && context.to == Site::\"cloud\"",
        "context.from.jurisdiction == \"de\" && context.to.jurisdiction == \"unknown\"",
        "context.from.name == \"dc1\" && context.to.name like \"cl*\"",
        "context.encrypted && context.transport == Transport::\"quic\"",
        "context.time == datetime(\"2026-06-01T00:00:00Z\")",
        "context.time.toTime() < duration(\"6h\")",
        "context.policy == 7",
    ] {
        assert!(holds(yes), "{yes}");
    }
    assert!(!holds("principal in Role::\"reader\""));
    assert!(!holds("resource.class in Class::\"public\""));
}

#[test]
fn the_sites_of_those_who_ask_are_known_though_nothing_moves_there() {
    let text = named(
        "permit (principal, action, resource) when { principal.site.jurisdiction == \"fr\" \
         && principal.site.name == \"dc3\" };",
    );
    let sites = BTreeMap::from([("dc3".parse().expect("a site"), "fr".parse().expect("a law"))]);
    let policy = Policy::load(&text, 7, Classes::default(), sites).expect("a policy");
    let request = Request { who: node("dc3"), ..push("dc1", "dc2") };
    assert_eq!(verdict(&policy, &request, &Roles::default()), Verdict::Granted);
    let text = named(
        "permit (principal, action, resource) when { context has second \
         && context.second.site.name == \"dc3\" };",
    );
    let policy = loaded(&text).expect("a policy");
    let request = relabel("dc1", "public", Some(node("dc3")));
    assert_eq!(verdict(&policy, &request, &Roles::default()), Verdict::Granted);
}

#[test]
fn names_and_paths_cannot_say_more_than_what_they_are() {
    let text = "@id(\"it\") permit (principal, action, resource in Dataset::\"open\");";
    let policy = loaded(text).expect("a policy");
    for trick in [
        "open\"",
        "x\" || true || \"",
        "Dataset::\"open\"",
        "\"); permit (principal, action, resource); //",
        "closed\0open".trim_end_matches(char::is_alphabetic),
        "open\\",
        "*",
        "open\u{202e}",
        "\u{2e}\u{2e}open",
    ] {
        let Ok(path) = RelPath::from_bytes(trick.as_bytes()) else { continue };
        let request = Request { path, ..push("dc1", "dc1") };
        assert_eq!(verdict(&policy, &request, &Roles::default()), Verdict::Denied, "{trick:?}");
    }
    // What an identity's name holds is text as well.
    for trick in ["a\"||true||\"", "gpu-1\"", "*", "Role::\"admin\""] {
        let who = principal("private", "dc1", "node", trick);
        let named = loaded(
            "@id(\"it\") permit (principal, action, resource) when { principal.name == \"gpu-1\" || principal in Role::\"admin\" };",
        );
        let request = Request { who, ..push("dc1", "dc1") };
        let decided = verdict(&named.expect("a policy"), &request, &Roles::default());
        assert_eq!(decided, Verdict::Denied, "{trick}");
    }
    // Bytes that are no text have one id each, which no text has.
    let decide = |bytes: &[u8], literal: &str| {
        let text =
            format!("@id(\"it\") permit (principal, action, resource == Dataset::\"{literal}\");");
        let path = RelPath::from_bytes(bytes).expect("a path");
        verdict(
            &loaded(&text).expect("a policy"),
            &Request { path, ..push("dc1", "dc1") },
            &Roles::default(),
        )
    };
    assert_eq!(decide(b"a\xff", "a\\\\xff"), Verdict::Granted);
    assert_eq!(decide(b"a\\xff", "a\\\\xff"), Verdict::Denied);
    assert_eq!(decide(b"a\\xff", "a\\\\\\\\xff"), Verdict::Granted);
}

#[test]
fn the_longest_and_deepest_paths_are_decided() {
    let deep = RelPath::from_bytes(&[&b"a"[..]; 256].join(&b'/')).expect("a path");
    let name = |at| if at % 200 == 199 { b'/' } else { b'\xff' };
    let long = (0..PATH_BYTES_MAX).map(name).collect::<Vec<_>>();
    let long = RelPath::from_bytes(&long).expect("a path");
    for path in [deep, long] {
        let request = Request { path, ..push("dc1", "dc1") };
        assert_eq!(verdict(&builtin(), &request, &Roles::default()), Verdict::Granted);
    }
}

#[test]
fn an_explanation_names_every_attribute() {
    let job = principal("private", "dc1", "workload", "train");
    let roles = granted(&job, "reader", "", None);
    let asked = Request { who: job, action: Action::Pull, ..push("dc1", "dc2") };
    let explained = builtin().explain(&asked, &roles, NOW);
    assert_eq!(explained.decision, builtin().decide(&asked, &roles, NOW));
    assert_eq!(explained.decision.by, ["readers-fetch"]);
    let shown: Vec<String> =
        explained.attributes.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    assert_eq!(
        shown,
        [
            "action = pull",
            "principal = spiffe://d/tier/private/site/dc1/workload/train",
            "principal.kind = workload",
            "principal.domain = d",
            "principal.site = dc1",
            "principal.site.tier = private",
            "principal.site.jurisdiction = unknown",
            "principal.name = train",
            "principal in Role = reader",
            "resource.path = checkpoints/step-1",
            "resource.class = internal",
            "resource.class.lowest = false",
            "resource.class.highest = false",
            "resource.site = dc1",
            "context.from = dc1",
            "context.from.tier = private",
            "context.from.jurisdiction = unknown",
            "context.to = dc2",
            "context.to.tier = private",
            "context.to.jurisdiction = unknown",
            "context.transport = quic",
            "context.encrypted = true",
            "context.time = 2026-06-01T00:00:00Z",
            "context.policy = 7",
        ]
    );
    let second = principal("private", "dc1", "node", "gpu-2");
    let explained = builtin().explain(&relabel("dc1", "public", Some(second)), &roles, NOW);
    let last: Vec<&str> =
        explained.attributes[24..].iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        last,
        ["context.class", "context.lowers", "context.second", "context.second in Role"]
    );
}
