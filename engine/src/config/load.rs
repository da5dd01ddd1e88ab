//! From file, environment and flags to checked options; every mistake is found, not only the first.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use toml_edit::{Document, Item, Value};

use super::entries::{Node, Site};
use super::fields::{FIELDS, Field, Settings, section_names, unknown_section};
use super::links::{Budget, Link};
use super::mistake::{ConfigError, FILE_BYTES_MAX, Mistake, Place};
use super::setting::{Raw, Wrong};
use super::{Home, similar};
use crate::base::{NodeName, SiteName};
use crate::policy::{Classes, ClassesError};

/// Window of the control connection, in MiB; see [`window_min_mib`].
const CONTROL_WINDOW_MIB: u64 = 4;
/// Window of one data connection at least, in MiB: a whole data message.
const STREAM_WINDOW_MIB: u64 = 3;

/// Checked options.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// The fields that are there once each.
    pub settings: Settings,
    /// The nodes that this one knows.
    pub nodes: BTreeMap<NodeName, Node>,
    /// The sites that it knows.
    pub sites: BTreeMap<SiteName, Site>,
    /// The links between sites, by name.
    pub links: BTreeMap<String, Link>,
    /// What may be spent, by name.
    pub budgets: BTreeMap<String, Budget>,
    /// The order of classes, of the section `border`.
    pub classes: Classes,
    origins: BTreeMap<(&'static str, &'static str), Origin>,
    given: Given,
}

/// What was given beside the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Given {
    variables: Vec<(OsString, OsString)>,
    flags: Vec<(String, String)>,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// Nobody set it.
    #[default]
    Default,
    /// The file, at this line; 0 if the line is not known.
    File(usize),
    /// The environment.
    Environment,
    /// A flag.
    Flag,
}

impl Origin {
    /// `default`, `file`, `env` or `flag`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File(_) => "file",
            Self::Environment => "env",
            Self::Flag => "flag",
        }
    }
}

impl Config {
    /// Reads the file of `home` (none is fine), then the variables `PORTWAY_SECTION_FIELD` of
    /// `environment`, then `flags` as `section.field` and value; later ones win.
    ///
    /// # Errors
    /// Lists every mistake with its field and place.
    pub fn load(
        home: &Home,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let path = home.config_file();
        let text = read(&path)?;
        Self::parse(&path, &text, environment, flags)
    }

    /// Reads the file anew, under the variables and flags that this one was loaded with.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn again(&self, home: &Home) -> Result<Self, ConfigError> {
        Self::load(home, self.given.variables.iter().cloned(), &self.given.flags)
    }

    /// The same from the file's text.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(
        path: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let mut loader = Loader {
            config: Self::default(),
            mistakes: Vec::new(),
            lines: BTreeMap::new(),
            path,
            dir: path.parent().unwrap_or(path),
            text,
        };
        loader.file();
        let mut variables: Vec<_> = environment.into_iter().collect();
        variables.sort_unstable();
        for (name, value) in &variables {
            if let Some(name) = name.to_str() {
                loader.variable(name, value);
            }
        }
        for (field, value) in flags {
            loader.flag(field, value);
        }
        if !loader.config.origins.contains_key(&("limits", "window_mib")) {
            let limits = &mut loader.config.settings.limits;
            limits.window_mib = limits.window_mib.min(limits.slab_mib);
        }
        loader.check_relations();
        loader.check_classes();
        loader.check_sites();
        loader.check_budgets();
        variables.retain(|(name, _)| name.to_str().is_some_and(|it| it.starts_with("PORTWAY_")));
        loader.config.given = Given { variables, flags: flags.to_vec() };
        if loader.mistakes.is_empty() {
            Ok(loader.config)
        } else {
            Err(ConfigError::Mistakes { mistakes: loader.mistakes })
        }
    }

    /// Where the value of `field` comes from.
    pub fn origin(&self, field: &Field) -> Origin {
        self.origins.get(&(field.section, field.name)).copied().unwrap_or_default()
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        other => other.map_err(failed)?,
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::Large { path: path.to_owned() });
    }
    Ok(text)
}

