//! Small files of the identity folder: read with a cap, written at once or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};

use super::base64url;

/// Mode of private keys and invitations.
pub(super) const MODE_PRIVATE: u32 = 0o600;
/// Mode of certificates.
pub(super) const MODE_PUBLIC: u32 = 0o644;
/// Most bytes of a PEM file that is read.
pub(super) const PEM_BYTES_MAX: u64 = 256 << 10;

/// A file of the identity could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("{} cannot be {action}", path.display())]
    Io {
        /// What was tried, as a participle.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The file is larger than any such file can be.
    #[error("{} has more than {limit} bytes", path.display())]
    Large {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// Others can read a private key.
    #[error("the private key {} can be read by others (mode {mode:03o})", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl FileError {
    /// Whether the file is not there.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError::Io { action, path: path.to_owned(), source }
}

/// Whether there is such a file.
pub(super) fn exists(path: &Path) -> Result<bool, FileError> {
    path.try_exists().map_err(failed("examined", path))
}

/// The content of a file of at most `limit` bytes.
pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(failed("opened", path))?;
    read_open(&file, path, limit)
}

/// The content of a private key, unless one of the permission bits `exposed` is set on its file.
pub(super) fn read_key(path: &Path, exposed: u32) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(failed("opened", path))?;
    let mode = file.metadata().map_err(failed("examined", path))?.mode() & 0o777;
    if mode & exposed != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    read_open(&file, path, PEM_BYTES_MAX)
}

fn read_open(file: &File, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content).map_err(failed("read", path))?;
    if content.len() as u64 > limit {
        return Err(FileError::Large { path: path.to_owned(), limit });
    }
    Ok(content)
}

/// Writes a file so that a crash leaves the old one or the new one, durable on return.
pub(super) fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let mut temp = path.as_os_str().to_owned();
    temp.push(format!(".{}.tmp", unique(path)?));
    let temp = PathBuf::from(temp);
    let write_temp = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temp)?;
        file.write_all(content)?;
        file.sync_all()
    };
    let written = write_temp()
        .map_err(failed("written", &temp))
        .and_then(|()| fs::rename(&temp, path).map_err(failed("put in place", path)));
    if written.is_err() {
        // The error that matters is the first one; a file left behind does no harm.
        let _ = fs::remove_file(&temp);
    }
    written?;
    sync_folder_of(path)
}

/// Makes `folder` if needed, and the folders above it.
pub(super) fn make_private_folder(folder: &Path) -> Result<(), FileError> {
    if let Some(above) = folder.parent() {
        fs::create_dir_all(above).map_err(failed("made", above))?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => {
            made.map_err(failed("made", folder))?;
            sync_folder_of(folder)
        }
    }
}

/// Writes a private folder of files (name, content, mode) so that they appear all at once.
///
/// Fails if something other than an empty folder is there.
pub(super) fn write_folder(folder: &Path, files: &[(&str, String, u32)]) -> Result<(), FileError> {
    let mut filling = folder.as_os_str().to_owned();
    filling.push(format!(".{}.tmp", unique(folder)?));
    let filling = PathBuf::from(filling);
    make_private_folder(&filling)?;
    let written = files
        .iter()
        .try_for_each(|(name, text, mode)| write(&filling.join(name), text.as_bytes(), *mode))
        .and_then(|()| fs::rename(&filling, folder).map_err(failed("put in place", folder)));
    if written.is_err() {
        // Half an identity is of no use; the error that matters is the first one.
        let _ = fs::remove_dir_all(&filling);
    }
    written?;
    sync_folder_of(folder)
}

/// Holds an exclusive lock until the file is dropped; waits for another holder.
pub(super) fn lock(path: &Path) -> Result<File, FileError> {
    let options =
        OpenOptions::new().write(true).create(true).truncate(false).mode(MODE_PRIVATE).open(path);
    let file = options.map_err(failed("opened", path))?;
    file.lock().map_err(failed("locked", path))?;
    Ok(file)
}

/// The same without waiting: `None` while somebody else holds it.
pub(super) fn try_lock(path: &Path) -> Result<Option<File>, FileError> {
    let options =
        OpenOptions::new().write(true).create(true).truncate(false).mode(MODE_PRIVATE).open(path);
    let file = options.map_err(failed("opened", path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(failed("locked", path)(error)),
    }
}

/// Puts a file in the place of another one in the same folder, durable on return.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(failed("put in place", to))?;
    sync_folder_of(to)
}

/// PEM text (RFC 7468) of a certificate.
pub(super) fn pem(cert: &[u8]) -> String {
    let mut text = base64url::encode(cert).replace('-', "+").replace('_', "/");
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for (i, c) in text.chars().enumerate() {
        if i > 0 && i % 64 == 0 {
            out.push('\n');
        }
        out.push(c);
    }
    out + "\n-----END CERTIFICATE-----\n"
}

fn unique(path: &Path) -> Result<String, FileError> {
    let mut bytes = [0; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| failed("named without randomness", path)(io::ErrorKind::Other.into()))?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
}

fn sync_folder_of(path: &Path) -> Result<(), FileError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|f| f.sync_all()).map_err(failed("synced", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_the_whole_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, b"one", MODE_PRIVATE).unwrap();
        write(&path, b"two", MODE_PRIVATE).unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_over_its_cap_and_a_key_that_others_can_read_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, b"four", MODE_PUBLIC).unwrap();
        assert!(matches!(read(&path, 3), Err(FileError::Large { limit: 3, .. })));
        assert!(matches!(read_key(&path, 0o077), Err(FileError::Exposed { mode: 0o644, .. })));
        assert!(read(&folder.path().join("none"), 3).unwrap_err().is_missing());
    }
}
