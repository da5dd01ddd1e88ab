//! Loading: what wins, and that every mistake is told at once.

use std::collections::BTreeSet;

use super::*;
use crate::base::{Class, Jurisdiction, Rate};
use crate::config::{Backend, Congestion, ENTRY_FIELDS, Endpoint, Rule};

fn load(text: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, String> {
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    let flags: Vec<_> =
        flags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::parse(Path::new("/h/portway.toml"), text, variables, &flags)
        .map_err(|error| error.to_string())
}

fn field(section: &str, name: &str) -> &'static Field {
    FIELDS.iter().find(|f| f.section == section && f.name == name).expect("a field")
}

#[test]
fn nothing_set_gives_the_defaults() {
    let config = load("", &[], &[]).expect("valid");
    assert_eq!(config, Config::default());
    assert_eq!(config.settings.limits.slab_mib, 128);
    assert_eq!(config.settings.retry.max_s, 72 * 3600);
    assert_eq!(config.settings.serve.listen.to_string(), "0.0.0.0:7717");
    assert_eq!(config.origin(field("limits", "slab_mib")), Origin::Default);
}

#[test]
fn flags_beat_the_environment_beats_the_file() {
    let text = "[limits]\nslab_mib = 64\nwindow_mib = 16\nsessions_max = 1\n";
    let config = load(
        text,
        &[("PORTWAY_LIMITS_WINDOW_MIB", "24"), ("PORTWAY_LIMITS_SESSIONS_MAX", "2")],
        &[("limits.sessions_max", "3")],
    )
    .expect("valid");
    let limits = &config.settings.limits;
    assert_eq!((limits.slab_mib, limits.window_mib, limits.sessions_max), (64, 24, 3));
    assert_eq!(config.origin(field("limits", "slab_mib")), Origin::File(2));
    assert_eq!(config.origin(field("limits", "window_mib")), Origin::Environment);
    assert_eq!(config.origin(field("limits", "sessions_max")), Origin::Flag);
}

#[test]
fn every_kind_of_value_is_read() {
    let config = load(
        r#"
            [node]
            ca = "pki/ca.pem"
            certificate = "/etc/pki/node.pem"
            key = "key.pem"
            [quic]
            congestion = "cubic"
            gso = false
            [rdma]
            enabled = false
            devices = ["mlx5_0", "mlx5_1/2"]
            queue_pairs = 4
            plaintext = false
            [storage]
            backend = "pool"
            [serve]
            listen = "[::]:0"
            root = "/data"
            admin = "off"
            [nodes]
            a.address = "10.0.0.1:1"
            b = { address = ["b.example:2", "[::1]:3"], site = "dc" }
            [sites.dc]
            tier = "private"
            [sites.cloud]
            tier = "public"
            [links.direct]
            sites = ["dc", "cloud"]
            rate_mbps = 10_000
        "#,
        &[],
        &[],
    )
    .expect("valid");
    let settings = &config.settings;
    assert_eq!(settings.node.ca.as_deref(), Some(Path::new("/h/pki/ca.pem")));
    assert_eq!(settings.node.certificate.as_deref(), Some(Path::new("/etc/pki/node.pem")));
    assert_eq!(settings.quic.congestion, Congestion::Cubic);
    assert_eq!(settings.storage.backend, Backend::Pool);
    assert!(!settings.quic.gso);
    assert!(!settings.rdma.enabled && !settings.rdma.plaintext);
    assert_eq!(settings.rdma.queue_pairs, 4);
    let devices: Vec<String> = settings.rdma.devices.iter().map(ToString::to_string).collect();
    assert_eq!(devices, ["mlx5_0", "mlx5_1/2"]);
    assert_eq!((settings.serve.admin, settings.serve.listen.port()), (None, 0));
    let b = &config.nodes[&"b".parse().expect("a name")];
    assert_eq!(b.addresses[0], Endpoint::Host("b.example".to_owned(), 2));
    assert_eq!(b.addresses.len(), 2);
    let (dc, cloud) = ("dc".parse().expect("a name"), "cloud".parse().expect("a name"));
    let rate = |one, other| config.link_between(one, other).map(|(_, link)| link.rate_mbps);
    assert_eq!(rate(&cloud, &dc), Some(10_000));
    assert_eq!(rate(&dc, &"x".parse().expect("a name")), None);
}

