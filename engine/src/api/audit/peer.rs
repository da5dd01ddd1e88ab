//! Verifying both logs against each other: this node's, and the part of a peer's that is about both.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::telling::{AuditRequest, Between, NO_LOG};
use super::{damaged, none};
use crate::api::connect::{Session, link_error, recv, refused};
use crate::api::crossing::spiffe_of;
use crate::api::server::blocking;
use crate::api::{Engine, Error, Exit, NodeAddress};
use crate::audit::{
    Checkpoint, Entries, Entry, Extract, ExtractError, Known, LogFolder, LogId, Place, ReadError,
    Reconciled, Record, Report, Witness, reconcile, verify,
};
use crate::identity::{AuditPublicKey, Identity, SpiffeId};
use crate::policy::Principal;
use crate::transport::Link;
use crate::wire::Frame;

/// Words of this node that are compared, the newest ones.
const HELD_MAX: usize = 4096;
/// Parts of an answer that wait to be read.
const AHEAD: usize = 4;
/// What to do about a peer that proves nothing.
const EVIDENCE: &str =
    "keep a copy of the audit folder here as evidence, and ask who keeps that node";

/// What verifying with a peer found.
#[derive(Debug, Clone)]
pub struct PeerReport {
    /// Who the peer is, by its certificate.
    pub peer: SpiffeId,
    /// The log here; `None` where there is none.
    pub own: Option<Report>,
    /// The peer's log; `None` where it has none.
    pub theirs: Option<PeerLog>,
    /// What the comparison found.
    pub reconciled: Reconciled,
}

/// The log of a peer, as far as it told of it.
#[derive(Debug, Clone)]
pub struct PeerLog {
    /// Its name.
    pub log: LogId,
    /// Records in it.
    pub records: u64,
    /// Records of it that were told, and proven.
    pub told: u64,
    /// Records of the checkpoint that is held here, with which it begins; `None` where none is held.
    pub held: Option<u64>,
}

/// Why nothing is proven by what a peer told.
#[derive(Debug, thiserror::Error)]
enum Unproven {
    #[error(transparent)]
    Own(#[from] ReadError),
    #[error("what it tells of its audit log proves nothing: {0}")]
    Extract(#[from] ExtractError),
    #[error("the key in record {seq} of its audit log is not its own: {why}")]
    Key { seq: u64, why: String },
    #[error("the checkpoint of its audit log is not signed by the key of that log")]
    Signature,
    #[error(
        "its audit log has {found} records, and this node holds its word for {held}: an old copy \
         was put back there"
    )]
    RolledBack { held: u64, found: u64 },
    #[error("the first {size} records of its audit log are not those that it once signed for")]
    Forked { size: u64 },
    #[error("this node holds its word for the audit log {held}, and now it has {found}")]
    OtherLog { held: LogId, found: LogId },
    #[error("the answer ended before all was told")]
    Cut,
}

