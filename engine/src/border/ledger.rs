//! What a way writes into the audit log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ask::{Ask, Denied};
use super::gate::now;
use super::meter::Wire;
use crate::audit::{
    self, Appended, AuditLog, Crossing, EXTENTS_PER_RECORD_MAX, Ending, ExtentSet, LeftHasher,
    LeftSum, OBJECTS_PER_RECORD_MAX, Permit, Progress, Record, Stop, kill,
};
use crate::base::{Digest, Extent, RelPath};
use crate::policy::{Decision, Reason, Verdict};

/// Longest that content which crossed stays unrecorded while more of it crosses.
const RECORD_EVERY: Duration = Duration::from_secs(1);

/// Objects and extents that are recorded at once, without waiting for the time.
const OBJECTS_AT_ONCE: usize = 4 * OBJECTS_PER_RECORD_MAX;
const EXTENTS_AT_ONCE: usize = 4 * EXTENTS_PER_RECORD_MAX;

/// What crossed on one way, as the log has it and as it goes on.
pub(super) struct Ledger {
    log: Arc<AuditLog>,
    permit: Permit,
    crossing: Crossing,
    /// What crossed since the last record.
    bytes: u64,
    left: ExtentSet,
    recorded: Instant,
    session: Session,
    /// Objects up to this one are settled.
    settled: Option<RelPath>,
    /// What the session takes of the wire, once it is known.
    pub(super) wire: Option<Wire>,
}

/// What crossed in all of the session, in short.
#[derive(Default)]
struct Session {
    bytes: u64,
    /// Objects that are done, in order.
    done: LeftHasher,
    /// The last one of them.
    last: Option<RelPath>,
    /// Objects of which more may cross.
    open: ExtentSet,
    /// More of an object crossed after it was done, so the sum is lost.
    late: bool,
}

impl Session {
    fn add(&mut self, bytes: u64, left: &ExtentSet) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.late |= left.first().is_some_and(|first| Some(first) <= self.last.as_ref());
        self.open.extend(left);
    }

    fn settle(&mut self, last: &RelPath) {
        self.done.extend(&self.open.take_through(last));
        self.last = Some(last.clone());
    }

    fn sum(mut self) -> Option<LeftSum> {
        self.done.extend(&self.open);
        (!self.late).then(|| self.done.finish())
    }
}

/// What a ledger had when it was closed.
#[derive(Debug, Clone)]
pub(super) struct Total {
    pub crossing: Crossing,
    /// Number of the stop record.
    pub seq: u64,
    pub bytes: u64,
    /// None where content crossed so late that it could not be summed up.
    pub left: Option<LeftSum>,
    /// Bytes sent and received on the wire, as they are recorded.
    pub wire: (u64, u64),
}

pub(super) fn crossing(ask: &Ask, decision: &Decision) -> Crossing {
    let (from, to) = ask.places();
    Crossing {
        transfer: ask.transfer,
        who: (&ask.who).into(),
        path: ask.path.clone(),
        root: None,
        class: ask.class.clone(),
        from,
        to,
        link: ask.link.clone(),
        transport: ask.transport,
        policy: decision.policy,
    }
}

/// Appends records to the log.
pub(super) fn append(log: &AuditLog, records: Vec<Record>) -> Result<Vec<Appended>, Denied> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let appended = log.append_all(now(), records);
    appended.map_err(|e| Denied::Audit(format!("{e} (hint: {})", e.hint())))
}

fn decision_record(ask: &Ask, decision: &Decision) -> Record {
    Record::Decision(audit::Decision {
        crossing: crossing(ask, decision),
        action: ask.action,
        verdict: decision.verdict,
        reason: decision.reason.clone(),
    })
}

/// Records a decision; a grant comes with its permit.
pub(super) fn decided(
    log: &AuditLog,
    ask: &Ask,
    decision: &Decision,
) -> Result<Option<Permit>, Denied> {
    let mut appended = append(log, vec![decision_record(ask, decision)])?;
    Ok(appended.pop().and_then(|appended| appended.permit))
}

