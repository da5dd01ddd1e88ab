//! Where a node keeps its configuration and its state.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::NodeName;

/// The directories of one node: configuration and identity in one, state in the other. They are
/// the same directory where it was named explicitly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    config: PathBuf,
    state: PathBuf,
}

/// There is no way to tell where the configuration is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither --home nor PORTWAY_HOME nor HOME says where the configuration is")]
pub struct HomeError;

impl Home {
    /// Everything in one directory.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self { config: dir.clone(), state: dir }
    }

    /// `flag`, else `$PORTWAY_HOME`, else the platform's directories: `$XDG_CONFIG_HOME/portway` and
    /// `$XDG_STATE_HOME/portway` (XDG Base Directory Specification 0.8), on macOS
    /// `~/Library/Application Support/portway`. Variables come from `variable`.
    ///
    /// # Errors
    /// None of them says where.
    pub fn locate(
        flag: Option<&Path>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, HomeError> {
        if let Some(dir) = flag {
            return Ok(Self::at(dir));
        }
        // The specification tells to ignore relative paths; an empty variable counts as unset.
        let dir = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let absolute = |name: &str| dir(name).filter(|path| path.is_absolute());
        if let Some(dir) = dir("PORTWAY_HOME") {
            return Ok(Self::at(dir));
        }
        let user = absolute("HOME");
        if cfg!(target_os = "macos") {
            let library = user.ok_or(HomeError)?.join("Library/Application Support/portway");
            return Ok(Self::at(library));
        }
        let place = |xdg: &str, below: &str| {
            absolute(xdg).or_else(|| Some(user.as_ref()?.join(below))).ok_or(HomeError)
        };
        Ok(Self {
            config: place("XDG_CONFIG_HOME", ".config")?.join("portway"),
            state: place("XDG_STATE_HOME", ".local/state")?.join("portway"),
        })
    }

    /// The directory of the configuration.
    pub fn config_dir(&self) -> &Path {
        &self.config
    }

    /// The directory of what can be made again: index, caches, run-time files.
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// `portway.toml`.
    pub fn config_file(&self) -> PathBuf {
        self.config.join("portway.toml")
    }

    /// The directory of certificates and keys that `init` and `join` make.
    pub fn identity_dir(&self) -> PathBuf {
        self.config.join("identity")
    }

    /// The directory of the audit log.
    pub fn audit_dir(&self) -> PathBuf {
        self.config.join("audit")
    }

    /// The directory of what holds only while `serve` runs.
    pub fn run_dir(&self) -> PathBuf {
        self.state.join("run")
    }

    /// Where `serve` tells the other commands of this home how to reach it.
    pub fn serve_file(&self) -> PathBuf {
        self.run_dir().join("serve.json")
    }

    /// The right to serve this home, which one process has at a time. A process that ends, in
    /// whatever way, gives it back.
    ///
    /// # Errors
    /// [`ServeLockError::Taken`] while another one has it; the system's.
    pub fn serve_lock(&self) -> Result<ServeLock, ServeLockError> {
        self.create()?;
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.run_dir().join("serve.lock"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text = io::read_to_string(file).unwrap_or_default();
                return Err(ServeLockError::Taken { pid: text.trim().parse().ok() });
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        // Of one length, so that whoever is refused reads a whole number.
        file.write_all_at(format!("{:>10}\n", std::process::id()).as_bytes(), 0)?;
        Ok(ServeLock { _file: file })
    }

    /// Makes the directories, for their owner alone.
    ///
    /// # Errors
    /// The system's.
    pub fn create(&self) -> io::Result<()> {
        for dir in [&self.config, &self.state, &self.run_dir()] {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        Ok(())
    }
}

/// The right to serve a home, until it is dropped.
#[derive(Debug)]
pub struct ServeLock {
    _file: File,
}

/// Why a home cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeLockError {
    /// Another process serves it.
    #[error("this home is served already{}", pid.map_or(String::new(), |pid| format!(" by pid {pid}")))]
    Taken {
        /// Which process.
        pid: Option<u32>,
    },
    /// The lock cannot be taken.
    #[error("this home cannot be locked: {0}")]
    Io(#[from] io::Error),
}

/// What a running `serve` leaves for `invite` and `status` of the same home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServeRecord {
    /// The node's name.
    pub node: NodeName,
    /// Where it listens; an unspecified address means every address of the machine.
    pub address: SocketAddr,
    /// Its admin address, if it has one.
    pub admin: Option<SocketAddr>,
    /// Its process.
    pub pid: u32,
    /// The directory that it exports.
    #[serde(default)]
    pub root: Option<PathBuf>,
}

impl ServeRecord {
    /// Leaves the record, replacing an older one.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, home: &Home) -> io::Result<()> {
        home.create()?;
        let mut text = serde_json::to_vec(self).map_err(io::Error::other)?;
        text.push(b'\n');
        write_atomic(&home.serve_file(), &text)
    }

    /// The record of the running `serve`, or `None`. A record whose process is gone counts as none.
    ///
    /// # Errors
    /// The system's, and `InvalidData` for a record that is none.
    pub fn read(home: &Home) -> io::Result<Option<Self>> {
        let text = match std::fs::read(home.serve_file()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let record: Self = serde_json::from_slice(&text)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some(record).filter(Self::is_alive))
    }

    /// Takes the record away, unless another `serve` has replaced it.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, home: &Home) -> io::Result<()> {
        if Self::read(home)?.as_ref() == Some(self) {
            std::fs::remove_file(home.serve_file())?;
        }
        Ok(())
    }

    fn is_alive(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        // A process of another user answers EPERM: it is there.
        pid.is_some_and(|pid| {
            rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
        })
    }
}

