//! The receipt of a session that crossed: what each end says, compares, signs and keeps.

use std::sync::PoisonError;
use std::time::Duration;

use super::ask::Denied;
use super::gate::{Border, now};
use super::ledger::append;
use super::session::Closed;
use crate::audit::{
    Account, AuditLog, Checkpoint, Dispute, Offer, Party, Place, Portable, Receipt, Record,
    Statement, Witness, kill,
};
use crate::identity::{Attestation, AuditPublicKey, AuditSignature, SpiffeId, UnixTime};
use crate::policy::{Principal, Reason};

/// Logs of peers whose last checkpoint is remembered; of others it is kept with each session.
const WITNESSED_MAX: usize = 256;

/// Why there is no receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// The ends do not say the same.
    #[error("{0}")]
    Differs(String),
    /// The log here cannot take it.
    #[error(transparent)]
    Log(#[from] Denied),
}

fn differs<T>(why: impl Into<String>) -> Result<T, Unsigned> {
    Err(Unsigned::Differs(why.into()))
}

/// A receipt that this end signed, and what it waits for.
#[derive(Debug)]
pub struct Offered {
    offer: Offer,
    witness: Option<Witness>,
}

/// A receipt that both signed, to be kept here.
#[derive(Debug)]
pub struct Signed {
    receipt: Receipt,
    witness: Option<Witness>,
}

impl Closed {
    /// What crossed, as far as it can be signed for.
    fn account(&self) -> Result<&Account, Unsigned> {
        let late = "content of objects that were done crossed, and cannot be summed up";
        self.account.as_ref().ok_or_else(|| Unsigned::Differs(late.to_owned()))
    }
}

impl Border {
    /// What the end that received says first, to be sent as it is. Blocks.
    ///
    /// # Errors
    /// There is nothing to sign for.
    pub fn statement(&self, closed: &Closed) -> Result<Vec<u8>, Unsigned> {
        let (log, account) = (self.log()?, closed.account()?);
        let statement = Statement {
            party: self.party(&log, account),
            attestation: self.attestation(&log)?,
            root: account.crossing.root,
            class: account.crossing.class.clone(),
            bytes: account.bytes,
            left: account.left,
            checkpoint: log.checkpoint(),
        };
        Ok(statement.encode())
    }

    /// The receipt for what the end that received said, signed by this one, which sent; with the bytes
    /// to be sent. Blocks.
    ///
    /// # Errors
    /// What it said is not what this end counted, or not its own word.
    pub fn offer(&self, closed: &Closed, statement: &[u8]) -> Result<(Offered, Vec<u8>), Unsigned> {
        let (log, account) = (self.log()?, closed.account()?);
        let Ok(statement) = Statement::decode(statement) else {
            return differs("what it says cannot be understood");
        };
        let Statement { party, attestation, checkpoint, .. } = &statement;
        let witness = self.judge_end(&closed.peer, party, attestation, checkpoint)?;
        if let Some(why) = account.against(&statement) {
            return differs(why);
        }
        let body = account.body(self.party(&log, account), statement.party);
        let signature = log.sign_receipt(&body);
        let (attestation, checkpoint) = (self.attestation(&log)?, log.checkpoint());
        let offer = Offer { body, signature, attestation, checkpoint };
        let bytes = offer.encode();
        Ok((Offered { offer, witness }, bytes))
    }

    /// This end's signature, which received, on what the end that sent signed; with the bytes to be
    /// sent. Blocks.
    ///
    /// # Errors
    /// It is not what this end counted, or not the sender's own word.
    pub fn countersign(
        &self,
        closed: &Closed,
        offer: &[u8],
    ) -> Result<(Signed, Vec<u8>), Unsigned> {
        let (log, account) = (self.log()?, closed.account()?);
        let Ok(offer) = Offer::decode(offer) else {
            return differs("its receipt cannot be understood");
        };
        let Offer { body, attestation, checkpoint, .. } = &offer;
        let witness = self.judge_end(&closed.peer, &body.from, attestation, checkpoint)?;
        if body.to != self.party(&log, account) {
            return differs("its receipt names another receiver");
        }
        if let Some(why) = account.against_body(body) {
            return differs(why);
        }
        let signature = log.sign_receipt(body);
        let receipt = offer.signed(signature);
        if receipt.check().is_err() {
            return differs("its signature is wrong");
        }
        Ok((Signed { receipt, witness }, signature.encode()))
    }