#[test]
fn all_mistakes_are_told_at_once_with_field_and_line() {
    let error = load(
        r#"[limits]
slab_mib = 4
window_mb = 3
sessions_max = "many"
[qiuc]
connections = 2
[quic]
congestion = "reno"
keep_alive_s = 9
gso = { on = true }
[rdma]
devices = ["mlx5_0", "mlx5_0/x"]
queue_pairs = 0
[serve]
listen = "7717"
admin = "on"
[node]
key = ""
ca = "ca.pem"
[nodes]
Bad.address = "1.1.1.1:1"
x = 3
[nodes.a]
adress = "1.1.1.1:1"
site = "onprme"
[nodes.b]
address = ["1.1.1.1:0"]
site = "onprme"
[sites.onprem]
tier = "secret"
[sites.onprem2]
tier = "private"
[links.l]
sites = ["onprem2"]
"#,
        &[
            ("PORTWAY_QUIC_IDLE_S", "0"),
            ("PORTWAY_QUIC_MTU", "9000"),
            ("PORTWAY_HOME", "/elsewhere"),
            ("OTHER", "1"),
        ],
        &[("retry.max_s", "-1"), ("retry", "1"), ("a.b", "1")],
    )
    .expect_err("mistakes");
    let expected = r#"26 mistakes in the configuration
  /h/portway.toml:2: limits.slab_mib: 4 is not 16 to 65536 MiB
  /h/portway.toml:3: limits.window_mb: no such field (did you mean window_mib?)
  /h/portway.toml:4: limits.sessions_max: "many" is not 1 to 4096
  /h/portway.toml:5: qiuc: no such section (did you mean quic?)
  /h/portway.toml:8: quic.congestion: "reno" is not auto or bbr or cubic
  /h/portway.toml:10: quic.gso: { on = true } is not true or false
  /h/portway.toml:12: rdma.devices: ["mlx5_0", "mlx5_0/x"] is not a list of DEVICE or DEVICE/PORT
  /h/portway.toml:13: rdma.queue_pairs: 0 is not 1 to 16
  /h/portway.toml:15: serve.listen: "7717" is not ADDR:PORT
  /h/portway.toml:16: serve.admin: "on" is not ADDR:PORT or off
  /h/portway.toml:18: node.key: "" is not a path
  /h/portway.toml:21: nodes.Bad: a name is 1 to 63 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit
  /h/portway.toml:22: nodes.x: must be a table
  /h/portway.toml:24: nodes.a.adress: no such field (did you mean address?)
  /h/portway.toml:23: nodes.a.address: is missing; every entry needs it
  /h/portway.toml:27: nodes.b.address: ["1.1.1.1:0"] is not HOST:PORT or a list of them
  /h/portway.toml:30: sites.onprem.tier: "secret" is not private or public
  /h/portway.toml:34: links.l.sites: ["onprem2"] is not two names of [sites]
  /h/portway.toml:33: links.l.rate_mbps: is missing; every entry needs it
  PORTWAY_QUIC_IDLE_S: "0" is not 2 to 600 s
  PORTWAY_QUIC_MTU: no such variable (did you mean PORTWAY_QUIC_MTU_MAX?)
  --set retry.max_s: "-1" is not 1 to 31536000 s
  --set retry: no such field
  --set a.b: no such section
  /h/portway.toml:9: quic.keep_alive_s: must be at most half of quic.idle_s, which is 5
  /h/portway.toml: node.certificate: is missing; an existing PKI needs node.ca, node.certificate and node.key"#;
    assert_eq!(error, expected);
}