/// Writes a file for its owner alone, in a directory of the home that is made if need be.
///
/// # Errors
/// The system's.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    write_atomic(path, content)
}

/// Replaces a file as a whole: whoever reads it sees the old or the new content, also after a crash.
/// The new file is for its owner alone unless the old one was not.
pub(super) fn write_atomic(path: &Path, content: &[u8]) -> io::Result<()> {
    // A link to the file stays a link.
    let path = match std::fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        other => other?,
    };
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = dir.join(name);
    let written = (|| {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        if let Ok(old) = std::fs::metadata(&path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        std::fs::File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locate(flag: Option<&str>, variables: &[(&str, &str)]) -> Result<Home, HomeError> {
        Home::locate(flag.map(Path::new), |name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_flag_beats_the_variable_beats_the_platform() {
        let all = [("PORTWAY_HOME", "/b"), ("HOME", "/home/u")];
        assert_eq!(locate(Some("/a"), &all), Ok(Home::at("/a")));
        assert_eq!(locate(None, &all), Ok(Home::at("/b")));
        assert_eq!(locate(None, &[("PORTWAY_HOME", "")]), Err(HomeError));
    }

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn the_platform_keeps_configuration_and_state_apart() {
        let home = locate(None, &[("HOME", "/home/u"), ("XDG_STATE_HOME", "relative")]);
        let home = home.expect("a home");
        assert_eq!(home.config_file(), Path::new("/home/u/.config/portway/portway.toml"));
        assert_eq!(home.serve_file(), Path::new("/home/u/.local/state/portway/run/serve.json"));
        let xdg = [("XDG_CONFIG_HOME", "/c"), ("XDG_STATE_HOME", "/s")];
        let home = locate(None, &xdg).expect("a home");
        assert_eq!(
            (home.config_dir(), home.state_dir()),
            ("/c/portway".as_ref(), "/s/portway".as_ref())
        );
    }

    #[test]
    fn the_record_of_a_serve_is_found_until_it_is_removed_or_its_process_ends() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::at(dir.path().join("new"));
        assert_eq!(ServeRecord::read(&home).expect("none"), None);
        let mut record = ServeRecord {
            node: "onprem".parse().expect("a name"),
            address: "127.0.0.1:7717".parse().expect("an address"),
            admin: None,
            pid: std::process::id(),
            root: None,
        };
        record.write(&home).expect("written");
        assert_eq!(ServeRecord::read(&home).expect("one"), Some(record.clone()));
        record.remove(&home).expect("removed");
        assert_eq!(ServeRecord::read(&home).expect("none"), None);
        // Process ids end well below this one (PID_MAX_LIMIT is 2^22).
        record.pid = i32::MAX as u32;
        record.write(&home).expect("written");
        assert_eq!(ServeRecord::read(&home).expect("none"), None);
    }

    #[test]
    fn a_home_is_served_by_one_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::at(dir.path().join("new"));
        let held = home.serve_lock().expect("nobody serves");
        let error = home.serve_lock().expect_err("one serves");
        let pid = std::process::id();
        assert_eq!(error.to_string(), format!("this home is served already by pid {pid}"));
        Home::at(dir.path().join("other")).serve_lock().expect("another home");
        drop(held);
        home.serve_lock().expect("nobody serves");
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_its_link() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().expect("a directory");
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::write(&real, "old").expect("written");
        std::fs::set_permissions(&real, PermissionsExt::from_mode(0o640)).expect("set");
        symlink("real", &link).expect("linked");
        write_atomic(&link, b"new").expect("written");
        assert_eq!(std::fs::read(&real).expect("read"), b"new");
        assert_eq!(std::fs::metadata(&real).expect("meta").permissions().mode() & 0o777, 0o640);
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 2);
    }
}
