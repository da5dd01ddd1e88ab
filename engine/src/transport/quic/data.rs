//! Data messages: one stream each, a header and its content.
//!
//! ```text
//! header length u16 | content length u32 | header | content | end of stream      little endian
//! ```

use std::pin::Pin;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use quinn::{Connection, ReadError, ReadExactError, RecvStream, SendStream, VarInt, WriteError};
use tokio::sync::{mpsc, watch};

use super::session::{Fate, Load, Member, Session};
use crate::base::limits::LEASE_BYTES;
use crate::buf::Lease;
use crate::transport::{CARRIER_HEADER_BYTES_MAX, Incoming, LinkError};

/// Bytes before a message's header: its length u16 and the content's u32, both LE.
pub(super) const PREFIX_BYTES: usize = 6;

/// A data message whose header has arrived.
pub struct QuicIncoming {
    header: Bytes,
    content_bytes: usize,
    stream: RecvStream,
    fate: Fate,
}

impl Incoming for QuicIncoming {
    fn header(&self) -> &[u8] {
        &self.header
    }

    async fn read(mut self, mut lease: Lease) -> Result<(Lease, usize), LinkError> {
        let target = &mut lease[..self.content_bytes];
        let base = (PREFIX_BYTES + self.header.len()) as u64;
        let mut received = 0;
        // Unordered: a lost packet holds nothing up, and the stream drops what came twice.
        loop {
            match self.stream.read_chunk(usize::MAX, false).await {
                Ok(Some(chunk)) => {
                    let place = chunk.offset.saturating_sub(base) as usize;
                    let end = place.saturating_add(chunk.bytes.len());
                    let Some(place) = target.get_mut(place..end) else {
                        let detail = "a data message is longer than it said".to_owned();
                        return Err(LinkError::Protocol { detail });
                    };
                    place.copy_from_slice(&chunk.bytes);
                    received += chunk.bytes.len();
                }
                Ok(None) if received == self.content_bytes => return Ok((lease, received)),
                Ok(None) | Err(ReadError::Reset(_)) => return Err(LinkError::Cut),
                Err(_) => return Err(self.fate.ended().unwrap_or(LinkError::Cut)),
            }
        }
    }
}

/// A message on its way out; cheap to clone, and kept until the peer has all of it.
struct Message {
    header: Bytes,
    content: Vec<Bytes>,
    content_bytes: usize,
}

impl Message {
    fn new(header: Bytes, mut content: Vec<Bytes>) -> Result<Self, LinkError> {
        content.retain(|part| !part.is_empty());
        let content_bytes = content.iter().map(Bytes::len).sum();
        if header.len() > CARRIER_HEADER_BYTES_MAX || content_bytes > LEASE_BYTES {
            return Err(over_limit(header.len(), content_bytes));
        }
        Ok(Self { header, content, content_bytes })
    }

    fn chunks(&self) -> Vec<Bytes> {
        let prefix = prefix(self.header.len(), self.content_bytes);
        let mut chunks = Vec::with_capacity(2 + self.content.len());
        chunks.push(Bytes::copy_from_slice(&prefix));
        if !self.header.is_empty() {
            chunks.push(self.header.clone());
        }
        chunks.extend_from_slice(&self.content);
        chunks
    }
}

fn over_limit(header: usize, content: usize) -> LinkError {
    let detail = format!(
        "a data message of {header} + {content} bytes, \
         at most {CARRIER_HEADER_BYTES_MAX} + {LEASE_BYTES} are accepted"
    );
    LinkError::Protocol { detail }
}

/// Sends a data message and returns when quinn took all of it. Until the peer acknowledged it, a
/// lost connection makes it go again on another one.
pub(super) async fn send_data(
    session: &Arc<Session>,
    header: Bytes,
    content: Vec<Bytes>,
) -> Result<(), LinkError> {
    let message = Message::new(header, content)?;
    let undelivered = Undelivered::new(&session.undelivered);
    let sent = transmit(session, &message).await?;
    tokio::spawn(deliver(Arc::clone(session), message, sent, undelivered));
    Ok(())
}

/// A message that one connection took.
struct Sent {
    /// Resolves when the peer has all of it, or the connection is lost.
    acknowledged: Pin<Box<dyn Future<Output = Result<(), Lost>> + Send>>,
    /// Held for its drop: the connection's load.
    _load: Load,
}

/// The connection was lost before the message was delivered.
struct Lost;

async fn deliver(session: Arc<Session>, message: Message, mut sent: Sent, _: Undelivered) {
    while sent.acknowledged.await.is_err() {
        match transmit(&session, &message).await {
            Ok(again) => sent = again,
            // The session is over, and its users are told so by every other call.
            Err(_) => return,
        }
    }
}

/// Writes a message to some connection; to another one if that is lost meanwhile.
async fn transmit(session: &Session, message: &Message) -> Result<Sent, LinkError> {
    loop {
        let load = session.choose(message.content_bytes as u64)?;
        if let Ok(acknowledged) = write(session, &load.member, message).await {
            return Ok(Sent { acknowledged, _load: load });
        }
    }
}

