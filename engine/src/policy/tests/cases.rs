//! Tables of cases: what they mean, and what is wrong with them.

use super::*;

const TABLE: &str = r#"
classes = ["open", "closed"]
default_class = "closed"
[sites]
dc1 = { tier = "private", jurisdiction = "de" }
cloud = { tier = "public" }
[identities]
gpu = "dc1/node/gpu-1"
[[grant]]
who = "cloud/workload/train"
role = "reader"
dataset = "data"
until = "2026-02-01"
[[case]]
name = "open leaves"
who = "gpu"
action = "push"
what = "data/a"
class = "open"
from = "dc1"
to = "cloud"
expect = "granted"
by = ["nodes-move-data"]
[[case]]
name = "the default class stays"
who = "gpu"
action = "push"
what = "data/a"
from = "dc1"
to = "cloud"
expect = "denied"
"#;

fn results(table: &str) -> Vec<CaseResult> {
    Cases::parse(table).expect("a table").run(BUILTIN).expect("a policy")
}

fn case(fields: &str) -> String {
    format!("{TABLE}[[case]]\nname = \"it\"\n{fields}")
}

#[test]
fn a_table_is_decided_case_by_case() {
    let results = results(TABLE);
    assert_eq!(
        results.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
        ["open leaves", "the default class stays"]
    );
    assert!(results.iter().all(CaseResult::passed));
    assert_eq!(results[1].decision.by, ["private-stays-private"]);
}

#[test]
fn a_verdict_or_a_policy_that_was_not_expected_fails_the_case() {
    let flipped = results(&TABLE.replace("expect = \"granted\"", "expect = \"denied\""));
    assert!(!flipped[0].passed() && flipped[1].passed());
    let other = results(&TABLE.replace("[\"nodes-move-data\"]", "[\"readers-fetch\"]"));
    assert!(!other[0].passed());
    assert_eq!(other[0].expected, other[0].decision.verdict);
}

#[test]
fn time_transport_and_relabelling_are_of_the_case() {
    let of = |fields: &str| results(&case(fields)).pop().expect("the case").decision;
    let read = "who = \"cloud/workload/train\"\naction = \"pull\"\nwhat = \"data\"\nclass = \"open\"\nfrom = \"cloud\"\nexpect = \"granted\"\n";
    assert_eq!(of(read).verdict, Verdict::Granted);
    assert_eq!(of(&format!("{read}at = \"2026-02-01\"")).verdict, Verdict::Denied);
    let rdma = "who = \"gpu\"\naction = \"push\"\nwhat = \"x\"\nclass = \"open\"\nfrom = \"dc1\"\nexpect = \"granted\"\ntransport = \"rdma\"\n";
    assert_eq!(of(rdma).verdict, Verdict::Granted);
    assert_eq!(of(&format!("{rdma}to = \"cloud\"")).by, ["rdma-inside-a-private-site"]);
    let relabel = "who = \"gpu\"\naction = \"relabel\"\nwhat = \"x\"\nfrom = \"dc1\"\nexpect = \"denied\"\nnew_class = \"open\"\n";
    assert_eq!(of(relabel).by, ["two-lower-a-class"]);
    assert!(of(&format!("{relabel}second = \"dc1/node/gpu-2\"")).by.is_empty());
    let revoked = results(&format!("revoked = [\"gpu\"]\n{TABLE}"));
    assert_eq!(revoked[0].decision.by, ["revoked-identity"]);
}

#[test]
fn what_makes_no_sense_is_told_with_its_place() {
    let told = |table: &str| Cases::parse(table).map(|_| ()).map_err(|error| error.to_string());
    let shape = told(&TABLE.replace("dataset =", "datset =")).expect_err("refused");
    assert!(shape.contains("line 12") && shape.contains("unknown field `datset`"), "{shape}");
    assert_eq!(told("[sites]"), Err("there is no [[case]]".to_owned()));
    let base =
        "who = \"gpu\"\naction = \"push\"\nwhat = \"x\"\nfrom = \"dc1\"\nexpect = \"denied\"\n";
    assert_eq!(told(&case(base)), Ok(()));
    for (field, value, wanted) in [
        (
            "who",
            "nobody",
            "one of [identities], nor SITE/node/NAME or SITE/workload/NAME of [sites], nor a SPIFFE id",
        ),
        (
            "who",
            "dc9/node/gpu-1",
            "one of [identities], nor SITE/node/NAME or SITE/workload/NAME of [sites], nor a SPIFFE id",
        ),
        ("action", "copy", "push, pull, list, verify, relabel or administer"),
        ("what", "../x", "a path below a node's root"),
        ("from", "dc9", "one of [sites]"),
        ("expect", "maybe", "granted or denied"),
        ("transport", "tcp", "none, quic or rdma"),
        ("at", "noon", "2026-12-31 or 2026-12-31T23:59:59Z"),
    ] {
        let kept: String = base
            .lines()
            .filter(|line| !line.starts_with(field))
            .fold(String::new(), |all, line| all + line + "\n");
        let table = case(&format!("{kept}{field} = \"{value}\"\n"));
        assert_eq!(told(&table), Err(format!("case \"it\": {field} {value:?} is not {wanted}")));
    }
    let classes = told(&TABLE.replace("default_class = \"closed\"", "default_class = \"x\""));
    assert_eq!(classes, Err("x is none of the classes open, closed".to_owned()));
    let longest = format!("{TABLE}{}", " ".repeat(CASES_BYTES_MAX - TABLE.len()));
    assert_eq!(told(&longest), Ok(()));
    let long = " ".repeat(CASES_BYTES_MAX + 1);
    assert_eq!(Cases::parse(&long).err(), Some(CasesError::Large { len: CASES_BYTES_MAX + 1 }));
}

#[test]
fn the_example_policies_pass_their_cases() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policies");
    let mut count = 0;
    for file in std::fs::read_dir(&folder).expect("the examples") {
        let path = file.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let cases = Cases::parse(&std::fs::read_to_string(&path).expect("a table"));
        let cases = cases.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let policy = folder.join(cases.policy().expect("a policy is named"));
        let text = std::fs::read_to_string(policy).expect("a policy");
        let results =
            cases.run(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for result in &results {
            let told = result.decision.reason.as_str();
            assert!(result.passed(), "{}: {}: {told}", path.display(), result.name);
        }
        let verdicts = |verdict| results.iter().filter(|one| one.expected == verdict).count();
        assert!(verdicts(Verdict::Granted) >= 3 && verdicts(Verdict::Denied) >= 3);
        count += 1;
    }
    assert_eq!(count, 4, "each pattern, and the ready policy");
}
