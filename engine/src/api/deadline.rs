//! Deadlines of pulls: whether what has to be fetched can be here in time, and over which link.
//!
//! Before a pull nobody knows which chunks are here already. So what is counted is what the node lists,
//! without the files that are here with the same size and time: the most that may have to move.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::calls::PathRequest;
use super::connect::Session;
use super::engine::Engine;
use super::plan::{SITE, Seen, meets};
use super::server::blocking;
use super::{Compress, Error, ListEntry, Remote, TransferOptions};
use crate::base::RelPath;
use crate::transport::Link;

/// Directories that are listed to find out how much a pull may fetch; what lies in others is not
/// counted.
const DIRECTORIES_MAX: usize = 10_000;

impl Engine {
    /// The link that a pull of `source` to `target` takes, if it was asked to be there in time; else
    /// the one of its options. With `names`, only these files below the source are fetched.
    pub(super) async fn pull_in_time(
        &self,
        (source, target): (&Remote, &Path),
        names: Option<&[RelPath]>,
        options: &TransferOptions,
    ) -> Result<Option<String>, Error> {
        let Some(deadline) = options.deadline else { return Ok(options.link.clone()) };
        let session = self.connect_over(&source.node, options.link.as_deref()).await?;
        let wanted = match names {
            Some(names) => named(&session, source, names).await,
            None => below(&session, &source.path).await,
        };
        let target = match (source.into, source.path.name()) {
            _ if names.is_some() || !target.is_dir() => target.to_owned(),
            (_, Some(name)) => target.join(OsStr::from_bytes(name)),
            (_, None) => target.to_owned(),
        };
        let wanted = wanted?;
        let bytes = blocking(move || missing(&target, &wanted)).await?;
        let (peer, ours) = (session.link.peer(), self.identity()?.id().site.clone());
        let link = self.border()?.link_taken(&peer.site, (&peer.node, session.link.remote()));
        let seen = Seen {
            node: &source.node,
            inward: true,
            sent: bytes,
            encoded: bytes,
            wire: session.link.meter(),
            compress: Compress::Never,
            link,
        };
        let links = if ours == peer.site {
            vec![self.link_plan(SITE, None, &seen)]
        } else {
            self.link_plans((&ours, &peer.site, &peer.node), &seen)
        };
        session.link.close("done").await;
        let taken = meets(&links, deadline)?;
        let named = taken.selectable.then(|| taken.name.clone());
        Ok(named.or_else(|| options.link.clone()))
    }
}

/// A file at the node: where it is below the source, its length and its time.
pub(super) struct Listed {
    pub(super) path: PathBuf,
    pub(super) entry: ListEntry,
}

/// What is listed at a path of the node.
pub(super) async fn list(session: &Session, path: &RelPath) -> Result<Vec<ListEntry>, Error> {
    let parts: Vec<Vec<ListEntry>> = session.call_parts("list", &PathRequest::of(path)).await?;
    Ok(parts.into_iter().flatten().collect())
}

/// All files at and below a path.
async fn below(session: &Session, top: &RelPath) -> Result<Vec<Listed>, Error> {
    let (mut files, mut open) = (Vec::new(), vec![(top.clone(), PathBuf::new())]);
    let mut looked = 0;
    while let Some((dir, place)) = open.pop() {
        looked += 1;
        for entry in list(session, &dir).await? {
            let itself = entry.kind == "file"
                && place.as_os_str().is_empty()
                && dir.name() == Some(entry.name.as_bytes());
            let path = if itself { place.clone() } else { place.join(&entry.name) };
            match entry.kind.as_str() {
                "file" => files.push(Listed { path, entry }),
                "dir" if looked + open.len() < DIRECTORIES_MAX => {
                    if let Ok(dir) = dir.join(entry.name.as_bytes()) {
                        open.push((dir, path));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(files)
}

/// These files below the source.
pub(super) async fn named(
    session: &Session,
    source: &Remote,
    names: &[RelPath],
) -> Result<Vec<Listed>, Error> {
    let mut parents: Vec<RelPath> = names.iter().filter_map(RelPath::parent).collect();
    parents.sort_unstable();
    parents.dedup();
    let mut files = Vec::new();
    for parent in parents {
        let Ok(dir) = source.path.join_path(&parent) else { continue };
        for entry in list(session, &dir).await? {
            let Ok(path) = parent.join(entry.name.as_bytes()) else { continue };
            if entry.kind == "file" && names.contains(&path) {
                let path = PathBuf::from(OsStr::from_bytes(path.as_bytes()));
                files.push(Listed { path, entry });
            }
        }
    }
    Ok(files)
}

/// Content of the files that are not here with the same size and time, in bytes.
fn missing(target: &Path, files: &[Listed]) -> u64 {
    let is_here = |file: &&Listed| {
        let Ok(meta) = std::fs::metadata(target.join(&file.path)) else { return false };
        let time = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let same = time.is_some_and(|at| i64::try_from(at.as_secs()) == Ok(file.entry.mtime_s));
        meta.is_file() && meta.len() == file.entry.len && same
    };
    files.iter().filter(|file| !is_here(file)).map(|file| file.entry.len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_as_it_is_there_does_not_move() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/here"), [0; 100]).unwrap();
        let meta = std::fs::metadata(dir.path().join("a/here")).unwrap();
        let at = meta.modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
        let at = i64::try_from(at.as_secs()).unwrap();
        let file = |path: &str, len, mtime_s| {
            let (name, kind) = (path.to_owned(), "file".to_owned());
            let entry = ListEntry { name, kind, len, mode: 0, mtime_s, digest: None };
            Listed { path: path.into(), entry }
        };
        let count = |file| missing(dir.path(), &[file]);
        assert_eq!(count(file("a/here", 100, at)), 0);
        assert_eq!(count(file("a/here", 101, at)), 101, "another size");
        assert_eq!(count(file("a/here", 100, at - 1)), 100, "another time");
        assert_eq!(count(file("a/there", 7, at)), 7);
    }
}