async fn write(
    session: &Session,
    member: &Member,
    message: &Message,
) -> Result<Pin<Box<dyn Future<Output = Result<(), Lost>> + Send>>, Lost> {
    let _writing = member.writing.lock().await;
    let stream = member.connection.open_uni().await.map_err(|_| Lost)?;
    let mut stream = Outgoing { stream, whole: false };
    match write_chunks(session, &mut stream.stream, message.chunks()).await {
        // A peer that stops a stream has no use for the message, which is its right.
        Ok(()) | Err(WriteError::Stopped(_)) => {}
        Err(_) => return Err(Lost),
    }
    let _ = stream.stream.finish();
    stream.whole = true;
    let stopped = stream.stream.stopped();
    Ok(Box::pin(async move { stopped.await.map(|_| ()).map_err(|_| Lost) }))
}

/// What is written at once where nothing caps it, in bytes.
const UNCAPPED_BYTES: usize = 256 << 10;

/// Writes everything, as fast as the caps of the session let it.
async fn write_chunks(
    session: &Session,
    stream: &mut SendStream,
    mut chunks: Vec<Bytes>,
) -> Result<(), WriteError> {
    let mut first = 0;
    while first < chunks.len() {
        let Some(step) = session.caps.paces().step() else {
            session.caps.rest();
            // A cap may begin meanwhile, and should not have to wait for the whole message.
            let group = group(&chunks[first..]);
            let bytes = chunks[first..first + group].iter().map(|chunk| chunk.len() as u64).sum();
            session.caps.keep_little_waiting(bytes, || session.meter().sent).await;
            stream.write_all_chunks(&mut chunks[first..first + group]).await?;
            first += group;
            continue;
        };
        let chunk = &mut chunks[first];
        let part = chunk.split_to(chunk.len().min(usize::try_from(step).unwrap_or(usize::MAX)));
        if chunk.is_empty() {
            first += 1;
        }
        session.caps.pass(part.len() as u64, session.meter().sent).await;
        stream.write_chunk(part).await?;
    }
    Ok(())
}

/// How many of these chunks are written at once where nothing caps them.
fn group(chunks: &[Bytes]) -> usize {
    let mut bytes = 0;
    let fits = |chunk: &&Bytes| {
        bytes += chunk.len();
        bytes <= UNCAPPED_BYTES
    };
    chunks.iter().take_while(fits).count().max(1)
}

/// A stream that is reset when dropped before its end; quinn alone would end it as if whole.
struct Outgoing {
    stream: SendStream,
    whole: bool,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if !self.whole {
            let _ = self.stream.reset(VarInt::from_u32(0));
        }
    }
}

/// Counts a message as undelivered for as long as this lives.
struct Undelivered(watch::Sender<usize>);

impl Undelivered {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Accepts the data streams of one connection until it ends, streams that are already there
/// included. Their number is bounded by what the transport lets the peer open.
pub(super) async fn accept_data(
    session: Weak<Session>,
    connection: Connection,
    queue: mpsc::Sender<QuicIncoming>,
) {
    while let Ok(stream) = connection.accept_uni().await {
        let Some(fate) = session.upgrade().map(|session| session.fate.clone()) else { return };
        let (session, queue) = (session.clone(), queue.clone());
        // No deadline here: while the reader rests, flow control rightly keeps headers waiting.
        tokio::spawn(async move {
            match read_head(stream, fate).await {
                Ok(incoming) => {
                    let _ = queue.send(incoming).await;
                }
                Err(LinkError::Protocol { detail }) => {
                    if let Some(session) = session.upgrade() {
                        session.fail(detail);
                    }
                }
                // Given up by the sender, or lost with the connection: there is no message.
                Err(_) => {}
            }
        });
    }
}

async fn read_head(mut stream: RecvStream, fate: Fate) -> Result<QuicIncoming, LinkError> {
    let head_error = |error| match error {
        ReadExactError::FinishedEarly(_) => {
            LinkError::Protocol { detail: "a data message ended inside its header".to_owned() }
        }
        ReadExactError::ReadError(_) => LinkError::Cut,
    };
    let mut prefix = [0; PREFIX_BYTES];
    stream.read_exact(&mut prefix).await.map_err(head_error)?;
    let (header_bytes, content_bytes) = lengths(prefix)?;
    let mut header = vec![0; header_bytes];
    stream.read_exact(&mut header).await.map_err(head_error)?;
    Ok(QuicIncoming { header: header.into(), content_bytes, stream, fate })
}

/// What goes before a message of these lengths.
pub(super) fn prefix(header_bytes: usize, content_bytes: usize) -> [u8; PREFIX_BYTES] {
    let mut prefix = [0; PREFIX_BYTES];
    prefix[..2].copy_from_slice(&(header_bytes as u16).to_le_bytes());
    prefix[2..].copy_from_slice(&(content_bytes as u32).to_le_bytes());
    prefix
}

/// Lengths of a message's header and content, within their limits.
pub(super) fn lengths(prefix: [u8; PREFIX_BYTES]) -> Result<(usize, usize), LinkError> {
    let header_bytes = usize::from(u16::from_le_bytes([prefix[0], prefix[1]]));
    let content_bytes = u32::from_le_bytes([prefix[2], prefix[3], prefix[4], prefix[5]]) as usize;
    if header_bytes > CARRIER_HEADER_BYTES_MAX || content_bytes > LEASE_BYTES {
        return Err(over_limit(header_bytes, content_bytes));
    }
    Ok((header_bytes, content_bytes))
}
