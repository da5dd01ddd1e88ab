//! What would stop a publication half-way, found before anything changes.

use super::below;
use super::publish::present;
use super::visible::Publish;
use crate::base::RelPath;
use crate::manifest::EntryKind;
use crate::protocol::Failure;
use crate::runtime::fatal;
use crate::runtime::manifest_file::Listed;
use crate::storage::Kind;

impl Publish<'_> {
    /// A directory that is not empty is never replaced by a file or link.
    pub(super) fn refuse_what_is_in_the_way(&self) -> Result<(), Failure> {
        self.refuse_a_file_above()?;
        let there = present(self.tree, self.target);
        if !there.map_err(|e| fatal("look at", self.target, &e))? {
            return Ok(());
        }
        self.walk(
            |Listed { entry, .. }| {
                let path = below(self.target, &entry.path)?;
                let in_the_way = entry.kind != EntryKind::Dir && self.is_full_dir(&path)?;
                if in_the_way {
                    let detail = format!("{path} is a directory and would become a file");
                    return Err(Failure::new("in-the-way", detail));
                }
                Ok(())
            },
            |_| Ok(()),
        )
    }

    /// Nor is a file or link on the way to the target path, or at it if it needs to be a directory:
    /// found out later, it would stop the snapshot half-way.
    fn refuse_a_file_above(&self) -> Result<(), Failure> {
        let first = self.manifest()?.read();
        let first = first.map_err(|e| fatal("read", &self.layout.manifest, &e))?;
        let has_top = first.is_none_or(|listed| listed.entry.path.is_root());
        let mut dir = if has_top { self.target.parent() } else { Some(self.target.clone()) };
        while let Some(path) = dir {
            match self.tree.meta(&path) {
                Ok(meta) if meta.kind != Kind::Dir => {
                    let detail = format!("{path} is a {} and would become a directory", meta.kind);
                    return Err(Failure::new("in-the-way", detail));
                }
                Ok(_) => return Ok(()),
                Err(_) => present(self.tree, &path).map_err(|e| fatal("look at", &path, &e))?,
            };
            dir = path.parent();
        }
        Ok(())
    }

    /// Whether `path` is a directory with something in it.
    fn is_full_dir(&self, path: &RelPath) -> Result<bool, Failure> {
        let failed = |e| fatal("look at", path, &e);
        match self.tree.meta(path) {
            Ok(meta) if meta.kind == Kind::Dir => {
                Ok(!self.tree.list(path).map_err(failed)?.is_empty())
            }
            Ok(_) => Ok(false),
            Err(_) => present(self.tree, path).map_err(failed),
        }
    }
}
