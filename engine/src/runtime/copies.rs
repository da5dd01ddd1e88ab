//! Copies of published files that take no room of their own: clones and hard links, anywhere on the
//! file system of the root.
//!
//! ```text
//! ROOT/.portway/copies/KEY    a copy that is not complete, or is on its way to its place
//! ```
//!
//! A hard link changes the time of change of the file that it is made of, and so does the removal of
//! one; that time tells whether a published file was touched. So whoever links renews the
//! manifest, and whoever finds a file touched but by name and time the same may have it read.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ioctl_ficlone, open};
use rustix::io::Errno;

use super::OWN_DIR;
use super::manifest_file::ManifestReader;
use super::root::Root;
use super::target::{Layout, key_of, renew_manifest};
use crate::base::RelPath;
use crate::storage::{self, Kind, Meta};

/// How a copy that takes no room is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Copies {
    /// A file of its own that shares blocks until either is written to (XFS, btrfs, and others that can).
    #[default]
    Reflink,
    /// Another name of the same file: who writes to one changes both.
    HardLink,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file is being written, or copied, just now.
    #[error("it is being written")]
    Busy,
    /// The file is not as it was published.
    #[error("it was changed since it came")]
    Changed,
    /// The file system has no clones.
    #[error("the file system of the store cannot clone files")]
    NoClones,
    /// A copy cannot be on another file system.
    #[error("it would be on another file system than the store")]
    Elsewhere,
    /// The copy would lose its class.
    #[error("no label can be kept there, and {0} needs one")]
    NoLabel(String),
    /// The system's error.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// How a published file is compared with its manifest.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// As it was published.
    Untouched,
    /// Its length, times and mode are what they were, but something of it was touched.
    Touched,
    /// Another file, or none.
    Other,
}

fn copies_path() -> io::Result<RelPath> {
    RelPath::root().join(OWN_DIR).and_then(|own| own.join(b"copies")).map_err(io::Error::other)
}

impl Root {
    /// How the published file at `path` stands.
    ///
    /// # Errors
    /// Its manifest cannot be read.
    pub fn standing(&self, path: &RelPath) -> io::Result<Standing> {
        Ok(self.compare(path)?.0)
    }

    fn compare(&self, path: &RelPath) -> io::Result<(Standing, Option<Meta>, Option<String>)> {
        let none = (Standing::Other, None, None);
        let Some(mut manifest) = ManifestReader::open(&*self.tree, &Layout::of(path).published)?
        else {
            return Ok(none);
        };
        let (since, class) =
            (manifest.file().meta()?.ctime, manifest.class().map(ToString::to_string));
        let (Some(listed), Ok(meta)) = (manifest.read()?, self.tree.meta(path)) else {
            return Ok(none);
        };
        let entry = &listed.entry;
        let same = entry.path.is_root()
            && entry.is_file()
            && meta.kind == Kind::File
            && (meta.len, meta.mtime) == (entry.len(), entry.mtime)
            && meta.mode & 0o777 == entry.mode;
        let standing = match same {
            true if meta.ctime <= since => Standing::Untouched,
            true => Standing::Touched,
            false => Standing::Other,
        };
        Ok((standing, Some(meta), class))
    }

    /// The file at `path` was touched, and `read` tells that it still is what was published: the
    /// manifest holds from now on.
    ///
    /// # Errors
    /// It is being written, was changed, or the manifest cannot be written; those of `read`.
    pub fn vouch<E: From<CopyError>>(
        &self,
        path: &RelPath,
        read: impl FnOnce() -> Result<bool, E>,
    ) -> Result<(), E> {
        let _lock = self.lock_for_copy(path)?;
        match self.compare(path).map_err(CopyError::Io)?.0 {
            Standing::Untouched => return Ok(()),
            Standing::Touched if read()? => {}
            Standing::Touched | Standing::Other => return Err(CopyError::Changed.into()),
        }
        self.renew(path).map_err(|error| CopyError::Io(error).into())
    }

    fn renew(&self, path: &RelPath) -> io::Result<()> {
        renew_manifest(&*self.tree, &Layout::of(path).published)
    }

    fn lock_for_copy(&self, path: &RelPath) -> Result<fs::File, CopyError> {
        self.lock_out_writers(path)?.ok_or(CopyError::Busy)
    }

