//! A table of cases: requests with the verdicts that a policy has to give, in TOML.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::classes::{Classes, ClassesError};
use super::decide::Decision;
use super::load::{Policy, PolicyError};
use super::request::{Relabel, Request, Side, Subject};
use super::roles::{ChangeError, Grant, Role, Roles};
use super::words::{Action, Principal, Transport, Verdict};
use crate::base::{Class, Jurisdiction, RelPath, SiteName, Tier, utc};

/// Largest table, in bytes.
pub const CASES_BYTES_MAX: usize = 1 << 20;
/// The time of a case that names none: 2026-01-01.
const TIME_DEFAULT_S: i64 = 1_767_225_600;
/// The trust domain of identities that are written short.
const DOMAIN: &str = "example";

/// Why a text is no table of cases.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CasesError {
    /// It is too long.
    #[error("the cases have {len} bytes, more than {CASES_BYTES_MAX}")]
    Large {
        /// Its length in bytes.
        len: usize,
    },
    /// It is not TOML of the right shape.
    #[error("{detail}")]
    Shape {
        /// The parser's words, with the place.
        detail: String,
    },
    /// There is no case.
    #[error("there is no [[case]]")]
    None,
    /// The classes are no order.
    #[error(transparent)]
    Classes(#[from] ClassesError),
    /// A field has a value that it cannot have.
    #[error("{place}: {field} {value:?} is not {wanted}")]
    Field {
        /// The case or the grant, by name or number.
        place: String,
        /// The field.
        field: &'static str,
        /// What was written.
        value: String,
        /// What is wanted.
        wanted: &'static str,
    },
    /// A grant makes no sense.
    #[error("grant {number}: {source}")]
    Grant {
        /// Its number, from 1.
        number: usize,
        /// Why.
        source: ChangeError,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    policy: Option<String>,
    classes: Option<Vec<Class>>,
    default_class: Option<Class>,
    rdma_classes: Option<Vec<Class>>,
    #[serde(default)]
    sites: BTreeMap<SiteName, SiteRow>,
    #[serde(default)]
    identities: BTreeMap<String, String>,
    #[serde(default)]
    revoked: Vec<String>,
    #[serde(default)]
    grant: Vec<GrantRow>,
    #[serde(default)]
    case: Vec<CaseRow>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteRow {
    tier: Tier,
    jurisdiction: Option<Jurisdiction>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantRow {
    who: String,
    role: String,
    dataset: Option<String>,
    until: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseRow {
    name: String,
    who: String,
    action: String,
    what: String,
    class: Option<Class>,
    from: SiteName,
    to: Option<SiteName>,
    transport: Option<String>,
    at: Option<String>,
    new_class: Option<Class>,
    second: Option<String>,
    expect: String,
    by: Option<Vec<String>>,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Case {
    name: String,
    request: Request,
    at: i64,
    expected: Verdict,
    by: Option<Vec<String>>,
}

/// A table of cases, with the classes, sites and roles that they are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cases {
    policy: Option<String>,
    classes: Classes,
    jurisdictions: BTreeMap<SiteName, Jurisdiction>,
    roles: Roles,
    list: Vec<Case>,
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseResult {
    /// Its name.
    pub name: String,
    /// The verdict that it expects.
    pub expected: Verdict,
    /// The policies that it expects to have decided, if it says so.
    pub expected_by: Option<Vec<String>>,
    /// What was decided.
    pub decision: Decision,
}

impl CaseResult {
    /// Whether the decision is the expected one.
    pub fn passed(&self) -> bool {
        self.decision.verdict == self.expected
            && self.expected_by.as_ref().is_none_or(|by| *by == self.decision.by)
    }
}

impl Cases {
    /// Reads a table.
    ///
    /// # Errors
    /// The text is no table, or a case in it makes no sense.
    pub fn parse(text: &str) -> Result<Self, CasesError> {
        if text.len() > CASES_BYTES_MAX {
            return Err(CasesError::Large { len: text.len() });
        }
        let file: File = toml_edit::de::from_str(text)
            .map_err(|error| CasesError::Shape { detail: error.to_string().trim().to_owned() })?;
        if file.case.is_empty() {
            return Err(CasesError::None);
        }
        let ready = Classes::default();
        let order = file.classes.clone().unwrap_or_else(|| ready.order().to_vec());
        let default = file.default_class.clone().unwrap_or_else(|| ready.default_class().clone());
        let classes = Classes::new(order, default, file.rdma_classes.clone())?;
        let roles = roles(&file)?;
        let list =
            file.case.iter().map(|row| row.case(&file, &classes)).collect::<Result<_, _>>()?;
        let sites = file.sites.into_iter();
        let jurisdictions = sites.filter_map(|(name, site)| Some((name, site.jurisdiction?)));
        let jurisdictions = jurisdictions.collect();
        Ok(Self { policy: file.policy, classes, jurisdictions, roles, list })
    }

    /// The file of the policy that they are about, as it is written there.
    pub fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// Decides all cases by the policy in `text`, over the classes and sites of the table.
    ///
    /// # Errors
    /// The text is no policy.
    pub fn run(&self, text: &str) -> Result<Vec<CaseResult>, PolicyError> {
        let policy = Policy::load(text, 1, self.classes.clone(), self.jurisdictions.clone())?;
        let run = |case: &Case| CaseResult {
            name: case.name.clone(),
            expected: case.expected,
            expected_by: case.by.clone(),
            decision: policy.decide(&case.request, &self.roles, case.at),
        };
        Ok(self.list.iter().map(run).collect())
    }
}

fn roles(file: &File) -> Result<Roles, CasesError> {
    let mut roles = Roles::default();
    for (at, row) in file.grant.iter().enumerate() {
        let (number, place) = (at + 1, || format!("grant {}", at + 1));
        let grant = Grant {
            identity: file.identity(&place, "who", &row.who)?,
            role: parsed::<Role>(&place, "role", &row.role, "a name")?,
            dataset: path(&place, "dataset", row.dataset.as_deref().unwrap_or("."))?,
        };
        let until = row.until.as_deref().map(|text| time(&place, "until", text)).transpose()?;
        // Whether a grant is over is a matter of each case's time.
        roles = roles
            .grant(grant, until, i64::MIN)
            .map_err(|source| CasesError::Grant { number, source })?;
    }
    for (at, text) in file.revoked.iter().enumerate() {
        let identity = file.identity(&|| "revoked".to_owned(), "identity", text)?;
        roles = roles
            .revoke_identity(&identity)
            .map_err(|source| CasesError::Grant { number: at + 1, source })?;
    }
    Ok(roles)
}

/// How a place is told, once it is needed.
type Place<'a> = &'a dyn Fn() -> String;

fn wrong(place: Place<'_>, field: &'static str, value: &str, wanted: &'static str) -> CasesError {
    CasesError::Field { place: place(), field, value: value.to_owned(), wanted }
}

fn parsed<T: std::str::FromStr>(
    place: Place<'_>,
    field: &'static str,
    text: &str,
    wanted: &'static str,
) -> Result<T, CasesError> {
    text.parse().map_err(|_| wrong(place, field, text, wanted))
}

fn path(place: Place<'_>, field: &'static str, text: &str) -> Result<RelPath, CasesError> {
    RelPath::from_typed(text.as_bytes())
        .map_err(|_| wrong(place, field, text, "a path below a node's root"))
}

fn time(place: Place<'_>, field: &'static str, text: &str) -> Result<i64, CasesError> {
    utc::parse(text).map_err(|_| wrong(place, field, text, "2026-12-31 or 2026-12-31T23:59:59Z"))
}

fn word<T: Copy>(
    place: Place<'_>,
    field: &'static str,
    text: &str,
    (all, as_str): (&[T], fn(T) -> &'static str),
    wanted: &'static str,
) -> Result<T, CasesError> {
    let found = all.iter().copied().find(|word| as_str(*word) == text);
    found.ok_or_else(|| wrong(place, field, text, wanted))
}

impl File {
    /// An identity by its name in the table, by SITE/KIND/NAME, or by its SPIFFE id.
    fn identity(
        &self,
        place: Place<'_>,
        field: &'static str,
        text: &str,
    ) -> Result<Principal, CasesError> {
        let full = self.identities.get(text).map_or(text, String::as_str);
        let tier = |site: &SiteName| self.sites.get(site).map(|row| row.tier);
        Subject::typed(full, DOMAIN, tier)
            .ok_or_else(|| wrong(place, field, text, "one of [identities], nor SITE/node/NAME or SITE/workload/NAME of [sites], nor a SPIFFE id"))
    }

    fn side(
        &self,
        place: Place<'_>,
        field: &'static str,
        site: &SiteName,
    ) -> Result<Side, CasesError> {
        let row = self.sites.get(site);
        let row = row.ok_or_else(|| wrong(place, field, site.as_str(), "one of [sites]"))?;
        Ok(Side { site: site.clone(), tier: row.tier })
    }
}

impl CaseRow {
    fn case(&self, file: &File, classes: &Classes) -> Result<Case, CasesError> {
        let place: Place<'_> = &|| format!("case {:?}", self.name);
        let words = (Action::ALL, Action::as_str as fn(Action) -> &'static str);
        let wanted = "push, pull, list, verify, relabel or administer";
        let action = word(place, "action", &self.action, words, wanted)?;
        let usual = if action.moves_content() { "quic" } else { "none" };
        let transport = self.transport.as_deref().unwrap_or(usual);
        let words = (Transport::ALL, Transport::as_str as fn(Transport) -> &'static str);
        let transport = word(place, "transport", transport, words, "none, quic or rdma")?;
        let words = (Verdict::ALL, Verdict::as_str as fn(Verdict) -> &'static str);
        let expected = word(place, "expect", &self.expect, words, "granted or denied")?;
        let second = self.second.as_deref();
        let second = second.map(|text| file.identity(place, "second", text)).transpose()?;
        let relabel = self.new_class.clone().map(|class| Relabel { class, second });
        let at = self.at.as_deref().map(|text| time(place, "at", text)).transpose()?;
        let request = Request {
            who: file.identity(place, "who", &self.who)?,
            action,
            path: path(place, "what", &self.what)?,
            class: self.class.clone().unwrap_or_else(|| classes.default_class().clone()),
            from: file.side(place, "from", &self.from)?,
            to: file.side(place, "to", self.to.as_ref().unwrap_or(&self.from))?,
            transport,
            relabel,
        };
        let at = at.unwrap_or(TIME_DEFAULT_S);
        let by = self.by.clone();
        Ok(Case { name: self.name.clone(), request, at, expected, by })
    }
}
