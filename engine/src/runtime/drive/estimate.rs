//! What a transfer would send, and how small that gets, without sending it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::runtime::codecs::Codecs;

/// Content that is encoded in full, in bytes; of what comes after it a part is.
const ALL_BYTES: u64 = 64 << 20;
/// Of the messages after that, one in so many is encoded.
const ONE_IN: u64 = 8;

/// A plan's view of content.
pub struct Estimate {
    codecs: Arc<Codecs>,
    /// Content that would be sent, in bytes and in messages.
    wanted: AtomicU64,
    messages: AtomicU64,
    /// What of it was encoded, before and after.
    plain: Arc<AtomicU64>,
    encoded: Arc<AtomicU64>,
    running: Mutex<Vec<JoinHandle<()>>>,
}

impl Estimate {
    /// Nothing seen yet.
    pub fn new(codecs: Arc<Codecs>) -> Self {
        Self {
            codecs,
            wanted: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            plain: Arc::default(),
            encoded: Arc::default(),
            running: Mutex::default(),
        }
    }

    /// This content would be sent as one message.
    pub(super) fn see(&self, content: Vec<Bytes>) {
        let bytes: usize = content.iter().map(Bytes::len).sum();
        let before = self.wanted.fetch_add(bytes as u64, Relaxed);
        let number = self.messages.fetch_add(1, Relaxed);
        if before > ALL_BYTES && !number.is_multiple_of(ONE_IN) {
            return;
        }
        let codecs = Arc::clone(&self.codecs);
        let (plain, encoded) = (Arc::clone(&self.plain), Arc::clone(&self.encoded));
        let work = tokio::task::spawn_blocking(move || {
            let smaller = codecs.encode(&content, None).map(|(_, encoded)| encoded.len());
            plain.fetch_add(bytes as u64, Relaxed);
            encoded.fetch_add(smaller.unwrap_or(bytes) as u64, Relaxed);
        });
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|work| !work.is_finished());
        running.push(work);
    }

    /// Content of `bytes` as it would be sent if all of it were encoded.
    pub async fn encoded(&self, bytes: u64) -> u64 {
        let running =
            std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        for work in running {
            // One that panicked has counted nothing.
            let _ = work.await;
        }
        let (plain, encoded) = (self.plain.load(Relaxed), self.encoded.load(Relaxed));
        if plain == 0 {
            return bytes;
        }
        let part = u128::from(bytes) * u128::from(encoded) / u128::from(plain);
        u64::try_from(part).unwrap_or(u64::MAX)
    }
}