    /// Makes the published file at `path` appear at `to` as well, durably and in place of a file that
    /// is there.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn copy_out(&self, path: &RelPath, to: &Path, how: Copies) -> Result<(), CopyError> {
        let _lock = self.lock_for_copy(path)?;
        let (Standing::Untouched, Some(meta), class) = self.compare(path)? else {
            return Err(CopyError::Changed);
        };
        let label = self.tree.label(path)?;
        if let Some(class) = class
            && label.as_deref() != Some(class.as_bytes())
        {
            // Here the manifest keeps the class; there is none for the copy.
            return Err(CopyError::NoLabel(class));
        }
        let same_file = |there: fs::Metadata| (there.dev(), there.ino()) == (meta.dev, meta.ino);
        if how == Copies::HardLink && fs::symlink_metadata(to).is_ok_and(same_file) {
            return Ok(());
        }
        let fresh = self.fresh(&key_of(path))?;
        match how {
            Copies::Reflink => self.clone(path, &meta, label.as_deref(), &fresh)?,
            Copies::HardLink => {
                fs::hard_link(self.at(path), self.at(&fresh)).map_err(elsewhere)?;
                let made = self.tree.meta(&fresh)?;
                if (made.dev, made.ino) != (meta.dev, meta.ino) {
                    self.tree.unlink(&fresh)?;
                    return Err(CopyError::Changed);
                }
            }
        }
        let placed = self.place(&fresh, to);
        if placed.is_err() {
            let _ = self.tree.unlink(&fresh);
        }
        if how == Copies::HardLink {
            self.renew(path)?;
        }
        placed
    }

    /// Whether copies can be made in the directory `to`, found out by making one.
    ///
    /// # Errors
    /// As of a copy.
    pub fn can_copy_out(&self, to: &Path, how: Copies) -> Result<(), CopyError> {
        let name = format!("probe-{}", std::process::id());
        let original = self.fresh(&format!("{name}-original"))?;
        let copy = self.fresh(&name)?;
        let tried = self.try_copy(&original, &copy, how).and_then(|()| {
            let to = to.join(format!(".portway-{name}"));
            self.place(&copy, &to)?;
            Ok(fs::remove_file(to)?)
        });
        for left in [&original, &copy] {
            storage::remove_all(&*self.tree, left)?;
        }
        tried
    }

    fn try_copy(&self, from: &RelPath, to: &RelPath, how: Copies) -> Result<(), CopyError> {
        let file = self.tree.create(from)?;
        file.write_at(&[0], 0)?;
        match how {
            Copies::Reflink => self.clone(from, &file.meta()?, None, to),
            Copies::HardLink => fs::hard_link(self.at(from), self.at(to)).map_err(elsewhere),
        }
    }

    /// A name for a copy that is being made; what a crash left there goes.
    fn fresh(&self, name: &str) -> Result<RelPath, CopyError> {
        let dir = copies_path()?;
        storage::mkdir_all(&*self.tree, &dir)?;
        let fresh = dir.join(name.as_bytes()).map_err(io::Error::other)?;
        storage::remove_all(&*self.tree, &fresh)?;
        Ok(fresh)
    }

    fn at(&self, path: &RelPath) -> std::path::PathBuf {
        use std::os::unix::ffi::OsStrExt;
        self.dir.join(std::ffi::OsStr::from_bytes(path.as_bytes()))
    }

    fn clone(
        &self,
        from: &RelPath,
        meta: &Meta,
        label: Option<&[u8]>,
        to: &RelPath,
    ) -> Result<(), CopyError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let original =
            fs::File::from(open(self.at(from), flags, Mode::empty()).map_err(io::Error::from)?);
        let opened = original.metadata()?;
        if (opened.dev(), opened.ino()) != (meta.dev, meta.ino) {
            return Err(CopyError::Changed);
        }
        let file = self.tree.create(to)?;
        let copy = fs::File::options().write(true).open(self.at(to))?;
        let made = ioctl_ficlone(&copy, &original).map_err(|error| match error {
            Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::XDEV => CopyError::NoClones,
            error => CopyError::Io(error.into()),
        });
        let finished = made.and_then(|()| {
            if let Some(label) = label {
                file.set_label(label)?;
            }
            file.set_meta(meta.mode, meta.mtime)?;
            Ok(file.sync()?)
        });
        if finished.is_err() {
            self.tree.unlink(to)?;
        }
        finished
    }

    fn place(&self, fresh: &RelPath, to: &Path) -> Result<(), CopyError> {
        let dir = to.parent().unwrap_or(to);
        fs::create_dir_all(dir)?;
        fs::rename(self.at(fresh), to).map_err(elsewhere)?;
        Ok(fs::File::open(dir)?.sync_all()?)
    }
}

fn elsewhere(error: io::Error) -> CopyError {
    match error.kind() {
        io::ErrorKind::CrossesDevices => CopyError::Elsewhere,
        _ => CopyError::Io(error),
    }
}
