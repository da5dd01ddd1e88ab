//! What is typed about policy and roles.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use portway::base::{Class, utc};
use portway::policy::{Action, Role, Transport};

pub(super) const ROLES: &str = "\
IDENTITY is SITE/node/NAME or SITE/workload/NAME in the trust domain of this home, where [sites] of
portway.toml has SITE, or a SPIFFE id:
  portway grant dc1/workload/trainer writer --dataset checkpoints
  portway grant spiffe://DOMAIN/tier/public/site/eu1/node/cloud reader

The roles of the ready policy are reader, writer, steward and admin. Where the trust domain began, the
CA's key signs the roles, and they count at every node that has them; elsewhere this node signs them,
and they count here only.";

const EXPLAIN: &str = "\
WHO is SITE/node/NAME or SITE/workload/NAME in the trust domain of this home, where [sites] of
portway.toml has SITE or it is that of this home, or a SPIFFE id. TO and --from are SITE, or SITE:TIER
where neither [sites] nor WHO nor this home knows the tier:
  portway policy explain dc1/node/onprem push checkpoints/step-1000 eu1:public
  portway policy explain spiffe://DOMAIN/tier/public/site/eu1/node/cloud pull checkpoints dc1

Exit status: 0 granted; 4 denied.";

#[derive(Debug, Args)]
pub(crate) struct Policy {
    #[command(subcommand)]
    pub(crate) command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Print the policy that counts here, or what policies can speak of
    Show {
        /// Print the schema: identities, datasets, sites and their attributes
        #[arg(long)]
        schema: bool,
    },
    /// Parse a policy and check it against the schema and the classes
    Check {
        /// The policy [default: the one that counts here]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Decide one request: the verdict, the policies that decided, everything that they saw
    #[command(after_help = EXPLAIN)]
    Explain(Box<Explain>),
    /// Decide tables of cases, and compare with the verdicts that they expect
    Test {
        /// Tables of cases (TOML); each names its policy, or is about the one that counts here
        #[arg(value_name = "CASES.toml", required = true)]
        files: Vec<PathBuf>,
    },
    /// List the roles that are granted, and the identities that are revoked
    Roles {
        /// Take this bundle in place of the one here first, if the CA signed it and it is not older
        #[arg(long, value_name = "BUNDLE")]
        take: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Who asks, like dc1/node/onprem or dc1/workload/trainer
    #[arg(value_name = "WHO")]
    pub(crate) who: String,
    /// push, pull, list, verify, relabel or administer
    #[arg(value_name = "ACTION", value_parser = action())]
    pub(crate) action: Action,
    /// The dataset's path
    #[arg(value_name = "WHAT")]
    pub(crate) what: OsString,
    /// The site where it would go, like eu1, or eu1:public where its tier is not known here
    #[arg(value_name = "TO")]
    pub(crate) to: String,
    /// The site that keeps the dataset [default: WHO's, for pull, list and verify this home's]
    #[arg(long, value_name = "SITE")]
    pub(crate) from: Option<String>,
    /// The dataset's class [default: border.default_class]
    #[arg(long, value_name = "CLASS")]
    pub(crate) class: Option<Class>,
    /// What would carry it [default: quic for push and pull, else none]
    #[arg(long, value_name = "TRANSPORT", value_parser = carrier())]
    pub(crate) transport: Option<Transport>,
    /// When it would be, in UTC: 2026-12-31 or 2026-12-31T23:59:59Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = utc::parse)]
    pub(crate) at: Option<i64>,
    /// For relabel: the new class
    #[arg(long, value_name = "CLASS")]
    pub(crate) new_class: Option<Class>,
    /// For relabel: who else stands behind it
    #[arg(long, value_name = "WHO")]
    pub(crate) second: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Grant {
    /// To whom, like dc1/node/onprem or dc1/workload/trainer
    #[arg(value_name = "IDENTITY")]
    pub(crate) identity: String,
    /// Which role; without one, the identity is no longer revoked
    #[arg(value_name = "ROLE")]
    pub(crate) role: Option<Role>,
    /// For this dataset and what is below it [default: all]
    #[arg(long, value_name = "PATH", requires = "role")]
    pub(crate) dataset: Option<OsString>,
    /// Until then, in UTC: 2026-12-31 or 2026-12-31T23:59:59Z [default: until revoked]
    #[arg(long, value_name = "TIME", value_parser = utc::parse, requires = "role")]
    pub(crate) until: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// From whom
    #[arg(value_name = "IDENTITY")]
    pub(crate) identity: String,
    /// Which role; without one, the identity may do nothing any more
    #[arg(value_name = "ROLE")]
    pub(crate) role: Option<Role>,
    /// Only the grant for this dataset [default: all grants of the role]
    #[arg(long, value_name = "PATH", requires = "role")]
    pub(crate) dataset: Option<OsString>,
}

fn action() -> impl TypedValueParser<Value = Action> {
    PossibleValuesParser::new(Action::ALL.iter().map(|action| action.as_str()))
        .try_map(|word| word_of(Action::ALL, Action::as_str, &word))
}

fn carrier() -> impl TypedValueParser<Value = Transport> {
    let all = Transport::ALL;
    PossibleValuesParser::new(all.iter().map(|transport| transport.as_str()))
        .try_map(|word| word_of(all, Transport::as_str, &word))
}

fn word_of<T: Copy>(all: &[T], text: fn(T) -> &'static str, word: &str) -> Result<T, &'static str> {
    all.iter().copied().find(|one| text(*one) == word).ok_or("not one of the words")
}
