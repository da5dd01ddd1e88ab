//! `portway policy`, `grant` and `revoke` as a user meets them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use insta::{assert_snapshot, with_settings};

fn run(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portway"));
    command.env_clear().env("PORTWAY_HOME", home).current_dir(home).args(arguments);
    command.output().expect("the command starts")
}

/// Exit status and both streams in one text, without what differs between runs.
fn told(home: &Path, arguments: &[&str]) -> String {
    let output = run(home, arguments);
    let mut all = format!("exit {}\n", output.status.code().unwrap_or(-1));
    for (name, bytes) in [("", &output.stdout), ("2> ", &output.stderr)] {
        for line in String::from_utf8_lossy(bytes).lines() {
            all.push_str(name);
            all.push_str(line);
            all.push('\n');
        }
    }
    let all = all.replace(&home.to_string_lossy().into_owned(), "HOME");
    let domain = domain(home).unwrap_or_else(|| "no domain".to_owned());
    all.replace(&domain, "DOMAIN").replace(&examples().to_string_lossy().into_owned(), "EXAMPLES")
}

/// The trust domain of a home, as `init` told it.
fn domain(home: &Path) -> Option<String> {
    std::fs::read_to_string(home.join("domain")).ok()
}

/// A home with the identity of a node of a private site.
fn node() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let init = ["init", "--json", "--name", "gpu-1", "--site", "onprem", "--tier", "private"];
    let output = run(dir.path(), &init);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let domain = text.split("spiffe://").nth(1).and_then(|rest| rest.split('/').next());
    std::fs::write(dir.path().join("domain"), domain.expect("a trust domain")).expect("written");
    let sites = "[sites.cloud]\ntier = \"public\"\njurisdiction = \"us\"\n";
    std::fs::write(dir.path().join("portway.toml"), sites).expect("written");
    dir
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").join("examples/policies")
}

#[test]
fn the_help_of_every_command_is_pinned() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["show", "check", "explain", "test", "roles"] {
        let output = run(dir.path(), &["policy", name, "--help"]);
        assert!(output.status.success() && output.stderr.is_empty(), "{name}");
        with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
            let text = String::from_utf8_lossy(&output.stdout);
            assert_snapshot!(format!("help-policy-{name}"), text);
        });
    }
}

