//! Reading parts of a file at a node: its chunk list once, then ranges, every chunk verified.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::calls::hex;
use super::crossing::denial;
use super::reading::Reading;
use super::transfer::random_id;
use super::{Engine, Error, Exit, Remote, TransferOptions};
use crate::audit::Ending;
use crate::base::limits::CHUNK_BYTES_MAX;
use crate::base::{Class, Digest, TransferId};
use crate::manifest::{ChunkRef, ListHasher, decode_list};
use crate::runtime::shares::{Direction, Share};
use crate::storage::Meta;

/// Bytes that one question may ask for.
pub(super) const READ_BYTES_MAX: u64 = 16 << 20;
/// Ranges that one question may ask for.
pub(super) const READ_RANGES_MAX: usize = 1024;

/// What a file was when it was opened. It is read only as long as it is still that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileStamp {
    pub(super) len: u64,
    ino: u64,
    ctime_s: i64,
    ctime_ns: u32,
}

impl From<&Meta> for FileStamp {
    fn from(meta: &Meta) -> Self {
        let (ctime_s, ctime_ns) = (meta.ctime.secs, meta.ctime.nanos);
        Self { len: meta.len, ino: meta.ino, ctime_s, ctime_ns }
    }
}

/// Opens a file for reading.
#[derive(Serialize, Deserialize)]
pub(super) struct FileRequest {
    pub(super) path: String,
    /// The transfer that reading it is, by the name that the opener gives it.
    #[serde(default)]
    pub(super) transfer: Option<String>,
}

/// First part of the answer to `file`; chunk lists follow, if it was published.
#[derive(Serialize, Deserialize)]
pub(super) struct FileReply {
    pub(super) stamp: FileStamp,
    /// The object's digest, if a manifest has it.
    pub(super) object: Option<String>,
    /// Its class.
    #[serde(default)]
    pub(super) class: Option<Class>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ReadRequest {
    pub(super) path: String,
    /// As in `file`.
    #[serde(default)]
    pub(super) transfer: Option<String>,
    pub(super) stamp: FileStamp,
    /// Offset and length.
    pub(super) ranges: Vec<(u64, u64)>,
}

impl ReadRequest {
    /// Whether its ranges lie in the file and keep to the limits.
    pub(super) fn is_in_bounds(&self) -> bool {
        let inside = |&(at, len): &(u64, u64)| {
            at.checked_add(len).is_some_and(|end| len > 0 && end <= self.stamp.len)
        };
        let total = self.ranges.iter().fold(0_u64, |sum, range| sum.saturating_add(range.1));
        self.ranges.len() <= READ_RANGES_MAX
            && total <= READ_BYTES_MAX
            && self.ranges.iter().all(inside)
    }
}

/// A file at a node, open for reading.
pub struct RemoteFile {
    engine: Engine,
    remote: Remote,
    stamp: FileStamp,
    /// What it must hold, where it was published.
    chunks: Option<Vec<ChunkRef>>,
    /// The transfer that reading it is.
    transfer: TransferId,
    class: Class,
    reading: Mutex<Option<Reading>>,
    share: Share,
    fetched: AtomicU64,
}

/// What is fetched and verified as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit {
    at: u64,
    len: u64,
    digest: Option<Digest>,
}

