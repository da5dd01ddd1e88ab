//! `portway config`: the whole configuration as a file that could be used.

use std::fmt::Write;
use std::net::SocketAddr;

use portway::api::{Error, Exit};
use portway::base::NodeName;
use portway::config::{self, ENTRY_FIELDS, FIELDS, Field, Origin, Rule, Settings};
use portway::cost::Billing;

use crate::args;
use crate::out::Out;
use crate::out::event::{self, Event};
use crate::setup::{Context, shown};

/// Longest comment line, in characters.
const WIDTH: usize = 96;

pub(super) fn run(context: &Context<'_>, args: &args::Config) -> Result<Exit, Error> {
    let config = if args.defaults { config::Config::default() } else { context.config()? };
    let file = shown(&context.home.config_file());
    if context.out.json() {
        events(context.out, &config);
    } else {
        context.out.text(text(&file, &config).trim_end());
    }
    Ok(Exit::Done)
}

pub(super) fn text(file: &str, config: &config::Config) -> String {
    let mut text = format!(
        "# {file}\n# Flags win over the environment, the environment over the file, the file over defaults.\n"
    );
    let defaults = Settings::default();
    let mut section = "";
    for field in FIELDS {
        if field.section != section {
            section = field.section;
            let _ = write!(text, "\n[{section}]\n");
        }
        let default = defaults.toml(field).map(|value| format!(" Default {value}."));
        let tail = format!("{} ${}.", default.unwrap_or_default(), field.variable());
        comment(&mut text, field, &tail);
        let origin = match config.origin(field) {
            Origin::File(line) => format!("file, line {line}"),
            other => other.as_str().to_owned(),
        };
        let line = match config.settings.toml(field) {
            Some(value) => format!("{} = {value}", field.name),
            None => format!("# {} =", field.name),
        };
        let _ = writeln!(text, "{line:<38} # {origin}");
    }
    let mut table = "";
    for field in ENTRY_FIELDS {
        if field.section != table {
            table = field.section;
            let _ = write!(text, "\n# [{table}]\n");
        }
        comment(&mut text, field, "");
        let _ = writeln!(text, "# {} =", field.name);
    }
    text.push('\n');
    entries(&mut text, config);
    text
}

fn comment(text: &mut String, field: &Field, tail: &str) {
    let words = format!("{} {}.{tail}", field.doc, sentence(field.rule));
    let mut line = String::from("#");
    for word in words.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}

/// The rule as a sentence.
fn sentence(rule: Rule) -> String {
    let rule = rule.to_string();
    let mut letters = rule.chars();
    match letters.next() {
        Some(first) if rule.contains(' ') && first.is_lowercase() && !rule.contains(" or ") => {
            first.to_uppercase().chain(letters).collect()
        }
        _ => rule,
    }
}

fn entries(text: &mut String, config: &config::Config) {
    for (name, node) in &config.nodes {
        let addresses: Vec<String> =
            node.addresses.iter().map(|address| format!("\"{address}\"")).collect();
        let _ =
            write!(text, "[nodes.{}]\naddress = [{}]\n", key(name.as_str()), addresses.join(", "));
        if let Some(site) = &node.site {
            let _ = writeln!(text, "site = \"{site}\"");
        }
    }
    for (name, site) in &config.sites {
        let _ = write!(text, "[sites.{}]\ntier = \"{}\"\n", key(name.as_str()), site.tier);
        if let Some(jurisdiction) = &site.jurisdiction {
            let _ = writeln!(text, "jurisdiction = \"{jurisdiction}\"");
        }
    }
    for (name, link) in &config.links {
        link_entry(text, &key(name), link);
    }
    for (name, budget) in &config.budgets {
        let config::Budget { amount, per, identity, dataset, link } = budget;
        let _ = write!(text, "[budgets.{}]\namount = \"{amount}\"\nper = \"{per}\"\n", key(name));
        if let Some(identity) = identity {
            let _ = writeln!(text, "identity = \"{identity}\"");
        }
        if let Some(dataset) = dataset {
            let _ = writeln!(text, "dataset = {}", quoted(&dataset.to_string()));
        }
        if let Some(link) = link {
            let _ = writeln!(text, "link = \"{link}\"");
        }
    }
}

fn link_entry(text: &mut String, name: &str, link: &config::Link) {
    let [one, other] = &link.sites;
    let sites = format!("sites = [\"{one}\", \"{other}\"]");
    let _ = write!(text, "[links.{name}]\n{sites}\nrate_mbps = {}\n", link.rate_mbps);
    let numbers = [("limit_mbps", link.limit_mbps), ("commit_mbps", link.commit_mbps)];
    for (field, mbps) in numbers {
        if let Some(mbps) = mbps {
            let _ = writeln!(text, "{field} = {mbps}");
        }
    }
    if link.billing != Billing::Volume {
        let _ = writeln!(text, "billing = \"{}\"", link.billing);
    }
    if let Some(price) = link.price {
        let _ = writeln!(text, "price_per_gb = \"{}\"", price.0);
    }
    if let Some(price) = link.price_per_month {
        let per = if link.billing == Billing::P95 { "mbps" } else { "month" };
        let _ = writeln!(text, "price_per_{per} = \"{price}\"");
    }
    if let Some(hours) = link.hours {
        let _ = writeln!(text, "hours = \"{hours}\"");
    }
    if !link.addresses.is_empty() {
        let address =
            |(node, at): (&NodeName, &SocketAddr)| format!("{} = \"{at}\"", key(node.as_str()));
        let addresses: Vec<String> = link.addresses.iter().map(address).collect();
        let _ = writeln!(text, "address = {{ {} }}", addresses.join(", "));
    }
}

/// A text as a TOML string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A name as a TOML key: a dot would split it.
fn key(name: &str) -> String {
    if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() }
}

fn events(out: &Out, config: &config::Config) {
    let defaults = Settings::default();
    for field in FIELDS {
        out.event(&Event::Field(event::Field {
            name: format!("{}.{}", field.section, field.name),
            value: config.settings.toml(field).map(json),
            default: defaults.toml(field).map(json),
            origin: config.origin(field).as_str(),
            allowed: field.rule.to_string(),
            variable: Some(field.variable()),
            doc: field.doc,
        }));
    }
    for field in ENTRY_FIELDS {
        out.event(&Event::Field(event::Field {
            name: format!("{}.{}", field.section, field.name),
            value: None,
            default: None,
            origin: Origin::Default.as_str(),
            allowed: field.rule.to_string(),
            variable: None,
            doc: field.doc,
        }));
    }
}

/// A TOML value of these fields, which are numbers, words and truth values, as JSON.
fn json(toml: String) -> serde_json::Value {
    serde_json::from_str(&toml).unwrap_or(serde_json::Value::String(toml))
}
