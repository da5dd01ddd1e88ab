//! The command line as it is typed.

#![expect(clippy::doc_markdown, reason = "these doc comments are the help text")]

mod border;
mod cost;
mod member;
mod policy;
mod transfer;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use portway::base::{NodeName, ParseRateError, Rate, Tier};
use portway::config::Endpoint;

pub(crate) use self::border::{Audit, AuditCommand, AuditFormat, AuditWhich, Label};
pub(crate) use self::cost::{Cost, CostBy, CostCommand, CostFormat};
pub(crate) use self::member::{Invite, Join, Member};
use self::policy::ROLES;
pub(crate) use self::policy::{Explain, Grant, Policy, PolicyCommand, Revoke};
pub(crate) use self::transfer::{
    Compress, Deadline, Plan, Priority, Pull, Push, TransferFlags, Transport,
};

const EXAMPLES: &str = "\
First transfer:
  portway init --name onprem --site dc1 --tier private       on the first machine
  portway serve --root /data                                 there, as a service
  portway invite --name cloud --site eu1 --tier public       there; prints TOKEN
  portway join TOKEN                                         on the second machine
  portway push checkpoints/step-100 onprem:checkpoints/      on the second machine

Exit status: 0 done and verified; 1 failed, nothing published; 2 usage; 3 partial: some objects
failed, others were published; 4 refused by identity, policy or budget; 5 interrupted, the same
command resumes.";

const REMOTES: &str = "\
NODE is a name that `portway nodes` lists; portway://ADDR:PORT/PATH works as well. PATH is below the
node's root. With a slash at its end the sources land in that directory under their own names. A
local path with a colon is written ./a:b.";

/// Moves training shards and checkpoints between nodes: deduplicated, verified, resumable.
#[derive(Debug, Parser)]
#[command(
    name = "portway",
    version = super::version::SHORT,
    long_version = super::version::LONG,
    after_long_help = EXAMPLES,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What holds for every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Directory of configuration, identity and state [default: $PORTWAY_HOME, else the platform's]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Set a field of portway.toml for this run
    #[arg(long, global = true, value_name = "SECTION.FIELD=VALUE", value_parser = setting)]
    pub(crate) set: Vec<(String, String)>,
    /// Print one JSON event per line on standard output; rates are in bits per second
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print only what was asked for, and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Log more to standard error; -vv and -vvv still more ($RUST_LOG overrides)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// How log lines look
    #[arg(long, global = true, value_name = "FORMAT", default_value = "human")]
    pub(crate) log_format: LogFormat,
    /// Show no progress
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    #[default]
    Human,
    /// One JSON object per line
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make this machine the first node of a new trust domain
    Init(Member),
    /// Admit one more node or workload: print its one-time token, valid for an hour
    ///
    /// Asks the `serve` of this home, which must be running.
    Invite(Invite),
    /// Become a node or a workload by a token: the key is made here and its certificate signed there
    Join(Join),
    /// Serve a directory to the other nodes, until SIGINT or SIGTERM
    Serve(Serve),
    /// Send files and directories to a node
    #[command(after_help = REMOTES)]
    Push(Push),
    /// Fetch a file or directory from a node
    #[command(after_help = REMOTES)]
    Pull(Pull),
    /// List a directory of a node
    #[command(after_help = REMOTES)]
    Ls(Ls),
    /// Name the newest complete checkpoint of a directory, then each newer one as it appears
    #[command(after_help = REMOTES)]
    Watch(Watch),
    /// Say what a push would move, how long it would take and what it would cost; change nothing
    #[command(after_help = REMOTES)]
    Plan(Plan),
    /// Read a published snapshot from the medium and check every digest
    #[command(after_help = REMOTES)]
    Verify(Verify),
    /// Show transfers, running and recent, of a node or of this home's `serve`
    Status(OneNode),
    /// Look for what slows or stops transfers, here and at a node: finding and fix
    Doctor(OneNode),
    /// List, add or remove the nodes that are known by name
    Nodes(Nodes),
    /// List the links between sites, or set the most that this node sends over one
    ///
    /// It holds for all transfers of this home together; those that run take it up within a second.
    Limit(Limit),
    /// Show the class of a file or directory here, or raise it with all that is below
    Label(Label),
    /// Verify the record of what crossed between sites, or write it out
    Audit(Audit),
    /// Say what crossed between sites and what it cost
    Cost(Cost),
    /// Show, check, try and explain the policy that decides what may cross between sites
    Policy(Policy),
    /// Give an identity a role, or readmit it: writes and signs the roles of this home
    #[command(after_help = ROLES)]
    Grant(Grant),
    /// Take a role from an identity, or shut the identity out
    #[command(after_help = ROLES)]
    Revoke(Revoke),
    /// Print every field of portway.toml: meaning, value, and where the value comes from
    Config(Config),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the version, and what this build can use
    Version,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The directory to serve [default: serve.root]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Where to listen (UDP); port 0 takes a free one [default: serve.listen]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where /metrics and /healthz answer (HTTP), or off [default: serve.admin]
    #[arg(long, value_name = "ADDR:PORT", value_parser = admin)]
    pub(crate) admin: Option<Admin>,
}

