//! The last words of a session between sites: one receipt that both ends sign and keep.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::connect::recv;
use super::crossing::blocking;
use crate::audit::{Ending, kill};
use crate::border::{Border, Closed, Denied, Unsigned};
use crate::transport::{Link, LinkError};
use crate::wire::Frame;

/// Longest that the other end may take for its next word: its disk is written meanwhile.
const WORD: Duration = Duration::from_secs(10);
/// Code of a refusal to sign.
const DIFFERS: &str = "receipt-differs";

/// Why a session has no receipt.
#[derive(Debug, thiserror::Error)]
enum Missed {
    /// This end found a difference, or cannot write.
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
    /// The other end found a difference.
    #[error("the other end does not sign: {0}")]
    Refused(String),
    /// The other end cannot write.
    #[error("{0}")]
    Unable(String),
    /// The link failed before all was said.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Nothing was said in time.
    #[error("the other end said nothing for {} s", WORD.as_secs())]
    Silent,
    /// Something else was said.
    #[error("the other end said {0} in place of it")]
    Other(&'static str),
}

/// Has both ends sign and keep a receipt for a session that ended well; tells why there is none.
pub(super) async fn exchange<L: Link>(
    border: &Arc<Border>,
    link: &L,
    closed: Option<Closed>,
) -> Option<String> {
    let closed = Arc::new(closed.filter(|closed| closed.ending == Ending::Complete)?);
    let signed = if closed.outward {
        as_source(border, link, &closed).await
    } else {
        as_target(border, link, &closed).await
    };
    let missed = signed.err()?;
    let why = missed.to_string();
    tracing::warn!(peer = %closed.peer.node, why, "there is no receipt");
    match missed {
        Missed::Unsigned(Unsigned::Differs(detail)) => {
            refuse(link, DIFFERS, detail).await;
            note_dispute(border, &closed, why.clone()).await;
        }
        // Why a log cannot be written is not the peer's business.
        Missed::Unsigned(Unsigned::Log(_)) => {
            refuse(link, "no-audit", "the audit log there cannot be written".to_owned()).await;
        }
        Missed::Refused(_) => note_dispute(border, &closed, why.clone()).await,
        Missed::Unable(_) | Missed::Link(_) | Missed::Silent | Missed::Other(_) => {}
    }
    Some(why)
}

async fn as_source<L: Link>(
    border: &Arc<Border>,
    link: &L,
    closed: &Arc<Closed>,
) -> Result<(), Missed> {
    let statement = match word(link).await? {
        Frame::Statement(statement) => statement,
        other => return Err(refused(other)),
    };
    let (guard, session) = (Arc::clone(border), Arc::clone(closed));
    let (offered, offer) = with(move || guard.offer(&session, &statement)).await?;
    link.send(Frame::Receipt(offer.into()).encode()).await?;
    kill::step("offer-sent");
    let signature: Bytes = match word(link).await? {
        Frame::Countersign(signature) => signature,
        other => return Err(refused(other)),
    };
    let guard = Arc::clone(border);
    with(move || {
        let signed = guard.complete(offered, &signature)?;
        guard.keep(signed).map_err(Unsigned::from)
    })
    .await
}

async fn as_target<L: Link>(
    border: &Arc<Border>,
    link: &L,
    closed: &Arc<Closed>,
) -> Result<(), Missed> {
    let (guard, session) = (Arc::clone(border), Arc::clone(closed));
    let statement = with(move || guard.statement(&session)).await?;
    link.send(Frame::Statement(statement.into()).encode()).await?;
    kill::step("statement-sent");
    let offer = match word(link).await? {
        Frame::Receipt(offer) => offer,
        other => return Err(refused(other)),
    };
    let (guard, session) = (Arc::clone(border), Arc::clone(closed));
    let (signed, signature) = with(move || guard.countersign(&session, &offer)).await?;
    // Both write at the same time: the receipt proves itself, whoever has it.
    link.send(Frame::Countersign(signature.into()).encode()).await?;
    kill::step("countersign-sent");
    let guard = Arc::clone(border);
    with(move || guard.keep(signed).map_err(Unsigned::from)).await
}

/// The next frame, in time.
async fn word<L: Link>(link: &L) -> Result<Frame, Missed> {
    match tokio::time::timeout(WORD, recv(link)).await {
        Err(_) => Err(Missed::Silent),
        Ok(frame) => Ok(frame?),
    }
}

fn refused(frame: Frame) -> Missed {
    match frame {
        Frame::Refuse { code, detail, .. } if code == DIFFERS => Missed::Refused(detail),
        Frame::Refuse { detail, .. } => Missed::Unable(detail),
        other => Missed::Other(other.name()),
    }
}

async fn refuse<L: Link>(link: &L, code: &str, detail: String) {
    // One who is gone need not know.
    let _ = link.send(Frame::Refuse { code: code.to_owned(), detail, retry: false }.encode()).await;
}

async fn with<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Unsigned> + Send + 'static,
) -> Result<T, Missed> {
    let done = tokio::task::spawn_blocking(work).await;
    let lost = |error: tokio::task::JoinError| Unsigned::Log(Denied::Audit(error.to_string()));
    Ok(done.map_err(lost)??)
}

async fn note_dispute(border: &Arc<Border>, closed: &Arc<Closed>, why: String) {
    let (guard, session) = (Arc::clone(border), Arc::clone(closed));
    if let Err(error) = blocking(move || guard.dispute(&session, &why)).await {
        tracing::error!(%error, "a dispute is not recorded");
    }
}
