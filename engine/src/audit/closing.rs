//! What the ends of a transfer tell each other when it has ended, until both have signed one receipt.
//!
//! ```text
//! target: Statement ----> source: compares, signs the body
//!         compares, checks <---- Offer
//!         signature ---------->  checks
//! ```

use super::checkpoint::Checkpoint;
use super::extents::LeftSum;
use super::portable::Portable;
use super::receipt::{Party, Receipt, ReceiptBody};
use super::record::Crossing;
use crate::base::{Class, Digest};
use crate::identity::{Attestation, AuditSignature};
use crate::manifest::DecodeError;
use crate::policy::fields::{Reader, Writer};

/// What one end counted of a session that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// What moved from where to where, with the root that was published.
    pub crossing: Crossing,
    /// Number of its stop record.
    pub seq: u64,
    /// Bytes of content that crossed in this session.
    pub bytes: u64,
    /// Which bytes of the dataset they are.
    pub left: LeftSum,
}

/// What the target says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) party: Party,
    pub(crate) attestation: Attestation,
    pub(crate) root: Option<Digest>,
    pub(crate) class: Class,
    pub(crate) bytes: u64,
    pub(crate) left: LeftSum,
    /// Its log, up to its stop record or later.
    pub(crate) checkpoint: Checkpoint,
}

/// What the source answers: the receipt, signed by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) body: ReceiptBody,
    pub(crate) signature: AuditSignature,
    pub(crate) attestation: Attestation,
    /// Its log, up to its stop record or later.
    pub(crate) checkpoint: Checkpoint,
}

/// What one end says that the other compares.
struct Said<'a> {
    root: Option<Digest>,
    class: &'a Class,
    bytes: u64,
    left: LeftSum,
}

impl Account {
    /// The body that `source` and `target` sign.
    pub(crate) fn body(&self, from: Party, to: Party) -> ReceiptBody {
        ReceiptBody {
            transfer: self.crossing.transfer,
            path: self.crossing.path.clone(),
            root: self.crossing.root,
            class: self.crossing.class.clone(),
            bytes: self.bytes,
            left: self.left,
            from,
            to,
        }
    }

    /// In what a statement differs from this account.
    pub(crate) fn against(&self, statement: &Statement) -> Option<String> {
        let Statement { root, class, bytes, left, .. } = statement;
        self.compare(&Said { root: *root, class, bytes: *bytes, left: *left })
    }

    /// In what a body differs from this account; parties are another question.
    pub(crate) fn against_body(&self, body: &ReceiptBody) -> Option<String> {
        if body.transfer != self.crossing.transfer {
            return Some("it is about another transfer".to_owned());
        }
        if body.path != self.crossing.path {
            let (theirs, ours) = (&body.path, &self.crossing.path);
            return Some(format!("the dataset is {theirs} there and {ours} here"));
        }
        let ReceiptBody { root, class, bytes, left, .. } = body;
        self.compare(&Said { root: *root, class, bytes: *bytes, left: *left })
    }

    fn compare(&self, said: &Said<'_>) -> Option<String> {
        let Crossing { root, class, .. } = &self.crossing;
        if said.bytes != self.bytes {
            return Some(format!("{} bytes crossed there and {} here", said.bytes, self.bytes));
        }
        if said.left != self.left {
            return Some("other extents crossed there than here".to_owned());
        }
        if said.root != *root {
            return Some("another root digest was published there than here".to_owned());
        }
        if said.class != class {
            return Some(format!("the class is {} there and {class} here", said.class));
        }
        None
    }
}

impl Offer {
    /// The receipt, with the target's signature.
    pub(crate) fn signed(self, to_signature: AuditSignature) -> Receipt {
        Receipt { body: self.body, from_signature: self.signature, to_signature }
    }
}

impl Portable for Statement {
    fn put(&self, out: &mut Writer) {
        self.party.put(out);
        self.attestation.put(out);
        out.maybe_digest(self.root.as_ref());
        out.text8(self.class.as_str());
        out.u64(self.bytes);
        self.left.put(out);
        self.checkpoint.put(out);
    }

    fn take(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            party: Party::take(fields)?,
            attestation: Attestation::take(fields)?,
            root: fields.maybe_digest("root")?,
            class: fields.name("class")?,
            bytes: fields.u64("bytes")?,
            left: LeftSum::take(fields)?,
            checkpoint: Checkpoint::take(fields)?,
        })
    }
}

impl Portable for Offer {
    fn put(&self, out: &mut Writer) {
        self.body.put(out);
        out.array(&self.signature.0);
        self.attestation.put(out);
        self.checkpoint.put(out);
    }

    fn take(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            body: ReceiptBody::take(fields)?,
            signature: AuditSignature(fields.array("signature")?),
            attestation: Attestation::take(fields)?,
            checkpoint: Checkpoint::take(fields)?,
        })
    }
}

impl Portable for AuditSignature {
    fn put(&self, out: &mut Writer) {
        out.array(&self.0);
    }

    fn take(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        fields.array("signature").map(Self)
    }
}
