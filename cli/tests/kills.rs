//! Real nodes that die at each step between a decision and its receipt, at either end of a push from a
//! private site to a public one.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Longest that a process may take to come to its step.
const STEP_MAX: Duration = Duration::from_secs(30);
/// Files of the snapshot that is pushed, and its large one.
const SMALL: usize = 30;
const LARGE_BYTES: usize = 3 << 20;

fn portway(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portway"));
    command.env_clear().env("PORTWAY_HOME", home).current_dir(home).args(arguments);
    command
}

fn run(home: &Path, arguments: &[&str]) -> Output {
    let output = portway(home, arguments).output().expect("the command starts");
    let words = String::from_utf8_lossy(&output.stderr);
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {words}\n{told}");
    output
}

fn lines(output: &Output) -> Vec<Value> {
    let lines = output.stdout.split(|&c| c == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
}

/// A child that is killed if the test ends early.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Waits until it has died at its step.
    fn died(mut self, what: &str) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.0.try_wait().expect("it can be waited for") {
                break status;
            }
            assert!(begun.elapsed() < STEP_MAX, "{what}: it does not come to that step");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.signal(), Some(6), "{what}: it passed that step, and ended by {status}");
    }

    fn stop(mut self) {
        let pid = self.0.id().to_string();
        let status = Command::new("/bin/kill").args(["-TERM", &pid]).status();
        assert!(status.expect("kill starts").success());
        self.0.wait().expect("ended");
    }
}

/// Where and when a process is to die: a step, and which time.
type Step<'a> = Option<&'a str>;

fn spawn(mut command: Command, step: Step<'_>) -> Running {
    if let Some(step) = step {
        command.env("PORTWAY_DIE_AT", step);
    }
    let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
    Running(command.spawn().expect("the command starts"))
}

/// Two nodes of two sites. The one that is called cloud serves.
struct Scene {
    dir: TempDir,
    address: String,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut scene = Self { dir, address: "127.0.0.1:0".to_owned() };
        for home in [scene.onprem(), scene.cloud()] {
            std::fs::create_dir_all(&home).expect("made");
            let open = "[border]\ndefault_class = \"public\"\n";
            std::fs::write(home.join("portway.toml"), open).expect("written");
        }
        let init = ["init", "--name", "onprem", "--site", "dc", "--tier", "private"];
        run(&scene.onprem(), &init);
        let (inviter, _) = scene.serve(&scene.onprem(), None, "127.0.0.1:0");
        let invite = ["invite", "--name", "cloud", "--site", "eu", "--tier", "public", "--quiet"];
        let token = run(&scene.onprem(), &invite).stdout;
        let mut join = portway(&scene.cloud(), &["join", "-"]);
        let join = join.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut join = join.spawn().expect("join starts");
        join.stdin.take().expect("piped").write_all(&token).expect("written");
        assert!(join.wait().expect("ended").success());
        inviter.stop();
        let (serve, address) = scene.serve(&scene.cloud(), None, "127.0.0.1:0");
        run(&scene.onprem(), &["nodes", "add", "cloud", &address]);
        scene.address = address;
        serve.stop();
        scene
    }

    fn onprem(&self) -> PathBuf {
        self.dir.path().join("h1")
    }

    fn cloud(&self) -> PathBuf {
        self.dir.path().join("h2")
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Gives the source content that is nowhere yet.
    fn fill(&self, seed: u64) {
        std::fs::create_dir_all(self.source()).expect("made");
        let mut state = 88_172_645_463_325_252_u64.wrapping_add(seed << 32);
        let mut noise = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .flatten();
        let mut write = |name: String, len: usize| {
            let content: Vec<u8> = noise.by_ref().take(len).collect();
            std::fs::write(self.source().join(name), content).expect("written");
        };
        (0..SMALL).for_each(|n| write(format!("small-{n:02}"), 500 + n));
        write("large".to_owned(), LARGE_BYTES);
    }

    /// Serves, and waits until it listens.
    fn serve(&self, home: &Path, step: Step<'_>, address: &str) -> (Running, String) {
        let root = if home == self.cloud() { self.root() } else { self.dir.path().join("other") };
        std::fs::create_dir_all(&root).expect("made");
        let root = root.to_string_lossy().into_owned();
        let arguments = ["serve", "--root", &root, "--json", "--listen", address, "--quiet"];
        let mut serve = spawn(portway(home, &arguments), step);
        let mut said = BufReader::new(serve.0.stdout.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("a line");
        let listening: Value = serde_json::from_str(&line).expect("it listens");
        (serve, listening["address"].as_str().expect("an address").to_owned())
    }

    fn push(&self, step: Step<'_>, target: &str) -> Running {
        let source = self.source().to_string_lossy().into_owned();
        let target = format!("cloud:{target}");
        spawn(portway(&self.onprem(), &["push", "--json", &source, &target]), step)
    }

    /// The records of a home, as far as its log is acknowledged.
    fn records(&self, home: &Path) -> Vec<Value> {
        if home.join("audit/head").exists() {
            lines(&run(home, &["audit", "export"]))
        } else {
            Vec::new()
        }
    }

    /// What must hold whenever a process died: content is only there where both ends intended that, and
    /// a receipt only where the content is.
    fn check(&self, target: &str, what: &str) {
        let logs = [self.records(&self.onprem()), self.records(&self.cloud())];
        let of = |log: &[Value], kind: &str| {
            let about = |record: &&Value| record["kind"] == kind && record["path"] == target;
            log.iter().filter(about).count()
        };
        if content_below(&self.root(), &self.source(), target) {
            for log in &logs {
                assert!(of(log, "start") > 0, "{what}: content arrived that was not intended");
            }
        }
        let receipts = logs.iter().map(|log| of(log, "receipt")).sum::<usize>();
        if receipts > 0 {
            let arrived = files(&self.root().join(target));
            assert_eq!(arrived, files(&self.source()), "{what}: there is a receipt");
        }
    }

    /// A process dies at a step; then what is there is right, and the transfer completes.
    fn try_step(&self, at_source: bool, step: &str, target: &str) {
        let what = format!("{} {step}", if at_source { "source" } else { "target" });
        let (there, here) = if at_source { (None, Some(step)) } else { (Some(step), None) };
        let (serve, _) = self.serve(&self.cloud(), there, &self.address);
        let push = self.push(here, target);
        if at_source {
            push.died(&what);
            self.check(target, &what);
            let mut push = self.push(None, target);
            assert!(push.0.wait().expect("ended").success(), "{what}: it completes");
            // Killed: it would wait for the session whose other end died.
            drop(serve);
        } else {
            serve.died(&what);
            self.check(target, &what);
            // The push, which lost its peer, goes on by itself, or was over.
            let (serve, _) = self.serve(&self.cloud(), None, &self.address);
            let mut push = push;
            assert!(push.0.wait().expect("ended").success(), "{what}: it completes");
            serve.stop();
        }
        assert_eq!(files(&self.root().join(target)), files(&self.source()), "{what}");
        let (serve, _) = self.serve(&self.cloud(), None, &self.address);
        // A log of which an append was cut short is taken up by the next one.
        let again = self.push(None, target).0.wait().expect("ended");
        assert!(again.success(), "{what}: and again");
        self.check(target, &what);
        for home in [self.onprem(), self.cloud()] {
            run(&home, &["audit", "verify"]);
        }
        let found = lines(&run(&self.onprem(), &["audit", "verify", "--peer", "cloud", "--json"]));
        let summary = found.last().expect("a summary");
        assert_eq!(summary["event"], "audit_reconciled", "{what}: {found:?}");
        assert_eq!(summary["differences"], 0, "{what}: {found:?}");
        serve.stop();
    }
}

/// Names and content below a directory.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries =
        std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.expect("an entry"));
    let file = |path: PathBuf| (path.file_name().expect("a name").into(), std::fs::read(path));
    entries.map(|entry| file(entry.path())).map(|(name, it)| (name, it.expect("read"))).collect()
}

