//! `portway config`: the whole configuration as a file that could be used.

use std::fmt::Write;

use portway::api::{Error, Exit};
use portway::config::{self, ENTRY_FIELDS, FIELDS, Field, Origin, Rule, Settings};

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
        let [one, other] = &link.sites;
        let _ = write!(
            text,
            "[links.{}]\nsites = [\"{one}\", \"{other}\"]\nrate_mbps = {}\n",
            key(name),
            link.rate_mbps
        );
    }
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
