//! The command as a user meets it: words, exit status, streams.

use std::path::Path;
use std::process::{Command, Output};

use insta::{assert_snapshot, with_settings};

const COMMANDS: [&str; 23] = [
    "init",
    "invite",
    "join",
    "serve",
    "push",
    "pull",
    "ls",
    "watch",
    "plan",
    "verify",
    "status",
    "doctor",
    "nodes",
    "limit",
    "label",
    "audit",
    "cost",
    "policy",
    "grant",
    "revoke",
    "config",
    "completions",
    "version",
];

/// A command whose environment is only what is given.
fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portway"));
    command.env_clear().env("PORTWAY_HOME", home).current_dir(home).args(arguments);
    command
}

fn run(home: &Path, arguments: &[&str]) -> Output {
    command(home, arguments).output().expect("the command starts")
}

/// Exit status, standard output and standard error in one text, the home's path left out.
fn told(home: &Path, arguments: &[&str]) -> String {
    text(home, &run(home, arguments))
}

fn text(home: &Path, output: &Output) -> String {
    let mut all = format!("exit {}\n", output.status.code().unwrap_or(-1));
    for (name, bytes) in [("", &output.stdout), ("2> ", &output.stderr)] {
        for line in String::from_utf8_lossy(bytes).lines() {
            all.push_str(name);
            all.push_str(line);
            all.push('\n');
        }
    }
    all.replace(&home.to_string_lossy().into_owned(), "HOME")
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn the_help_of_every_command_is_pinned() {
    let dir = home();
    let pin = |name: &str, arguments: &[&str]| {
        let output = run(dir.path(), arguments);
        assert!(output.status.success() && output.stderr.is_empty(), "{name}");
        with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
            assert_snapshot!(format!("help-{name}"), String::from_utf8_lossy(&output.stdout));
        });
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let all = pin("portway", &["--help"]);
    for name in COMMANDS {
        assert!(all.contains(&format!("\n  {name} ")), "{name} is listed");
        pin(name, &[name, "--help"]);
    }
    let listed = all.lines().skip_while(|line| *line != "Commands:").skip(1);
    assert_eq!(listed.take_while(|line| !line.is_empty()).count(), COMMANDS.len() + 1);
}