/// Whether something of the snapshot is below the root, published or staged.
fn content_below(root: &Path, source: &Path, target: &str) -> bool {
    let names = files(source);
    let mut todo = vec![root.join(target), root.join(".portway/staging")];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                todo.push(path);
                continue;
            }
            let name = PathBuf::from(path.file_name().expect("a name"));
            let bytes = std::fs::read(&path).unwrap_or_default();
            if names.contains_key(&name) && bytes.iter().any(|byte| *byte != 0) {
                return true;
            }
        }
    }
    false
}

/// Each append has three steps, and a session of a push has three appends at each end: the intent, the
/// stop, and the receipt.
fn appends() -> Vec<String> {
    let steps = ["append-written", "append-synced", "append-acknowledged"];
    (1..=3).flat_map(|nth| steps.map(|step| format!("{step}:{nth}"))).collect()
}

fn try_steps(at_source: bool, steps: &[&str]) {
    let scene = Scene::new();
    scene.fill(0);
    // Both logs are there, so that all that follows are appends of sessions.
    let (serve, _) = scene.serve(&scene.cloud(), None, &scene.address);
    let first = scene.push(None, "first").0.wait().expect("ended");
    assert!(first.success());
    serve.stop();
    let appends = appends();
    let steps = steps.iter().copied().chain(appends.iter().map(String::as_str));
    for (number, step) in (1..).zip(steps) {
        scene.fill(number);
        scene.try_step(at_source, step, &format!("t{number}"));
    }
}

#[test]
fn a_source_that_dies_at_any_step_leaves_nothing_that_was_not_intended() {
    let steps = [
        "intent-before:1",
        "intent-after:1",
        "send-before:1",
        "send-after:1",
        "send-before:2",
        "stop-before:1",
        "stop-after:1",
        "offer-sent:1",
        "receipt-before:1",
        "receipt-after:1",
    ];
    try_steps(true, &steps);
}

#[test]
fn a_target_that_dies_at_any_step_leaves_nothing_that_was_not_intended() {
    let steps = [
        "intent-before:1",
        "intent-after:1",
        "place-before:1",
        "place-after:1",
        "commit-before:1",
        "commit-after:1",
        "publish-before:1",
        "publish-after:1",
        "stop-before:1",
        "stop-after:1",
        "statement-sent:1",
        "countersign-sent:1",
        "receipt-before:1",
        "receipt-after:1",
    ];
    try_steps(false, &steps);
}
