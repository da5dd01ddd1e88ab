//! Receipts: what both ends of a transfer say of it, signed by both.

use super::extents::LeftSum;
use super::names::{LogId, Place};
use super::portable::Portable;
use crate::base::{Class, Digest, RelPath, TransferId};
use crate::identity::{AuditKey, AuditPublicKey, AuditSignature};
use crate::manifest::DecodeError;
use crate::policy::Principal;
use crate::policy::fields::{Reader, Writer};

/// What precedes a receipt in what is signed.
const CONTEXT: &[u8] = b"portway audit receipt 1\0";

/// One end of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// The node, by its certificate.
    pub node: Principal,
    /// Where it is.
    pub place: Place,
    /// Its audit log.
    pub log: LogId,
    /// Number of its stop record of this transfer in that log.
    pub seq: u64,
    /// The key of its audit log.
    pub key: AuditPublicKey,
}

/// What a receipt says, before anybody signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptBody {
    /// The transfer.
    pub transfer: TransferId,
    /// The dataset.
    pub path: RelPath,
    /// The snapshot's root digest, if it was reached.
    pub root: Option<Digest>,
    /// The dataset's class.
    pub class: Class,
    /// Bytes of content that crossed, what crossed twice counted twice.
    pub bytes: u64,
    /// Which bytes of the dataset crossed.
    pub left: LeftSum,
    /// The end that sent.
    pub from: Party,
    /// The end that received.
    pub to: Party,
}

/// A receipt: both ends signed the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What it says.
    pub body: ReceiptBody,
    /// By the key of the end that sent.
    pub from_signature: AuditSignature,
    /// By the key of the end that received.
    pub to_signature: AuditSignature,
}

/// Why a receipt proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The signature of the end that sent is wrong.
    #[error("the sender's signature on the receipt is wrong")]
    From,
    /// The signature of the end that received is wrong.
    #[error("the receiver's signature on the receipt is wrong")]
    To,
    /// It names another key for the sender than the one that is known for it.
    #[error("the receipt names another key for the sender than is known")]
    FromKey,
    /// It names another key for the receiver than the one that is known for it.
    #[error("the receipt names another key for the receiver than is known")]
    ToKey,
}

impl ReceiptBody {
    fn message(&self) -> Vec<u8> {
        let mut out = Writer::new(CONTEXT);
        self.put(&mut out);
        out.finish()
    }

    /// One end's signature.
    pub fn sign(&self, key: &AuditKey) -> AuditSignature {
        key.sign(&self.message())
    }
}

impl Portable for ReceiptBody {
    fn put(&self, out: &mut Writer) {
        out.array(&self.transfer.0.to_le_bytes());
        out.path(&self.path);
        out.maybe_digest(self.root.as_ref());
        out.text8(self.class.as_str());
        out.u64(self.bytes);
        self.left.put(out);
        self.from.put(out);
        self.to.put(out);
    }

    fn take(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            transfer: TransferId(u128::from_le_bytes(fields.array("transfer")?)),
            path: fields.path()?,
            root: fields.maybe_digest("root")?,
            class: fields.name("class")?,
            bytes: fields.u64("bytes")?,
            left: LeftSum::take(fields)?,
            from: Party::take(fields)?,
            to: Party::take(fields)?,
        })
    }
}

impl Portable for Party {
    fn put(&self, out: &mut Writer) {
        out.text16(self.node.as_str());
        out.place(&self.place);
        out.array(&self.log.0);
        out.u64(self.seq);
        out.array(&self.key.0);
    }

    fn take(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            node: fields.principal("node")?,
            place: fields.place()?,
            log: LogId(fields.array("log")?),
            seq: fields.u64("sequence number")?,
            key: AuditPublicKey(fields.array("key")?),
        })
    }
}

impl Portable for LeftSum {
    fn put(&self, out: &mut Writer) {
        out.u64(self.extents);
        out.digest(&self.digest);
    }

    fn take(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { extents: fields.u64("extents")?, digest: fields.digest("extents")? })
    }
}

impl Receipt {
    /// Whether both ends signed it with the keys that it names.
    ///
    /// # Errors
    /// One did not.
    pub fn check(&self) -> Result<(), ReceiptError> {
        let message = self.body.message();
        if !self.body.from.key.verify(&message, &self.from_signature) {
            return Err(ReceiptError::From);
        }
        if !self.body.to.key.verify(&message, &self.to_signature) {
            return Err(ReceiptError::To);
        }
        Ok(())
    }

    /// Whether it is about the same session as another one.
    pub(super) fn same_session(&self, other: &Self) -> bool {
        let stops = |body: &ReceiptBody| [&body.from, &body.to].map(|party| (party.log, party.seq));
        stops(&self.body) == stops(&other.body)
    }

    /// Whether both ends signed it, with keys that are known for them by their attestations.
    ///
    /// # Errors
    /// A key is another one, or a signature is wrong.
    pub fn verify(&self, from: AuditPublicKey, to: AuditPublicKey) -> Result<(), ReceiptError> {
        if self.body.from.key != from {
            return Err(ReceiptError::FromKey);
        }
        if self.body.to.key != to {
            return Err(ReceiptError::ToKey);
        }
        self.check()
    }
}

impl Portable for Receipt {
    fn put(&self, out: &mut Writer) {
        self.body.put(out);
        out.array(&self.from_signature.0);
        out.array(&self.to_signature.0);
    }

    fn take(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            body: ReceiptBody::take(fields)?,
            from_signature: AuditSignature(fields.array("signature")?),
            to_signature: AuditSignature(fields.array("signature")?),
        })
    }
}
