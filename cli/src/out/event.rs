//! The events of `--json`: their names, keys and the keys' order are a contract.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use portway::api::{CostRow, Finding, LinkMonth, ListEntry, Outcome, Plan, VerifyReport};
use portway::metrics::{NodeStatus, Phase, RailStatus, Snapshot};
use serde::Serialize;

use super::progress::Meter;

/// One line of `--json`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// A transfer begins.
    Start { action: &'a str, sources: Vec<String>, target: String },
    /// How a transfer stands.
    Progress(Box<Progress<'a>>),
    /// Something that should not be overlooked.
    Warning { message: &'a str },
    /// An entry was left out.
    Skipped { path: &'a str, reason: &'a str },
    /// An object failed alone.
    ObjectFailed { path: &'a str, reason: &'a str },
    /// The command ends badly.
    Error { code: &'a str, message: &'a str, hint: &'a str, exit: u8 },
    /// How a transfer ended; the last event of one that published something.
    Summary(Summary<'a>),
    /// `serve` can be reached.
    Listening { address: SocketAddr, admin: Option<SocketAddr>, node: &'a str, root: String },
    /// `serve` ends.
    Stopped,
    /// A node was made.
    Initialised { node: &'a str, site: &'a str, tier: &'a str, identity: &'a str },
    /// A token.
    Invitation { name: &'a str, kind: &'static str, site: &'a str, tier: &'a str, token: &'a str },
    /// This home became a node or a workload.
    Joined { node: &'a str, kind: &'static str, site: &'a str, tier: &'a str, peer: &'a str },
    /// An older checkpoint was removed at the node.
    Removed { name: &'a str },
    /// An older checkpoint was to be removed, and stays.
    Kept { name: &'a str, reason: &'a str },
    /// A complete checkpoint.
    Checkpoint { path: String, step: Option<u64>, root: &'a str, files: u64, bytes: u64 },
    /// A line of `ls`.
    Entry(&'a ListEntry),
    /// What a push would do.
    Plan(&'a Plan),
    /// What `verify` found.
    Verified(&'a VerifyReport),
    /// What `status` tells.
    Status(&'a NodeStatus),
    /// A line of `doctor`.
    Finding(&'a Finding),
    /// A node that is known.
    Node { name: &'a str, addresses: Vec<String>, site: Option<&'a str> },
    /// The known nodes changed.
    NodesChanged { name: &'a str, change: &'a str },
    /// A link between sites.
    Link { name: &'a str, sites: [&'a str; 2], rate_bps: u64, limit_bps: Option<u64> },
    /// The class of something here, and how many files and directories got its label.
    Label { path: &'a str, class: &'a str, labelled: u64 },
    /// A lower class is proposed, and waits for a second identity.
    Proposal { id: &'a str, path: &'a str, class: &'a str },
    /// The audit log is whole.
    AuditVerified { node: &'a str, log: &'a str, records: u64, root: &'a str },
    /// Something in which two audit logs differ.
    AuditDifference { transfer: &'a str, message: &'a str },
    /// Something that a lost link or a process that died explains.
    AuditRemark { transfer: &'a str, message: &'a str },
    /// What a comparison of two audit logs came to.
    AuditReconciled {
        peer: &'a str,
        log: Option<&'a str>,
        records: u64,
        told: u64,
        held: Option<u64>,
        held_there: u64,
        transfers: u64,
        receipts: u64,
        bytes: u64,
        remarks: u64,
        differences: u64,
    },
    /// What some transfers sent to other sites, and what that cost: a row of a report.
    Cost(Cost<'a>),
    /// What a link that is not billed by bytes came to in a month.
    LinkMonth(&'a LinkMonth),
    /// The policy that counts here, and where it is from.
    Policy { file: &'a str, text: &'a str },
    /// What policies can speak of.
    PolicySchema { text: &'a str },
    /// A policy is without mistakes.
    PolicyChecked { file: &'a str, policies: Vec<String>, number: u64, digest: String },
    /// Something is wrong with a policy, or worth a look.
    PolicyMistake(PolicyMistake<'a>),
    /// A request was decided.
    Decision(Box<Decided<'a>>),
    /// A case of a table was decided.
    Case(Case<'a>),
    /// A role of an identity.
    Role { identity: &'a str, role: &'a str, dataset: String, until: Option<String> },
    /// An identity that may do nothing.
    Revoked { identity: &'a str },
    /// The roles changed.
    RolesChanged { identity: &'a str, change: &'a str, version: u64, signed_by: &'a str },
    /// A field of the configuration.
    Field(Field<'a>),
    /// What this build is.
    Version { version: &'a str, transports: &'a [&'a str], storage: &'a [&'a str] },
}

/// See [`Event::Progress`].
#[derive(Debug, Serialize)]
pub(crate) struct Progress<'a> {
    bytes_done: u64,
    bytes_total: u64,
    files_done: u64,
    files_total: u64,
    bytes_sent: u64,
    bytes_deduplicated: u64,
    bytes_resumed: u64,
    phase: Phase,
    waits_for: &'a str,
    rate_bps: u64,
    eta_s: Option<u64>,
    scan_done: bool,
    bytes_wire: u64,
    bytes_discarded: u64,
    files_failed: u64,
    skipped: u64,
    reconnects: u64,
    rtt_us: u64,
    elapsed_s: f64,
    transport: &'a str,
    peer: &'a str,
    transfer_id: &'a str,
    rails: &'a [RailStatus],
}

/// See [`Event::Summary`].
#[derive(Debug, Serialize)]
pub(crate) struct Summary<'a> {
    transfer_id: &'a str,
    root: &'a str,
    files: u64,
    bytes_total: u64,
    bytes_sent: u64,
    bytes_deduplicated: u64,
    bytes_resumed: u64,
    bytes_wire: u64,
    bytes_discarded: u64,
    elapsed_s: f64,
    transport: &'a str,
    verified: bool,
    failed: u64,
    skipped: u64,
}

/// See [`Event::Cost`].
#[derive(Debug, Serialize)]
pub(crate) struct Cost<'a> {
    by: &'a str,
    #[serde(flatten)]
    row: &'a CostRow,
}

/// See [`Event::PolicyMistake`].
#[derive(Debug, Serialize)]
pub(crate) struct PolicyMistake<'a> {
    pub(crate) file: &'a str,
    pub(crate) level: &'a str,
    pub(crate) line: Option<usize>,
    pub(crate) column: Option<usize>,
    pub(crate) message: &'a str,
    pub(crate) help: Option<&'a str>,
}

/// See [`Event::Decision`].
#[derive(Debug, Serialize)]
pub(crate) struct Decided<'a> {
    pub(crate) verdict: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) by: &'a [String],
    pub(crate) policy: u64,
    pub(crate) digest: String,
    pub(crate) roles: u64,
    pub(crate) attributes: BTreeMap<&'a str, &'a str>,
}

/// See [`Event::Case`].
#[derive(Debug, Serialize)]
pub(crate) struct Case<'a> {
    pub(crate) file: &'a str,
    pub(crate) name: &'a str,
    pub(crate) passed: bool,
    pub(crate) expected: &'a str,
    pub(crate) verdict: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) by: &'a [String],
}

/// See [`Event::Field`].
#[derive(Debug, Serialize)]
pub(crate) struct Field<'a> {
    pub(crate) name: String,
    pub(crate) value: Option<serde_json::Value>,
    pub(crate) default: Option<serde_json::Value>,
    pub(crate) origin: &'a str,
    pub(crate) allowed: String,
    pub(crate) variable: Option<String>,
    pub(crate) doc: &'a str,
}

impl<'a> Event<'a> {
    /// A row of a report as an event.
    pub(crate) fn cost(by: &'a str, row: &'a CostRow) -> Self {
        Self::Cost(Cost { by, row })
    }

    /// A snapshot as an event.
    pub(crate) fn progress(now: &'a Snapshot, meter: &Meter) -> Self {
        Self::Progress(Box::new(Progress {
            bytes_done: now.bytes_done(),
            bytes_total: now.bytes_total,
            files_done: now.files_done,
            files_total: now.files_total,
            bytes_sent: now.bytes_sent,
            bytes_deduplicated: now.bytes_deduplicated,
            bytes_resumed: now.bytes_resumed,
            phase: now.phase,
            waits_for: &now.waits_for,
            rate_bps: (meter.sent_per_s() * 8.0) as u64,
            eta_s: meter.eta_s(now).map(|s| s.ceil() as u64),
            scan_done: now.scan_done,
            bytes_wire: now.bytes_wire,
            bytes_discarded: now.bytes_discarded,
            files_failed: now.files_failed,
            skipped: now.skipped,
            reconnects: now.reconnects,
            rtt_us: now.rtt_us,
            elapsed_s: now.elapsed_ms as f64 / 1e3,
            transport: &now.transport,
            peer: &now.peer,
            transfer_id: &now.transfer_id,
            rails: &now.rails,
        }))
    }

    /// The end of a transfer as an event.
    pub(crate) fn summary(outcome: &'a Outcome) -> Self {
        Self::Summary(Summary {
            transfer_id: &outcome.transfer_id,
            root: &outcome.root,
            files: outcome.files,
            bytes_total: outcome.bytes_total,
            bytes_sent: outcome.bytes_sent,
            bytes_deduplicated: outcome.bytes_deduplicated,
            bytes_resumed: outcome.bytes_resumed,
            bytes_wire: outcome.bytes_wire,
            bytes_discarded: outcome.bytes_discarded,
            elapsed_s: (outcome.elapsed_s * 1e3).round() / 1e3,
            transport: &outcome.transport,
            verified: outcome.verified,
            failed: outcome.failed_total,
            skipped: outcome.skipped_total,
        })
    }
}
