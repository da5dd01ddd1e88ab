//! Two nodes on this machine, from the first command to an interrupted transfer.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

fn portway(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portway"));
    command.env_clear().env("PORTWAY_HOME", home).args(arguments);
    command
}

fn run(home: &Path, arguments: &[&str], exit: i32) -> Output {
    let output = portway(home, arguments).output().expect("the command starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {words}");
    output
}

fn events(output: &Output) -> Vec<Value> {
    let lines = output.stdout.split(|&c| c == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let status = Command::new("/bin/kill").args([name, &pid]).status().expect("kill starts");
    assert!(status.success());
}

/// A child that is killed if the test ends early.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_first_transfer_between_two_nodes_and_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let path = |name: &str| at(name).to_string_lossy().into_owned();
    let (onprem, cloud) = (at("h1"), at("h2"));
    std::fs::create_dir_all(at("root")).expect("made");
    std::fs::create_dir_all(at("step-1/shards")).expect("made");
    std::fs::write(at("step-1/model"), vec![7; 3 << 20]).expect("written");
    std::fs::write(at("step-1/shards/a:b"), "tokens").expect("written");

    let open = "[border]\ndefault_class = \"public\"\n";
    for home in [&onprem, &cloud] {
        std::fs::create_dir_all(home).expect("made");
        std::fs::write(home.join("portway.toml"), open).expect("written");
    }
    run(&onprem, &["init", "--name", "onprem", "--site", "dc", "--tier", "private"], 0);
    let mut serve = portway(&onprem, &["serve", "--root", &path("root"), "--json"]);
    serve.args(["--listen", "127.0.0.1:0", "--quiet"]).stdout(Stdio::piped());
    let mut serve = Running(serve.spawn().expect("serve starts"));
    let mut said = BufReader::new(serve.0.stdout.take().expect("piped")).lines();
    let listening: Value =
        serde_json::from_str(&said.next().expect("a line").expect("read")).expect("JSON");
    assert_eq!(listening["event"], "listening");
    assert_eq!(listening["node"], "onprem");
    let address = listening["address"].as_str().expect("an address").to_owned();

    let invite = ["invite", "--name", "cloud", "--site", "eu", "--tier", "public", "--quiet"];
    let token = run(&onprem, &invite, 0).stdout;
    let mut join = portway(&cloud, &["join", "-"]);
    let mut join = join.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("join starts");
    join.stdin.take().expect("piped").write_all(&token).expect("written");
    assert!(join.wait().expect("ended").success());

    // Nothing moves where RDMA is asked for and cannot be.
    let refused = ["push", "--transport", "rdma", "--json", &path("step-1"), "onprem:ck/"];
    let refused = events(&run(&cloud, &refused, 1));
    assert_eq!(refused.last().expect("events")["code"], "no-rdma");
    let plan = events(&run(&cloud, &["plan", "--json", &path("step-1"), "onprem:ck/"], 0));
    assert_eq!(plan[0]["transport"], "quic");
    assert_eq!(plan[0]["transport_reason"], "onprem is of site dc, this node of eu");
    let doctor = portway(&cloud, &["doctor", "onprem", "--json"]).output();
    let found = events(&doctor.expect("the command starts"));
    let found = found.iter().find(|found| found["check"] == "transport").expect("told");
    assert_eq!(found["finding"], "quic: onprem is of site dc, this node of eu");

    let pushed = events(&run(&cloud, &["push", "--json", &path("step-1"), "onprem:ck/"], 0));
    let summary = pushed.last().expect("events");
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["verified"], true);
    assert_eq!(summary["files"], 2);
    let bytes = |key: &str| summary[key].as_u64().expect("a number");
    let ways = bytes("bytes_sent") + bytes("bytes_deduplicated") + bytes("bytes_resumed");
    assert_eq!(bytes("bytes_total"), ways);
    assert_eq!(std::fs::read(at("root/ck/step-1/shards/a:b")).expect("arrived"), b"tokens");

    // What it took of the wire is known, its price is not, so it cannot be bounded either.
    let costs = events(&run(&cloud, &["cost", "report", "--json"], 0));
    let row = |row: &Value| (row["by"].clone(), row["key"].clone(), row["price"].clone());
    let told = |by: &str, key: &str| (by.into(), key.into(), Value::Null);
    assert_eq!(
        [row(&costs[0]), row(&costs[1])],
        [told("link", "internet"), told("total", "total")]
    );
    assert!(costs[0]["sent_bytes"].as_u64() > Some(10_000), "{costs:?}");
    let table = run(&cloud, &["cost", "report", "--by", "dataset", "--format", "csv"], 0).stdout;
    let table = String::from_utf8(table).expect("UTF-8");
    assert!(table.lines().any(|line| line.starts_with("\"ck/step-1\",")), "{table}");
    let bounded = ["push", "--json", "--max-cost", "0.5", &path("step-1"), "onprem:dear"];
    let refused = events(&run(&cloud, &bounded, 4));
    assert_eq!(refused.last().expect("events")["code"], "budget");
    let late = ["push", "--json", "--deadline", "2020-01-01", &path("step-1"), "onprem:late"];
    let refused = events(&run(&cloud, &late, 4));
    assert_eq!(refused.last().expect("events")["code"], "deadline");

    let url = format!("portway://{address}/ck/step-1");
    run(&cloud, &["pull", &url, &path("back")], 0);
    assert_eq!(std::fs::read(at("back/model")).expect("arrived"), vec![7; 3 << 20]);
    let verified = events(&run(&cloud, &["verify", "--json", "onprem:ck/step-1"], 0));
    assert_eq!(verified[0]["bad_total"], 0);
    let listed = events(&run(&cloud, &["ls", "--json", "onprem:ck"], 0));
    assert_eq!(listed[0]["name"], "step-1");
    let planned = events(&run(&cloud, &["plan", "--json", &path("step-1"), "onprem:ck2"], 0));
    assert_eq!(planned[0]["bytes_to_send"], 0);
    let status = events(&run(&onprem, &["status", "--json"], 0));
    assert_eq!(status[0]["node"], "onprem");
    let keep = ["push", "--json", "--whole", "--keep", "1", &path("step-1"), "onprem:ck/step-2"];
    let kept = events(&run(&cloud, &keep, 0));
    assert!(kept.iter().any(|e| e["event"] == "removed" && e["name"] == "step-1"), "{kept:?}");
    let newest = events(&run(&cloud, &["watch", "--once", "--json", "onprem:ck"], 0));
    assert_eq!(
        (newest[0]["path"].as_str(), newest[0]["step"].as_u64()),
        (Some("onprem:ck/step-2"), Some(2))
    );
    run(&cloud, &["watch", "--once", "onprem:"], 1);
    run(&cloud, &["pull", "onprem:missing", &path("nothing")], 1);

    let shown = run(&cloud, &["audit", "show", "--since", "1h", "--peer", "onprem"], 0).stdout;
    let shown = String::from_utf8(shown).expect("text");
    assert!(shown.lines().all(|line| line.chars().all(|c| !c.is_control())), "{shown}");
    let signed = |line: &&str| line.contains("  receipt ") && line.contains("ck/step-1");
    assert!(shown.lines().filter(signed).count() >= 2, "a push and a pull:\n{shown}");
    let records = events(&run(&cloud, &["audit", "show", "--json"], 0));
    assert!(records.iter().all(|it| it["event"] == "audit_record" && it["seq"].is_u64()));
    let found = events(&run(&cloud, &["audit", "verify", "--peer", "onprem", "--json"], 0));
    let found = found.last().expect("events");
    assert_eq!((&found["event"], &found["differences"]), (&"audit_reconciled".into(), &0.into()));
    assert!(found["receipts"].as_u64() >= Some(3), "{found}");

    signal(&serve.0, "-TERM");
    assert_eq!(serve.0.wait().expect("ended").code(), Some(0));
    let unreached = events(&run(&cloud, &["audit", "verify", "--peer", "onprem", "--json"], 1));
    assert_eq!(unreached.last().expect("events")["code"], "peer-unreachable");
    let last = said.last().expect("a line").expect("read");
    assert_eq!(last, r#"{"event":"stopped"}"#);
    run(&onprem, &["status"], 1);

    // Nobody answers now: the transfer waits, and one interrupt ends it where it can resume.
    let mut waiting = portway(&cloud, &["push", "--json", &path("step-1"), "onprem:ck3"]);
    let waiting = waiting.env("PORTWAY_PROGRESS_MS", "10").stdout(Stdio::piped());
    let mut waiting = Running(waiting.stderr(Stdio::null()).spawn().expect("push starts"));
    let mut said = BufReader::new(waiting.0.stdout.take().expect("piped")).lines();
    let progress = said.find(|line| line.as_ref().is_ok_and(|line| line.contains("\"progress\"")));
    assert!(progress.is_some());
    signal(&waiting.0, "-INT");
    let last = said.last().expect("a line").expect("read");
    let last: Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!((last["event"].as_str(), last["exit"].as_u64()), (Some("error"), Some(5)));
    assert_eq!(waiting.0.wait().expect("ended").code(), Some(5));
}