/// Collects values and mistakes.
pub(super) struct Loader<'a> {
    pub(super) config: Config,
    mistakes: Vec<Mistake>,
    /// Lines of the fields that were read from the file.
    pub(super) lines: BTreeMap<String, usize>,
    path: &'a Path,
    dir: &'a Path,
    text: &'a str,
}

impl Loader<'_> {
    fn file(&mut self) {
        let document = match Document::parse(self.text) {
            Ok(document) => document,
            Err(error) => {
                let line = error.span().map_or(0, |span| self.line(span.start));
                let detail = error.message().lines().collect::<Vec<_>>().join(", ");
                self.mistake_at(line, "", Wrong::Syntax { detail });
                return;
            }
        };
        for (section, item) in document.as_table() {
            if !section_names().contains(&section) {
                self.mistake(item, section, unknown_section(section));
                continue;
            }
            let Some(table) = item.as_table_like() else {
                self.mistake(item, section, Wrong::Shape { wanted: "section" });
                continue;
            };
            if matches!(section, "nodes" | "sites" | "links" | "budgets") {
                self.entries(section, table);
                continue;
            }
            for (name, item) in table.iter() {
                let field = format!("{section}.{name}");
                let Some(value) = item.as_value() else {
                    self.mistake(item, &field, Wrong::Shape { wanted: "value" });
                    continue;
                };
                let set = self.config.settings.set(section, name, &self.raw(value));
                if self.checked(value.span(), &field, set).is_some() {
                    let line = self.lines.get(&field).copied().unwrap_or(0);
                    self.came_from(section, name, Origin::File(line));
                }
            }
        }
    }

    fn variable(&mut self, variable: &str, value: &OsString) {
        let Some(rest) = variable.strip_prefix("PORTWAY_") else { return };
        let ours = |field: &&Field| {
            rest.strip_prefix(&field.section.to_uppercase()).is_some_and(|r| r.starts_with('_'))
        };
        let fields: Vec<&Field> = FIELDS.iter().filter(ours).collect();
        if fields.is_empty() {
            return;
        }
        let place = Place::Variable(variable.to_owned());
        let Some(field) = fields.iter().find(|field| field.variable() == variable) else {
            let name = rest.get(fields[0].section.len() + 1..).unwrap_or_default().to_lowercase();
            let mut similar = similar(&name, fields.iter().map(|field| field.name));
            for name in &mut similar {
                *name = format!("PORTWAY_{}_{name}", fields[0].section).to_uppercase();
            }
            let wrong = Wrong::Unknown { what: "variable", similar };
            self.mistakes.push(Mistake { place, field: String::new(), wrong });
            return;
        };
        let set = match value.to_str() {
            Some(text) => self.config.settings.set(field.section, field.name, &Raw::Typed(text)),
            None => Err(Raw::Typed(&value.to_string_lossy()).wrong(field.rule)),
        };
        match set {
            Ok(()) => self.came_from(field.section, field.name, Origin::Environment),
            Err(wrong) => {
                let field = format!("{}.{}", field.section, field.name);
                self.mistakes.push(Mistake { place, field, wrong });
            }
        }
    }

    fn flag(&mut self, field: &str, value: &str) {
        let (section, name) = field.split_once('.').unwrap_or((field, ""));
        match self.config.settings.set(section, name, &Raw::Typed(value)) {
            Ok(()) => self.came_from(section, name, Origin::Flag),
            Err(wrong) => {
                let (place, field) = (Place::Flag, field.to_owned());
                self.mistakes.push(Mistake { place, field, wrong });
            }
        }
    }

    fn came_from(&mut self, section: &str, name: &str, origin: Origin) {
        if let Some(field) = FIELDS.iter().find(|f| f.section == section && f.name == name) {
            self.config.origins.insert((field.section, field.name), origin);
        }
    }

    /// What no field can know alone.
    fn check_relations(&mut self) {
        let settings = &self.config.settings;
        let idle_half_s = settings.quic.idle_s / 2;
        let keep_alive_s = settings.quic.keep_alive_s;
        let window_min = window_min_mib(settings.quic.connections);
        let window = settings.limits.window_mib;
        let slab = settings.limits.slab_mib;
        let identity = [
            ("ca", settings.node.ca.is_some()),
            ("certificate", settings.node.certificate.is_some()),
            ("key", settings.node.key.is_some()),
        ];
        if keep_alive_s > idle_half_s {
            let relation = "at most half of quic.idle_s";
            self.relation("quic", "keep_alive_s", relation, idle_half_s);
        }
        if window < window_min {
            let relation = "at least 4 + 3 for each data connection of quic.connections";
            self.relation("limits", "window_mib", relation, window_min);
        }
        if window > slab {
            self.relation("limits", "window_mib", "at most limits.slab_mib", slab);
        }
        if identity.iter().any(|(_, set)| *set) {
            for (name, _) in identity.iter().filter(|(_, set)| !set) {
                let because = "an existing PKI needs node.ca, node.certificate and node.key";
                let field = format!("node.{name}");
                if !self.mistakes.iter().any(|mistake| mistake.field == field) {
                    self.mistake_at(0, &field, Wrong::Missing { because });
                }
            }
        }
    }

    /// The classes are an order, and the others are of it.
    fn check_classes(&mut self) {
        let border = self.config.settings.border.clone();
        let plaintext = border.rdma_classes.clone();
        let default = border.default_class.clone();
        match Classes::new(border.classes, border.default_class, plaintext) {
            Ok(classes) => self.config.classes = classes,
            Err(error) => {
                let name = match &error {
                    ClassesError::Unknown { class, .. } if *class != default => "rdma_classes",
                    ClassesError::Unknown { .. } => "default_class",
                    ClassesError::Count { .. } | ClassesError::Twice { .. } => "classes",
                };
                self.related("border", name, error.into());
            }
        }
    }

    fn relation(&mut self, section: &str, name: &str, relation: &'static str, bound: u64) {
        self.related(section, name, Wrong::Relation { relation, bound });
    }

    /// A mistake of a field that only shows beside others.
    fn related(&mut self, section: &str, name: &str, wrong: Wrong) {
        let Some(field) = FIELDS.iter().find(|f| f.section == section && f.name == name) else {
            return;
        };
        let place = match self.config.origin(field) {
            Origin::Default => Place::File { path: self.path.to_owned(), line: 0 },
            Origin::File(line) => Place::File { path: self.path.to_owned(), line },
            Origin::Environment => Place::Variable(field.variable()),
            Origin::Flag => Place::Flag,
        };
        let field = format!("{section}.{name}");
        self.mistakes.push(Mistake { place, field, wrong });
    }

    pub(super) fn raw<'v>(&self, value: &'v Value) -> Raw<'v>
    where
        Self: 'v,
    {
        Raw::Toml { value, dir: self.dir }
    }

    /// Notes the line of a value of the file, and the mistake if it is one.
    pub(super) fn checked<T>(
        &mut self,
        span: Option<Range<usize>>,
        field: &str,
        read: Result<T, Wrong>,
    ) -> Option<T> {
        let line = span.map_or(0, |span| self.line(span.start));
        self.lines.insert(field.to_owned(), line);
        read.map_err(|wrong| self.mistake_at(line, field, wrong)).ok()
    }

    pub(super) fn mistake(&mut self, item: &Item, field: &str, wrong: Wrong) {
        let line = item.span().map_or(0, |span| self.line(span.start));
        self.mistake_at(line, field, wrong);
    }

    pub(super) fn mistake_at(&mut self, line: usize, field: &str, wrong: Wrong) {
        let place = Place::File { path: self.path.to_owned(), line };
        self.mistakes.push(Mistake { place, field: field.to_owned(), wrong });
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        before.split(|&byte| byte == b'\n').count()
    }
}

/// The smallest window that lets every connection carry a whole message.
fn window_min_mib(connections: u64) -> u64 {
    CONTROL_WINDOW_MIB + STREAM_WINDOW_MIB * connections.saturating_sub(1).max(1)
}

#[cfg(test)]
mod tests;
