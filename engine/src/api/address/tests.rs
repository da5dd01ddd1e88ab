//! What is typed is read as meant, or refused with a hint.

use std::path::Path;

use insta::assert_snapshot;

use super::*;

fn config() -> Config {
    let text = "nodes.cloud.address = \"10.0.0.1:1\"\nnodes.c.address = \"10.0.0.2:1\"\n";
    Config::parse(Path::new("portway.toml"), text, [], &[]).expect("valid")
}

fn read(text: impl AsRef<OsStr>) -> String {
    let resolve = |host: &str| match host {
        "gpu-1.example:7717" => Ok(vec!["10.1.1.1:7717".parse().expect("an address")]),
        "empty.example:7717" => Ok(Vec::new()),
        _ => Err(io::Error::other("no such name")),
    };
    match split(text.as_ref().as_bytes()) {
        Form::Local => format!("local {}", shown(text.as_ref())),
        _ => match remote_with(text.as_ref(), &config(), &resolve) {
            Ok(remote) => format!(
                "{:?} path={:?} into={} shown={}",
                remote.node, remote.path, remote.into, remote
            ),
            Err(e) => format!("{} {:?}: {} [{}]", e.code, e.exit, e.message, e.hint),
        },
    }
}

#[test]
fn a_name_and_a_path() {
    assert_snapshot!(read("cloud:a/b"), @r#"Name(NodeName("cloud")) path="a/b" into=false shown=cloud:a/b"#);
    assert_snapshot!(read("c:/abs//x/./y"), @r#"Name(NodeName("c")) path="abs/x/y" into=false shown=c:abs/x/y"#);
    assert_snapshot!(read("cloud:a/"), @r#"Name(NodeName("cloud")) path="a" into=true shown=cloud:a/"#);
    assert_snapshot!(read("cloud:a/."), @r#"Name(NodeName("cloud")) path="a" into=true shown=cloud:a/"#);
    assert_snapshot!(read("cloud:"), @r#"Name(NodeName("cloud")) path="." into=true shown=cloud:"#);
    assert_snapshot!(read("cloud:a:b"), @r#"Name(NodeName("cloud")) path="a:b" into=false shown=cloud:a:b"#);
    assert_snapshot!(read(OsStr::from_bytes(b"cloud:a\xff\n")), @r#"Name(NodeName("cloud")) path="a\xff\x0a" into=false shown=cloud:a\xff\x0a"#);
}

#[test]
fn an_address_and_a_path() {
    assert_snapshot!(read("portway://10.0.0.1:7717/a/b"), @r#"Address(10.0.0.1:7717) path="a/b" into=false shown=portway://10.0.0.1:7717/a/b"#);
    assert_snapshot!(read("portway://[fd00::2]:7717/a/"), @r#"Address([fd00::2]:7717) path="a" into=true shown=portway://[fd00::2]:7717/a/"#);
    assert_snapshot!(read("portway://[::1]:7717"), @r#"Address([::1]:7717) path="." into=true shown=portway://[::1]:7717/"#);
    assert_snapshot!(read("portway://gpu-1.example:7717/a"), @r#"Address(10.1.1.1:7717) path="a" into=false shown=portway://10.1.1.1:7717/a"#);
}

#[test]
fn a_slash_before_the_colon_makes_a_path_local() {
    for local in ["./a:b", "/a:b", "a/b:c", "a", ".", "..", "", "portway:/x/y"] {
        if local == "portway:/x/y" {
            assert!(read(local).starts_with("unknown-node"), "{local}");
        } else {
            assert_eq!(read(local), format!("local {local}"));
        }
    }
    assert_eq!(place(OsStr::new("./a:b"), &config()), Ok(Place::Local("./a:b".into())));
    let error = local(OsStr::new("a:b")).expect_err("remote");
    assert_eq!(error.hint, "for the local file write ./a:b");
}

#[test]
fn what_cannot_be_meant_is_refused_with_a_hint() {
    assert_snapshot!(read("clodu:a"), @r#"unknown-node Usage: no node "clodu" is known [did you mean cloud? for a local file write ./clodu:a]"#);
    assert_snapshot!(read("Weird:a"), @r#"unknown-node Usage: no node "Weird" is known [known are c, cloud; portway nodes add NAME ADDR:PORT adds one; for a local file write ./Weird:a]"#);
    assert_snapshot!(read(":a"), @r#"unknown-node Usage: no node "" is known [did you mean c? for a local file write ./:a]"#);
    assert_snapshot!(read("cloud:../x"), @"address Usage: cloud:../x cannot be a path of a node: a path component is '.' or '..' [name a path below the node's root]");
    assert_snapshot!(read("portway://10.0.0.1/a"), @r#"address Usage: "10.0.0.1" is not an address: an address is ADDR:PORT or HOST:PORT, IPv6 addresses in brackets, port 1 to 65535 [for example portway://10.0.0.2:7717/checkpoints or portway://[fd00::2]:7717/]"#);
    assert_snapshot!(read("portway://nowhere.example:7717/a"), @"resolve Failed: nowhere.example:7717 cannot be resolved: no such name [check the name, or write the address itself]");
    assert_snapshot!(read("portway://empty.example:7717/a"), @"resolve Failed: empty.example:7717 cannot be resolved: it has no address [check the name, or write the address itself]");
}

#[test]
fn a_node_alone_is_a_name_or_an_address() {
    let cloud = NodeAddress::Name("cloud".parse().expect("a name"));
    assert_eq!(node("cloud", &config()), Ok(cloud.clone()));
    assert_eq!(node("cloud:", &config()), Ok(cloud));
    let address = NodeAddress::Address("[::1]:1".parse().expect("an address"));
    assert_eq!(node("[::1]:1", &config()), Ok(address.clone()));
    assert_eq!(node("portway://[::1]:1/", &config()), Ok(address));
    assert_eq!(node("clodu", &config()).map_err(|e| e.hint), Err("did you mean cloud?".to_owned()));
}

#[test]
fn without_any_node_the_hint_says_how_to_add_one() {
    let error = node("cloud", &Config::default()).expect_err("unknown");
    assert_eq!(error.hint, "no node is known yet: portway nodes add NAME ADDR:PORT");
}
