//! Encoding content before it is sent, where that pays, and decoding what arrives.
//!
//! It pays where the link is what is waited for. A message is encoded when an encoder is free; it
//! waits for one as long as another message is on its way, and goes as it is when the link would
//! do nothing meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

use crate::buf::Lease;
use crate::encode::Compress;
use crate::metrics::{Stage, Stages};
use crate::runtime::codecs::{Asked, Codecs};
use crate::runtime::effort::Effort;
use crate::transport::{Link, LinkError};
use crate::wire::{Coded, DataHeader};

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
        content: Vec<Bytes>,
    ) -> (DataHeader, Vec<Bytes>, Sending<'_>) {
        let lent = if link.wants_encoding() { self.encoder(link).await } else { None };
        let content = match lent {
            None => content,
            Some(lent) => {
                let plain = content.clone();
                let stages = Arc::clone(&self.stages);
                let work = move || {
                    let encoding = Effort::work(&stages, Stage::Encode);
                    let encoded = lent.0.encode(&content);
                    encoding.done(content.iter().map(Bytes::len).sum());
                    encoded
                };
                // Without an encoded form, for whatever reason, it goes as it is.
                match tokio::task::spawn_blocking(work).await.ok().flatten() {
                    None => plain,
                    Some((coded, encoded)) => {
                        header.coded = Some(coded);
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
            match self.codecs.ask(always, link.meter().is_far()) {
                Asked::Granted => return Some(Lent(Arc::clone(&self.codecs))),
                Asked::Never => return None,
                Asked::Later => {
                    let began = self.ready.load(Relaxed) > 0;
                    let idle = self.sending.load(Relaxed) == 0 && link.has_room();
                    if began && idle && !always {
                        return None;
                    }
                }
            }
            changed.await;
        }
    }
}

/// Content as it was before it was encoded, in the lease that it came in.
pub(super) async fn decoded(
    (codecs, stages): (Arc<Codecs>, Arc<Stages>),
    mut lease: Lease,
    len: usize,
    coded: Option<Coded>,
) -> Result<(Lease, usize), LinkError> {
    let Some(coded) = coded else { return Ok((lease, len)) };
    let permit = codecs.may_decode().await;
    let work = move || {
        let _permit = permit;
        let decoding = Effort::work(&stages, Stage::Decode);
        let done = codecs.decode(&mut lease, len, coded);
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