impl Ledger {
    /// Records the decision and the start.
    pub(super) fn open(log: Arc<AuditLog>, ask: &Ask, decision: &Decision) -> Result<Self, Denied> {
        debug_assert_eq!(decision.verdict, Verdict::Granted);
        let crossing = crossing(ask, decision);
        kill::step("intent-before");
        let records = vec![decision_record(ask, decision), Record::Start(crossing.clone())];
        let permit = append(&log, records)?.into_iter().find_map(|appended| appended.permit);
        kill::step("intent-after");
        let permit =
            permit.ok_or_else(|| Denied::Policy("the decision gives no permit".to_owned()))?;
        Ok(Self {
            log,
            permit,
            crossing,
            bytes: 0,
            left: ExtentSet::default(),
            recorded: Instant::now(),
            session: Session::default(),
            settled: None,
            wire: None,
        })
    }

    /// Records that it was decided anew: what is granted goes on by the new permit.
    pub(super) fn again(&mut self, ask: &Ask, decision: &Decision) -> Result<(), Denied> {
        let records = self.take();
        append(&self.log, records)?;
        if let Some(permit) = decided(&self.log, ask, decision)? {
            self.permit = permit;
            self.crossing = crossing(ask, decision);
        }
        Ok(())
    }

    /// Whether the permit is for this decision about this.
    pub(super) fn covers(&self, ask: &Ask, decision: &Decision) -> bool {
        self.permit.covers(&crossing(ask, decision))
    }

    /// Notes content that crossed; true if it is time to record it.
    pub(super) fn note(&mut self, object: &RelPath, extent: Extent) -> bool {
        self.bytes += extent.len;
        self.left.insert(object, extent);
        self.recorded.elapsed() >= RECORD_EVERY
            || self.left.objects() >= OBJECTS_AT_ONCE
            || self.left.extents() >= EXTENTS_AT_ONCE
    }

    /// Objects up to this one are settled: no more of them crosses.
    pub(super) fn settled(&mut self, last: RelPath) {
        self.settled = Some(last);
    }

    /// The log.
    pub(super) fn log(&self) -> Arc<AuditLog> {
        Arc::clone(&self.log)
    }

    /// Takes out what crossed since the last record, as records.
    pub(super) fn take(&mut self) -> Vec<Record> {
        let parts = self.parts();
        let parts = parts.into_iter().map(|(bytes, left)| self.progress(bytes, left));
        let mut records: Vec<Record> = parts.collect();
        records.extend(self.meter());
        records
    }

    /// What the session took of the wire since the last record.
    fn meter(&mut self) -> Option<Record> {
        let (sent, received, tariff) = self.wire.as_mut().and_then(Wire::take)?;
        let crossing = self.crossing.clone();
        Some(Record::Meter(audit::Meter { crossing, sent, received, tariff }))
    }

    /// Bytes on the wire that the session has sent and received so far.
    pub(super) fn crossed(&self) -> (u64, u64) {
        self.wire.as_ref().map_or((0, 0), Wire::now)
    }

    fn progress(&self, bytes: u64, left: ExtentSet) -> Record {
        Record::Progress(Progress { crossing: self.crossing.clone(), bytes, left })
    }

    /// What crossed since the last record, in parts that fit in a record each, with the bytes of each:
    /// what crossed twice is in the first.
    fn parts(&mut self) -> Vec<(u64, ExtentSet)> {
        self.recorded = Instant::now();
        let (bytes, left) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.left));
        self.session.add(bytes, &left);
        if let Some(last) = self.settled.take() {
            self.session.settle(&last);
        }
        let mut twice = bytes.saturating_sub(left.bytes());
        let part = |left: ExtentSet| (left.bytes() + std::mem::take(&mut twice), left);
        left.split().into_iter().map(part).collect()
    }

    /// Records the end. Content that crossed since the last record is in the stop record, as far as it
    /// has room.
    pub(super) fn stop(
        mut self,
        ending: Ending,
        reason: &str,
        root: Option<Digest>,
    ) -> Result<Total, Denied> {
        let mut parts = self.parts();
        let (bytes, last) = parts.pop().unwrap_or_default();
        let parts = parts.into_iter().map(|(bytes, left)| self.progress(bytes, left));
        let mut records: Vec<Record> = parts.collect();
        records.extend(self.meter());
        let crossing = Crossing { root, ..self.crossing };
        let reason = Reason::new(reason);
        let stop = Stop { crossing: crossing.clone(), ending, reason, bytes, left: last };
        records.push(Record::Stop(stop));
        kill::step("stop-before");
        let appended = append(&self.log, records)?;
        kill::step("stop-after");
        let seq = appended.last().map_or(0, |appended| appended.seq);
        let wire = self.wire.map_or((0, 0), |wire| wire.told());
        Ok(Total { crossing, seq, bytes: self.session.bytes, left: self.session.sum(), wire })
    }
}