impl Engine {
    /// Has a peer tell what its audit log says of the transfers with this node, verifies that and the
    /// log here against what each holds of the other, and compares both.
    ///
    /// # Errors
    /// The peer cannot be reached; one of the logs is not whole, or not the one that the other end
    /// knows. Differences are in the report.
    pub async fn audit_verify_with(&self, node: &NodeAddress) -> Result<PeerReport, Error> {
        let identity = self.identity()?;
        let folder = match self.audit_folder() {
            Ok(folder) => Some(folder),
            Err(error) if error.code == none().code => None,
            Err(error) => return Err(error),
        };
        let session = self.connect(node).await?;
        let peer = spiffe_of(identity.id(), session.link.peer());
        let between = Between { us: Place::from(identity.id()), them: Place::from(&peer) };
        let (own, them) = (folder.clone(), Principal::from(&peer));
        let witness = blocking(move || own.as_ref().map(|own| witness(own, &them))).await?;
        let witness = witness.transpose().map_err(|error| damaged(&error.into()))?.flatten();
        let (parts, ready) = mpsc::channel(AHEAD);
        let reader = Reader {
            ready,
            extract: Extract::new(witness.as_ref().map_or(0, |it| it.checkpoint.size)),
            judge: Judge { identity: identity.clone(), peer: peer.clone(), key: None },
            witness: witness.clone(),
            told: 0,
            held: VecDeque::new(),
            log: None,
            over: false,
        };
        let own = folder.clone();
        let comparing =
            tokio::task::spawn_blocking(move || compare(own.as_ref(), reader, &between));
        let held = witness.map_or(0, |it| it.checkpoint.size);
        let asked = ask(&session, &node.to_string(), held, parts).await;
        let compared = comparing.await.map_err(|error| {
            Error::new("internal", Exit::Failed, format!("comparing ended: {error}"))
        })?;
        session.link.close("done").await;
        let has_log = asked?;
        let unproven = |error: Unproven| match error {
            Unproven::Own(error) => damaged(&error.into()),
            error => Error::new("audit-peer", Exit::Failed, format!("{}: {error}", peer.node))
                .hint(EVIDENCE),
        };
        let (reconciled, reader) = compared.map_err(unproven)?;
        let own = match folder {
            Some(folder) => {
                let held = Vec::from(reader.held);
                let verified = blocking(move || whole(&folder, &identity, &held)).await?;
                Some(verified?)
            }
            None => None,
        };
        Ok(PeerReport { peer, own, theirs: reader.log.filter(|_| has_log), reconciled })
    }
}

/// Asks, and hands on what is told; whether the peer has a log at all.
async fn ask(
    session: &Session,
    label: &str,
    held: u64,
    parts: mpsc::Sender<Part>,
) -> Result<bool, Error> {
    let body = serde_json::to_vec(&AuditRequest { held })
        .map_err(|error| Error::new("internal", Exit::Failed, error.to_string()))?;
    let failed = |error| link_error(&error, label);
    let call = Frame::Call { method: "audit".to_owned(), body: body.into() };
    session.link.send(call.encode()).await.map_err(failed)?;
    loop {
        let (part, over) = match recv(&session.link).await.map_err(failed)? {
            Frame::Reply { body, last: false } => (Part::Bytes(body), None),
            Frame::Reply { body, last: true } => (Part::Bytes(body), Some(true)),
            Frame::Refuse { code, .. } if code == NO_LOG => (Part::NoLog, Some(false)),
            Frame::Refuse { code, detail, .. } => return Err(refused(label, &code, &detail)),
            other => return Err(refused(label, "protocol", other.name())),
        };
        // One who compares no more has found out why.
        if parts.send(part).await.is_err() {
            return Ok(true);
        }
        if let Some(has_log) = over {
            if has_log && parts.send(Part::End).await.is_err() {
                return Ok(true);
            }
            return Ok(has_log);
        }
    }
}

enum Part {
    Bytes(Bytes),
    End,
    NoLog,
}

/// The last word of the peer's log that is held here.
fn witness(folder: &LogFolder, peer: &Principal) -> Result<Option<Witness>, ReadError> {
    let mut found: Option<Witness> = None;
    let entries = match Entries::open(folder) {
        Err(ReadError::Missing) => return Ok(None),
        opened => opened?,
    };
    for entry in entries {
        if let Record::Witness(witness) = entry?.record
            && witness.node == *peer
        {
            let older = found.as_ref().is_some_and(|it| {
                it.checkpoint.log == witness.checkpoint.log
                    && it.checkpoint.size > witness.checkpoint.size
            });
            if !older {
                found = Some(witness);
            }
        }
    }
    Ok(found)
}

fn compare(
    folder: Option<&LogFolder>,
    mut reader: Reader,
    between: &Between,
) -> Result<(Reconciled, Reader), Unproven> {
    let own = match folder.map(Entries::open) {
        None | Some(Err(ReadError::Missing)) => None,
        Some(opened) => Some(opened?),
    };
    let ours = |entry: &Result<Entry, ReadError>| match entry {
        Ok(entry) => matches!(entry.record, Record::Key(_)) || between.moves(&entry.record),
        Err(_) => true,
    };
    let own = own.into_iter().flatten().filter(ours).map(|entry| entry.map_err(Unproven::from));
    let reconciled = reconcile(own, &mut reader)?;
    Ok((reconciled, reader))
}