#[test]
fn a_workload_reads_what_it_was_granted_and_is_the_second_to_lower_a_class() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let path = |name: &str| at(name).to_string_lossy().into_owned();
    let (onprem, job) = (at("h1"), at("h2"));
    std::fs::create_dir_all(at("root/open")).expect("made");
    std::fs::write(at("root/open/tokens"), "tokens").expect("written");
    run(&onprem, &["init", "--name", "onprem", "--site", "dc", "--tier", "private"], 0);
    let mut serve = portway(&onprem, &["serve", "--root", &path("root"), "--json", "--quiet"]);
    serve.args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
    let mut serve = Running(serve.spawn().expect("serve starts"));
    let mut said = BufReader::new(serve.0.stdout.take().expect("piped")).lines();
    said.next().expect("a line").expect("listening");

    run(&onprem, &["invite", "--site", "dc", "--tier", "private"], 2);
    let invite = ["invite", "--workload", "train", "--site", "dc", "--tier", "private", "--json"];
    let invited = events(&run(&onprem, &invite, 0));
    assert_eq!(invited[0]["kind"], "workload");
    let joined = ["join", "--json", invited[0]["token"].as_str().expect("a token")];
    let joined = events(&run(&job, &joined, 0));
    assert_eq!((&joined[0]["node"], &joined[0]["kind"]), (&"train".into(), &"workload".into()));
    run(&job, &["serve", "--root", &path("root"), "--listen", "127.0.0.1:0"], 2);
    run(&job, &["ls", "onprem:open"], 4);
    let granted = |arguments: &[&str]| {
        run(&onprem, &[&["grant"], arguments].concat(), 0);
        // Longer than a node takes to see it.
        std::thread::sleep(std::time::Duration::from_millis(400));
    };
    granted(&["dc/workload/train", "reader", "--dataset", "open"]);
    run(&job, &["pull", "onprem:open", &path("got")], 0);
    assert_eq!(std::fs::read(at("got/tokens")).expect("arrived"), b"tokens");
    run(&job, &["push", &path("got"), "onprem:open/more"], 4);

    let set = path("root/open");
    run(&onprem, &["label", &set, "--class", "restricted"], 0);
    run(&onprem, &["label", &set, "--class", "public"], 4);
    let proposed = ["label", &set, "--class", "public", "--lower", "--json"];
    let proposed = events(&run(&onprem, &proposed, 0));
    let id = proposed[0]["id"].as_str().expect("an id");
    let approve = ["label", &set, "--class", "public", "--approve", id, "--at", "onprem", "--json"];
    run(&job, &approve, 4);
    granted(&["dc/workload/train", "steward"]);
    granted(&["dc/node/onprem", "steward"]);
    let lowered = events(&run(&job, &approve, 0));
    assert_eq!((&lowered[0]["class"], &lowered[0]["labelled"]), (&"public".into(), &2.into()));
    let class = events(&run(&onprem, &["label", &set, "--json"], 0));
    assert_eq!(class[0]["class"], "public");
    let status = events(&run(&onprem, &["status", "--json"], 0));
    assert_eq!(status[0]["roles"], 3);
    assert!(status[0]["valid_until_s"].as_u64().expect("a time") > 1_780_272_000);
    run(&onprem, &["revoke", "dc/workload/train"], 0);
    std::thread::sleep(std::time::Duration::from_millis(400));
    let refused = run(&job, &["ls", "onprem:open"], 4);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("is revoked") && words.contains("hint:"), "{words}");
}

