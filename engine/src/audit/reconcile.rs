//! Comparing the logs of both ends of transfers, to the byte.

use std::collections::BTreeMap;
use std::fmt;

use super::error::ReadError;
use super::extents::ExtentSet;
use super::names::{Ending, LogId, Place};
use super::receipt::Receipt;
use super::record::{Crossing, Entry, Record};
use crate::base::{Digest, TransferId};
use crate::identity::SpiffeId;
use crate::policy::Verdict;

/// One of the two logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// The first one.
    Ours,
    /// The second one.
    Theirs,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "our log",
            Self::Theirs => "their log",
        })
    }
}

/// One thing in which two logs differ, or in which one contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// One log knows nothing of a transfer that is between the two nodes.
    Missing {
        /// The transfer.
        transfer: TransferId,
        /// The log that lacks it.
        end: End,
    },
    /// The logs say different things of a transfer.
    Value {
        /// The transfer.
        transfer: TransferId,
        /// What differs.
        what: &'static str,
        /// What ours says.
        ours: String,
        /// What theirs says.
        theirs: String,
    },
    /// Bytes that crossed according to one log only.
    Extents {
        /// The transfer.
        transfer: TransferId,
        /// Those that are only in ours.
        ours: ExtentSet,
        /// Those that are only in theirs.
        theirs: ExtentSet,
    },
    /// Content crossed, and this log has no decision before it that granted it.
    NotGranted {
        /// The transfer.
        transfer: TransferId,
        /// The log.
        end: End,
        /// The record that says that content crossed.
        seq: u64,
    },
    /// A receipt is not signed by both ends, or says something else than the log that it is in.
    Receipt {
        /// The transfer.
        transfer: TransferId,
        /// The log.
        end: End,
        /// The receipt's record.
        seq: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A receipt is in one log and not in the other.
    ReceiptMissing {
        /// The transfer.
        transfer: TransferId,
        /// The log that lacks it.
        end: End,
    },
}