/// Verifies the log here against what the peer holds of it.
fn whole(folder: &LogFolder, identity: &Identity, held: &[Checkpoint]) -> Result<Report, Error> {
    let node = Principal::from(identity.id());
    let judge = super::judge(identity);
    let known = Known { held, judge: Some(&judge), node: Some(&node), receipts: true };
    verify(folder, &known).map_err(|error| damaged(&error))
}

/// Whose keys a log has.
struct Judge {
    identity: Identity,
    peer: SpiffeId,
    /// The last one.
    key: Option<AuditPublicKey>,
}

impl Judge {
    fn look(&mut self, entry: &Entry) -> Result<(), Unproven> {
        let seq = entry.seq;
        let Record::Key(record) = &entry.record else {
            return if self.key.is_some() { Ok(()) } else { no_key(seq, "there is none") };
        };
        let node = super::judge(&self.identity)(record, entry.at);
        let node = node.or_else(|error| no_key(seq, error.to_string()))?;
        if node != Principal::from(&self.peer) || record.node != node {
            return no_key(seq, format!("it is that of {node}"));
        }
        self.key = Some(record.key);
        Ok(())
    }
}

fn no_key<T>(seq: u64, why: impl Into<String>) -> Result<T, Unproven> {
    Err(Unproven::Key { seq, why: why.into() })
}

/// The records that a peer tells, as they come. Its last item is an error if they prove nothing.
struct Reader {
    ready: mpsc::Receiver<Part>,
    extract: Extract,
    judge: Judge,
    /// The peer's word that is held here.
    witness: Option<Witness>,
    told: u64,
    /// Our words that the peer holds.
    held: VecDeque<Checkpoint>,
    log: Option<PeerLog>,
    over: bool,
}

impl Reader {
    fn read(&mut self) -> Result<Option<Entry>, Unproven> {
        loop {
            if let Some(entry) = self.extract.next()? {
                self.judge.look(&entry)?;
                self.told += 1;
                if let Record::Witness(witness) = &entry.record {
                    self.held.push_back(witness.checkpoint);
                    if self.held.len() > HELD_MAX {
                        self.held.pop_front();
                    }
                }
                return Ok(Some(entry));
            }
            match self.ready.blocking_recv() {
                Some(Part::Bytes(bytes)) => self.extract.push(&bytes),
                Some(Part::NoLog) => {
                    return match &self.witness {
                        None => Ok(None),
                        Some(witness) => {
                            let held = witness.checkpoint.size;
                            Err(Unproven::RolledBack { held, found: 0 })
                        }
                    };
                }
                Some(Part::End) => {
                    self.finish()?;
                    return Ok(None);
                }
                None => return Err(Unproven::Cut),
            }
        }
    }

    fn finish(&mut self) -> Result<(), Unproven> {
        let (checkpoint, pinned) = std::mem::take(&mut self.extract).finish()?;
        if !self.judge.key.is_some_and(|key| checkpoint.is_signed_by(&key)) {
            return Err(Unproven::Signature);
        }
        let held = self.witness.as_ref().map(|witness| &witness.checkpoint);
        if let Some(held) = held {
            if held.log != checkpoint.log {
                let (held, found) = (held.log, checkpoint.log);
                return Err(Unproven::OtherLog { held, found });
            }
            if held.size > checkpoint.size {
                let (held, found) = (held.size, checkpoint.size);
                return Err(Unproven::RolledBack { held, found });
            }
            if pinned != Some(held.root) {
                return Err(Unproven::Forked { size: held.size });
            }
        }
        self.log = Some(PeerLog {
            log: checkpoint.log,
            records: checkpoint.size,
            told: self.told,
            held: held.map(|held| held.size),
        });
        Ok(())
    }
}

impl Iterator for &mut Reader {
    type Item = Result<Entry, Unproven>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let read = self.read();
        self.over = !matches!(read, Ok(Some(_)));
        read.transpose()
    }
}
