//! Comparing the logs of both ends of transfers, to the byte.
//!
//! Sessions that both signed for are compared one by one: their receipt names the stop record of each
//! end. Of the others, which were cut short or have no receipt, what left together is compared with
//! what arrived together: what left need not have arrived, and what arrived must have left, unless the
//! sender died before it recorded that.

mod facts;
mod finding;

use self::facts::{Doubt, Facts, Log, Session};
pub use self::finding::{Difference, End, Remark};
use super::extents::ExtentSet;
use super::names::{Ending, LogId, Place};
use super::record::Entry;
use crate::base::{Digest, TransferId};

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconciled {
    /// Transfers between the two nodes.
    pub transfers: u64,
    /// Sessions that both ends signed for.
    pub signed: u64,
    /// Bytes of content that crossed in them, as our log has it.
    pub bytes: u64,
    /// Everything that differs, by transfer.
    pub differences: Vec<Difference>,
    /// What is explained by a link or a process that was lost, by transfer.
    pub remarks: Vec<Remark>,
}

/// Compares what two logs say of the transfers between their nodes: who, what, from where to where,
/// every byte and extent, endings and receipts. Each log is also compared with itself: content needs
/// a grant before it, and receipts have to say what the log says.
///
/// Refusals need no counterpart: an end that refuses may be the only one that ever heard of it.
///
/// # Errors
/// One of the logs cannot be read.
pub fn reconcile<E>(
    ours: impl Iterator<Item = Result<Entry, E>>,
    theirs: impl Iterator<Item = Result<Entry, E>>,
) -> Result<Reconciled, E> {
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
        let (mine, other) = (mine.unwrap_or(&nothing), other.unwrap_or(&nothing));
        found.transfers += 1;
        found.bytes = found.bytes.saturating_add(mine.bytes());
        found.own_doubts(transfer, End::Ours, mine);
        found.own_doubts(transfer, End::Theirs, other);
        let ids = (ours.id, theirs.id);
        Comparison { transfer, ours: mine, theirs: other, ids }.run(places.0, &mut found);
    }
    Ok(found)
}

impl Reconciled {
    fn own_doubts(&mut self, transfer: TransferId, end: End, facts: &Facts) {
        let doubts = facts.doubts.iter().map(|doubt| match *doubt {
            Doubt::NotGranted { seq } => Difference::NotGranted { transfer, end, seq },
            Doubt::Receipt { seq, what } => Difference::Receipt { transfer, end, seq, what },
        });
        self.differences.extend(doubts);
        let disputes = facts.disputes.iter();
        self.differences.extend(disputes.map(|(seq, why)| {
            let why = crate::base::human::escaped(why.as_str().as_bytes());
            Difference::Disputed { transfer, end, seq: *seq, why }
        }));
    }
}

/// One transfer, as both logs have it.
struct Comparison<'a> {
    transfer: TransferId,
    ours: &'a Facts,
    theirs: &'a Facts,
    ids: (LogId, LogId),
}

/// Sessions of one end together.
#[derive(Default)]
struct Lump {
    bytes: u64,
    left: ExtentSet,
    /// One of them has no stop record.
    died: bool,
    /// One of them did not complete.
    cut: bool,
}

impl Lump {
    fn of<'a>(sessions: impl Iterator<Item = &'a Session>) -> Self {
        sessions.fold(Self::default(), |mut lump, session| {
            lump.bytes = lump.bytes.saturating_add(session.bytes);
            lump.left.extend(&session.left);
            lump.died |= session.stop.is_none();
            lump.cut |= session.ending() != Some(Ending::Complete);
            lump
        })
    }
}