/// A node that serves `root`, and what it said first.
fn serves(home: &Path, root: &Path) -> (Running, Value) {
    let mut serve = portway(home, &["serve", "--json", "--quiet", "--listen", "127.0.0.1:0"]);
    let mut serve =
        serve.arg("--root").arg(root).stdout(Stdio::piped()).spawn().expect("serve starts");
    let mut line = String::new();
    let mut said = BufReader::new(serve.stdout.take().expect("piped"));
    said.read_line(&mut line).expect("a line");
    (Running(serve), serde_json::from_str(&line).expect("JSON"))
}

#[test]
fn a_home_is_served_once_and_again_after_a_kill() {
    let dir = tempfile::tempdir().expect("a directory");
    let (home, root) = (dir.path().join("h"), dir.path().join("root"));
    std::fs::create_dir(&root).expect("made");
    run(&home, &["init", "--name", "onprem", "--site", "dc", "--tier", "private"], 0);
    let (mut first, listening) = serves(&home, &root);
    assert_eq!(listening["event"], "listening");
    let pid = first.0.id();
    let status = || events(&run(&home, &["status", "--json"], 0))[0]["node"].clone();
    let record = || {
        let text = std::fs::read(home.join("run/serve.json")).expect("read");
        serde_json::from_slice::<Value>(&text).expect("JSON")
    };

    let (mut second, refused) = serves(&home, &root);
    assert_eq!(refused["code"], "served", "{refused}");
    let words = refused["message"].as_str().expect("a message");
    assert_eq!(words, format!("this home is served already by pid {pid}"));
    assert_eq!(second.0.wait().expect("ended").code(), Some(1));
    // The first one kept its place, for the other commands too.
    assert_eq!((status(), record()["pid"].as_u64()), ("onprem".into(), Some(pid.into())));

    first.0.kill().expect("killed");
    first.0.wait().expect("ended");
    let (again, listening) = serves(&home, &root);
    assert_eq!(listening["event"], "listening", "{listening}");
    assert_eq!(record()["pid"].as_u64(), Some(again.0.id().into()));
    assert_eq!(status(), "onprem");
}

