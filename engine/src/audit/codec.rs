//! Encoding of records: fields one after the other, and one form only for each record.
//!
//! `docs/border.md` has it byte by byte. Lengths are checked against their limits before anything
//! is allocated.

use super::checkpoint::Checkpoint;
use super::extents::{
    EXTENTS_PER_RECORD_MAX, ExtentSet, OBJECTS_PER_RECORD_MAX, PATHS_PER_RECORD_BYTES_MAX,
};
use super::names::{Ending, LogId};
use super::portable::Portable;
use super::receipt::Receipt;
use super::record::{
    Crossing, Decision, Dispute, Entry, KeyRecord, Meter, Progress, Record, Stop, Witness,
};
use crate::base::{Extent, FileTime, RelPath, TransferId};
use crate::cost::{Currency, Money, Price, Tariff};
use crate::identity::{Attestation, AuditPublicKey};
use crate::manifest::DecodeError;
use crate::policy::fields::{Reader, Writer, bounded, wrong};
use crate::policy::{Action, PolicyVersion, Transport, Verdict};

/// The version of the encoding.
pub const VERSION: u8 = 1;
/// Longest encoded record, in bytes.
pub const RECORD_BYTES_MAX: usize = 512 << 10;
/// Most certificates with a key.
pub const CERTS_MAX: usize = 8;
/// Longest certificate or signature with a key, in bytes.
pub const CERT_BYTES_MAX: usize = 16 << 10;

impl Writer {
    fn crossing(&mut self, crossing: &Crossing) {
        self.array(&crossing.transfer.0.to_le_bytes());
        self.text16(crossing.who.as_str());
        self.path(&crossing.path);
        self.maybe_digest(crossing.root.as_ref());
        self.text8(crossing.class.as_str());
        self.place(&crossing.from);
        self.place(&crossing.to);
        self.text8(crossing.link.as_str());
        self.u8(crossing.transport.code());
        self.u64(crossing.policy.number);
        self.digest(&crossing.policy.digest);
    }

    fn left(&mut self, bytes: u64, left: &ExtentSet) {
        self.u64(bytes);
        self.u16(left.objects());
        for (object, count, extents) in left.by_object() {
            self.path(object);
            self.u16(count);
            for extent in extents {
                self.u64(extent.offset);
                self.u64(extent.len);
            }
        }
    }

    fn meter(&mut self, meter: &Meter) {
        self.crossing(&meter.crossing);
        self.u64(meter.sent);
        self.u64(meter.received);
        self.u8(u8::from(meter.tariff.is_some()));
        if let Some(Tariff { price, currency }) = meter.tariff {
            self.u64(price.0.0);
            self.array(currency.as_str().as_bytes());
        }
    }

    fn key(&mut self, key: &KeyRecord) {
        self.array(&key.log.0);
        self.text16(key.node.as_str());
        self.array(&key.key.0);
        key.attestation.put(self);
    }
}

impl Portable for Attestation {
    fn put(&self, out: &mut Writer) {
        out.u16(self.scheme.into());
        out.bytes16(&self.signature);
        out.u8(self.chain.len() as u8);
        for cert in &self.chain {
            out.bytes16(cert);
        }
    }

    fn take(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let scheme = fields.u16("scheme")?;
        let signature = fields.bytes16("signature", CERT_BYTES_MAX)?.to_vec();
        let certs = bounded("certificates", fields.u8("certificates")?.into(), CERTS_MAX)?;
        let mut chain = Vec::with_capacity(certs);
        for _ in 0..certs {
            chain.push(fields.bytes16("certificate", CERT_BYTES_MAX)?.to_vec());
        }
        Ok(Self { scheme, signature, chain })
    }
}

