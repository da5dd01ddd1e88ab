//! The earlier version of what is pushed.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::connect::Session;
use super::crossing;
use super::push::Push;
use super::sources::Sources;
use super::{Error, Remote};
use crate::base::{Class, RelPath};
use crate::border::Border;
use crate::encode::Compress;
use crate::runtime::snapshots::step_before;
use crate::runtime::source::SourceFiles;
use crate::transport::Link;

/// An earlier version, here and at the other node.
pub(super) struct Earlier {
    files: Arc<SourceFiles>,
    /// Where the other node may have it.
    pub(super) at: RelPath,
}

impl Push {
    /// The earlier version that content may be differences to, if there is one and it is of no higher
    /// class.
    pub(super) async fn earlier(
        &self,
        border: &Arc<Border>,
        (session, target): (&Session, &RelPath),
        class: &Class,
    ) -> Result<Option<Earlier>, Error> {
        let compress = self.engine.0.compress(&self.options);
        let plain = compress == Compress::Never || session.link.has_rails();
        if plain || self.options.dry_run {
            return Ok(None);
        }
        let Some(earlier) = self.look_for_earlier(target)? else { return Ok(None) };
        let crosses = session.link.peer().site != border.us().site;
        let files = Arc::clone(&earlier.files);
        // Of what cannot be read, or is of no class of this node, nothing is told.
        let its = crossing::class(border, move || files.labels(crosses)).await;
        Ok(its.is_ok_and(|its| border.join(&its, class) == *class).then_some(earlier))
    }

    fn look_for_earlier(&self, target: &RelPath) -> Result<Option<Earlier>, Error> {
        let [source] = &self.sources[..] else { return Ok(None) };
        let Some((path, at)) = (match &self.options.basis {
            Some(basis) => beside(target, basis),
            None => before(source, target, self.options.parts.is_some()),
        }) else {
            return Ok(None);
        };
        let remote = Remote { node: self.target.node.clone(), path: at.clone(), into: false };
        let found = Sources::prepare(&[path], &remote, self.engine.0.method(), false);
        match found {
            Ok(sources) => Ok(Some(Earlier { files: sources.files, at })),
            Err(error) if self.options.basis.is_some() => Err(error),
            Err(_) => Ok(None),
        }
    }
}

impl Earlier {
    /// Content of `files` may leave as differences to this.
    pub(super) fn serve(self, files: &SourceFiles) {
        files.set_earlier(self.files);
    }
}

/// What was named, and the same name beside the target.
fn beside(target: &RelPath, basis: &Path) -> Option<(PathBuf, RelPath)> {
    let at = target.parent()?.join(basis.file_name()?.as_bytes()).ok()?;
    Some((basis.to_owned(), at))
}

/// The checkpoint of the step before beside `source`, and the same beside the target, which must be called
/// as the source is. Of a part it is the directory around it that has the step.
fn before(source: &Path, target: &RelPath, part: bool) -> Option<(PathBuf, RelPath)> {
    let source = source.canonicalize().ok()?;
    let name = source.file_name()?.as_bytes();
    if target.name()? != name {
        return None;
    }
    if part {
        let (dir, at) = before(source.parent()?, &target.parent()?, false)?;
        return Some((dir.join(source.file_name()?), at.join(name).ok()?));
    }
    let dir = source.parent()?;
    let names = std::fs::read_dir(dir).ok()?.filter_map(Result::ok);
    let earlier = step_before(name, names.map(|entry| entry.file_name().into_vec()))?;
    let at = target.parent()?.join(&earlier).ok()?;
    Some((dir.join(std::ffi::OsStr::from_bytes(&earlier)), at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_before_is_looked_for_beside_the_source() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for name in ["ckpt-90", "ckpt-100", "ckpt-100.tmp", "eval-110", "ckpt-120", "ckpt-130"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        let at = |path: &str| RelPath::from_typed(path.as_bytes()).unwrap();
        let found = before(&dir.join("ckpt-120"), &at("runs/7/ckpt-120"), false);
        assert_eq!(found, Some((dir.join("ckpt-100"), at("runs/7/ckpt-100"))));
        assert_eq!(before(&dir.join("ckpt-120"), &at("runs/7/last"), false), None, "another name");
        assert_eq!(before(&dir.join("ckpt-90"), &at("ckpt-90"), false), None, "the first");
        std::fs::write(dir.join("ckpt-120/rank1.safetensors"), "").unwrap();
        let part = dir.join("ckpt-120/rank1.safetensors");
        let found = before(&part, &at("runs/ckpt-120/rank1.safetensors"), true);
        let expected =
            (dir.join("ckpt-100/rank1.safetensors"), at("runs/ckpt-100/rank1.safetensors"));
        assert_eq!(found, Some(expected));
        let named = beside(&at("runs/last"), &dir.join("previous"));
        assert_eq!(named, Some((dir.join("previous"), at("runs/previous"))));
    }
}
