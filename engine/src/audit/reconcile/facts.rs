//! What one log says of each transfer, session by session.

use std::collections::BTreeMap;

use crate::audit::extents::ExtentSet;
use crate::audit::names::{Ending, LogId, Place};
use crate::audit::receipt::Receipt;
use crate::audit::record::{Crossing, Entry, Record};
use crate::base::{Digest, TransferId};
use crate::identity::SpiffeId;
use crate::policy::{Reason, Verdict};

/// One log, read.
#[derive(Default)]
pub(super) struct Log {
    pub id: LogId,
    pub place: Option<Place>,
    pub transfers: BTreeMap<TransferId, Facts>,
}

/// What one log says of one transfer.
#[derive(Default)]
pub(super) struct Facts {
    /// As the last record has it.
    pub crossing: Option<Crossing>,
    pub granted: bool,
    pub sessions: Vec<Session>,
    pub receipts: Vec<Receipt>,
    pub disputes: Vec<(u64, Reason)>,
    /// What contradicts itself.
    pub doubts: Vec<Doubt>,
}

/// What crossed from one start to its stop.
#[derive(Default)]
pub(super) struct Session {
    pub bytes: u64,
    pub left: ExtentSet,
    /// None where the process died.
    pub stop: Option<Stopped>,
}

/// How a session was stopped.
pub(super) struct Stopped {
    pub seq: u64,
    pub ending: Ending,
    pub root: Option<Digest>,
}

pub(super) enum Doubt {
    NotGranted { seq: u64 },
    Receipt { seq: u64, what: &'static str },
}

impl Log {
    pub(super) fn read<E>(entries: impl Iterator<Item = Result<Entry, E>>) -> Result<Self, E> {
        let mut log = Self::default();
        for entry in entries {
            log.take(entry?);
        }
        Ok(log)
    }

    fn take(&mut self, entry: Entry) {
        if let Record::Key(key) = &entry.record {
            self.id = key.log;
            let id = key.node.as_str().parse::<SpiffeId>();
            self.place = id.ok().map(|id| Place::from(&id));
        }
        let Some(transfer) = entry.record.transfer() else { return };
        let (seq, id, facts) = (entry.seq, self.id, self.transfers.entry(transfer).or_default());
        if let Some(crossing) = entry.record.crossing() {
            facts.crossing = Some(crossing.clone());
        }
        match entry.record {
            Record::Decision(decision) => {
                if decision.action.moves_content() {
                    facts.granted = decision.verdict == Verdict::Granted;
                }
            }
            Record::Start(_) => facts.sessions.push(Session::default()),
            Record::Progress(progress) => facts.cross(seq, progress.bytes, &progress.left),
            Record::Stop(stop) => {
                facts.cross(seq, stop.bytes, &stop.left);
                let (ending, root) = (stop.ending, stop.crossing.root);
                facts.session().stop = Some(Stopped { seq, ending, root });
            }
            Record::Receipt(receipt) => facts.receipt(seq, id, *receipt),
            Record::Dispute(dispute) => facts.disputes.push((seq, dispute.reason)),
            // What each end sent is its own matter, and so is what it pays.
            Record::Meter(_) | Record::Key(_) | Record::Seal(_) | Record::Witness(_) => {}
        }
    }
}

impl Facts {
    /// The session that is under way; a new one if there is none.
    fn session(&mut self) -> &mut Session {
        if self.sessions.last().is_none_or(|session| session.stop.is_some()) {
            self.sessions.push(Session::default());
        }
        let last = self.sessions.len() - 1;
        &mut self.sessions[last]
    }

    fn cross(&mut self, seq: u64, bytes: u64, left: &ExtentSet) {
        if bytes > 0 && !self.granted {
            self.doubts.push(Doubt::NotGranted { seq });
        }
        let session = self.session();
        session.bytes = session.bytes.saturating_add(bytes);
        session.left.extend(left);
    }

    /// The session that this record stopped.
    pub(super) fn stopped_by(&self, seq: u64) -> Option<usize> {
        let stopped = |session: &Session| session.stop.as_ref().is_some_and(|it| it.seq == seq);
        self.sessions.iter().position(stopped)
    }

    fn receipt(&mut self, seq: u64, log: LogId, receipt: Receipt) {
        let body = &receipt.body;
        let own = [&body.from, &body.to].into_iter().find(|party| party.log == log);
        let session = own.and_then(|party| self.stopped_by(party.seq));
        let session = session.map(|at| &self.sessions[at]);
        let crossing = self.crossing.as_ref();
        let root = session.and_then(|session| session.stop.as_ref()).map(|stop| stop.root);
        let wrong = [
            (receipt.check().is_err(), "is not signed by both ends"),
            (own.is_none(), "does not name this log"),
            (own.is_some() && session.is_none(), "names a record that does not stop the transfer"),
            (
                session.is_some_and(|it| it.bytes != body.bytes),
                "has another number of bytes than the log",
            ),
            (
                session.is_some_and(|it| it.left.sum() != body.left),
                "has other extents than the log",
            ),
            (root.is_some_and(|root| root != body.root), "has another root digest than the log"),
            (
                crossing.is_none_or(|it| {
                    (&it.path, &it.class, &it.from, &it.to)
                        != (&body.path, &body.class, &body.from.place, &body.to.place)
                }),
                "is about another dataset or other nodes than the log",
            ),
        ];
        let wrong = wrong.into_iter().filter(|(wrong, _)| *wrong);
        self.doubts.extend(wrong.map(|(_, what)| Doubt::Receipt { seq, what }));
        self.receipts.push(receipt);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.sessions.iter().fold(0, |sum, session| sum.saturating_add(session.bytes))
    }

    /// Whether content moved, or everything that was to move was there.
    pub(super) fn did_something(&self) -> bool {
        let complete = |session: &Session| session.ending() == Some(Ending::Complete);
        self.bytes() > 0 || self.sessions.iter().any(complete)
    }

    /// How the last session ended; none where that is not known.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.sessions.last().and_then(Session::ending)
    }

    /// The root that was published last.
    pub(super) fn root(&self) -> Option<Digest> {
        self.sessions.iter().rev().find_map(|session| session.stop.as_ref()?.root)
    }

    /// Whether the transfer is between these two nodes, or one of them is not known.
    pub(super) fn between(&self, one: Option<&Place>, other: Option<&Place>) -> bool {
        let (Some(one), Some(other), Some(crossing)) = (one, other, &self.crossing) else {
            return true;
        };
        let (from, to) = (&crossing.from, &crossing.to);
        (from, to) == (one, other) || (from, to) == (other, one)
    }
}

impl Session {
    pub(super) fn ending(&self) -> Option<Ending> {
        self.stop.as_ref().map(|stop| stop.ending)
    }
}
