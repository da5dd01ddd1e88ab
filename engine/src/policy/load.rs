//! From Cedar text to a policy that can decide: parsed, named, and checked against the schema.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{PolicyId, PolicySet, Schema, ValidationMode, Validator};

use super::classes::Classes;
use super::entities::Types;
use super::nesting::too_deep;
use super::words::PolicyVersion;
use crate::base::{Class, Digest, Jurisdiction, SiteName};

/// Largest policy text, in bytes. It bounds what a decision costs: Cedar has no loops, so evaluation
/// takes time in proportion to the text.
pub const POLICY_BYTES_MAX: usize = 64 << 10;
/// Most policies in a text.
pub const POLICIES_MAX: usize = 256;
/// Longest `@reason` of a policy, in characters.
pub const REASON_CHARS_MAX: usize = 200;
/// What policies can speak of, in Cedar's schema language.
pub const SCHEMA: &str = include_str!("schema.cedarschema");
/// The policy that counts where nobody wrote one.
pub const BUILTIN: &str = include_str!("builtin.cedar");

/// One thing that is wrong with a policy, or worth a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What it is.
    pub message: String,
    /// What to do, where that is known.
    pub help: Option<String>,
    /// Where, unless it concerns the text as a whole.
    pub place: Option<Span>,
}

/// A place in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// How many characters of the line are meant, at least 1.
    pub width: usize,
    /// The line's text.
    pub text: String,
}

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is too long.
    #[error("the policy has {len} bytes, more than {POLICY_BYTES_MAX}")]
    Large {
        /// Its length in bytes.
        len: usize,
    },
    /// It holds no policy, or too many.
    #[error("the text holds {count} policies, not 1 to {POLICIES_MAX}")]
    Count {
        /// How many.
        count: usize,
    },
    /// It is wrong: everything that was found.
    #[error("{}", first(mistakes))]
    Mistakes {
        /// What is wrong, at least one.
        mistakes: Vec<Mistake>,
    },
}

fn first(mistakes: &[Mistake]) -> String {
    let Some(first) = mistakes.first() else { return "the policy is wrong".to_owned() };
    let place = first.place.as_ref().map_or_else(String::new, |at| format!("line {}: ", at.line));
    match mistakes.len() {
        1 => format!("{place}{}", first.message),
        count => format!("{count} mistakes in the policy; {place}{}", first.message),
    }
}

/// A policy that decides.
#[derive(Clone)]
pub struct Policy {
    pub(super) set: PolicySet,
    pub(super) schema: Schema,
    pub(super) types: Types,
    pub(super) classes: Classes,
    pub(super) sites: BTreeMap<SiteName, Jurisdiction>,
    /// What policies say of themselves, by id.
    pub(super) reasons: BTreeMap<String, String>,
    version: PolicyVersion,
    warnings: Vec<Mistake>,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Policy {
    /// The policy in `text`, as the version `number` of it. It decides over `classes`, and knows the
    /// jurisdictions in `sites`.
    ///
    /// # Errors
    /// The text is too long, is not Cedar, speaks of what the schema or `classes` do not have, or has
    /// a policy without an `@id` of its own. Whoever decides then has to deny everything.
    pub fn load(
        text: &str,
        number: u64,
        classes: Classes,
        sites: BTreeMap<SiteName, Jurisdiction>,
    ) -> Result<Self, PolicyError> {
        if text.len() > POLICY_BYTES_MAX {
            return Err(PolicyError::Large { len: text.len() });
        }
        if let Some((at, message)) = too_deep(text) {
            let help = Some("split it into several policies".to_owned());
            let mistake = Mistake { message, help, place: Some(Span::new(text, at, at)) };
            return Err(PolicyError::Mistakes { mistakes: vec![mistake] });
        }
        let parsed = PolicySet::from_str(text).map_err(|errors| PolicyError::Mistakes {
            mistakes: errors.iter().map(|error| Mistake::new(text, &error.into())).collect(),
        })?;
        let count = parsed.num_of_policies() + parsed.num_of_templates();
        if !(1..=POLICIES_MAX).contains(&count) {
            return Err(PolicyError::Count { count });
        }
        let mut mistakes = Vec::new();
        let (set, reasons) = named(&parsed, &mut mistakes);
        let schema = schema()?;
        let checked = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        let error = |error: &cedar_policy::ValidationError| Mistake::new(text, &error.into());
        mistakes.extend(checked.validation_errors().map(error));
        let types = Types::new()?;
        unknown_classes(text, &set, &types, &classes, &mut mistakes);
        if !mistakes.is_empty() {
            return Err(PolicyError::Mistakes { mistakes });
        }
        let warning =
            |warning: &cedar_policy::ValidationWarning| Mistake::new(text, &warning.into());
        let warnings = checked.validation_warnings().map(warning).collect();
        let version = PolicyVersion { number, digest: digest(text, &classes, &sites) };
        Ok(Self { set, schema, types, classes, sites, reasons, version, warnings })
    }

    /// The ready policy, over these classes and sites.
    ///
    /// # Errors
    /// None that the tests know.
    pub fn builtin(
        number: u64,
        classes: Classes,
        sites: BTreeMap<SiteName, Jurisdiction>,
    ) -> Result<Self, PolicyError> {
        Self::load(BUILTIN, number, classes, sites)
    }

    /// Its number and digest, as every decision has them.
    pub fn version(&self) -> PolicyVersion {
        self.version
    }

    /// The classes that it decides over.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// The ids of its policies, in alphabetical order.
    pub fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.set.policies().map(|one| one.id().to_string()).collect();
        ids.sort_unstable();
        ids
    }

