//! The control channel: frames on one bidirectional stream, in order.

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream};
use tokio::sync::mpsc;

use crate::base::limits::FRAME_BYTES_MAX;
use crate::transport::LinkError;

/// Frames that wait for the control channel.
pub(super) const FRAMES_QUEUED_MAX: usize = 8;
/// Bytes taken from the control stream at a time.
const READ_BYTES: usize = 64 << 10;

/// Writes a greeting, then queued frames, as many at a time as there are, until the queue ends;
/// then waits until the peer has them all.
pub(super) async fn write_frames(
    mut stream: SendStream,
    greeting: Bytes,
    mut frames: mpsc::Receiver<Bytes>,
) {
    if stream.write_chunk(greeting).await.is_err() {
        return;
    }
    let mut batch = Vec::with_capacity(FRAMES_QUEUED_MAX);
    let mut chunks = Vec::with_capacity(2 * FRAMES_QUEUED_MAX);
    while frames.recv_many(&mut batch, FRAMES_QUEUED_MAX).await > 0 {
        for frame in batch.drain(..) {
            chunks.push(Bytes::copy_from_slice(&(frame.len() as u32).to_le_bytes()));
            if !frame.is_empty() {
                chunks.push(frame);
            }
        }
        if stream.write_all_chunks(&mut chunks).await.is_err() {
            return;
        }
        chunks.clear();
    }
    let _ = stream.finish();
    let _ = stream.stopped().await;
}

/// Cuts the control stream into frames: a length, u32 little endian, and that many bytes.
pub(super) struct FrameReader {
    stream: RecvStream,
    buffer: BytesMut,
}

impl FrameReader {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// The next frame, or `None` when the channel ended. A lost connection counts as an end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, LinkError> {
        loop {
            let missing = match self.buffer.first_chunk::<4>() {
                None => 4 - self.buffer.len(),
                Some(head) => {
                    let len = u32::from_le_bytes(*head) as usize;
                    if len > FRAME_BYTES_MAX {
                        return Err(too_long(len));
                    }
                    if self.buffer.len() >= 4 + len {
                        let mut frame = self.buffer.split_to(4 + len);
                        let _ = frame.split_to(4);
                        return Ok(Some(frame.freeze()));
                    }
                    4 + len - self.buffer.len()
                }
            };
            match self.stream.read_chunk(READ_BYTES, true).await {
                Ok(Some(chunk)) => {
                    // Room for the whole frame at once; its length was checked above.
                    self.buffer.reserve(missing.max(chunk.bytes.len()));
                    self.buffer.extend_from_slice(&chunk.bytes);
                }
                Ok(None) if !self.buffer.is_empty() => {
                    let detail = "the control channel ended inside a frame".to_owned();
                    return Err(LinkError::Protocol { detail });
                }
                Err(ReadError::Reset(_)) => {
                    let detail = "the control channel was given up".to_owned();
                    return Err(LinkError::Protocol { detail });
                }
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }
}

pub(super) fn too_long(len: usize) -> LinkError {
    LinkError::Protocol {
        detail: format!("a frame of {len} bytes, more than {FRAME_BYTES_MAX} are never accepted"),
    }
}