#[test]
fn variables_and_flags_write_a_list_with_commas() {
    let devices = |variable: &str| {
        let config = load("", &[("PORTWAY_RDMA_DEVICES", variable)], &[])?;
        let devices = config.settings.rdma.devices;
        Ok::<_, String>(devices.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(devices("mlx5_0/1, mlx5_1"), Ok(vec!["mlx5_0/1".to_owned(), "mlx5_1".to_owned()]));
    assert_eq!(devices(""), Ok(Vec::new()));
    assert!(devices("mlx5_0,").is_err());
    assert!(devices(&vec!["a"; 65].join(",")).is_err());
}

#[test]
fn a_site_that_is_named_must_be_there() {
    let text =
        "[nodes.a]\naddress = \"a.b:1\"\nsite = \"onprme\"\n[sites.onprem]\ntier = \"private\"\n";
    assert_eq!(
        load(text, &[], &[]),
        Err("/h/portway.toml:3: nodes.a.site: [sites] has no \"onprme\" (did you mean onprem?)"
            .to_owned())
    );
}

#[test]
fn windows_that_cannot_hold_a_message_per_connection_are_refused() {
    let flags = [("quic.connections", "16")];
    let error = load("", &[], &flags).expect_err("too small");
    assert!(error.ends_with("which is 49"), "{error}");
    assert!(load("limits.window_mib = 49", &[], &flags).is_ok());
    let slab = "limits.slab_mib = 16\nlimits.window_mib = 32";
    assert!(load(slab, &[], &[]).is_err());
    let small = load("limits.slab_mib = 16", &[], &[]).expect("a smaller window by itself");
    assert_eq!(small.settings.limits.window_mib, 16);
}

#[test]
fn a_file_that_is_not_toml_is_told_with_its_line() {
    let error = load("[limits]\nslab_mib = = 4\n", &[], &[]).expect_err("a mistake");
    assert!(error.starts_with("/h/portway.toml:2: "), "{error}");
}

#[test]
fn random_bytes_never_panic() {
    let mut state = 7_u64;
    for _ in 0..2000 {
        let text: String = (0..40)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b"[]=.\"\n{},#limtsnode 19:"[(state >> 33) as usize % 23])
            })
            .collect();
        let _ = load(&text, &[("PORTWAY_QUIC_GSO", &text)], &[(&text, &text)]);
    }
}

#[test]
fn the_table_is_sound() {
    let mut seen = BTreeSet::new();
    let defaults = Settings::default();
    for field in FIELDS.iter().chain(ENTRY_FIELDS) {
        let name = format!("{}.{}", field.section, field.name);
        assert!(seen.insert(field.variable()), "{name} is there twice");
        assert!(field.doc.ends_with(['.', ')']) && field.doc.len() > 10, "{name}: {:?}", field.doc);
        assert!(!field.doc.contains("  "), "{name}: {:?}", field.doc);
        if let Rule::Range { min, max, unit } = field.rule {
            assert!(min > 0 && min < max, "{name}: zero never means unlimited");
            let suffix = match unit {
                "MiB" => "_mib",
                "s" => "_s",
                "Mb/s" => "_mbps",
                _ => "",
            };
            assert!(name.ends_with(suffix), "{name} does not end in its unit");
        }
        // Every default passes its own rule.
        if let Some(toml) = defaults.toml(field) {
            let text = format!("{name} = {toml}");
            let config = load(&text, &[], &[]).expect("the default is allowed");
            assert_eq!(config.settings, defaults, "{name}");
        }
    }
}

