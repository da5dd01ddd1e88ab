//! `portway policy`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use portway::api::{Error, Exit};
use portway::base::{RelPath, SiteName, Tier, utc};
use portway::config::{Config, read_policy, read_roles, take_roles};
use portway::identity::Identity;
use portway::policy::{
    Action, BUILTIN, BUNDLE_BYTES_MAX, CaseResult, Cases, Explanation, Mistake, POLICY_BYTES_MAX,
    Policy, PolicyError, Principal, Relabel, Request, Roles, SCHEMA, Side, Subject, Transport,
    Verdict,
};

use crate::args::{self, PolicyCommand};
use crate::out::Out;
use crate::out::event::{self, Event};
use crate::setup::{Context, border_error, shown, told, unix_now};

/// What stands for the policy of this home where it has no file.
const READY: &str = "the ready policy";

pub(super) fn run(context: &Context<'_>, args: args::Policy) -> Result<Exit, Error> {
    match args.command {
        PolicyCommand::Show { schema: true } => {
            context.out.event(&Event::PolicySchema { text: SCHEMA });
            context.out.text(SCHEMA.trim_end());
            Ok(Exit::Done)
        }
        PolicyCommand::Show { schema: false } => {
            let (file, text) = own_text(context, &context.config()?)?;
            context.out.event(&Event::Policy { file: &file, text: &text });
            context.out.text(text.trim_end());
            Ok(Exit::Done)
        }
        PolicyCommand::Check { file } => check(context, file),
        PolicyCommand::Explain(args) => explain(context, *args),
        PolicyCommand::Test { files } => test(context, &files),
        PolicyCommand::Roles { take } => list_roles(context, take.as_deref()),
    }
}

/// The policy of this home, by the name of its file, and its text.
fn own_text(context: &Context<'_>, config: &Config) -> Result<(String, String), Error> {
    let named = config.settings.border.policy.clone();
    let path = named.clone().unwrap_or_else(|| context.home.policy_file());
    if named.is_none() && !path.exists() {
        return Ok((READY.to_owned(), BUILTIN.to_owned()));
    }
    Ok((shown(&path), text_of(&path, POLICY_BYTES_MAX)?))
}

fn unread(path: &Path, why: &str) -> Error {
    Error::new("policy", Exit::Failed, format!("{}: {why}", shown(path)))
        .hint("check the path, and your rights to read it")
}

/// The content of a file of at most `limit` bytes.
fn bytes_of(path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
    let length = std::fs::metadata(path).map_err(|error| unread(path, &told(&error)))?.len();
    if length > limit as u64 {
        return Err(unread(path, &format!("it has more than {limit} bytes")));
    }
    std::fs::read(path).map_err(|error| unread(path, &told(&error)))
}

fn text_of(path: &Path, limit: usize) -> Result<String, Error> {
    String::from_utf8(bytes_of(path, limit)?).map_err(|_| unread(path, "it is not a text"))
}

