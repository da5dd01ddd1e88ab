//! What people write: `portway.toml`, variables, flags, addresses.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;

use crate::config::{Config, Endpoint, FIELDS, ServeRecord};

const FILE: &str = "/etc/portway/portway.toml";

/// The file's text, then lines that begin with a NUL character: variables as `NAME=value`, flags as
/// `section.field=value`. What is accepted is written out whole and read again.
pub(super) fn config(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let mut parts = text.split("\n\0");
    let file = parts.next().unwrap_or_default();
    let mut environment: Vec<(OsString, OsString)> = Vec::new();
    let mut flags = Vec::new();
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        if name.starts_with("PORTWAY_") {
            environment.push((name.into(), value.into()));
        } else {
            flags.push((name.to_owned(), value.to_owned()));
        }
    }
    let config = match Config::parse(Path::new(FILE), file, environment, &flags) {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    let again = Config::parse(Path::new(FILE), &written(&config), [], &[]);
    let again = again.expect("what was written is read");
    assert_eq!(again.settings, config.settings);
    assert_eq!(again.nodes, config.nodes);
    assert_eq!(again.sites, config.sites);
    assert_eq!(again.links, config.links);
    true
}

fn written(config: &Config) -> String {
    let mut out = String::new();
    let mut section = "";
    for field in FIELDS {
        if field.section != section {
            section = field.section;
            let _ = writeln!(out, "[{section}]");
        }
        if let Some(value) = config.settings.toml(field) {
            let _ = writeln!(out, "{} = {value}", field.name);
        }
    }
    for (name, node) in &config.nodes {
        let addresses: Vec<String> =
            node.addresses.iter().map(|address| format!("\"{address}\"")).collect();
        let _ = writeln!(out, "[nodes.\"{name}\"]\naddress = [{}]", addresses.join(", "));
        if let Some(site) = &node.site {
            let _ = writeln!(out, "site = \"{site}\"");
        }
    }
    for (name, site) in &config.sites {
        let _ = writeln!(out, "[sites.\"{name}\"]\ntier = \"{}\"", site.tier);
        if let Some(jurisdiction) = &site.jurisdiction {
            let _ = writeln!(out, "jurisdiction = \"{jurisdiction}\"");
        }
    }
    for (name, link) in &config.links {
        let [one, other] = &link.sites;
        let _ = writeln!(out, "[links.\"{name}\"]\nsites = [\"{one}\", \"{other}\"]");
        let _ = writeln!(out, "rate_mbps = {}", link.rate_mbps);
    }
    out
}

pub(super) fn config_seeds() -> Vec<Vec<u8>> {
    let border = "[border]\nclasses = [\"a\", \"b\"]\ndefault_class = \"a\"\nrdma_classes = []\n";
    let sites = "[sites.onprem]\ntier = \"private\"\njurisdiction = \"us\"\n[sites.cloud]\ntier = \"public\"\n";
    let nodes = "[nodes.gpu-1]\naddress = \"10.0.0.1:7717\"\nsite = \"onprem\"\n\
                 [nodes]\n\"b.2\" = { address = [\"b.example:1\", \"[::1]:2\"] }\n";
    let links = "[links.wan]\nsites = [\"onprem\", \"cloud\"]\nrate_mbps = 10000\n";
    let pki = "[node]\nca = \"ca.pem\"\ncertificate = \"/a/node.pem\"\nkey = 'node.key'\n";
    let overrides = "[limits] # small\nslab_mib = 64\n\0PORTWAY_LIMITS_WINDOW_MIB=32\n\
                     \0quic.congestion=cubic\n\0serve.admin=off";
    let rdma = "[rdma]\nenabled = true\ndevices = [\"mlx5_0\", \"mlx5_1/1\"]\nqueue_pairs = 4\n\
                \0PORTWAY_RDMA_PLAINTEXT=false\n\0rdma.devices=rxe0,rxe1/1";
    [
        written(&Config::default()),
        [sites, nodes, links].concat(),
        pki.to_owned(),
        overrides.to_owned(),
        rdma.to_owned(),
        border.to_owned(),
    ]
    .map(String::into_bytes)
    .into()
}

pub(super) fn endpoint(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(endpoint) = text.parse::<Endpoint>() else { return false };
    assert_eq!(endpoint.to_string().parse(), Ok(endpoint.clone()));
    let port = match endpoint {
        Endpoint::Address(address) => address.port(),
        Endpoint::Host(_, port) => port,
    };
    assert!(port > 0);
    true
}

pub(super) fn endpoint_seeds() -> Vec<Vec<u8>> {
    let texts = ["10.0.0.2:7717", "[fd00::7%3]:1", "[::1]:65535", "gpu-01.rack.example:7717"];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

pub(super) fn serve_record(data: &[u8]) -> bool {
    let Ok(record) = serde_json::from_slice::<ServeRecord>(data) else { return false };
    let again = serde_json::to_vec(&record).expect("a record is written");
    assert_eq!(serde_json::from_slice::<ServeRecord>(&again).ok(), Some(record));
    true
}

pub(super) fn serve_record_seeds() -> Vec<Vec<u8>> {
    let record = |admin: &str| {
        format!(r#"{{"node":"onprem","address":"0.0.0.0:7717","admin":{admin},"pid":77}}"#)
    };
    vec![record("null").into_bytes(), record(r#""[::1]:9""#).into_bytes()]
}