#[test]
fn a_link_is_found_by_both_of_its_sites() {
    let text = "[sites.a]\ntier = \"private\"\n[sites.b]\ntier = \"public\"\n\
                [links.slow]\nsites = [\"a\", \"b\"]\nrate_mbps = 100\n\
                [links.fast]\nsites = [\"b\", \"a\"]\nrate_mbps = 1000\nlimit_mbps = 400\n";
    let config = Config::parse(Path::new("/h/portway.toml"), text, [], &[]).expect("valid");
    let (a, b) = ("a".parse().expect("a name"), "b".parse().expect("a name"));
    for (one, other) in [(&a, &b), (&b, &a)] {
        let (name, link) = config.link_between(one, other).expect("joined");
        assert_eq!((name, link.limit()), ("fast", Rate::from_mbps(400)));
        assert_eq!(link.rate(), link.limit());
    }
    assert!(config.link_between(&a, &a).is_none(), "a link to another site is none within one");
    let wrong = text.replace("400", "0");
    let error = Config::parse(Path::new("/h/portway.toml"), &wrong, [], &[]).expect_err("zero");
    assert!(error.to_string().contains("links.fast.limit_mbps"), "{error}");
}

#[test]
fn classes_are_an_order_and_a_site_may_have_a_jurisdiction() {
    let config = load(
        "[border]\nclasses = [\"open\", \"closed\"]\ndefault_class = \"closed\"\n\
         [sites.dc1]\ntier = \"private\"\njurisdiction = \"de\"\n",
        &[("PORTWAY_BORDER_RDMA_CLASSES", "closed, open")],
        &[],
    )
    .expect("valid");
    let names: Vec<&str> = config.classes.order().iter().map(Class::as_str).collect();
    assert_eq!(names, ["open", "closed"]);
    assert_eq!(config.classes.default_class().as_str(), "closed");
    assert_eq!(config.classes.plaintext().len(), 2);
    let site = config.sites.values().next().expect("a site");
    assert_eq!(site.jurisdiction.as_ref().map(Jurisdiction::as_str), Some("de"));
    for (text, mistake) in [
        (
            "classes = [\"a\"]",
            "/h/portway.toml: border.default_class: internal is none of the classes a",
        ),
        (
            "classes = []",
            "/h/portway.toml:2: border.classes: there are 0 classes; an order has 1 to 16",
        ),
        (
            "classes = [\"a\", \"A\"]",
            "/h/portway.toml:2: border.classes: [\"a\", \"A\"] is not a list of classes",
        ),
        (
            "classes = [\"internal\", \"internal\"]",
            "/h/portway.toml:2: border.classes: the class internal is there twice",
        ),
        (
            "rdma_classes = [\"secret\"]",
            "/h/portway.toml:2: border.rdma_classes: secret is none of the classes public, internal, confidential, restricted",
        ),
        (
            "default_class = 1",
            "/h/portway.toml:2: border.default_class: 1 is not one of border.classes",
        ),
    ] {
        assert_eq!(load(&format!("[border]\n{text}\n"), &[], &[]), Err(mistake.to_owned()));
    }
    let law = "[sites.dc1]\ntier = \"private\"\njurisdiction = \"D E\"\n";
    let told =
        "/h/portway.toml:3: sites.dc1.jurisdiction: \"D E\" is not a name such as de or us-ca";
    assert_eq!(load(law, &[], &[]), Err(told.to_owned()));
}