    /// What is worth a look, though it is not wrong.
    pub fn warnings(&self) -> &[Mistake] {
        &self.warnings
    }
}

fn schema() -> Result<Schema, PolicyError> {
    let schema = Schema::from_cedarschema_str(SCHEMA).map(|(schema, _)| schema);
    schema.map_err(|error| internal(&error.to_string()))
}

/// Something of the program's own is wrong; its tests would have found it.
pub(super) fn internal(detail: &str) -> PolicyError {
    let message = format!("the schema of this program is not what it should be: {detail}");
    PolicyError::Mistakes { mistakes: vec![Mistake { message, help: None, place: None }] }
}

/// The same policies under the names that they give themselves, and the reasons that they give.
fn named(parsed: &PolicySet, mistakes: &mut Vec<Mistake>) -> (PolicySet, BTreeMap<String, String>) {
    let mut wrong = |message: String, help: &str| {
        mistakes.push(Mistake { message, help: Some(help.to_owned()), place: None });
    };
    let (mut set, mut reasons) = (PolicySet::new(), BTreeMap::new());
    if parsed.num_of_templates() > 0 {
        wrong(
            "templates (?principal, ?resource) decide nothing here".to_owned(),
            "write policies; roles are granted with portway grant",
        );
    }
    // Cedar numbers the policies of a text: policy0, policy1, ...
    let mut policies: Vec<_> = parsed.policies().collect();
    policies.sort_by_key(|policy| {
        policy.id().to_string().strip_prefix("policy").and_then(|n| n.parse::<usize>().ok())
    });
    for (at, policy) in policies.into_iter().enumerate() {
        let id = policy.annotation("id").unwrap_or_default();
        // The rules of names: an id ends in logs and reasons.
        if id.parse::<Class>().is_err() {
            let message = format!("policy {} of the text has no usable @id", at + 1);
            wrong(message, "write @id(\"its-name\") before it: a-z, 0-9, '-', '_', '.'");
            continue;
        }
        if let Some(reason) = policy.annotation("reason") {
            if reason.chars().count() > REASON_CHARS_MAX || reason.chars().any(char::is_control) {
                let message = format!("the @reason of {id} is too long, or not one line");
                wrong(message, "write one sentence of at most 200 characters");
            }
            reasons.insert(id.to_owned(), reason.to_owned());
        }
        if set.add(policy.new_id(PolicyId::new(id))).is_err() {
            let message = format!("there are two policies with the @id {id}");
            wrong(message, "give each a name of its own: decisions are told by it");
        }
    }
    (set, reasons)
}

/// Cedar does not know which classes there are.
fn unknown_classes(
    text: &str,
    set: &PolicySet,
    types: &Types,
    classes: &Classes,
    mistakes: &mut Vec<Mistake>,
) {
    let named = set.policies().flat_map(cedar_policy::Policy::entity_literals);
    let mut unknown: Vec<String> = named
        .filter(|uid| *uid.type_name() == types.class)
        .map(|uid| uid.id().unescaped().to_owned())
        .filter(|name| !classes.order().iter().any(|class| class.as_str() == name))
        .collect();
    unknown.sort_unstable();
    unknown.dedup();
    for name in unknown {
        let known: Vec<&str> = classes.order().iter().map(Class::as_str).collect();
        let literal = format!("Class::{name:?}");
        let at = text.find(&literal);
        mistakes.push(Mistake {
            message: format!("{literal} is no class"),
            help: Some(format!("the classes are {}", known.join(", "))),
            place: at.map(|at| Span::new(text, at, at + literal.len())),
        });
    }
}

/// Digest of everything that decides, each part after its length.
fn digest(text: &str, classes: &Classes, sites: &BTreeMap<SiteName, Jurisdiction>) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("portway 2026-11 policy version");
    let mut part = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    part(SCHEMA);
    part(text);
    for list in [classes.order(), classes.plaintext()] {
        part(&list.len().to_string());
        for class in list {
            part(class.as_str());
        }
    }
    part(classes.default_class().as_str());
    for (site, jurisdiction) in sites {
        part(site.as_str());
        part(jurisdiction.as_str());
    }
    Digest(*hasher.finalize().as_bytes())
}

impl Mistake {
    fn new(text: &str, error: &DetailedError) -> Self {
        let place = error.source_locations.first();
        Self {
            message: error.message.clone(),
            help: error.help.clone(),
            place: place.map(|label| Span::new(text, label.loc.start, label.loc.end)),
        }
    }
}

impl Span {
    /// The place of some bytes of a text; what is beyond its line is left out.
    fn new(text: &str, start: usize, end: usize) -> Self {
        let start = text.floor_char_boundary(start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = text.floor_char_boundary(end).clamp(start, line_end);
        Self {
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end].chars().count().max(1),
            text: text[line_start..line_end].trim_end_matches('\r').to_owned(),
        }
    }
}