/// An admin address, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admin(pub(crate) Option<SocketAddr>);

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The directory that holds the checkpoints
    #[arg(value_name = "NODE:PATH")]
    pub(crate) path: OsString,
    /// Name the newest one and end; an error if none is complete
    #[arg(long)]
    pub(crate) once: bool,
    /// How often to look
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) interval: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// The directory
    #[arg(value_name = "NODE:PATH")]
    pub(crate) path: OsString,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A published snapshot or file, here or at a node
    #[arg(value_name = "PATH|NODE:PATH")]
    pub(crate) path: OsString,
}

#[derive(Debug, Args)]
pub(crate) struct OneNode {
    /// A known name, ADDR:PORT or portway://ADDR:PORT [default: this home]
    #[arg(value_name = "NODE")]
    pub(crate) node: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Nodes {
    #[command(subcommand)]
    pub(crate) change: Option<NodesChange>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodesChange {
    /// Add a node, or give a known one another address
    Add {
        /// Its name, which its certificate must carry
        #[arg(value_name = "NAME")]
        name: NodeName,
        /// Where it listens; of several, the first that answers is used
        #[arg(value_name = "ADDR:PORT", required = true)]
        addresses: Vec<Endpoint>,
    },
    /// Forget a node
    Remove {
        /// Its name
        #[arg(value_name = "NAME")]
        name: NodeName,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Limit {
    /// A link of portway.toml
    #[arg(value_name = "LINK", requires = "limit")]
    pub(crate) link: Option<String>,
    /// A rate in whole megabits, like 200Mb/s or 25MB/s, or off
    #[arg(value_name = "RATE|off", value_parser = cap)]
    pub(crate) limit: Option<Cap>,
}

/// A limit, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cap(pub(crate) Option<Rate>);

#[derive(Debug, Args)]
pub(crate) struct Config {
    /// Print the defaults, whatever the file and the environment say
    #[arg(long)]
    pub(crate) defaults: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

fn tier() -> impl TypedValueParser<Value = Tier> {
    PossibleValuesParser::new(["private", "public"]).try_map(|word| word.parse::<Tier>())
}

fn admin(text: &str) -> Result<Admin, std::net::AddrParseError> {
    if text == "off" { Ok(Admin(None)) } else { text.parse().map(|address| Admin(Some(address))) }
}

fn cap(text: &str) -> Result<Cap, ParseRateError> {
    if text == "off" { Ok(Cap(None)) } else { text.parse().map(|rate| Cap(Some(rate))) }
}

fn setting(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((field, value)) if field.contains('.') => Ok((field.to_owned(), value.to_owned())),
        _ => Err("not SECTION.FIELD=VALUE"),
    }
}