impl Engine {
    /// Opens a file at a node for reading parts of it. What was published is verified chunk by chunk;
    /// that reads the node's manifest up to this file. With `published` anything else is an error.
    ///
    /// # Errors
    /// `not-found`, `not-a-file`; `no-manifest` with `published`. Else as [`Engine::list`].
    pub async fn open_file(&self, remote: Remote, published: bool) -> Result<RemoteFile, Error> {
        let session = self.connect(&remote.node).await?;
        let transfer = random_id();
        let mut head: Option<FileReply> = None;
        let mut chunks = Vec::new();
        let label = remote.node.to_string();
        let nonsense = |what: &str| super::connect::refused(&label, "protocol", what);
        let part = |body: &[u8]| {
            if head.is_none() {
                head = Some(serde_json::from_slice(body).map_err(|e| nonsense(&e.to_string()))?);
            } else {
                chunks.extend(decode_list(body).map_err(|e| nonsense(&e.to_string()))?);
            }
            Ok(())
        };
        let path = hex(remote.path.as_bytes());
        let request = FileRequest { path, transfer: Some(transfer.to_string()) };
        session.call_each("file", &request, part).await?;
        let FileReply { stamp, object, class } = head.ok_or_else(|| nonsense("an empty answer"))?;
        let border = self.border()?;
        let class = match class {
            Some(class) => class,
            None => border.class([None]).map_err(|denied| denial(&denied))?,
        };
        let reading = Reading::begin(self, session, (transfer, &remote.path, &class)).await?;
        let listed = match object {
            None if published => {
                Err(Error::new("no-manifest", Exit::Failed, format!("{remote} was not published"))
                    .hint("push it with portway, or read it without verification"))
            }
            None => Ok(None),
            Some(object) => {
                let mut list = ListHasher::default();
                let rising = chunks.iter().all(|chunk| list.push(chunk));
                let known = rising
                    && list.end() <= stamp.len
                    && list.finish(stamp.len).to_string() == object;
                let how = "its chunk list is not that of its digest";
                if known { Ok(Some(chunks)) } else { Err(wrong(&remote, how)) }
            }
        };
        let chunks = match listed {
            Ok(chunks) => chunks,
            Err(error) => {
                reading.end(Ending::Complete, error.code).await;
                return Err(error);
            }
        };
        Ok(RemoteFile {
            engine: self.clone(),
            remote,
            stamp,
            chunks,
            transfer,
            class,
            reading: Mutex::new(Some(reading)),
            share: self.0.share(&TransferOptions::default()),
            fetched: AtomicU64::new(0),
        })
    }
}

fn wrong(remote: &Remote, how: &str) -> Error {
    let message = format!("{remote} is not what was published: {how}");
    Error::new("wrong-content", Exit::Failed, message)
        .hint("`portway verify` tells what differs; another copy must be read")
}

