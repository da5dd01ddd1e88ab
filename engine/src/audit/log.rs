//! The log as the rest of the engine sees it: append, and a permit for what was granted.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use super::checkpoint::Checkpoint;
use super::codec;
use super::error::{LogError, StopCause};
use super::folder::LogFolder;
use super::names::LogId;
use super::record::{Crossing, KeyRecord, Record};
use super::store::{Recovered, SEGMENT_BYTES, Store};
use crate::base::FileTime;
use crate::identity::{Attestation, AuditKey, AuditPublicKey};
use crate::policy::{Action, Principal, Verdict};

/// Whose log it is.
pub struct Setup {
    /// The key that seals it.
    pub key: AuditKey,
    /// The node that keeps it.
    pub node: Principal,
    /// The node's word that the key is its own.
    pub attestation: Attestation,
    /// The name of the log, should it begin now; see [`LogId::random`].
    pub new_log: LogId,
}

impl Setup {
    /// What the log says of its key.
    pub(super) fn record(&self, log: LogId) -> KeyRecord {
        KeyRecord {
            log,
            node: self.node.clone(),
            key: self.key.public(),
            attestation: self.attestation.clone(),
        }
    }
}

/// The right to send what was granted, once: proof that the decision is on disk.
///
/// Only [`AuditLog::append`] makes one, for a decision that grants a push or a pull, after its
/// record is durable. It can be neither made otherwise nor copied:
///
/// ```compile_fail
/// fn forge(real: portway::audit::Permit) -> portway::audit::Permit {
///     portway::audit::Permit { seq: 1, ..real }
/// }
/// ```
///
/// ```compile_fail
/// fn copy(permit: &portway::audit::Permit) -> portway::audit::Permit {
///     permit.clone()
/// }
/// ```
///
/// ```compile_fail
/// let permit = portway::audit::Permit::default();
/// ```
///
/// What compiles is to look at one and to hand it on:
///
/// ```
/// fn send(permit: portway::audit::Permit) -> u64 {
///     permit.seq()
/// }
/// ```
#[derive(Debug)]
#[must_use = "what was granted is done with the permit"]
pub struct Permit {
    log: LogId,
    seq: u64,
    action: Action,
    crossing: Crossing,
}

impl Permit {
    /// The log that has the decision.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// Number of the decision's record there.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// What was granted.
    pub fn action(&self) -> Action {
        self.action
    }

    /// Who may move what, from where to where, by what, under which policy.
    pub fn crossing(&self) -> &Crossing {
        &self.crossing
    }

    /// Whether it is for this and nothing else: everything must be as it was decided, but for the
    /// root digest, which a decision before the first byte cannot know.
    pub fn covers(&self, crossing: &Crossing) -> bool {
        let same_root = match (self.crossing.root, crossing.root) {
            (Some(granted), Some(root)) => granted == root,
            _ => true,
        };
        same_root && self.crossing == Crossing { root: self.crossing.root, ..crossing.clone() }
    }
}

/// A record that is in the log.
#[derive(Debug)]
pub struct Appended {
    /// Its number.
    pub seq: u64,
    /// The permit, if the record is a decision that grants a push or a pull.
    pub permit: Option<Permit>,
}

/// What is to be appended.
pub(super) enum What {
    Record(Box<Record>),
    Seal,
    Key,
}

pub(super) struct Pending {
    pub at: FileTime,
    pub what: What,
    /// Its number, or why it has none.
    done: Arc<OnceLock<Result<u64, Arc<StopCause>>>>,
}

impl Pending {
    pub(super) fn new(at: FileTime, what: What) -> Self {
        // A time that could not be read back must not be written.
        let at = FileTime { nanos: at.nanos.min(999_999_999), ..at };
        Self { at, what, done: Arc::new(OnceLock::new()) }
    }
}

#[derive(Default)]
struct Queue {
    pending: Vec<Pending>,
    /// Somebody is writing.
    leading: bool,
    stopped: Option<Arc<StopCause>>,
}

