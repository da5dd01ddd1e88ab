//! Whether the files that decisions come from have changed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::{Config, Home};

/// What each file looks like that decisions come from.
pub(super) type Stamps = Vec<(PathBuf, Option<Stamp>)>;

/// What tells that a file changed. Two files that replace each other within one tick of the clock may
/// have the same length, so its inode counts; and who writes in place may set the time back
/// (`rsync -t`), but not the one that the system keeps.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: SystemTime,
    /// Seconds and nanoseconds of the last change of content or attributes.
    changed: (i64, i64),
    bytes: u64,
    inode: u64,
}

/// Grows by a byte whenever labels are changed.
pub(super) fn relabelled_file(home: &Home) -> PathBuf {
    home.state_dir().join("relabelled")
}

pub(super) fn stamps(home: &Home, config: &Config) -> Stamps {
    let policy = config.settings.border.policy.clone().unwrap_or_else(|| home.policy_file());
    [home.config_file(), policy, home.roles_file(), relabelled_file(home)]
        .into_iter()
        .map(|path| {
            let stamp = stamp(&path);
            (path, stamp)
        })
        .collect()
}

/// The stamps from before the files were read, so that a change meanwhile is seen; unless the
/// configuration names another policy now.
pub(super) fn unless_moved(before: Stamps, home: &Home, config: &Config) -> Stamps {
    let now = stamps(home, config);
    let same = before.iter().map(|it| &it.0).eq(now.iter().map(|it| &it.0));
    if same { before } else { now }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some(Stamp {
        modified: meta.modified().ok()?,
        changed: (meta.ctime(), meta.ctime_nsec()),
        bytes: meta.len(),
        inode: meta.ino(),
    })
}