#[test]
fn an_invitation_has_the_tier_of_its_site_and_tells_a_grant_that_works() {
    let dir = tempfile::tempdir().expect("a directory");
    let (home, root) = (dir.path().join("h"), dir.path().join("root"));
    std::fs::create_dir(&root).expect("made");
    run(&home, &["init", "--name", "onprem", "--site", "dc", "--tier", "private"], 0);
    let _serve = serves(&home, &root);
    // Written while it serves.
    let file = "[sites.eu]\ntier = \"public\"\n";
    std::fs::write(home.join("portway.toml"), file).expect("written");
    let invite = |kind: &str, site: &str, tier: &str, exit| {
        run(&home, &["invite", kind, "job", "--site", site, "--tier", tier], exit)
    };
    for (site, tier, known) in [
        ("dc", "public", "the site dc is private by this node's certificate, not public"),
        ("eu", "private", "the site eu is public by sites in portway.toml, not private"),
    ] {
        for kind in ["--name", "--workload"] {
            let refused = invite(kind, site, tier, 2);
            let words = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(words.contains(known) && words.contains("hint: a site has one"), "{words}");
            assert!(refused.stdout.is_empty(), "no token");
        }
    }
    invite("--name", "eu", "public", 0);
    invite("--name", "dc", "private", 0);

    // Of a site that portway.toml has not.
    let invited = invite("--workload", "lab", "public", 0);
    let words = String::from_utf8_lossy(&invited.stderr).into_owned();
    let grant = words.split_once("portway grant ").expect("a command").1;
    let grant: Vec<&str> = grant.lines().next().expect("a line").split(' ').collect();
    assert!(grant[0].ends_with("/tier/public/site/lab/workload/job"), "{words}");
    run(&home, &[&["grant"], grant.as_slice()].concat(), 0);
}
