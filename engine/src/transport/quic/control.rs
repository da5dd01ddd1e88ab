//! The control channel of a session: the welcome, then frames.

use bytes::Bytes;
use tokio::time::timeout_at;

use super::error::{Code, clipped};
use super::frames::{FrameReader, too_long};
use super::session::{Session, locked};
use crate::base::limits::FRAME_BYTES_MAX;
use crate::transport::LinkError;

impl Session {
    pub(super) async fn send_frame(&self, frame: Bytes) -> Result<(), LinkError> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(too_long(frame.len()));
        }
        if let Some(ended) = self.fate.ended() {
            return Err(ended);
        }
        let queue = locked(&self.frames_out).clone();
        match queue {
            Some(queue) if queue.send(frame).await.is_ok() => Ok(()),
            _ => Err(self.fate.ended().unwrap_or(LinkError::Local)),
        }
    }

    /// Waits for the peer's welcome, in time; the session is over if there is none.
    pub(super) async fn welcome(&self) -> Result<(), LinkError> {
        self.hear_welcome(&mut *self.frames_in.lock().await).await
    }

    async fn hear_welcome(&self, frames: &mut FrameReader) -> Result<(), LinkError> {
        let Some((until, silent)) = &self.awaited else { return Ok(()) };
        let heard = timeout_at(*until, frames.welcome(self.fate.idle)).await;
        let error = match heard.unwrap_or_else(|_| Err(silent.clone())) {
            Ok(()) => return Ok(()),
            Err(error) => self.fate.failed.get_or_init(|| error).clone(),
        };
        let refused = matches!(error, LinkError::Refused { .. });
        let code = if refused { Code::Refused } else { Code::Done };
        self.close_all(code, clipped(&error.to_string()));
        Err(error)
    }

    /// Resolves when the peer's welcome was heard, whoever waits for it; never if none comes.
    pub(super) async fn is_welcome(&self) {
        let mut welcomed = self.welcomed.clone();
        if welcomed.wait_for(|heard| *heard).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) async fn recv_frame(&self) -> Result<Bytes, LinkError> {
        let mut frames = self.frames_in.lock().await;
        self.hear_welcome(&mut frames).await?;
        match frames.next().await {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => Err(self.fate.end().await),
            Err(error) => {
                if let LinkError::Protocol { detail } = &error {
                    self.fail(detail.clone());
                }
                Err(error)
            }
        }
    }
}