#[test]
fn links_have_prices_and_what_may_be_spent_has_bounds() {
    let text = "[sites.a]\ntier = \"private\"\n[sites.b]\ntier = \"public\"\n\
                [cost]\ncurrency = \"EUR\"\n\
                [links.paid]\nsites = [\"a\", \"b\"]\nrate_mbps = 1000\nprice_per_gb = 0.09\n\
                hours = \"22:00-06:00\"\naddress = { cloud = \"10.0.0.2:7717\" }\n\
                [links.leased]\nsites = [\"a\", \"b\"]\nrate_mbps = 100\nbilling = \"p95\"\n\
                commit_mbps = 50\nprice_per_mbps = 1.25\n\
                [links.unknown]\nsites = [\"a\", \"b\"]\nrate_mbps = 10\n\
                [budgets.all]\namount = 25\nper = \"month\"\n\
                [budgets.part]\namount = \"0.50\"\nper = \"day\"\ndataset = \"runs/a\"\n\
                identity = \"spiffe://domain/x\"\nlink = \"paid\"\n";
    let config = load(text, &[], &[]).expect("valid");
    let currency = config.settings.cost.currency;
    let price = |link: &str| {
        let tariff = config.links[link].tariff(currency);
        tariff.map(|it| format!("{} {}", it.price.0, it.currency))
    };
    assert_eq!(price("paid").as_deref(), Some("0.09 EUR"));
    assert_eq!(price("leased").as_deref(), Some("0.00 EUR"), "no byte adds to the bill");
    assert_eq!(price("unknown"), None, "what it costs is not known");
    assert_eq!(config.links["leased"].commit_mbps, Some(50));
    let per_month = config.links["leased"].price_per_month;
    assert_eq!(per_month.map(|it| it.to_string()).as_deref(), Some("1.25"));
    let (node, hours) = ("cloud".parse().expect("a name"), config.links["paid"].hours);
    assert_eq!(config.links["paid"].addresses[&node].to_string(), "10.0.0.2:7717");
    assert_eq!(hours.map(|it| it.to_string()).as_deref(), Some("22:00-06:00"));
    let (a, b) = ("a".parse().expect("a name"), "b".parse().expect("a name"));
    let between = config.link_between(&a, &b).map(|(name, _)| name);
    assert_eq!(between, Some("leased"), "the other one is for nodes that it has an address of");
    let taken = |at: &str| {
        let at = at.parse().expect("an address");
        config.link_taken((&a, &b), (&node, Some(at))).map(|(name, _)| name)
    };
    assert_eq!(taken("10.0.0.2:7717"), Some("paid"));
    assert_eq!(taken("10.0.0.2:40000"), Some("paid"), "whoever dials has another port");
    assert_eq!(taken("10.0.0.3:7717"), Some("leased"));
    let amounts: Vec<_> = config.budgets.values().map(|it| it.amount.to_string()).collect();
    assert_eq!(amounts, ["25.00", "0.50"]);

    let wrong = text
        .replace("0.09", "-0.09")
        .replace("EUR", "euro")
        .replace("22:00", "22")
        .replace("10.0.0.2:7717", "10.0.0.2")
        .replace("\"p95\"", "\"flat\"")
        .replace("\"day\"", "\"week\"")
        .replace("link = \"paid\"", "link = \"payed\"")
        .replace("spiffe://domain/x", "me")
        .replace("runs/a", "../a")
        .replace("amount = 25\n", "");
    let told = load(&wrong, &[], &[]).expect_err("mistakes");
    for mistake in [
        "cost.currency: \"euro\" is not three letters such as USD",
        "links.paid.price_per_gb: -0.09 is not an amount such as 0.09",
        "links.paid.hours: \"22-06:00\" is not hours of the day in UTC such as 22:00-06:00",
        "links.paid.address: { cloud = \"10.0.0.2\" } is not a table such as { cloud = \"10.0.0.2:7717\" }",
        "links.leased.commit_mbps: is for links with billing = \"p95\" only",
        "links.leased.price_per_mbps: is for links with billing = \"p95\" only",
        "budgets.all.amount: is missing; every entry needs it",
        "budgets.part.per: \"week\" is not month or day or transfer",
        "budgets.part.dataset: \"../a\" is not a path below the root of this node",
        "budgets.part.identity: \"me\" is not a SPIFFE id",
    ] {
        assert!(told.contains(mistake), "{mistake}\n{told}");
    }
    let wrong = text.replace("link = \"paid\"", "link = \"payed\"");
    let told = load(&wrong, &[], &[]).expect_err("a mistake");
    assert!(
        told.contains("budgets.part.link: [links] has no \"payed\" (did you mean paid?)"),
        "{told}"
    );
}