impl Reader<'_> {
    fn crossing(&mut self) -> Result<Crossing, DecodeError> {
        Ok(Crossing {
            transfer: TransferId(u128::from_le_bytes(self.array("transfer")?)),
            who: self.principal("who")?,
            path: self.path()?,
            root: self.maybe_digest("root")?,
            class: self.name("class")?,
            from: self.place()?,
            to: self.place()?,
            link: self.name("link")?,
            transport: self.code("transport", Transport::from_code)?,
            policy: PolicyVersion { number: self.u64("policy")?, digest: self.digest("policy")? },
        })
    }

    fn left(&mut self) -> Result<(u64, ExtentSet), DecodeError> {
        let bytes = self.u64("bytes")?;
        let objects = usize::from(self.u16("objects")?);
        bounded("objects", objects, OBJECTS_PER_RECORD_MAX)?;
        let (mut left, mut extents, mut path_bytes) = (ExtentSet::default(), 0, 0);
        let mut before: Option<RelPath> = None;
        for _ in 0..objects {
            let object = self.path()?;
            path_bytes += object.as_bytes().len();
            bounded("paths", path_bytes, PATHS_PER_RECORD_BYTES_MAX)?;
            if before.is_some_and(|before| before >= object) {
                return wrong("objects");
            }
            let count = usize::from(self.u16("extents")?);
            extents += count;
            bounded("extents", extents, EXTENTS_PER_RECORD_MAX)?;
            // An extent begins behind the end of the one before and does not touch it.
            let mut first = 0;
            for _ in 0..count {
                let extent = Extent { offset: self.u64("extent")?, len: self.u64("extent")? };
                if extent.offset < first || !left.insert(&object, extent) {
                    return wrong("extent");
                }
                first = extent.offset + extent.len + 1;
            }
            if count == 0 {
                return wrong("extents");
            }
            before = Some(object);
        }
        Ok((bytes, left))
    }

    fn meter(&mut self) -> Result<Meter, DecodeError> {
        let crossing = self.crossing()?;
        let (sent, received) = (self.u64("bytes sent")?, self.u64("bytes received")?);
        let tariff = match self.u8("tariff")? {
            0 => None,
            1 => {
                let price = Price(Money(self.u64("price")?));
                let currency = Currency::from_bytes(self.array("currency")?);
                let Some(currency) = currency else { return wrong("currency") };
                Some(Tariff { price, currency })
            }
            _ => return wrong("tariff"),
        };
        Ok(Meter { crossing, sent, received, tariff })
    }

    fn key(&mut self) -> Result<KeyRecord, DecodeError> {
        let (log, node) = (LogId(self.array("log")?), self.principal("node")?);
        let key = AuditPublicKey(self.array("key")?);
        let attestation = Attestation::take(self)?;
        Ok(KeyRecord { log, node, key, attestation })
    }
}

const KEY: u8 = 1;
const SEAL: u8 = 2;
const WITNESS: u8 = 3;
const DECISION: u8 = 4;
const START: u8 = 5;
const PROGRESS: u8 = 6;
const STOP: u8 = 7;
const RECEIPT: u8 = 8;
const DISPUTE: u8 = 9;
const METER: u8 = 10;

/// Whether a record keeps to the limits that its types do not hold.
pub(super) fn check(record: &Record) -> Result<(), DecodeError> {
    match record {
        Record::Key(key) => {
            let Attestation { signature, chain, .. } = &key.attestation;
            bounded("certificates", chain.len(), CERTS_MAX)?;
            for bytes in chain.iter().chain([signature]) {
                bounded("bytes of a certificate", bytes.len(), CERT_BYTES_MAX)?;
            }
        }
        Record::Progress(Progress { left, .. }) | Record::Stop(Stop { left, .. }) => {
            bounded("objects", left.objects(), OBJECTS_PER_RECORD_MAX)?;
            bounded("extents", left.extents(), EXTENTS_PER_RECORD_MAX)?;
            let paths = left.by_object().map(|(object, ..)| object.as_bytes().len()).sum();
            bounded("paths", paths, PATHS_PER_RECORD_BYTES_MAX)?;
        }
        Record::Seal(_)
        | Record::Witness(_)
        | Record::Decision(_)
        | Record::Start(_)
        | Record::Receipt(_)
        | Record::Dispute(_)
        | Record::Meter(_) => {}
    }
    Ok(())
}