impl Comparison<'_> {
    fn run(&self, us: Option<&Place>, found: &mut Reconciled) {
        let (Some(one), Some(_)) = (&self.ours.crossing, &self.theirs.crossing) else {
            return self.one_sided(found);
        };
        self.values(found);
        let (signed, unsigned) = self.receipts(found);
        for (mine, other) in signed {
            found.signed += 1;
            self.amounts(&Lump::of([mine].into_iter()), &Lump::of([other].into_iter()), found);
        }
        let (mine, other) = unsigned;
        let published = |sessions: &[&Session]| {
            let published = |session: &&Session| session.bytes > 0 && root(session).is_some();
            sessions.iter().any(published)
        };
        if published(&mine) && published(&other) {
            found.remarks.push(Remark::Unsigned { transfer: self.transfer });
        }
        let (mine, other) = (Lump::of(mine.into_iter()), Lump::of(other.into_iter()));
        let outward = us.is_none_or(|us| one.from == *us);
        self.unsigned(&mine, &other, outward, found);
    }

    /// Only one log has it.
    fn one_sided(&self, found: &mut Reconciled) {
        let transfer = self.transfer;
        let (lacks, has, known) = if self.ours.crossing.is_none() {
            (End::Ours, End::Theirs, self.theirs)
        } else {
            (End::Theirs, End::Ours, self.ours)
        };
        if known.did_something() || !known.receipts.is_empty() {
            found.differences.push(Difference::Missing { transfer, end: lacks });
        } else if known.granted {
            found.remarks.push(Remark::OneSided { transfer, end: has });
        }
    }

    fn values(&self, found: &mut Reconciled) {
        let (Some(one), Some(other)) = (&self.ours.crossing, &self.theirs.crossing) else { return };
        let (transfer, roots) = (self.transfer, (self.ours.root(), self.theirs.root()));
        let shown = |root: Option<Digest>| root.map_or("none".to_owned(), |it| it.to_string());
        let place = |place: &Place| format!("{}/{}", place.site, place.node);
        let endings = (self.ours.ending(), self.theirs.ending());
        let ending = |ending: Option<Ending>| ending.map_or("none", Ending::as_str).to_owned();
        let unseen = |ending| matches!(ending, None | Some(Ending::Interrupted));
        let one_saw = endings.0 != endings.1 && (unseen(endings.0) || unseen(endings.1));
        let told = |end: Option<Ending>| if one_saw { String::new() } else { ending(end) };
        let known_roots = roots.0.is_some() && roots.1.is_some();
        let root = |root| if known_roots || !one_saw { shown(root) } else { String::new() };
        let values = [
            ("the identity", one.who.to_string(), other.who.to_string()),
            ("the dataset", one.path.to_string(), other.path.to_string()),
            ("the class", one.class.to_string(), other.class.to_string()),
            ("the source", place(&one.from), place(&other.from)),
            ("the target", place(&one.to), place(&other.to)),
            ("the transport", one.transport.to_string(), other.transport.to_string()),
            ("the root digest", root(roots.0), root(roots.1)),
            ("the ending", told(endings.0), told(endings.1)),
        ];
        for (what, ours, theirs) in values {
            if ours != theirs {
                found.differences.push(Difference::Value { transfer, what, ours, theirs });
            }
        }
        if one_saw {
            let (ours, theirs) = endings;
            found.remarks.push(Remark::Ending { transfer, ours, theirs });
        }
        if one.link != other.link {
            let (ours, theirs) = (one.link.to_string(), other.link.to_string());
            found.remarks.push(Remark::Link { transfer, ours, theirs });
        }
    }

    /// Pairs of sessions that both signed for, and what is left of the sessions of each end.
    #[expect(clippy::type_complexity, reason = "pairs, and two lists that are the rest of them")]
    fn receipts(
        &self,
        found: &mut Reconciled,
    ) -> (Vec<(&Session, &Session)>, (Vec<&Session>, Vec<&Session>)) {
        let (transfer, mut pairs) = (self.transfer, Vec::new());
        let (mut mine, mut other): (Vec<_>, Vec<_>) = (
            self.ours.sessions.iter().map(Some).collect(),
            self.theirs.sessions.iter().map(Some).collect(),
        );
        for (lacks, has, lacking) in
            [(End::Theirs, self.ours, self.theirs), (End::Ours, self.theirs, self.ours)]
        {
            for receipt in &has.receipts {
                let both = lacking.receipts.contains(receipt);
                let another = lacking.receipts.iter().any(|it| it.same_session(receipt));
                let parties = [&receipt.body.from, &receipt.body.to];
                let session = |log: LogId, facts: &Facts| {
                    let party = parties.into_iter().find(|party| party.log == log)?;
                    facts.stopped_by(party.seq)
                };
                let at = (session(self.ids.0, self.ours), session(self.ids.1, self.theirs));
                let (Some(at), Some(peer)) = at else {
                    found.differences.push(Difference::ReceiptMissing { transfer, end: lacks });
                    continue;
                };
                if !both && another {
                    found.differences.push(Difference::ReceiptMissing { transfer, end: lacks });
                } else if !both {
                    found.remarks.push(Remark::ReceiptMissing { transfer, end: lacks });
                }
                if let (Some(mine), Some(other)) = (mine[at].take(), other[peer].take()) {
                    pairs.push((mine, other));
                }
            }
        }
        (pairs, (mine.into_iter().flatten().collect(), other.into_iter().flatten().collect()))
    }

    /// Sessions that nobody signed for: what left is compared with what arrived.
    fn unsigned(&self, mine: &Lump, other: &Lump, outward: bool, found: &mut Reconciled) {
        let (sent, received) = if outward { (mine, other) } else { (other, mine) };
        let (left, arrived) =
            (sent.left.without(&received.left), received.left.without(&sent.left));
        let more_arrived = received.bytes > sent.bytes || !arrived.is_empty();
        let more_left = sent.bytes > received.bytes || !left.is_empty();
        let explained = (!more_arrived || sent.died) && (!more_left || sent.cut || received.cut);
        if !explained {
            self.amounts(mine, other, found);
        } else if more_arrived || more_left {
            found.remarks.push(Remark::Unsettled {
                transfer: self.transfer,
                left_only: left.bytes().max(sent.bytes.saturating_sub(received.bytes)),
                arrived_only: arrived.bytes().max(received.bytes.saturating_sub(sent.bytes)),
            });
        }
    }

    fn amounts(&self, mine: &Lump, other: &Lump, found: &mut Reconciled) {
        let transfer = self.transfer;
        if mine.bytes != other.bytes {
            let (ours, theirs) = (mine.bytes.to_string(), other.bytes.to_string());
            let what = "the number of bytes";
            found.differences.push(Difference::Value { transfer, what, ours, theirs });
        }
        if mine.left != other.left {
            let (ours, theirs) = (mine.left.without(&other.left), other.left.without(&mine.left));
            found.differences.push(Difference::Extents { transfer, ours, theirs });
        }
    }
}

fn root(session: &Session) -> Option<Digest> {
    session.stop.as_ref().and_then(|stop| stop.root)
}
