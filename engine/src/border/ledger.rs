//! What a way writes into the audit log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ask::{Ask, Denied};
use super::gate::now;
use super::meter::Wire;
use crate::audit::{
    self, Appended, AuditLog, Crossing, EXTENTS_PER_RECORD_MAX, Ending, ExtentSet,
    OBJECTS_PER_RECORD_MAX, Permit, Progress, Record, Stop,
};
use crate::base::{Digest, Extent, RelPath};
use crate::policy::{Decision, Reason, Verdict};

/// Longest that content which crossed stays unrecorded while more of it crosses.
const RECORD_EVERY: Duration = Duration::from_secs(1);

/// What crossed on one way, as the log has it and as it goes on.
pub(super) struct Ledger {
    log: Arc<AuditLog>,
    permit: Permit,
    crossing: Crossing,
    bytes: u64,
    left: ExtentSet,
    recorded: Instant,
    /// What the session takes of the wire, once it is known.
    pub(super) wire: Option<Wire>,
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

fn append(log: &AuditLog, record: Record) -> Result<Appended, Denied> {
    log.append(now(), record).map_err(|e| Denied::Audit(format!("{e} (hint: {})", e.hint())))
}

/// Records a decision; a grant comes with its permit.
pub(super) fn decided(
    log: &AuditLog,
    ask: &Ask,
    decision: &Decision,
) -> Result<Option<Permit>, Denied> {
    let record = Record::Decision(audit::Decision {
        crossing: crossing(ask, decision),
        action: ask.action,
        verdict: decision.verdict,
        reason: decision.reason.clone(),
    });
    Ok(append(log, record)?.permit)
}

impl Ledger {
    /// Records the decision and the start.
    pub(super) fn open(log: Arc<AuditLog>, ask: &Ask, decision: &Decision) -> Result<Self, Denied> {
        debug_assert_eq!(decision.verdict, Verdict::Granted);
        let permit = decided(&log, ask, decision)?
            .ok_or_else(|| Denied::Policy("the decision gives no permit".to_owned()))?;
        let crossing = crossing(ask, decision);
        append(&log, Record::Start(crossing.clone()))?;
        let (bytes, left) = (0, ExtentSet::default());
        Ok(Self { log, permit, crossing, bytes, left, recorded: Instant::now(), wire: None })
    }

    /// Records that it was decided anew: what is granted goes on by the new permit.
    pub(super) fn again(&mut self, ask: &Ask, decision: &Decision) -> Result<(), Denied> {
        self.record()?;
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
            || self.left.objects() >= OBJECTS_PER_RECORD_MAX / 2
            || self.left.extents() >= EXTENTS_PER_RECORD_MAX / 2
    }

    /// Records what crossed since the last record.
    pub(super) fn record(&mut self) -> Result<(), Denied> {
        self.recorded = Instant::now();
        let (mut bytes, left) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.left));
        for left in left.split() {
            let crossing = self.crossing.clone();
            // All of the bytes are in the first part: a sum is what counts.
            let bytes = std::mem::take(&mut bytes);
            append(&self.log, Record::Progress(Progress { crossing, bytes, left }))?;
        }
        if let Some((sent, received, tariff)) = self.wire.as_mut().and_then(Wire::take) {
            let crossing = self.crossing.clone();
            append(&self.log, Record::Meter(audit::Meter { crossing, sent, received, tariff }))?;
        }
        Ok(())
    }

    /// Records the end; gives what was sent and received on the wire, as it is recorded.
    pub(super) fn stop(
        mut self,
        ending: Ending,
        reason: &str,
        root: Option<Digest>,
    ) -> Result<(u64, u64), Denied> {
        self.record()?;
        let crossing = Crossing { root, ..self.crossing };
        let (bytes, left) = (0, ExtentSet::default());
        let reason = Reason::new(reason);
        append(&self.log, Record::Stop(Stop { crossing, ending, reason, bytes, left }))?;
        Ok(self.wire.map_or((0, 0), |wire| wire.told()))
    }

    /// Bytes on the wire that the session has sent and received so far.
    pub(super) fn crossed(&self) -> (u64, u64) {
        self.wire.as_ref().map_or((0, 0), Wire::now)
    }
}