/// An audit log, open to append. It may be shared by threads; records that are appended at the same
/// time share one sync. Calls block for as long as the disk takes.
pub struct AuditLog {
    queue: Mutex<Queue>,
    turn: Condvar,
    store: Mutex<Store>,
    log: LogId,
    recovered: Recovered,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AuditLog {
    /// Takes up the log in `folder`, or begins one. `at` is the wall clock.
    ///
    /// What an append left that was cut short, and so never acknowledged, is cut off;
    /// [`AuditLog::recovered`] tells. The last segment is read and checked; all of the log is what
    /// [`verify`](super::verify) checks.
    ///
    /// # Errors
    /// The log is not as it was left, or the disk fails: nothing may cross the border then. Or the
    /// key comes with more certificates than a record takes.
    pub fn open(folder: LogFolder, setup: Setup, at: FileTime) -> Result<Self, LogError> {
        Self::open_with(folder, setup, at, SEGMENT_BYTES)
    }

    /// The same with segments of another size.
    pub(super) fn open_with(
        folder: LogFolder,
        setup: Setup,
        at: FileTime,
        segment_bytes: u64,
    ) -> Result<Self, LogError> {
        codec::check(&Record::Key(setup.record(setup.new_log)))?;
        let store = Store::open(folder, setup, segment_bytes, at)?;
        let (log, recovered) = (store.log(), store.recovered);
        Ok(Self {
            queue: Mutex::default(),
            turn: Condvar::new(),
            store: Mutex::new(store),
            log,
            recovered,
        })
    }

    /// The log's name.
    pub fn id(&self) -> LogId {
        self.log
    }

    /// What was cut off when the log was taken up.
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Appends a record. It is durable on return, and a grant comes with its permit. `at` is the
    /// wall clock.
    ///
    /// # Errors
    /// The log is stopped, by this append or an earlier one: then nothing is appended any more.
    /// What the record says must not be done; it may be in the log all the same when that is next
    /// opened. Or the record is over a limit, which stops nothing.
    pub fn append(&self, at: FileTime, record: Record) -> Result<Appended, LogError> {
        let mut appended = self.append_all(at, vec![record])?;
        appended.pop().ok_or(LogError::Reserved)
    }

    /// Appends records, in this order, as one append: they share its syncs, and others may come
    /// between them. All are durable on return.
    ///
    /// # Errors
    /// As for [`AuditLog::append`]; a record that is over a limit keeps all of them out.
    pub fn append_all(
        &self,
        at: FileTime,
        records: Vec<Record>,
    ) -> Result<Vec<Appended>, LogError> {
        let mut granted = Vec::with_capacity(records.len());
        for record in &records {
            if matches!(record, Record::Key(_) | Record::Seal(_)) {
                return Err(LogError::Reserved);
            }
            codec::check(record)?;
            granted.push(match record {
                Record::Decision(decision)
                    if decision.verdict == Verdict::Granted && decision.action.moves_content() =>
                {
                    Some((decision.action, decision.crossing.clone()))
                }
                _ => None,
            });
        }
        let what = records.into_iter().map(|record| What::Record(Box::new(record)));
        let numbers = self.submit(what.map(|what| Pending::new(at, what)).collect())?;
        let permit = |seq, (action, crossing)| Permit { log: self.log, seq, action, crossing };
        let appended = numbers.into_iter().zip(granted);
        Ok(appended
            .map(|(seq, granted)| Appended { seq, permit: granted.map(|it| permit(seq, it)) })
            .collect())
    }

    /// Appends the word of another certificate of this node for the log's key: certificates are
    /// renewed, and the key is not.
    ///
    /// # Errors
    /// As for [`AuditLog::append`].
    pub fn attest(&self, at: FileTime, attestation: Attestation) -> Result<u64, LogError> {
        {
            let mut store = lock(&self.store);
            let record = KeyRecord { attestation: attestation.clone(), ..store.key_record() };
            codec::check(&Record::Key(record))?;
            store.set_attestation(attestation);
        }
        self.submit_one(Pending::new(at, What::Key))
    }

    /// Appends a signed checkpoint of everything before it. The log does so by itself each 1,024
    /// records.
    ///
    /// # Errors
    /// As for [`AuditLog::append`].
    pub fn seal(&self, at: FileTime) -> Result<u64, LogError> {
        self.submit_one(Pending::new(at, What::Seal))
    }

    fn submit_one(&self, pending: Pending) -> Result<u64, LogError> {
        self.submit(vec![pending])?.first().copied().ok_or(LogError::Reserved)
    }

    /// A signed checkpoint of the log as this process knows it, to be given to peers. It takes no
    /// append: every append signs one.
    pub fn checkpoint(&self) -> Checkpoint {
        lock(&self.store).checkpoint()
    }

    /// The key that seals the log.
    pub fn key(&self) -> AuditPublicKey {
        lock(&self.store).key()
    }

    /// Why the log is stopped, if it is.
    pub fn stopped(&self) -> Option<LogError> {
        lock(&self.queue).stopped.clone().map(LogError::Stopped)
    }

    /// Signs what both ends say of a transfer.
    pub fn sign_receipt(&self, body: &super::ReceiptBody) -> crate::identity::AuditSignature {
        lock(&self.store).sign_receipt(body)
    }

    /// Waits until the records have their numbers. Whoever finds nobody writing writes for all.
    fn submit(&self, pending: Vec<Pending>) -> Result<Vec<u64>, LogError> {
        let done: Vec<_> = pending.iter().map(|pending| Arc::clone(&pending.done)).collect();
        let mut queue = lock(&self.queue);
        if queue.stopped.is_none() {
            queue.pending.extend(pending);
        }
        loop {
            // They are written in their order.
            if done.last().is_none_or(|last| last.get().is_some()) {
                let numbers = done.iter().filter_map(|done| done.get().cloned());
                return numbers.collect::<Result<_, _>>().map_err(LogError::Stopped);
            }
            if let Some(cause) = &queue.stopped {
                return Err(LogError::Stopped(Arc::clone(cause)));
            }
            if queue.leading {
                queue = self.turn.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.leading = true;
            let batch = std::mem::take(&mut queue.pending);
            drop(queue);
            let lead = Lead { log: self, outcome: None };
            lead.write(batch);
            queue = lock(&self.queue);
        }
    }
}

/// The one who writes for all. However it ends, the others are told.
struct Lead<'a> {
    log: &'a AuditLog,
    /// What is left of the batch, or why the log stops.
    outcome: Option<Result<Vec<Pending>, Arc<StopCause>>>,
}

impl Lead<'_> {
    fn write(mut self, mut batch: Vec<Pending>) {
        self.outcome = Some(match lock(&self.log.store).commit(&batch) {
            Ok((first, count)) => {
                for (seq, pending) in (first..).zip(batch.drain(..count)) {
                    // Only this thread has it to set.
                    let _ = pending.done.set(Ok(seq));
                }
                Ok(batch)
            }
            Err(cause) => Err(Arc::new(cause)),
        });
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut queue = lock(&self.log.queue);
        queue.leading = false;
        match self.outcome.take() {
            Some(Ok(mut rest)) => {
                rest.append(&mut queue.pending);
                queue.pending = rest;
            }
            Some(Err(cause)) => queue.stopped = Some(cause),
            None => queue.stopped = Some(Arc::new(StopCause::Panic)),
        }
        self.log.turn.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::audit::fuzz::{LOG, TIME, attestation, decision, key, principal};
    use crate::base::RelPath;
    use crate::storage::MemoryTree;
    use crate::storage::memory::{Fault, Op};

    fn open(tree: &MemoryTree) -> AuditLog {
        let node = principal("private", "onprem", "gpu-1");
        let setup = Setup { key: key(1), node, attestation: attestation(), new_log: LOG };
        let folder = LogFolder::on(Arc::new(tree.clone()), RelPath::root());
        AuditLog::open(folder, setup, TIME).unwrap()
    }

    #[test]
    fn records_that_wait_for_a_write_share_the_next_one() {
        const THREADS: usize = 20;
        let tree = MemoryTree::new(1);
        let log = open(&tree);
        let disk = lock(&log.store);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| log.append(TIME, decision(7, Verdict::Denied)).unwrap());
            }
            // The first one waits for the disk, the others for the first one.
            while lock(&log.queue).pending.len() < THREADS - 1 {
                std::thread::yield_now();
            }
            // Two syncs for the first one and two for all others; a fifth would fail.
            tree.inject(Fault { op: Op::Sync, after: 4, errno: Errno::IO });
            drop(disk);
        });
        assert_eq!(log.checkpoint().size, THREADS as u64 + 1);
        assert!(log.append(TIME, decision(7, Verdict::Denied)).is_err(), "the fifth fails");
    }

    #[test]
    fn a_writer_that_panics_stops_the_log() {
        let log = open(&MemoryTree::new(1));
        drop(Lead { log: &log, outcome: None });
        let stopped = log.append(TIME, decision(7, Verdict::Granted)).unwrap_err();
        assert!(stopped.hint().contains("bug"), "{stopped}");
        assert!(log.stopped().is_some());
    }
}