impl RemoteFile {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.stamp.len
    }

    /// Whether it has no content.
    pub fn is_empty(&self) -> bool {
        self.stamp.len == 0
    }

    /// Whether what is read is compared with digests of what was published.
    pub fn is_verified(&self) -> bool {
        self.chunks.is_some()
    }

    /// Content that was fetched so far, in bytes: what was asked for, and the rest of its chunks.
    pub fn bytes_fetched(&self) -> u64 {
        self.fetched.load(Relaxed)
    }

    /// Reads ranges, each given by its first byte and its length; they end where the file ends.
    /// All of them take one round trip for every 16 MiB.
    ///
    /// # Errors
    /// `changed`: the file is another one than when it was opened. `wrong-content`: a chunk is not
    /// what was published. Else as [`Engine::list`].
    pub async fn read(&self, ranges: &[(u64, u64)]) -> Result<Vec<Vec<u8>>, Error> {
        let ranges: Vec<(u64, u64)> = ranges.iter().map(|range| self.clamped(*range)).collect();
        let mut out: Vec<Vec<u8>> = ranges.iter().map(|(_, len)| vec![0; *len as usize]).collect();
        let mut order: Vec<usize> = (0..ranges.len()).collect();
        order.sort_unstable_by_key(|&range| ranges[range]);
        let units = self.units(&ranges);
        let (mut first, mut begun) = (0, 0);
        while begun < units.len() {
            let batch = batch(&units[begun..]);
            begun += batch.len();
            let content = self.fetch(batch).await?;
            let mut rest = &content[..];
            for unit in batch {
                let (bytes, after) = rest.split_at(unit.len as usize);
                rest = after;
                if unit.digest.is_some_and(|digest| Digest::of(bytes) != digest) {
                    return Err(wrong(
                        &self.remote,
                        &format!("the {} bytes at {}", unit.len, unit.at),
                    ));
                }
                while order.get(first).is_some_and(|&r| ranges[r].0 + ranges[r].1 <= unit.at) {
                    first += 1;
                }
                let touched =
                    order[first..].iter().take_while(|&&r| ranges[r].0 < unit.at + unit.len);
                for &range in touched {
                    copy(bytes, unit.at, &mut out[range], ranges[range].0);
                }
            }
        }
        Ok(out)
    }

    /// Ends its session. It can still be read, over another one.
    pub async fn close(&self) {
        if let Some(reading) = self.reading.lock().await.take() {
            reading.end(Ending::Complete, "closed").await;
        }
    }

    fn clamped(&self, (at, len): (u64, u64)) -> (u64, u64) {
        let at = at.min(self.stamp.len);
        (at, len.min(self.stamp.len - at))
    }

    /// What has to be fetched for these ranges, in order and each once. Between chunks are holes.
    fn units(&self, ranges: &[(u64, u64)]) -> Vec<Unit> {
        let mut units = BTreeSet::new();
        for &(at, len) in ranges.iter().filter(|(_, len)| *len > 0) {
            let end = at + len;
            if let Some(chunks) = &self.chunks {
                let first = chunks.partition_point(|chunk| chunk.end() <= at);
                let some = chunks[first..].iter().take_while(|chunk| chunk.offset < end);
                units.extend(some.map(|c| (c.offset, u64::from(c.len), Some(c.digest.0))));
            } else {
                let parts = (at..end).step_by(CHUNK_BYTES_MAX);
                units.extend(parts.map(|at| (at, (end - at).min(CHUNK_BYTES_MAX as u64), None)));
            }
        }
        let unit =
            |(at, len, digest): (_, _, Option<_>)| Unit { at, len, digest: digest.map(Digest) };
        units.into_iter().map(unit).collect()
    }

    /// The content of units, back to back. A session that was lost is replaced once.
    async fn fetch(&self, batch: &[Unit]) -> Result<Vec<u8>, Error> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for unit in batch {
            match ranges.last_mut() {
                Some((at, len)) if *at + *len == unit.at => *len += unit.len,
                _ => ranges.push((unit.at, unit.len)),
            }
        }
        let (path, transfer) = (hex(self.remote.path.as_bytes()), Some(self.transfer.to_string()));
        let request = ReadRequest { path, transfer, stamp: self.stamp, ranges };
        let mut reading = self.reading.lock().await;
        for attempt in 0.. {
            let live = match reading.take() {
                Some(live) => live,
                None => {
                    let session = self.engine.connect(&self.remote.node).await?;
                    let what = (self.transfer, &self.remote.path, &self.class);
                    Reading::begin(&self.engine, session, what).await?
                }
            };
            match live.ask(&self.remote, &request).await {
                Ok(content) => {
                    self.share.moves(Direction::In);
                    *reading = Some(live);
                    self.fetched.fetch_add(content.len() as u64, Relaxed);
                    return Ok(content);
                }
                Err(error) if attempt == 0 && error.exit == Exit::Interrupted => {
                    live.end(Ending::Interrupted, "lost").await;
                }
                Err(error) => {
                    live.end(Ending::Failed, error.code).await;
                    return Err(error);
                }
            }
        }
        Err(Error::new("internal", Exit::Failed, "nothing was tried"))
    }
}

/// As many units as one question may ask for.
fn batch(units: &[Unit]) -> &[Unit] {
    let mut bytes = 0;
    let fits = |unit: &&Unit| {
        bytes += unit.len;
        bytes <= READ_BYTES_MAX
    };
    let count = units.iter().take(READ_RANGES_MAX).take_while(fits).count();
    &units[..count]
}

/// Copies what two stretches of a file have in common.
fn copy(from: &[u8], from_at: u64, to: &mut [u8], to_at: u64) {
    let begin = from_at.max(to_at);
    let end = (from_at + from.len() as u64).min(to_at + to.len() as u64);
    if begin < end {
        let len = (end - begin) as usize;
        let (source, target) = ((begin - from_at) as usize, (begin - to_at) as usize);
        to[target..target + len].copy_from_slice(&from[source..source + len]);
    }
}