    /// Completes what this end offered with the other one's signature.
    ///
    /// # Errors
    /// The signature is wrong.
    pub fn complete(&self, offered: Offered, countersign: &[u8]) -> Result<Signed, Unsigned> {
        let Offered { offer, witness } = offered;
        let Ok(signature) = AuditSignature::decode(countersign) else {
            return differs("its signature cannot be understood");
        };
        let receipt = offer.signed(signature);
        if receipt.check().is_err() {
            return differs("its signature is wrong");
        }
        Ok(Signed { receipt, witness })
    }

    /// Keeps a receipt, and with it the other log's checkpoint. Blocks for the disk.
    ///
    /// # Errors
    /// The log cannot take it.
    pub fn keep(&self, signed: Signed) -> Result<(), Denied> {
        let mut records = vec![Record::Receipt(Box::new(signed.receipt))];
        records.extend(signed.witness.map(Record::Witness));
        kill::step("receipt-before");
        append(&*self.log()?, records)?;
        kill::step("receipt-after");
        Ok(())
    }

    /// Records that the ends do not say the same of a session. Blocks for the disk.
    ///
    /// # Errors
    /// The log cannot take it.
    pub fn dispute(&self, closed: &Closed, why: &str) -> Result<(), Denied> {
        let Some(account) = &closed.account else { return Ok(()) };
        let (crossing, stop) = (account.crossing.clone(), account.seq);
        let dispute = Dispute { crossing, stop, reason: Reason::new(why) };
        append(&*self.log()?, vec![Record::Dispute(dispute)]).map(drop)
    }

    fn party(&self, log: &AuditLog, account: &Account) -> Party {
        let us = self.us();
        let (node, place, key) = (Principal::from(us), Place::from(us), log.key());
        Party { node, place, log: log.id(), seq: account.seq, key }
    }

    fn attestation(&self, log: &AuditLog) -> Result<Attestation, Denied> {
        self.identity().attest(log.key()).map_err(|error| Denied::Audit(error.to_string()))
    }

    /// Whether the other end is who its certificate says, with a key of its log that this certificate
    /// vouches for, and a log that goes on. Gives the checkpoint to be kept, if it is newer.
    fn judge_end(
        &self,
        peer: &SpiffeId,
        party: &Party,
        attestation: &Attestation,
        checkpoint: &Checkpoint,
    ) -> Result<Option<Witness>, Unsigned> {
        if party.node != Principal::from(peer) || party.place != Place::from(peer) {
            return differs("it names itself as another node");
        }
        self.vouched(peer, party.key, attestation)?;
        if !checkpoint.is_signed_by(&party.key) || checkpoint.log != party.log {
            return differs("the checkpoint of its log is not signed by its key");
        }
        if checkpoint.size <= party.seq {
            return differs("its log ends before the record that it names");
        }
        self.witness(party, checkpoint)
    }

    fn vouched(
        &self,
        peer: &SpiffeId,
        key: AuditPublicKey,
        attestation: &Attestation,
    ) -> Result<(), Unsigned> {
        let at = Duration::from_secs(u64::try_from(now().secs).unwrap_or(0));
        let at = UnixTime::since_unix_epoch(at);
        match self.identity().judge_attestation(key, attestation, at) {
            Ok(id) if id == *peer => Ok(()),
            Ok(id) => differs(format!("the key of its log is that of {id}")),
            Err(error) => differs(error.to_string()),
        }
    }

    fn witness(&self, party: &Party, shown: &Checkpoint) -> Result<Option<Witness>, Unsigned> {
        let mut witnessed = self.witnessed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = witnessed.get(&shown.log)
            && before.size >= shown.size
        {
            // Sessions end in any order, so an older one says nothing yet.
            if before.size == shown.size && before.root != shown.root {
                return differs("its log has other records than it showed before");
            }
            return Ok(None);
        }
        if witnessed.len() >= WITNESSED_MAX {
            witnessed.pop_first();
        }
        witnessed.insert(shown.log, *shown);
        Ok(Some(Witness { node: party.node.clone(), key: party.key, checkpoint: *shown }))
    }
}