impl Difference {
    /// The transfer.
    pub fn transfer(&self) -> TransferId {
        match self {
            Self::Missing { transfer, .. }
            | Self::Value { transfer, .. }
            | Self::Extents { transfer, .. }
            | Self::NotGranted { transfer, .. }
            | Self::Receipt { transfer, .. }
            | Self::ReceiptMissing { transfer, .. } => *transfer,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transfer {}: ", self.transfer())?;
        match self {
            Self::Missing { end, .. } => write!(f, "{end} knows nothing of it"),
            Self::Value { what, ours, theirs, .. } => {
                write!(f, "{what} is {ours} in our log and {theirs} in their log")
            }
            Self::Extents { ours, theirs, .. } => {
                let (ours, theirs) = (ours.bytes(), theirs.bytes());
                write!(f, "{ours} bytes crossed only by our log, {theirs} only by their log")
            }
            Self::NotGranted { end, seq, .. } => {
                write!(f, "content crossed without a grant before it ({end}, record {seq})")
            }
            Self::Receipt { end, seq, what, .. } => {
                write!(f, "the receipt {what} ({end}, record {seq})")
            }
            Self::ReceiptMissing { end, .. } => {
                write!(f, "{end} lacks a receipt that the other one has")
            }
        }
    }
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconciled {
    /// Transfers between the two nodes.
    pub transfers: u64,
    /// Bytes of content that crossed in them, as our log has it.
    pub bytes: u64,
    /// Everything that differs, by transfer.
    pub differences: Vec<Difference>,
}

/// What one log says of one transfer.
#[derive(Default)]
struct Facts {
    /// As the last record has it.
    crossing: Option<Crossing>,
    root: Option<Digest>,
    granted: bool,
    bytes: u64,
    left: ExtentSet,
    stops: Vec<u64>,
    ending: Option<Ending>,
    receipts: Vec<Receipt>,
    /// What contradicts itself: a difference, given the end.
    doubts: Vec<Doubt>,
}

enum Doubt {
    NotGranted { seq: u64 },
    Receipt { seq: u64, what: &'static str },
}

/// One log, read.
#[derive(Default)]
struct Log {
    id: LogId,
    place: Option<Place>,
    transfers: BTreeMap<TransferId, Facts>,
}

impl Log {
    fn read(entries: impl Iterator<Item = Result<Entry, ReadError>>) -> Result<Self, ReadError> {
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
            facts.root = crossing.root.or(facts.root);
            facts.crossing = Some(crossing.clone());
        }
        match entry.record {
            Record::Decision(decision) => {
                if decision.action.moves_content() {
                    facts.granted = decision.verdict == Verdict::Granted;
                }
            }
            Record::Progress(progress) => facts.cross(seq, progress.bytes, &progress.left),
            Record::Stop(stop) => {
                facts.cross(seq, stop.bytes, &stop.left);
                facts.stops.push(seq);
                facts.ending = Some(stop.ending);
            }
            Record::Receipt(receipt) => facts.receipt(seq, id, *receipt),
            // What each end sent is its own matter, and so is what it pays.
            Record::Meter(_)
            | Record::Start(_)
            | Record::Key(_)
            | Record::Seal(_)
            | Record::Witness(_) => {}
        }
    }
}

impl Facts {
    fn cross(&mut self, seq: u64, bytes: u64, left: &ExtentSet) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.left.extend(left);
        if bytes > 0 && !self.granted {
            self.doubts.push(Doubt::NotGranted { seq });
        }
    }

    fn receipt(&mut self, seq: u64, log: LogId, receipt: Receipt) {
        let body = &receipt.body;
        let own = [&body.from, &body.to].into_iter().find(|party| party.log == log);
        let crossing = self.crossing.as_ref();
        let wrong = [
            (receipt.check().is_err(), "is not signed by both ends"),
            (own.is_none(), "does not name this log"),
            (
                own.is_some_and(|party| !self.stops.contains(&party.seq)),
                "names a record that does not stop the transfer",
            ),
            (body.bytes != self.bytes, "has another number of bytes than the log"),
            (body.left != self.left.sum(), "has other extents than the log"),
            (body.root != self.root, "has another root digest than the log"),
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

    /// Whether the transfer is between these two nodes, or one of them is not known.
    fn between(&self, one: Option<&Place>, other: Option<&Place>) -> bool {
        let (Some(one), Some(other), Some(crossing)) = (one, other, &self.crossing) else {
            return true;
        };
        let (from, to) = (&crossing.from, &crossing.to);
        (from, to) == (one, other) || (from, to) == (other, one)
    }
}

/// Compares what two logs say of the transfers between their nodes: who, what, from where to where,
/// every byte and extent, endings and receipts. Each log is also compared with itself: content needs
/// a grant before it, and receipts have to say what the log says.
///
/// Refusals need no counterpart: an end that refuses may be the only one that ever heard of it.
///
/// # Errors
/// One of the logs cannot be read.
pub fn reconcile(
    ours: impl Iterator<Item = Result<Entry, ReadError>>,
    theirs: impl Iterator<Item = Result<Entry, ReadError>>,
) -> Result<Reconciled, ReadError> {
    let (ours, theirs) = (Log::read(ours)?, Log::read(theirs)?);
    let places = (ours.place.as_ref(), theirs.place.as_ref());
    let mut found = Reconciled::default();
    let mut ids: Vec<TransferId> =
        ours.transfers.keys().chain(theirs.transfers.keys()).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    let nothing = Facts::default();
    for transfer in ids {
        let (mine, other) = (ours.transfers.get(&transfer), theirs.transfers.get(&transfer));
        let known =
            |facts: Option<&Facts>| facts.is_some_and(|facts| facts.between(places.0, places.1));
        if !known(mine) && !known(other) {
            continue;
        }
        found.transfers += 1;
        found.bytes = found.bytes.saturating_add(mine.map_or(0, |facts| facts.bytes));
        let mut out = |difference| found.differences.push(difference);
        for (end, facts) in [(End::Ours, mine), (End::Theirs, other)] {
            own_doubts(transfer, end, facts.unwrap_or(&nothing), &mut out);
        }
        compare(transfer, mine.unwrap_or(&nothing), other.unwrap_or(&nothing), &mut out);
    }
    Ok(found)
}

fn own_doubts(transfer: TransferId, end: End, facts: &Facts, out: &mut impl FnMut(Difference)) {
    for doubt in &facts.doubts {
        out(match *doubt {
            Doubt::NotGranted { seq } => Difference::NotGranted { transfer, end, seq },
            Doubt::Receipt { seq, what } => Difference::Receipt { transfer, end, seq, what },
        });
    }
}

fn compare(transfer: TransferId, ours: &Facts, theirs: &Facts, out: &mut impl FnMut(Difference)) {
    let (Some(one), Some(other)) = (&ours.crossing, &theirs.crossing) else {
        let (end, known) =
            if ours.crossing.is_none() { (End::Ours, theirs) } else { (End::Theirs, ours) };
        if !known.stops.is_empty() || known.bytes > 0 || known.granted {
            out(Difference::Missing { transfer, end });
        }
        return;
    };
    let root = |root: Option<Digest>| root.map_or("none".to_owned(), |root| root.to_string());
    let place = |place: &Place| format!("{}/{}", place.site, place.node);
    let ending = |ending: Option<Ending>| ending.map_or("none", Ending::as_str).to_owned();
    let values = [
        ("the identity", one.who.to_string(), other.who.to_string()),
        ("the dataset", one.path.to_string(), other.path.to_string()),
        ("the class", one.class.to_string(), other.class.to_string()),
        ("the source", place(&one.from), place(&other.from)),
        ("the target", place(&one.to), place(&other.to)),
        ("the link", one.link.to_string(), other.link.to_string()),
        ("the transport", one.transport.to_string(), other.transport.to_string()),
        ("the root digest", root(ours.root), root(theirs.root)),
        ("the number of bytes", ours.bytes.to_string(), theirs.bytes.to_string()),
        ("the ending", ending(ours.ending), ending(theirs.ending)),
    ];
    for (what, ours, theirs) in values {
        if ours != theirs {
            out(Difference::Value { transfer, what, ours, theirs });
        }
    }
    if ours.left != theirs.left {
        let (only_ours, only_theirs) =
            (ours.left.without(&theirs.left), theirs.left.without(&ours.left));
        out(Difference::Extents { transfer, ours: only_ours, theirs: only_theirs });
    }
    for (end, has, lacks) in [(End::Theirs, ours, theirs), (End::Ours, theirs, ours)] {
        for _ in has.receipts.iter().filter(|receipt| !lacks.receipts.contains(receipt)) {
            out(Difference::ReceiptMissing { transfer, end });
        }
    }
}
