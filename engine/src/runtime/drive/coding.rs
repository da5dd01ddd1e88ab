//! Encoding content before it is sent, where that pays, and decoding what arrives.
//!
//! It pays where the link is what is waited for. A message is encoded when an encoder is free; it
//! waits for one as long as another message is on its way, and goes as it is when the link would
//! do nothing meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;

use crate::buf::Lease;
use crate::encode::{Blocks, Compress, Encoding, SAVING_PARTS};
use crate::metrics::{Stage, Stages};
use crate::runtime::codecs::{Asked, Codecs, ReadBlocks};
use crate::runtime::effort::Effort;
use crate::runtime::source::Difference;
use crate::runtime::target::TargetStore;
use crate::transport::{Link, LinkError};
use crate::wire::{Basis, Coded, DataHeader};

/// How long a message waits before it is looked again whether it may be encoded.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Encoding of what one transfer sends.
pub(super) struct Coding {
    codecs: Arc<Codecs>,
    compress: Compress,
    /// Messages that are ready and not sent yet.
    sending: AtomicUsize,
    /// Messages that were ready so far.
    ready: AtomicUsize,
    stages: Arc<Stages>,
}

/// What a message holds, and what it may be a difference to.
pub(super) struct Plain {
    pub(super) content: Vec<Bytes>,
    /// Of a file that the source has as well.
    pub(super) difference: Option<Difference>,
    /// Sums of blocks that the target has.
    pub(super) near: Option<Bytes>,
}

/// A message on its way.
pub(super) struct Sending<'a>(&'a Coding);

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.0.sending.fetch_sub(1, Relaxed);
        self.0.codecs.changed.notify_waiters();
    }
}

/// Gives an encoder back.
struct Lent(Arc<Codecs>);

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.done();
    }
}

impl Coding {
    pub(super) fn new(codecs: Arc<Codecs>, compress: Compress, stages: Arc<Stages>) -> Self {
        let (sending, ready) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { codecs, compress, sending, ready, stages }
    }

    /// Makes a message ready: encodes its content, or leaves it as it is. It is on its way until
    /// what comes with it is dropped.
    pub(super) async fn ready<L: Link>(
        &self,
        link: &L,
        mut header: DataHeader,
        Plain { content, difference, near }: Plain,
    ) -> (DataHeader, Vec<Bytes>, Sending<'_>) {
        if let Some(sums) = near.filter(|_| link.wants_encoding()) {
            let (parts, stages) = (content.clone(), Arc::clone(&self.stages));
            let copies = move || copies(&stages, &sums, &parts);
            if let Some((coded, bytes)) = tokio::task::spawn_blocking(copies).await.ok().flatten() {
                header.coded = Some(coded);
                return (header, vec![bytes], self.begin());
            }
        }
        let lent = if link.wants_encoding() { self.encoder(link).await } else { None };
        let content = match lent {
            None => content,
            Some(lent) => {
                let plain = content.clone();
                let stages = Arc::clone(&self.stages);
                let work = move || {
                    let encoding = Effort::work(&stages, Stage::Encode);
                    let encoded = encode(&lent.0, &content, difference.as_ref());
                    encoding.done(content.iter().map(Bytes::len).sum());
                    encoded
                };
                // Without an encoded form, for whatever reason, it goes as it is.
                match tokio::task::spawn_blocking(work).await.ok().flatten() {
                    None => plain,
                    Some((coded, basis, encoded)) => {
                        (header.coded, header.basis) = (Some(coded), basis);
                        vec![encoded]
                    }
                }
            }
        };
        (header, content, self.begin())
    }

    fn begin(&self) -> Sending<'_> {
        self.sending.fetch_add(1, Relaxed);
        self.ready.fetch_add(1, Relaxed);
        Sending(self)
    }

    /// An encoder, or `None` if the message is better sent as it is.
    async fn encoder<L: Link>(&self, link: &L) -> Option<Lent> {
        if self.compress == Compress::Never {
            return None;
        }
        let always = self.compress == Compress::Always;
        loop {
            let changed = self.codecs.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let far = link.meter().is_far();
            let asked = self.codecs.ask(always, far);
            let handed = self.sending.load(Relaxed) == 0;
            match asked {
                Asked::Granted => return Some(Lent(Arc::clone(&self.codecs))),
                // Processors are busy: reading ahead, where what was read waits for a long link.
                Asked::Never if !far || (handed && link.runs_dry()) => return None,
                // An encoder will be free long before the link is.
                Asked::Later
                    if self.ready.load(Relaxed) > 0 && handed && link.has_room() && !always =>
                {
                    return None;
                }
                Asked::Never | Asked::Later => {}
            }
            // Nobody tells when processors are idle again, or the link is.
            let _ = tokio::time::timeout(LOOK_AGAIN, changed).await;
        }
    }
}

/// Encodes content, as a difference where there is a basis and that saves most.
fn encode(
    codecs: &Codecs,
    content: &[Bytes],
    difference: Option<&Difference>,
) -> Option<(Coded, Option<Basis>, Bytes)> {
    let Some(difference) = difference else {
        return codecs.encode(content, None).map(|(coded, bytes)| (coded, None, bytes));
    };
    difference.with(|found| {
        let (coded, bytes) = codecs.encode(content, found.map(|(read, _)| read))?;
        let basis = found.map(|(_, basis)| basis.clone());
        Some((coded, basis.filter(|_| coded.is_difference()), bytes))
    })
}

/// Content as copies of blocks that the target has, where that saves enough.
fn copies(stages: &Arc<Stages>, sums: &[u8], parts: &[Bytes]) -> Option<(Coded, Bytes)> {
    let encoding = Effort::work(stages, Stage::Encode);
    let blocks = Blocks::from_sums(sums)?;
    let content = parts.concat();
    let most = content.len() - content.len().div_ceil(SAVING_PARTS);
    let mut out = Vec::new();
    let written = blocks.write(&content, most, &mut out);
    encoding.done(content.len());
    let coded = Coded { encoding: Encoding::Blocks, len: content.len() as u32 };
    written.then(|| (coded, out.into()))
}

/// Content as it was before it was encoded, in the lease that it came in. A difference to a basis that is
/// not there is not what it was.
pub(super) async fn decoded(
    (store, codecs): (Arc<TargetStore>, Arc<Codecs>),
    mut lease: Lease,
    len: usize,
    header: &DataHeader,
) -> Result<(Lease, usize), LinkError> {
    let Some(coded) = header.coded else { return Ok((lease, len)) };
    let (run, basis) = (header.run, header.basis.clone());
    let permit = codecs.may_decode().await;
    let work = move || {
        let _permit = permit;
        let decoding = Effort::work(store.stages(), Stage::Decode);
        let read = |out: &mut Vec<u8>| match &basis {
            Some(basis) => store.read_basis(basis, out),
            None => store.read_near(run, out),
        };
        let base: Option<ReadBlocks<'_>> = if coded.is_difference() { Some(&read) } else { None };
        let done = codecs.decode(&mut lease, len, coded, base);
        decoding.done(coded.len as usize);
        done.map(|bytes| (lease, bytes))
    };
    let done = tokio::task::spawn_blocking(work).await;
    let detail = match done {
        Ok(Ok(content)) => return Ok(content),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "content could not be decoded".to_owned(),
    };
    Err(LinkError::Protocol { detail })
}