fn check(context: &Context<'_>, file: Option<PathBuf>) -> Result<Exit, Error> {
    let config = context.config()?;
    let (name, text) = match file {
        Some(path) => (shown(&path), text_of(&path, POLICY_BYTES_MAX)?),
        None => own_text(context, &config)?,
    };
    let jurisdictions = config.sites.iter();
    let jurisdictions = jurisdictions
        .filter_map(|(site, entry)| Some((site.clone(), entry.jurisdiction.clone()?)))
        .collect();
    match Policy::load(&text, 0, config.classes.clone(), jurisdictions) {
        Ok(policy) => {
            for warning in policy.warnings() {
                mistake(context.out, &name, "warning", warning);
            }
            let (ids, digest) = (policy.ids(), policy.version().digest.to_string());
            context.out.text(&format!(
                "{name}: {}, no mistakes",
                counted(ids.len(), "policy", "policies")
            ));
            let number = policy.version().number;
            context.out.event(&Event::PolicyChecked { file: &name, policies: ids, number, digest });
            Ok(Exit::Done)
        }
        Err(error) => Err(refused(context.out, &name, &error)),
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Tells every mistake of a policy, and what to do.
fn refused(out: &Out, name: &str, error: &PolicyError) -> Error {
    let message = match error {
        PolicyError::Mistakes { mistakes } => {
            for one in mistakes {
                mistake(out, name, "mistake", one);
            }
            format!("{name}: {}", counted(mistakes.len(), "mistake", "mistakes"))
        }
        other => format!("{name}: {other}"),
    };
    Error::new("policy", Exit::Failed, message)
        .hint("portway policy show prints one that works; --schema, what policies can speak of")
}

fn mistake(out: &Out, file: &str, level: &str, mistake: &Mistake) {
    out.event(&Event::PolicyMistake(event::PolicyMistake {
        file,
        level,
        line: mistake.place.as_ref().map(|place| place.line),
        column: mistake.place.as_ref().map(|place| place.column),
        message: &mistake.message,
        help: mistake.help.as_deref(),
    }));
    // What is quoted is somebody's file: nothing of it may move the cursor.
    let safe = |c: char| if c.is_control() && !"\n\t".contains(c) { '\u{fffd}' } else { c };
    out.text(&pointed(file, level, mistake).chars().map(safe).collect::<String>());
}

/// `FILE:3:8: mistake: ...`, the line, and a caret below the place.
fn pointed(file: &str, level: &str, mistake: &Mistake) -> String {
    let message = &mistake.message;
    let mut text = match &mistake.place {
        None => format!("{file}: {level}: {message}"),
        Some(place) => {
            let (line, column) = (place.line, place.column);
            // A tab keeps its width under a tab.
            let before = place.text.chars().take(column - 1);
            let blank: String = before.map(|c| if c == '\t' { c } else { ' ' }).collect();
            let carets = "^".repeat(place.width);
            let shown = &place.text;
            format!("{file}:{line}:{column}: {level}: {message}\n  | {shown}\n  | {blank}{carets}")
        }
    };
    if let Some(help) = &mistake.help {
        let _ = write!(text, "\n  = {help}");
    }
    text
}

/// The identity of this home, if it has one.
fn own_identity(context: &Context<'_>, config: &Config) -> Option<Identity> {
    context.engine(config).and_then(|engine| engine.identity()).ok()
}

/// What is known of sites: those of `[sites]`, this home's, and those that certificates name.
struct Sites<'a> {
    config: &'a Config,
    known: BTreeMap<SiteName, Tier>,
}

impl<'a> Sites<'a> {
    fn new(config: &'a Config, own: Option<&Identity>) -> Self {
        let own = own.map(|identity| (identity.id().site.clone(), identity.id().tier));
        Self { config, known: own.into_iter().collect() }
    }

    fn tier(&self, site: &SiteName) -> Option<Tier> {
        let known = self.known.get(site).copied();
        known.or_else(|| self.config.sites.get(site).map(|entry| entry.tier))
    }

    /// `SITE` or `SITE:TIER`.
    fn side(&self, text: &str) -> Result<Side, Error> {
        let (name, tier) = match text.split_once(':') {
            Some((name, tier)) => (name, Some(tier)),
            None => (text, None),
        };
        let usage =
            |message: String, hint: &str| Error::new("site", Exit::Usage, message).hint(hint);
        let site: SiteName =
            name.parse().map_err(|error| usage(format!("{name:?}: {error}"), "name a site"))?;
        let tier = match tier {
            Some(tier) => Some(tier.parse().map_err(|error| {
                usage(format!("{tier:?}: {error}"), "write SITE:private or SITE:public")
            })?),
            None => self.tier(&site),
        };
        let tier = tier.ok_or_else(|| {
            let hint = format!(
                "write {site}:private or {site}:public, or give the site a table [sites.{site}] with its \
                 tier in portway.toml"
            );
            usage(format!("the tier of the site {site} is not known"), &hint)
        })?;
        Ok(Side { site, tier })
    }
}

/// An identity as it was typed.
pub(super) fn identity(
    context: &Context<'_>,
    config: &Config,
    text: &str,
) -> Result<Principal, Error> {
    let own = own_identity(context, config);
    let sites = Sites::new(config, own.as_ref());
    let domain = own.as_ref().map_or("example", |identity| identity.id().domain.as_str());
    Subject::typed(text, domain, |site| sites.tier(site)).ok_or_else(|| {
        Error::new("identity", Exit::Usage, format!("{text:?} is no identity")).hint(format!(
            "write SITE/node/NAME or SITE/workload/NAME of a site that [sites] has, or a SPIFFE id like \
             spiffe://{domain}/tier/public/site/eu1/node/cloud"
        ))
    })
}

/// A dataset as it was typed.
pub(super) fn dataset(text: &std::ffi::OsStr) -> Result<RelPath, Error> {
    RelPath::from_typed(text.as_encoded_bytes()).map_err(|error| {
        let shown = shown(Path::new(text));
        Error::new("path", Exit::Usage, format!("{shown} cannot be a dataset: {error}"))
            .hint("name a path below the node's root")
    })
}

fn explain(context: &Context<'_>, args: args::Explain) -> Result<Exit, Error> {
    let config = context.config()?;
    let own = own_identity(context, &config);
    let who = identity(context, &config, &args.who)?;
    let second = args.second.as_deref();
    let second = second.map(|text| identity(context, &config, text)).transpose()?;
    let mut sites = Sites::new(&config, own.as_ref());
    let subject = Subject::of(&who).map_err(|error| {
        Error::new("identity", Exit::Usage, error.to_string())
            .hint("its path is /tier/TIER/site/SITE/node/NAME, or workload for node")
    })?;
    sites.known.insert(subject.side.site.clone(), subject.side.tier);
    let to = sites.side(&args.to)?;
    let fetches = matches!(args.action, Action::Pull | Action::List | Action::Verify);
    let from = match (&args.from, &own) {
        (Some(from), _) => sites.side(from)?,
        (None, Some(own)) if fetches => Side { site: own.id().site.clone(), tier: own.id().tier },
        (None, None) if fetches => {
            let message =
                "this home has no identity, so it is not known which site keeps the dataset";
            return Err(Error::new("site", Exit::Usage, message).hint("give --from SITE"));
        }
        (None, _) => subject.side.clone(),
    };
    let moves = args.action.moves_content();
    let usual = if moves { Transport::Quic } else { Transport::None };
    let request = Request {
        who,
        action: args.action,
        path: dataset(&args.what)?,
        class: args.class.unwrap_or_else(|| config.classes.default_class().clone()),
        from,
        to,
        transport: args.transport.unwrap_or(usual),
        relabel: args.new_class.map(|class| Relabel { class, second }),
    };
    let policy = read_policy(&context.home, &config).map_err(|error| border_error(&error))?;
    let roles = match &own {
        Some(own) => read_roles(&context.home, own).map_err(|error| border_error(&error))?,
        None => Roles::default(),
    };
    let now = args.at.unwrap_or_else(unix_now);
    Ok(tell(context.out, &policy.explain(&request, &roles, now)))
}

fn tell(out: &Out, explanation: &Explanation) -> Exit {
    let Explanation { decision, attributes } = explanation;
    out.event(&Event::Decision(Box::new(event::Decided {
        verdict: decision.verdict.as_str(),
        reason: decision.reason.as_str(),
        by: &decision.by,
        policy: decision.policy.number,
        digest: decision.policy.digest.to_string(),
        roles: decision.roles,
        attributes: attributes
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect(),
    })));
    let mut text = format!(
        "{}: {}\n  policy {} ({}), roles {}",
        decision.verdict,
        decision.reason.as_str(),
        decision.policy.number,
        &decision.policy.digest.to_string()[..12],
        decision.roles
    );
    let width = attributes.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in attributes {
        let _ = write!(text, "\n  {name:<width$}  {value}");
    }
    out.text(&text);
    match decision.verdict {
        Verdict::Granted => Exit::Done,
        Verdict::Denied => Exit::Refused,
    }
}

fn test(context: &Context<'_>, files: &[PathBuf]) -> Result<Exit, Error> {
    let (mut count, mut failed) = (0, 0);
    for path in files {
        let name = shown(path);
        let cases = text_of(path, portway::policy::CASES_BYTES_MAX)?;
        let cases = Cases::parse(&cases).map_err(|error| {
            Error::new("cases", Exit::Usage, format!("{name}: {error}"))
                .hint("docs/border.md shows a table of cases")
        })?;
        let (policy, text) = match cases.policy() {
            Some(policy) => {
                let policy = path.parent().unwrap_or(Path::new("")).join(policy);
                (shown(&policy), text_of(&policy, POLICY_BYTES_MAX)?)
            }
            None => own_text(context, &context.config()?)?,
        };
        let results = cases.run(&text).map_err(|error| refused(context.out, &policy, &error))?;
        for result in &results {
            told_case(context.out, &name, result);
        }
        count += results.len();
        failed += results.iter().filter(|result| !result.passed()).count();
    }
    context.out.report(&format!("{}, {failed} failed", counted(count, "case", "cases")));
    if failed == 0 {
        return Ok(Exit::Done);
    }
    let cases = counted(count, "case", "cases");
    let message = format!("{failed} of {cases} not decided as expected");
    Err(Error::new("cases-failed", Exit::Failed, message)
        .hint("correct the policy, or the cases that say what it should do"))
}

fn told_case(out: &Out, file: &str, result: &CaseResult) {
    let decision = &result.decision;
    out.event(&Event::Case(event::Case {
        file,
        name: &result.name,
        passed: result.passed(),
        expected: result.expected.as_str(),
        verdict: decision.verdict.as_str(),
        reason: decision.reason.as_str(),
        by: &decision.by,
    }));
    let name = portway::base::human::escaped(result.name.as_bytes());
    let (verdict, reason) = (decision.verdict, decision.reason.as_str());
    if result.passed() {
        out.report(&format!("{}  {name}", out.paint("32", "ok  ")));
        return;
    }
    let mut text = format!("{}  {file}: {name}", out.paint("31", "FAIL"));
    let _ = write!(text, "\n      {verdict}: {reason}\n      expected: {}", result.expected);
    if let Some(by) = &result.expected_by {
        let _ = write!(text, " by {}", by.join(", "));
    }
    out.text(&text);
}

fn list_roles(context: &Context<'_>, take: Option<&Path>) -> Result<Exit, Error> {
    let identity = context.engine(&context.config()?)?.identity()?;
    let roles = match take {
        None => read_roles(&context.home, &identity),
        Some(path) => {
            take_roles(&context.home, &identity, &bytes_of(path, BUNDLE_BYTES_MAX)?, path)
        }
    };
    let roles = roles.map_err(|error| border_error(&error))?;
    for (grant, until) in roles.grants() {
        let (dataset, until) = (grant.dataset.to_string(), until.map(utc::text));
        let end = until.as_ref().map_or_else(String::new, |until| format!("  until {until}"));
        let (who, role) = (grant.identity.as_str(), grant.role.as_str());
        context.out.text(&format!("{who}  {role}  {dataset}{end}"));
        context.out.event(&Event::Role { identity: who, role, dataset, until });
    }
    for identity in roles.revoked() {
        context.out.text(&format!("{identity}  revoked"));
        context.out.event(&Event::Revoked { identity: identity.as_str() });
    }
    if roles.version() == 0 {
        context.out.note("no role was ever granted: portway grant IDENTITY ROLE");
    }
    Ok(Exit::Done)
}