#[test]
fn the_policy_that_counts_is_shown_and_checked() {
    let dir = node();
    let shown = run(dir.path(), &["policy", "show"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("@id(\"private-stays-private\")"));
    let json = run(dir.path(), &["policy", "show", "--json"]);
    let json = String::from_utf8_lossy(&json.stdout).into_owned();
    assert!(
        json.starts_with("{\"event\":\"policy\",\"file\":\"the ready policy\",")
            && json.lines().count() == 1
    );
    let schema = run(dir.path(), &["policy", "show", "--schema"]);
    assert!(String::from_utf8_lossy(&schema.stdout).contains("entity Dataset in [Dataset]"));
    assert_snapshot!(told(dir.path(), &["policy", "check"]), @r"
exit 0
the ready policy: 7 policies, no mistakes
");
    // What is shown is a policy, and one in the home takes its place.
    std::fs::create_dir(dir.path().join("policy")).expect("made");
    std::fs::write(dir.path().join("policy/policy.cedar"), &shown.stdout).expect("written");
    assert_snapshot!(told(dir.path(), &["policy", "check"]), @r"
exit 0
HOME/policy/policy.cedar: 7 policies, no mistakes
");
    assert_eq!(run(dir.path(), &["policy", "show"]).stdout, shown.stdout);
}

#[test]
fn mistakes_are_told_with_line_column_and_caret() {
    let dir = node();
    let text = "@id(\"a\")\npermit (principal, action, resource)\nwhen {\n\tprincipal.sight == context.from &&\n    \
                resource.class in Class::\"secret\"\n};\npermit (principal, action, resource);\n";
    std::fs::write(dir.path().join("wrong.cedar"), text).expect("written");
    assert_snapshot!(told(dir.path(), &["policy", "check", "wrong.cedar"]), @r#"
exit 1
wrong.cedar: mistake: policy 2 of the text has no usable @id
  = write @id("its-name") before it: a-z, 0-9, '-', '_', '.'
wrong.cedar:4:2: mistake: for policy `a`, attribute `sight` on entity type `Identity` not found
  | 	principal.sight == context.from &&
  | 	^^^^^^^^^^^^^^^
  = did you mean `site`?
wrong.cedar:5:23: mistake: Class::"secret" is no class
  |     resource.class in Class::"secret"
  |                       ^^^^^^^^^^^^^^^
  = the classes are public, internal, confidential, restricted
2> error: wrong.cedar: 3 mistakes
2> hint: portway policy show prints one that works; --schema, what policies can speak of
"#);
    assert_snapshot!(told(dir.path(), &["--json", "policy", "check", "wrong.cedar"]), @r#"
exit 1
{"event":"policy_mistake","file":"wrong.cedar","level":"mistake","line":null,"column":null,"message":"policy 2 of the text has no usable @id","help":"write @id(\"its-name\") before it: a-z, 0-9, '-', '_', '.'"}
{"event":"policy_mistake","file":"wrong.cedar","level":"mistake","line":4,"column":2,"message":"for policy `a`, attribute `sight` on entity type `Identity` not found","help":"did you mean `site`?"}
{"event":"policy_mistake","file":"wrong.cedar","level":"mistake","line":5,"column":23,"message":"Class::\"secret\" is no class","help":"the classes are public, internal, confidential, restricted"}
{"event":"error","code":"policy","message":"wrong.cedar: 3 mistakes","hint":"portway policy show prints one that works; --schema, what policies can speak of","exit":1}
2> error: wrong.cedar: 3 mistakes
2> hint: portway policy show prints one that works; --schema, what policies can speak of
"#);
    std::fs::write(
        dir.path().join("open.cedar"),
        "@id(\"a\") permit (principal, action resource);",
    )
    .expect("written");
    assert_snapshot!(told(dir.path(), &["policy", "check", "open.cedar"]), @r#"
exit 1
open.cedar:1:36: mistake: unexpected token `resource`
  | @id("a") permit (principal, action resource);
  |                                    ^^^^^^^^
2> error: open.cedar: 1 mistake
2> hint: portway policy show prints one that works; --schema, what policies can speak of
"#);
    assert_snapshot!(told(dir.path(), &["policy", "check", "none.cedar"]), @r"
exit 1
2> error: none.cedar: no such file or directory
2> hint: check the path, and your rights to read it
");
    let never = "@id(\"never\") permit (principal, action, resource) when { false };";
    std::fs::write(dir.path().join("never.cedar"), never).expect("written");
    assert_snapshot!(told(dir.path(), &["policy", "check", "never.cedar"]), @r#"
exit 0
never.cedar:1:1: warning: for policy `never`, policy is impossible: the policy expression evaluates to false for all valid requests
  | @id("never") permit (principal, action, resource) when { false };
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
never.cedar: 1 policy, no mistakes
"#);
}

#[test]
fn a_decision_is_explained_with_everything_that_it_saw() {
    let dir = node();
    let explain = |arguments: &[&str]| {
        let at = ["--at", "2026-06-01T12:34:56Z"];
        told(dir.path(), &[&["policy", "explain"], arguments, &at].concat())
    };
    assert_snapshot!(explain(&["onprem/node/gpu-1", "push", "data/tokens", "cloud"]), @r"
exit 4
denied: forbidden by policy private-stays-private: only the lowest class leaves a private site for a public one
  policy 1 (e20e6296322c), roles 0
  action                       push
  principal                    spiffe://DOMAIN/tier/private/site/onprem/node/gpu-1
  principal.kind               node
  principal.domain             DOMAIN
  principal.site               onprem
  principal.site.tier          private
  principal.site.jurisdiction  unknown
  principal.name               gpu-1
  principal in Role            -
  resource.path                data/tokens
  resource.class               internal
  resource.class.lowest        false
  resource.class.highest       false
  resource.site                onprem
  context.from                 onprem
  context.from.tier            private
  context.from.jurisdiction    unknown
  context.to                   cloud
  context.to.tier              public
  context.to.jurisdiction      us
  context.transport            quic
  context.encrypted            true
  context.time                 2026-06-01T12:34:00Z
  context.policy               1
");
    assert_snapshot!(explain(&["onprem/node/gpu-1", "push", "data/tokens", "cloud", "--class", "public", "--json"]), @r#"
exit 0
{"event":"decision","verdict":"granted","reason":"permitted by policy nodes-move-data","by":["nodes-move-data"],"policy":1,"digest":"e20e6296322ce1f452b4c5e14f50e415f2c5567af414c28d8cd54cdc93381943","roles":0,"attributes":{"action":"push","context.encrypted":"true","context.from":"onprem","context.from.jurisdiction":"unknown","context.from.tier":"private","context.policy":"1","context.time":"2026-06-01T12:34:00Z","context.to":"cloud","context.to.jurisdiction":"us","context.to.tier":"public","context.transport":"quic","principal":"spiffe://DOMAIN/tier/private/site/onprem/node/gpu-1","principal in Role":"-","principal.domain":"DOMAIN","principal.kind":"node","principal.name":"gpu-1","principal.site":"onprem","principal.site.jurisdiction":"unknown","principal.site.tier":"private","resource.class":"public","resource.class.highest":"false","resource.class.lowest":"true","resource.path":"data/tokens","resource.site":"onprem"}}
"#);
    assert_snapshot!(explain(&["cloud/node/vm-1", "pull", "data/tokens", "cloud"]), @r"
exit 4
denied: forbidden by policy private-stays-private: only the lowest class leaves a private site for a public one
  policy 1 (e20e6296322c), roles 0
  action                       pull
  principal                    spiffe://DOMAIN/tier/public/site/cloud/node/vm-1
  principal.kind               node
  principal.domain             DOMAIN
  principal.site               cloud
  principal.site.tier          public
  principal.site.jurisdiction  us
  principal.name               vm-1
  principal in Role            -
  resource.path                data/tokens
  resource.class               internal
  resource.class.lowest        false
  resource.class.highest       false
  resource.site                onprem
  context.from                 onprem
  context.from.tier            private
  context.from.jurisdiction    unknown
  context.to                   cloud
  context.to.tier              public
  context.to.jurisdiction      us
  context.transport            quic
  context.encrypted            true
  context.time                 2026-06-01T12:34:00Z
  context.policy               1
");
    assert_snapshot!(explain(&["onprem/node/gpu-1", "relabel", "data", "onprem", "--transport", "none", "--new-class", "public", "--second", "onprem/node/gpu-2"]), @r"
exit 4
denied: no policy permits it
  policy 1 (e20e6296322c), roles 0
  action                       relabel
  principal                    spiffe://DOMAIN/tier/private/site/onprem/node/gpu-1
  principal.kind               node
  principal.domain             DOMAIN
  principal.site               onprem
  principal.site.tier          private
  principal.site.jurisdiction  unknown
  principal.name               gpu-1
  principal in Role            -
  resource.path                data
  resource.class               internal
  resource.class.lowest        false
  resource.class.highest       false
  resource.site                onprem
  context.from                 onprem
  context.from.tier            private
  context.from.jurisdiction    unknown
  context.to                   onprem
  context.to.tier              private
  context.to.jurisdiction      unknown
  context.transport            none
  context.encrypted            true
  context.time                 2026-06-01T12:34:00Z
  context.policy               1
  context.class                public
  context.lowers               true
  context.second               spiffe://DOMAIN/tier/private/site/onprem/node/gpu-2
  context.second in Role       -
");
    assert_snapshot!(explain(&["onprem/node/gpu-1", "push", "data", "onprem", "--transport", "rdma", "--class", "restricted"]), @r"
exit 4
denied: rule rdma-classes: RDMA is not encrypted, and this class is not configured to travel so
  policy 1 (e20e6296322c), roles 0
  action                       push
  principal                    spiffe://DOMAIN/tier/private/site/onprem/node/gpu-1
  principal.kind               node
  principal.domain             DOMAIN
  principal.site               onprem
  principal.site.tier          private
  principal.site.jurisdiction  unknown
  principal.name               gpu-1
  principal in Role            -
  resource.path                data
  resource.class               restricted
  resource.class.lowest        false
  resource.class.highest       true
  resource.site                onprem
  context.from                 onprem
  context.from.tier            private
  context.from.jurisdiction    unknown
  context.to                   onprem
  context.to.tier              private
  context.to.jurisdiction      unknown
  context.transport            rdma
  context.encrypted            false
  context.time                 2026-06-01T12:34:00Z
  context.policy               1
");
    assert_snapshot!(explain(&["onprem/node/gpu-1", "push", "data", "elsewhere"]), @r"
exit 2
2> error: the tier of the site elsewhere is not known
2> hint: write elsewhere:private or elsewhere:public, or give the site a table [sites.elsewhere] with its tier in portway.toml
");
    assert_snapshot!(explain(&["elsewhere/node/x", "push", "data", "cloud"]), @r#"
exit 2
2> error: "elsewhere/node/x" is no identity
2> hint: write SITE/node/NAME or SITE/workload/NAME of a site that [sites] has, or a SPIFFE id like spiffe://DOMAIN/tier/public/site/eu1/node/cloud
"#);
    assert_snapshot!(explain(&["onprem/node/gpu-1", "push", "../data", "cloud"]), @r"
exit 2
2> error: ../data cannot be a dataset: a path component is '.' or '..'
2> hint: name a path below the node's root
");
    assert_snapshot!(explain(&["spiffe://d/me", "push", "data", "cloud"]), @r"
exit 2
2> error: spiffe://d/me is not the identity of a node or a workload of a site
2> hint: its path is /tier/TIER/site/SITE/node/NAME, or workload for node
");
    assert_snapshot!(explain(&["onprem/node/gpu-1", "copy", "data", "cloud"]), @r"
exit 2
2> error: invalid value 'copy' for '<ACTION>'
2>   [possible values: push, pull, list, verify, relabel, administer]
2> hint: portway policy --help
");
    let elsewhere = explain(&["onprem/node/gpu-1", "push", "data", "elsewhere:private"]);
    assert!(elsewhere.starts_with("exit 0\ngranted: "), "{elsewhere}");
}

#[test]
fn a_policy_that_is_wrong_explains_nothing() {
    let dir = node();
    let explain = ["policy", "explain", "onprem/node/gpu-1", "push", "data", "onprem"];
    assert!(run(dir.path(), &explain).status.success());
    std::fs::create_dir(dir.path().join("policy")).expect("made");
    std::fs::write(dir.path().join("policy/policy.cedar"), "permit").expect("written");
    assert_snapshot!(told(dir.path(), &explain), @r"
exit 1
2> error: HOME/policy/policy.cedar: line 1: unexpected end of input
2> hint: portway policy check says what is wrong, line by line
");
    let named = [&explain[..], &["--set", "border.policy=none.cedar"]].concat();
    assert_snapshot!(told(dir.path(), &named), @r"
exit 1
2> error: none.cedar, which border.policy names, is not there
2> hint: write it, or take border.policy out of portway.toml
");
}

#[test]
fn the_examples_pass_and_a_case_that_fails_fails_the_command() {
    let dir = node();
    let table = |name: &str| examples().join(name).to_string_lossy().into_owned();
    let names = ["ready.toml", "public-burst.toml", "environments.toml", "residency.toml"];
    let all = names.map(table);
    let arguments: Vec<&str> =
        ["policy", "test"].into_iter().chain(all.iter().map(String::as_str)).collect();
    assert_snapshot!(told(dir.path(), &arguments), @r"
exit 0
ok    inside a site every class moves
ok    RDMA moves all classes but the highest
ok    RDMA does not move the highest class
ok    RDMA does not leave the site
ok    the lowest class leaves for the cloud
ok    a dataset without a label stays
ok    a node of the cloud cannot fetch it either
ok    nor see its names
ok    results come home
ok    a workload reads what its role covers
ok    a workload has no rights of its node
ok    a class is lowered by two stewards
ok    one steward lowers nothing
ok    an exporter sends a cleared dataset to the cloud
ok    not when the grant is over
ok    not another dataset
ok    not another node
ok    not a higher class, though it lies in the folder
ok    the cloud cannot fetch what could be sent
ok    nor look whether it is there
ok    public data is open to the cloud
ok    a checkpoint comes home
ok    private sites share everything
ok    no node raises or lowers a class alone
ok    CI releases to staging
ok    CI releases nothing else
ok    staging promotes to prod
ok    nobody goes around staging
ok    prod's sites share their data
ok    a developer does not fetch from prod
ok    nor does a releaser bring users' data down
ok    open data comes down for tests
ok    a site of no environment is none
ok    personal data is shared inside the law
ok    personal data does not go to the US, whatever its class
ok    nor is it fetched from there
ok    nor to a site whose law nobody wrote down
ok    other internal data goes to the US
ok    confidential data is tiered out at home
ok    but not abroad
ok    restricted data is not tiered out at all
ok    the archive takes data at night
ok    the archive takes none by day
43 cases, 0 failed
");
    let case = "[sites]\ndc = { tier = \"private\" }\ncloud = { tier = \"public\" }\n[[case]]\nname = \"it leaves\"\n\
                who = \"dc/node/a\"\naction = \"push\"\nwhat = \"x\"\nfrom = \"dc\"\nto = \"cloud\"\nexpect = \"granted\"\n";
    std::fs::write(dir.path().join("cases.toml"), case).expect("written");
    assert_snapshot!(told(dir.path(), &["policy", "test", "cases.toml"]), @r"
exit 1
FAIL  cases.toml: it leaves
      denied: forbidden by policy private-stays-private: only the lowest class leaves a private site for a public one
      expected: granted
1 case, 1 failed
2> error: 1 of 1 case not decided as expected
2> hint: correct the policy, or the cases that say what it should do
");
    assert_snapshot!(told(dir.path(), &["--json", "policy", "test", "cases.toml"]), @r#"
exit 1
{"event":"case","file":"cases.toml","name":"it leaves","passed":false,"expected":"granted","verdict":"denied","reason":"forbidden by policy private-stays-private: only the lowest class leaves a private site for a public one","by":["private-stays-private"]}
{"event":"error","code":"cases-failed","message":"1 of 1 case not decided as expected","hint":"correct the policy, or the cases that say what it should do","exit":1}
2> error: 1 of 1 case not decided as expected
2> hint: correct the policy, or the cases that say what it should do
"#);
    std::fs::write(dir.path().join("cases.toml"), case.replace("granted", "maybe"))
        .expect("written");
    assert_snapshot!(told(dir.path(), &["policy", "test", "cases.toml"]), @r#"
exit 2
2> error: cases.toml: case "it leaves": expect "maybe" is not granted or denied
2> hint: docs/border.md shows a table of cases
"#);
    std::fs::write(dir.path().join("cases.toml"), format!("policy = \"none\"\n{case}"))
        .expect("written");
    assert_snapshot!(told(dir.path(), &["policy", "test", "cases.toml"]), @r"
exit 1
2> error: none: no such file or directory
2> hint: check the path, and your rights to read it
");
}

#[test]
fn roles_are_granted_listed_and_revoked() {
    let dir = node();
    let told = |arguments: &[&str]| told(dir.path(), arguments);
    let train = "onprem/workload/train";
    assert_snapshot!(told(&["policy", "roles"]), @r"
exit 0
2> no role was ever granted: portway grant IDENTITY ROLE
");
    assert_snapshot!(told(&["grant", train, "reader", "--dataset", "data", "--until", "2999-01-01"]), @r"
exit 0
spiffe://DOMAIN/tier/private/site/onprem/workload/train has the role reader; version 1 of the roles counts at every node that has the bundle
");
    assert_snapshot!(told(&["grant", "cloud/node/vm-1", "admin", "--json"]), @r#"
exit 0
{"event":"roles_changed","identity":"spiffe://DOMAIN/tier/public/site/cloud/node/vm-1","change":"granted","version":2,"signed_by":"ca"}
"#);
    assert_snapshot!(told(&["policy", "roles"]), @r"
exit 0
spiffe://DOMAIN/tier/private/site/onprem/workload/train  reader  data  until 2999-01-01T00:00:00Z
spiffe://DOMAIN/tier/public/site/cloud/node/vm-1  admin  .
");
    assert_snapshot!(told(&["policy", "roles", "--json"]), @r#"
exit 0
{"event":"role","identity":"spiffe://DOMAIN/tier/private/site/onprem/workload/train","role":"reader","dataset":"data","until":"2999-01-01T00:00:00Z"}
{"event":"role","identity":"spiffe://DOMAIN/tier/public/site/cloud/node/vm-1","role":"admin","dataset":".","until":null}
"#);
    let explain = ["policy", "explain", train, "pull", "data/x", "onprem", "--json"];
    assert!(told(&explain).starts_with("exit 0\n"));
    assert_snapshot!(told(&["revoke", train, "writer"]), @r"
exit 2
2> error: spiffe://DOMAIN/tier/private/site/onprem/workload/train has no such grant, and is not revoked
2> hint: portway policy roles lists what is granted and revoked
");
    assert_snapshot!(told(&["revoke", train, "reader", "--dataset", "data"]), @r"
exit 0
spiffe://DOMAIN/tier/private/site/onprem/workload/train has no longer the role reader; version 3 of the roles counts at every node that has the bundle
");
    assert!(told(&explain).starts_with("exit 4\n"));
    assert_snapshot!(told(&["revoke", "cloud/node/vm-1"]), @r"
exit 0
spiffe://DOMAIN/tier/public/site/cloud/node/vm-1 is revoked and may do nothing; version 4 of the roles counts at every node that has the bundle
");
    assert_snapshot!(told(&["grant", "cloud/node/vm-1", "reader"]), @r"
exit 2
2> error: spiffe://DOMAIN/tier/public/site/cloud/node/vm-1 is revoked
2> hint: portway grant IDENTITY, without a role, readmits it first
");
    assert_snapshot!(told(&["policy", "roles"]), @r"
exit 0
spiffe://DOMAIN/tier/public/site/cloud/node/vm-1  revoked
");
    assert_snapshot!(told(&["grant", "cloud/node/vm-1"]), @r"
exit 0
spiffe://DOMAIN/tier/public/site/cloud/node/vm-1 is readmitted; version 5 of the roles counts at every node that has the bundle
");
    assert_snapshot!(told(&["grant", train, "reader", "--until", "2020-01-01"]), @r"
exit 2
2> error: the time until which it would hold has passed
2> hint: give a time that is to come
");
    assert_snapshot!(told(&["grant", train, "reader", "--until", "soon"]), @r"
exit 2
2> error: invalid value 'soon' for '--until <TIME>': a time is 2026-12-31 or 2026-12-31T23:59:59Z, in UTC, from 1970 on
2> hint: portway grant --help
");
    assert_snapshot!(told(&["grant", train, "--dataset", "data"]), @r"
exit 2
2> error: the following required arguments were not provided:
2>   <ROLE>
2> hint: usage is portway grant --dataset <PATH> <IDENTITY> <ROLE>
");
    assert_snapshot!(told(&["grant", "me", "reader"]), @r#"
exit 2
2> error: "me" is no identity
2> hint: write SITE/node/NAME or SITE/workload/NAME of a site that [sites] has, or a SPIFFE id like spiffe://DOMAIN/tier/public/site/eu1/node/cloud
"#);
    // Another node takes the bundle, and none that is older.
    let bundle = dir.path().join("policy/roles.bundle");
    std::fs::copy(&bundle, dir.path().join("old")).expect("copied");
    assert!(told(&["policy", "roles", "--take", "old"]).starts_with("exit 0\n"));
    assert!(told(&["grant", train, "writer"]).starts_with("exit 0\n"));
    assert_snapshot!(told(&["policy", "roles", "--take", "old"]), @r"
exit 1
2> error: old: the roles are version 5, older than version 6 that counts here
2> hint: take the bundle of roles anew from the node that grants them
");
    // Elsewhere than where the trust domain began, the node signs for itself.
    std::fs::remove_file(dir.path().join("identity/ca.key")).expect("removed");
    assert_snapshot!(told(&["grant", train, "reader"]), @r"
exit 0
spiffe://DOMAIN/tier/private/site/onprem/workload/train has the role reader; version 7 of the roles counts at this node only
");
    assert_eq!(told(&["policy", "roles"]).lines().count(), 3);
}

#[test]
fn a_bundle_that_was_changed_is_told() {
    let dir = node();
    assert!(run(dir.path(), &["grant", "onprem/node/gpu-1", "admin"]).status.success());
    let path = dir.path().join("policy/roles.bundle");
    let mut bytes = std::fs::read(&path).expect("a bundle");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    assert_snapshot!(told(dir.path(), &["policy", "roles"]), @r"
exit 1
2> error: HOME/policy/roles.bundle: the roles are signed neither by the CA of the trust domain nor by this node
2> hint: take the bundle of roles anew from the node that grants them
");
    assert_snapshot!(told(dir.path(), &["grant", "onprem/node/gpu-1", "reader"]), @r"
exit 1
2> error: HOME/policy/roles.bundle: the roles are signed neither by the CA of the trust domain nor by this node
2> hint: take the bundle of roles anew from the node that grants them
");
}