/// The bytes of a record, in the only form there is. The limits were checked.
pub(super) fn encode(seq: u64, at: FileTime, record: &Record) -> Vec<u8> {
    let mut out = Writer::new(&[VERSION]);
    out.u8(match record {
        Record::Key(_) => KEY,
        Record::Seal(_) => SEAL,
        Record::Witness(_) => WITNESS,
        Record::Decision(_) => DECISION,
        Record::Start(_) => START,
        Record::Progress(_) => PROGRESS,
        Record::Stop(_) => STOP,
        Record::Receipt(_) => RECEIPT,
        Record::Dispute(_) => DISPUTE,
        Record::Meter(_) => METER,
    });
    out.u64(seq);
    out.time(at);
    match record {
        Record::Key(key) => out.key(key),
        Record::Seal(checkpoint) => checkpoint.put(&mut out),
        Record::Witness(witness) => {
            out.text16(witness.node.as_str());
            out.array(&witness.key.0);
            witness.checkpoint.put(&mut out);
        }
        Record::Decision(decision) => {
            out.crossing(&decision.crossing);
            out.u8(decision.action.code());
            out.u8(decision.verdict.code());
            out.text16(decision.reason.as_str());
        }
        Record::Start(crossing) => out.crossing(crossing),
        Record::Progress(progress) => {
            out.crossing(&progress.crossing);
            out.left(progress.bytes, &progress.left);
        }
        Record::Stop(stop) => {
            out.crossing(&stop.crossing);
            out.u8(stop.ending.code());
            out.text16(stop.reason.as_str());
            out.left(stop.bytes, &stop.left);
        }
        Record::Receipt(receipt) => receipt.put(&mut out),
        Record::Dispute(dispute) => {
            out.crossing(&dispute.crossing);
            out.u64(dispute.stop);
            out.text16(dispute.reason.as_str());
        }
        Record::Meter(meter) => out.meter(meter),
    }
    let bytes = out.finish();
    debug_assert!(bytes.len() <= RECORD_BYTES_MAX, "the limits keep records short");
    bytes
}

impl Entry {
    /// Decodes a record. What is accepted encodes to the same bytes.
    ///
    /// # Errors
    /// [`DecodeError::Field`] with the field `version` or `kind` says that a newer version wrote
    /// it; everything else, that it is not a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        bounded("record", bytes.len(), RECORD_BYTES_MAX)?;
        let mut fields = Reader::new(bytes);
        if fields.u8("version")? != VERSION {
            return wrong("version");
        }
        let kind = fields.u8("kind")?;
        let (seq, at) = (fields.u64("sequence number")?, fields.time("time")?);
        let record = match kind {
            KEY => Record::Key(fields.key()?),
            SEAL => Record::Seal(Checkpoint::take(&mut fields)?),
            WITNESS => Record::Witness(Witness {
                node: fields.principal("node")?,
                key: AuditPublicKey(fields.array("key")?),
                checkpoint: Checkpoint::take(&mut fields)?,
            }),
            DECISION => Record::Decision(Decision {
                crossing: fields.crossing()?,
                action: fields.code("action", Action::from_code)?,
                verdict: fields.code("verdict", Verdict::from_code)?,
                reason: fields.reason()?,
            }),
            START => Record::Start(fields.crossing()?),
            PROGRESS => {
                let crossing = fields.crossing()?;
                let (bytes, left) = fields.left()?;
                Record::Progress(Progress { crossing, bytes, left })
            }
            STOP => {
                let crossing = fields.crossing()?;
                let ending = fields.code("ending", Ending::from_code)?;
                let reason = fields.reason()?;
                let (bytes, left) = fields.left()?;
                Record::Stop(Stop { crossing, ending, reason, bytes, left })
            }
            RECEIPT => Record::Receipt(Box::new(Receipt::take(&mut fields)?)),
            DISPUTE => Record::Dispute(Dispute {
                crossing: fields.crossing()?,
                stop: fields.u64("stop")?,
                reason: fields.reason()?,
            }),
            METER => Record::Meter(fields.meter()?),
            _ => return wrong("kind"),
        };
        fields.end()?;
        Ok(Self { seq, at, record })
    }
}