#[test]
fn mistakes_on_the_command_line_exit_with_2_and_a_hint() {
    let dir = home();
    let told = |arguments: &[&str]| told(dir.path(), arguments);
    assert_snapshot!(told(&["pusj"]), @r"
exit 2
2> error: unrecognized subcommand 'pusj'
2> hint: a similar subcommand exists: 'push'; usage is portway [OPTIONS] <COMMAND>
");
    assert_snapshot!(told(&["push", "a"]), @r"
exit 2
2> error: the destination is missing: NODE:PATH, after the sources
2> hint: usage is portway push <SOURCE>... <NODE:PATH>; for example: portway push checkpoints/step-100 cloud:checkpoints/
");
    assert_snapshot!(told(&["push", "b:c"]), @r"
exit 2
2> error: the following required arguments were not provided:
2>   <SOURCE>...
2> hint: usage is portway push <SOURCE>... <NODE:PATH>; for example: portway push checkpoints/step-100 cloud:checkpoints/
");
    assert_snapshot!(told(&["push", "--retry", "x", "a", "b:c"]), @r"
exit 2
2> error: invalid value 'x' for '--retry <SECONDS>': it has to be a whole number
2> hint: portway push --help
");
    assert_snapshot!(told(&["pull", "b:c"]), @r"
exit 2
2> error: the following required arguments were not provided:
2>   <TARGET>
2> hint: usage is portway pull <NODE:PATH> <TARGET>; for example: portway pull cloud:checkpoints/step-100 checkpoints/
");
    assert_snapshot!(told(&["push", "--chekcsum", "a", "b:c"]), @r"
exit 2
2> error: unexpected argument '--chekcsum' found
2> hint: a similar argument exists: '--checksum'; usage is portway push --checksum <SOURCE>... <NODE:PATH>
");
    assert_snapshot!(told(&["--json", "ls"]), @r#"
exit 2
{"event":"error","code":"usage","message":"the following required arguments were not provided:\n  <NODE:PATH>","hint":"usage is portway ls <NODE:PATH>","exit":2}
2> error: the following required arguments were not provided:
2>   <NODE:PATH>
2> hint: usage is portway ls <NODE:PATH>
"#);
    assert_snapshot!(told(&["init", "--name", "A", "--site", "s", "--tier", "private"]), @r"
exit 2
2> error: invalid value 'A' for '--name <NAME>': a name is 1 to 63 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit
2> hint: portway init --help
");
    assert_snapshot!(told(&["init", "--name", "a", "--site", "s", "--tier", "secret"]), @r"
exit 2
2> error: invalid value 'secret' for '--tier <TIER>'
2>   [possible values: private, public]
2> hint: portway init --help
");
    assert_snapshot!(told(&["pull", "--transport", "tcp", "b:c", "a"]), @r"
exit 2
2> error: invalid value 'tcp' for '--transport <TRANSPORT>'
2>   [possible values: auto, rdma, quic]
2> hint: portway pull --help
");
    assert_snapshot!(told(&["serve", "--listen", "7717"]), @r"
exit 2
2> error: invalid value '7717' for '--listen <ADDR:PORT>': invalid socket address syntax
2> hint: portway serve --help
");
    assert_snapshot!(told(&["nodes", "add", "a", "10.0.0.1"]), @r"
exit 2
2> error: invalid value '10.0.0.1' for '<ADDR:PORT>...': an address is ADDR:PORT or HOST:PORT, IPv6 addresses in brackets, port 1 to 65535
2> hint: portway nodes --help
");
    assert_snapshot!(told(&["config", "--set", "quic"]), @r"
exit 2
2> error: invalid value 'quic' for '--set <SECTION.FIELD=VALUE>': not SECTION.FIELD=VALUE
2> hint: portway config --help
");
}

#[test]
fn places_that_make_no_sense_are_refused_before_anything_moves() {
    let dir = home();
    let told = |arguments: &[&str]| told(dir.path(), arguments);
    run(dir.path(), &["nodes", "add", "cloud", "10.0.0.1:7717"]);
    assert_snapshot!(told(&["push", "missing", "cloud:x"]), @r"
exit 1
2> error: missing: no such file or directory
2> hint: check the path and your rights to read it
");
    assert_snapshot!(told(&["push", ".", "clodu:x"]), @r#"
exit 2
2> error: no node "clodu" is known
2> hint: did you mean cloud? for a local file write ./clodu:x
"#);
    assert_snapshot!(told(&["push", ".", "x"]), @r"
exit 2
2> error: x names no node
2> hint: write NODE:PATH or portway://ADDR:PORT/PATH
");
    assert_snapshot!(told(&["push", "cloud:a", "cloud:x"]), @r"
exit 2
2> error: cloud:a is a path of a node, and one of this machine is needed here
2> hint: for the local file write ./cloud:a
");
    assert_snapshot!(told(&["pull", "cloud:../x", "y"]), @r"
exit 2
2> error: cloud:../x cannot be a path of a node: a path component is '.' or '..'
2> hint: name a path below the node's root
");
    assert_snapshot!(told(&["pull", "cloud:x", "a:b"]), @r"
exit 2
2> error: a:b is a path of a node, and one of this machine is needed here
2> hint: for the local file write ./a:b
");
    assert_snapshot!(told(&["ls", "--json", "portway://10.0.0.1/x"]), @r#"
exit 2
{"event":"error","code":"address","message":"\"10.0.0.1\" is not an address: an address is ADDR:PORT or HOST:PORT, IPv6 addresses in brackets, port 1 to 65535","hint":"for example portway://10.0.0.2:7717/checkpoints or portway://[fd00::2]:7717/","exit":2}
2> error: "10.0.0.1" is not an address: an address is ADDR:PORT or HOST:PORT, IPv6 addresses in brackets, port 1 to 65535
2> hint: for example portway://10.0.0.2:7717/checkpoints or portway://[fd00::2]:7717/
"#);
    assert_snapshot!(told(&["serve", "--root", "missing"]), @r"
exit 2
2> error: missing cannot be served: no such file or directory
2> hint: serve a directory that is there: mkdir -p makes one
");
    assert_snapshot!(told(&["serve"]), @r"
exit 2
2> error: there is no directory to serve
2> hint: give --root DIR, or set serve.root in portway.toml
");
}

#[test]
fn nodes_are_added_listed_and_removed_and_comments_stay() {
    let dir = home();
    let told = |arguments: &[&str]| told(dir.path(), arguments);
    std::fs::write(dir.path().join("portway.toml"), "# mine\n").expect("written");
    assert_snapshot!(told(&["nodes"]), @r"
exit 0
2> no node is known yet: portway nodes add NAME ADDR:PORT
");
    assert_snapshot!(told(&["nodes", "add", "cloud", "10.0.0.1:7717", "[fd00::1]:7717"]), @r"
exit 0
cloud was added
");
    assert_snapshot!(told(&["nodes", "add", "edge", "edge.example:7717", "--json"]), @r#"
exit 0
{"event":"nodes_changed","name":"edge","change":"added"}
"#);
    assert_snapshot!(told(&["nodes"]), @r"
exit 0
cloud  10.0.0.1:7717 [fd00::1]:7717
edge   edge.example:7717
");
    assert_snapshot!(told(&["nodes", "--json"]), @r#"
exit 0
{"event":"node","name":"cloud","addresses":["10.0.0.1:7717","[fd00::1]:7717"],"site":null}
{"event":"node","name":"edge","addresses":["edge.example:7717"],"site":null}
"#);
    assert_snapshot!(told(&["nodes", "remove", "edeg"]), @r"
exit 2
2> error: no node edeg is known
2> hint: did you mean edge?
");
    assert_snapshot!(told(&["nodes", "remove", "edge", "--quiet"]), @"exit 0");
    let file = std::fs::read_to_string(dir.path().join("portway.toml")).expect("read");
    assert_snapshot!(file, @r#"
# mine

[nodes.cloud]
address = ["10.0.0.1:7717", "[fd00::1]:7717"]
"#);
}

#[test]
fn links_are_listed_and_limited() {
    let dir = home();
    let mut all = told(dir.path(), &["limit"]);
    let file = "[sites.dc]\ntier = \"private\"\n[sites.eu]\ntier = \"public\"\n[links.wan]\nsites = [\"dc\", \"eu\"]\nrate_mbps = 10000\n";
    std::fs::write(dir.path().join("portway.toml"), file).expect("written");
    for arguments in [
        &["limit"][..],
        &["limit", "wan", "1.5Gb/s"],
        &["limit", "wan", "25MB/s", "--json"],
        &["limit", "wan", "off"],
        &["limit", "wam", "off"],
        &["limit", "wan"],
        &["limit", "wan", "200M"],
        &["limit", "wan", "1MiB/s"],
    ] {
        let typed = arguments.join(" ");
        all.extend(["\n$ portway ", &typed, "\n", &told(dir.path(), arguments), "\n"]);
    }
    with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        assert_snapshot!("limit", all);
    });
    assert_eq!(std::fs::read_to_string(dir.path().join("portway.toml")).expect("read"), file);
}

#[test]
fn the_configuration_documents_itself() {
    let dir = home();
    let output = run(dir.path(), &["config", "--defaults"]);
    assert!(output.status.success());
    let text = text(dir.path(), &output);
    with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        assert_snapshot!("config", text);
    });
}

#[test]
fn the_configuration_says_where_each_value_comes_from_and_can_be_used_as_a_file() {
    let dir = home();
    let file = "[quic]\nidle_s = 20\nconnections = 3\n[nodes.\"gpu.1\"]\naddress = \"10.0.0.1:1\"\nsite = \"dc\"\n[sites.dc]\ntier = \"private\"\n[links.l]\nsites = [\"dc\", \"dc\"]\nrate_mbps = 5\n";
    std::fs::write(dir.path().join("portway.toml"), file).expect("written");
    let config = |arguments: &[&str]| {
        let mut command = command(dir.path(), &["config", "--set", "retry.max_s=60"]);
        command.args(arguments).env("PORTWAY_QUIC_CONNECTIONS", "4");
        command.output().expect("the command starts")
    };
    let printed = config(&[]);
    let lines = String::from_utf8_lossy(&printed.stdout).into_owned();
    let set: Vec<&str> = lines
        .lines()
        .filter(|line| {
            line.ends_with("# env") || line.ends_with("# flag") || line.contains("# file")
        })
        .collect();
    assert_snapshot!(set.join("\n"), @r"
connections = 4                        # env
idle_s = 20                            # file, line 2
max_s = 60                             # flag
");
    let events = String::from_utf8_lossy(&config(&["--json"]).stdout).into_owned();
    let set: Vec<&str> = events.lines().filter(|line| line.contains("quic.connections")).collect();
    assert_snapshot!(set.join("\n"), @r#"{"event":"field","name":"quic.connections","value":4,"default":2,"origin":"env","allowed":"1 to 16","variable":"PORTWAY_QUIC_CONNECTIONS","doc":"Connections of a session; with two or more, the first carries control frames alone."}"#);
    std::fs::write(dir.path().join("portway.toml"), &printed.stdout).expect("written");
    let again = config(&[]);
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
    let tail = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.find("[nodes.\"gpu.1\"]").map(|at| text[at..].to_owned())
    };
    assert!(tail(&again).is_some());
    assert_eq!(tail(&again), tail(&printed));
}

#[test]
fn all_mistakes_of_the_configuration_are_told_at_once() {
    let dir = home();
    let file = "[limits]\nslab_mib = 1\nwindow = 2\n[nodes.a]\naddress = 5\n";
    std::fs::write(dir.path().join("portway.toml"), file).expect("written");
    let mut command = command(dir.path(), &["nodes", "--set", "quic.gso=maybe"]);
    let output = command.env("PORTWAY_RETRY_MAX", "0").output().expect("the command starts");
    assert_snapshot!(text(dir.path(), &output), @r#"
exit 2
2> error: 5 mistakes in the configuration
2>   HOME/portway.toml:2: limits.slab_mib: 1 is not 16 to 65536 MiB
2>   HOME/portway.toml:3: limits.window: no such field (did you mean window_mib?)
2>   HOME/portway.toml:5: nodes.a.address: 5 is not HOST:PORT or a list of them
2>   PORTWAY_RETRY_MAX: no such variable (did you mean PORTWAY_RETRY_MAX_S?)
2>   --set quic.gso: "maybe" is not true or false
2> hint: portway config --defaults prints every field, what it means and what is allowed
"#);
}

#[test]
fn a_home_that_nobody_names_is_a_usage_error() {
    let dir = home();
    let mut command = command(dir.path(), &["nodes"]);
    let output = command.env_remove("PORTWAY_HOME").output().expect("the command starts");
    assert_snapshot!(text(dir.path(), &output), @r"
exit 2
2> error: neither --home nor PORTWAY_HOME nor HOME says where the configuration is
2> hint: give --home DIR, or set PORTWAY_HOME
");
}

#[test]
fn results_that_cannot_be_written_are_an_error_and_a_reader_that_left_is_not() {
    let dir = home();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("there on Linux");
    let mut to_full = command(dir.path(), &["version"]);
    let output = to_full.stdout(full).output().expect("the command starts");
    assert_snapshot!(text(dir.path(), &output), @r"
exit 1
2> error: standard output cannot be written: No space left on device (os error 28)
2> hint: what was asked for is done; only its report is incomplete
");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut to_nobody = command(dir.path(), &["config"]);
    let output = to_nobody.stdout(writer).output().expect("the command starts");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
}

#[test]
fn completions_are_a_script() {
    let dir = home();
    for shell in ["bash", "zsh", "fish"] {
        let output = run(dir.path(), &["completions", shell]);
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("portway"), "{shell}");
    }
}

#[test]
fn the_version_tells_what_the_build_can_use() {
    let dir = home();
    let version = told(dir.path(), &["--version"]).replace(env!("CARGO_PKG_VERSION"), "VERSION");
    assert!(version.starts_with("exit 0\nportway VERSION\ntransports: quic"), "{version}");
    let rdma = if cfg!(feature = "rdma") { ", +rdma\n" } else { ", without rdma\n" };
    assert!(version.contains(rdma), "{version}");
    assert_eq!(
        version,
        told(dir.path(), &["version"]).replace(env!("CARGO_PKG_VERSION"), "VERSION")
    );
}
