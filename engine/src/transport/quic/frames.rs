//! The control channel: frames on one bidirectional stream, in order.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream};
use tokio::sync::{mpsc, watch};

use super::error::{cut_short, link_error};
use super::preamble::{REPLY_BYTES, check_head};
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

/// Bytes of a frame's length, u32 little endian, which go before it.
const LENGTH_BYTES: usize = 4;

/// Cuts bytes into frames, in whatever parts they come.
#[derive(Default)]
pub(super) struct FrameCutter {
    buffer: BytesMut,
}

impl FrameCutter {
    /// Whether nothing is left behind the last frame.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Adds bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        // Room for the whole frame at once; its length is checked.
        let len = self.next_len().unwrap_or_default().unwrap_or_default();
        let missing = (LENGTH_BYTES + len).saturating_sub(self.buffer.len());
        self.buffer.reserve(missing.max(bytes.len()));
        self.buffer.extend_from_slice(bytes);
    }

    /// The welcome before the frames, if it is whole.
    fn welcome(&mut self) -> Option<[u8; REPLY_BYTES]> {
        let head = *self.buffer.first_chunk()?;
        let _ = self.buffer.split_to(REPLY_BYTES);
        Some(head)
    }

    /// The next frame, if it is whole.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, LinkError> {
        match self.next_len()? {
            Some(len) if self.buffer.len() >= LENGTH_BYTES + len => {
                let mut frame = self.buffer.split_to(LENGTH_BYTES + len);
                let _ = frame.split_to(LENGTH_BYTES);
                Ok(Some(frame.freeze()))
            }
            _ => Ok(None),
        }
    }

    fn next_len(&self) -> Result<Option<usize>, LinkError> {
        let Some(length) = self.buffer.first_chunk() else { return Ok(None) };
        let len = u32::from_le_bytes(*length) as usize;
        if len > FRAME_BYTES_MAX { Err(too_long(len)) } else { Ok(Some(len)) }
    }
}

/// Reads frames from the control stream.
pub(super) struct FrameReader {
    stream: RecvStream,
    cutter: FrameCutter,
    /// Whether the welcome was heard; this end is told of it.
    welcomed: watch::Sender<bool>,
}

impl FrameReader {
    /// Reads `stream`, on which a welcome comes first if that is not known to have been heard.
    pub(super) fn new(stream: RecvStream, welcomed: watch::Sender<bool>) -> Self {
        Self { stream, cutter: FrameCutter::default(), welcomed }
    }

    /// Reads the welcome, unless that was done. What was read so far stays when this is dropped.
    pub(super) async fn welcome(&mut self, idle: Duration) -> Result<(), LinkError> {
        while !*self.welcomed.borrow() {
            if let Some(head) = self.cutter.welcome() {
                check_head(head)?;
                self.welcomed.send_replace(true);
                return Ok(());
            }
            match self.stream.read_chunk(READ_BYTES, true).await {
                Ok(Some(chunk)) => self.cutter.push(&chunk.bytes),
                Err(ReadError::ConnectionLost(error)) => return Err(link_error(&error, idle)),
                Ok(None) | Err(_) => return Err(cut_short()),
            }
        }
        Ok(())
    }

    /// The next frame, or `None` when the channel ended. A lost connection counts as an end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, LinkError> {
        loop {
            if let Some(frame) = self.cutter.next()? {
                return Ok(Some(frame));
            }
            match self.stream.read_chunk(READ_BYTES, true).await {
                Ok(Some(chunk)) => self.cutter.push(&chunk.bytes),
                Ok(None) if !self.cutter.is_empty() => {
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
