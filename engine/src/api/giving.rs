//! Answers to questions for parts of files.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::calls::{Answer, asked, asked_path, json, off_thread, path_of};
use super::crossing::refusal;
use super::ranges::{FileReply, FileStamp, ReadRequest};
use super::server::Shared;
use crate::audit::Ending;
use crate::base::{Extent, RelPath};
use crate::border::Way;
use crate::cost::path::wire_bytes;
use crate::manifest::{ChunkRef, encode_list};
use crate::protocol::Failure;
use crate::runtime::fatal;
use crate::runtime::manifest_file::{Listed, ManifestReader};
use crate::runtime::target::Layout;
use crate::storage::{File, Kind, Tree};
use crate::transport::{Link, Peer, WireMeter};
use crate::wire::Frame;

/// Chunks in one part of an answer; a frame has room for them.
const LIST_PART: usize = 4000;
/// Content in one part of an answer, in bytes; a frame has room for it.
const CONTENT_PART: usize = 240 << 10;
/// Parts that are read ahead of the link.
const AHEAD: usize = 2;

/// Answers `file`.
pub(super) async fn file(shared: &Arc<Shared>, peer: &Peer, body: &[u8]) -> Answer {
    let path = asked_path(body)?;
    let (shared, peer) = (Arc::clone(shared), peer.clone());
    off_thread(move || {
        let root = &shared.root;
        // Who may not read it learns nothing of it.
        let way = shared.engine.way_to_read(&peer, (&root.tree, &path))?;
        over(&way, "what it is was told");
        let stamp = stamp(&*root.tree, &path)?;
        let listed = listed(&*root.tree, &path)?;
        let object = listed.as_ref().and_then(|listed| listed.object);
        let object = object.map(|object| object.digest.to_string());
        let chunks: Vec<ChunkRef> = listed.map_or_else(Vec::new, |listed| listed.chunks);
        let mut parts = json(&FileReply { stamp, object })?;
        parts.extend(chunks.chunks(LIST_PART).map(|part| Bytes::from(encode_list(part))));
        Ok(parts)
    })
    .await
}

fn stamp(tree: &dyn Tree, path: &RelPath) -> Result<FileStamp, Failure> {
    let meta = tree.meta(path).map_err(|e| missing(path, &e))?;
    match meta.kind {
        Kind::File => Ok(FileStamp::from(&meta)),
        kind => Err(Failure::new("not-a-file", format!("{path} is a {kind}"))),
    }
}

fn missing(path: &RelPath, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => Failure::new("not-found", format!("there is no {path}")),
        _ => fatal("read", path, error),
    }
}

/// What a manifest says of the file: its own, or that of a directory above it.
fn listed(tree: &dyn Tree, path: &RelPath) -> Result<Option<Listed>, Failure> {
    let mut base = Some(path.clone());
    while let Some(at) = base {
        let manifest = Layout::of(&at).published;
        let opened = ManifestReader::open(tree, &manifest);
        if let Some(mut reader) = opened.map_err(|e| fatal("read", &manifest, &e))? {
            let within = path.strip(&at).unwrap_or_default();
            while let Some(listed) = reader.read().map_err(|e| fatal("read", &manifest, &e))? {
                if listed.entry.path == within {
                    return Ok(Some(listed));
                }
            }
        }
        base = at.parent();
    }
    Ok(None)
}

/// Answers `read`: the content of the ranges, back to back.
pub(super) async fn read(shared: &Arc<Shared>, link: &impl Link, body: &[u8]) {
    let (parts, mut ready) = mpsc::channel::<Result<Bytes, Failure>>(AHEAD);
    let (shared, peer, body) = (Arc::clone(shared), link.peer().clone(), body.to_vec());
    let payload = link.meter().mtu;
    tokio::task::spawn_blocking(move || {
        let give = |part| parts.blocking_send(Ok(part)).is_ok();
        if let Err(failure) = content((&shared, &peer, payload), &body, &give) {
            let _ = parts.blocking_send(Err(failure));
        }
    });
    loop {
        let frame = match ready.recv().await {
            Some(Ok(body)) => Frame::Reply { body, last: false },
            Some(Err(Failure { code, detail })) => Frame::Refuse { code, detail, retry: false },
            None => Frame::Reply { body: Bytes::new(), last: true },
        };
        let ended = !matches!(frame, Frame::Reply { last: false, .. });
        if link.send(frame.encode()).await.is_err() || ended {
            return;
        }
    }
}

/// Reads the ranges and gives them to `give` in parts, until that says no.
fn content(
    (shared, peer, payload): (&Shared, &Peer, u16),
    body: &[u8],
    give: &dyn Fn(Bytes) -> bool,
) -> Result<(), Failure> {
    let request: ReadRequest = asked(body)?;
    let path = path_of(&request.path)?;
    if !request.is_in_bounds() {
        return Err(Failure::new("protocol", "ranges that are not in the file, or too many"));
    }
    let mut reading = shared.root.readers.begin(&path);
    // The next question comes soon, and counts on the file.
    reading.comes_back();
    let file = shared.root.tree.open(&path).map_err(|e| missing(&path, &e))?;
    let meta = file.meta().map_err(|e| fatal("read", &path, &e))?;
    if FileStamp::from(&meta) != request.stamp {
        return Err(Failure::new("changed", format!("{path} is another file now")));
    }
    let way = shared.engine.way_to_read(peer, (&shared.root.tree, &path))?;
    // The session serves other questions too, and sends what is given when it likes: what this takes
    // of the wire is computed.
    let given = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&given);
    way.measure(move || WireMeter {
        ip_sent: wire_bytes(counted.load(Relaxed), payload),
        ..WireMeter::default()
    });
    let given = give_ranges(&*file, &path, request.ranges, (&way, &given), give);
    over(&way, "parts were read");
    given
}

/// Records the end of a reading.
fn over(way: &Way, why: &str) {
    if let Err(error) = way.stop(Ending::Complete, why, None) {
        tracing::error!(%error, "the end of a reading is not recorded");
    }
}

fn give_ranges(
    file: &dyn File,
    path: &RelPath,
    ranges: Vec<(u64, u64)>,
    (way, given): (&Way, &AtomicU64),
    give: &dyn Fn(Bytes) -> bool,
) -> Result<(), Failure> {
    for (mut at, len) in ranges {
        let end = at + len;
        while at < end {
            let mut part = vec![0; CONTENT_PART.min((end - at) as usize)];
            let read = file.read_at(&mut part, at).map_err(|e| fatal("read", path, &e))?;
            let extent = Extent { offset: at, len: read as u64 };
            given.fetch_add(extent.len, Relaxed);
            way.leaves(&RelPath::root(), extent).map_err(|denied| refusal(&denied))?;
            if read != part.len() {
                return Err(Failure::new("changed", format!("{path} became shorter")));
            }
            at += read as u64;
            if !give(part.into()) {
                return Ok(());
            }
        }
    }
    Ok(())
}
