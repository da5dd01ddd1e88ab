//! Answers to questions for parts of files.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::calls::{Answer, asked, json, off_thread, path_of, stream};
use super::crossing::{labels, refusal};
use super::ranges::{FileReply, FileRequest, FileStamp, ReadRequest};
use super::server::Shared;
use super::transfer::random_id;
use crate::audit::Ending;
use crate::base::{Extent, ParseTransferIdError, RelPath, TransferId};
use crate::border::Way;
use crate::cost::path::wire_bytes;
use crate::manifest::{ChunkRef, encode_list};
use crate::protocol::Failure;
use crate::runtime::fatal;
use crate::runtime::manifest_file::{Listed, ManifestReader};
use crate::runtime::target::Layout;
use crate::storage::{File, Kind, Tree};
use crate::transport::{Link, Peer, WireMeter};

/// Chunks in one part of an answer; a frame has room for them.
const LIST_PART: usize = 4000;
/// Content in one part of an answer, in bytes; a frame has room for it.
const CONTENT_PART: usize = 240 << 10;

/// Files that a session may have open.
const OPEN_MAX: usize = 16;

/// The files that one session has open, each a transfer by the name that the opener gave it.
pub(super) struct Readings {
    open: Mutex<BTreeMap<TransferId, (RelPath, Reading)>>,
    /// Largest UDP payload of the session, in bytes.
    payload: u16,
}

/// What is read of one file, and how much of it was given so far, in bytes.
#[derive(Clone)]
struct Reading {
    way: Arc<Way>,
    given: Arc<AtomicU64>,
}

impl Reading {
    fn new(way: Way, payload: u16) -> Self {
        // The session serves other questions too, and sends what is given when it likes: what this
        // takes of the wire is computed.
        let given = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&given);
        way.measure(move || WireMeter {
            ip_sent: wire_bytes(counted.load(Relaxed), payload),
            ..WireMeter::default()
        });
        Self { way: Arc::new(way), given }
    }
}

impl Readings {
    /// Those of a session over `link`; none yet.
    pub(super) fn new(link: &impl Link) -> Self {
        Self { open: Mutex::default(), payload: link.meter().mtu }
    }

    /// The way for what is read of a file: that of its transfer, asked again with the labels that the
    /// file has now; a new one at first.
    fn way(
        &self,
        shared: &Shared,
        peer: &Peer,
        (path, name): (&RelPath, TransferId),
    ) -> Result<Reading, Failure> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (&shared.root.tree, path);
        if let Some((known, reading)) = open.get(&name) {
            if known != path {
                return Err(Failure::new("protocol", "that transfer is about another file"));
            }
            for label in labels(place)? {
                reading.way.found(label).map_err(|denied| refusal(&denied))?;
            }
            return Ok(reading.clone());
        }
        if open.len() >= OPEN_MAX {
            let detail = format!("a session has at most {OPEN_MAX} files open");
            return Err(Failure::new("protocol", detail));
        }
        let reading = Reading::new(shared.engine.way_to_read(peer, place, name)?, self.payload);
        open.insert(name, (path.clone(), reading.clone()));
        Ok(reading)
    }

    /// Records that all of them are closed, and how.
    pub(super) async fn close(self: Arc<Self>, ending: Ending, why: &'static str) {
        let closed = off_thread(move || {
            let open =
                std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
            for (_, reading) in open.into_values() {
                over(&reading.way, ending, why);
            }
            Ok(())
        });
        if let Err(error) = closed.await {
            tracing::error!(detail = error.detail, "the end of a reading is not recorded");
        }
    }
}

/// The way of one question: that of an open file, or one of its own, which ends with it.
struct Asked {
    reading: Reading,
    single: bool,
}

impl Asked {
    fn open(
        (shared, peer): (&Shared, &Peer),
        readings: &Readings,
        path: &RelPath,
        name: Option<&str>,
    ) -> Result<Self, Failure> {
        let Some(name) = name else {
            let place = (&shared.root.tree, path);
            let way = shared.engine.way_to_read(peer, place, random_id())?;
            return Ok(Self { reading: Reading::new(way, readings.payload), single: true });
        };
        let name = name
            .parse()
            .map_err(|error: ParseTransferIdError| Failure::new("protocol", error.to_string()))?;
        Ok(Self { reading: readings.way(shared, peer, (path, name))?, single: false })
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.single {
            over(&self.reading.way, Ending::Complete, "a question was answered");
        }
    }
}

/// Answers `file`.
pub(super) async fn file(
    shared: &Arc<Shared>,
    peer: &Peer,
    readings: &Arc<Readings>,
    body: &[u8],
) -> Answer {
    let request: FileRequest = asked(body)?;
    let path = path_of(&request.path)?;
    let (shared, peer, readings) = (Arc::clone(shared), peer.clone(), Arc::clone(readings));
    off_thread(move || {
        let root = &shared.root;
        // Who may not read it learns nothing of it.
        let name = request.transfer.as_deref();
        let asked = Asked::open((&shared, &peer), &readings, &path, name)?;
        let stamp = stamp(&*root.tree, &path)?;
        let listed = listed(&*root.tree, &path)?;
        let object = listed.as_ref().and_then(|listed| listed.object);
        let object = object.map(|object| object.digest.to_string());
        let chunks: Vec<ChunkRef> = listed.map_or_else(Vec::new, |listed| listed.chunks);
        let class = Some(asked.reading.way.class());
        let mut parts = json(&FileReply { stamp, object, class })?;
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
pub(super) async fn read(
    shared: &Arc<Shared>,
    link: &impl Link,
    readings: &Arc<Readings>,
    body: &[u8],
) {
    let (shared, readings) = (Arc::clone(shared), Arc::clone(readings));
    let (peer, body) = (link.peer().clone(), body.to_vec());
    stream(link, move |give| content((&shared, &peer), &readings, &body, give)).await;
}

/// Reads the ranges and gives them to `give` in parts, until that says no.
fn content(
    (shared, peer): (&Shared, &Peer),
    readings: &Readings,
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
    // Who may not read it does not learn whether it is there.
    let asked = Asked::open((shared, peer), readings, &path, request.transfer.as_deref())?;
    let file = open(&*shared.root.tree, &path, &request.stamp)?;
    give_ranges(&*file, &path, request.ranges, &asked.reading, give)
}

/// Opens the file that has this stamp.
fn open(tree: &dyn Tree, path: &RelPath, stamp: &FileStamp) -> Result<Arc<dyn File>, Failure> {
    let file = tree.open(path).map_err(|e| missing(path, &e))?;
    let meta = file.meta().map_err(|e| fatal("read", path, &e))?;
    if FileStamp::from(&meta) == *stamp {
        Ok(file)
    } else {
        Err(Failure::new("changed", format!("{path} is another file now")))
    }
}

/// Records the end of a reading.
fn over(way: &Way, ending: Ending, why: &str) {
    if let Err(error) = way.stop(ending, why, None) {
        tracing::error!(%error, "the end of a reading is not recorded");
    }
}

fn give_ranges(
    file: &dyn File,
    path: &RelPath,
    ranges: Vec<(u64, u64)>,
    Reading { way, given }: &Reading,
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
