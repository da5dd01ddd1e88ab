//! The file system under the root.

use std::path::Path;

use super::finding;
use crate::api::{Finding, Level};
use crate::base::human;

/// Below this share of free blocks, in percent, a file system is nearly full.
const FREE_PERCENT_MIN: u64 = 1;

/// How well a kind of file system carries a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    /// Durable, on this machine or on a cluster made for it.
    Durable,
    /// Gone at the next boot.
    Memory,
    /// The server decides what a sync is worth.
    Remote,
    /// The upper layer of a container.
    Layer,
}

/// Kinds of file systems by the magic number that `statfs` tells (statfs(2) and the file systems'
/// own headers).
const KINDS: [(u32, &str, Nature); 18] = [
    (0xEF53, "ext4", Nature::Durable),
    (0x5846_5342, "xfs", Nature::Durable),
    (0x9123_683E, "btrfs", Nature::Durable),
    (0x2FC1_2FC1, "zfs", Nature::Durable),
    (0xF2F5_2010, "f2fs", Nature::Durable),
    (0xCA45_1A4E, "bcachefs", Nature::Durable),
    (0x0BD0_0BD0, "lustre", Nature::Durable),
    (0x4750_4653, "gpfs", Nature::Durable),
    (0x1983_0326, "beegfs", Nature::Durable),
    (0x00C3_6400, "ceph", Nature::Durable),
    (0x0102_1994, "tmpfs", Nature::Memory),
    (0x8584_58F6, "ramfs", Nature::Memory),
    (0x6969, "nfs", Nature::Remote),
    (0xFF53_4D42, "cifs", Nature::Remote),
    (0xFE53_4D42, "smb2", Nature::Remote),
    (0x6573_5546, "fuse", Nature::Remote),
    (0x0102_1997, "9p", Nature::Remote),
    (0x794C_7630, "overlayfs", Nature::Layer),
];

/// Free space and kind of the root's file system.
pub(super) fn root(root: Option<&Path>) -> Finding {
    let Some(root) = root else {
        return finding("disk", Level::Ok, "not checked: no root is configured", "");
    };
    let shown = human::escaped(root.as_os_str().as_encoded_bytes());
    let told = rustix::fs::statvfs(root).and_then(|vfs| Ok((vfs, rustix::fs::statfs(root)?)));
    let (vfs, fs) = match told {
        Ok(told) => told,
        Err(error) => {
            let fix = format!("mkdir -p {shown}, or serve another directory");
            return finding("disk", Level::Fail, format!("{shown}: {error}"), fix);
        }
    };
    // The width of the number differs between systems; a magic number has 32 bits.
    let magic = fs.f_type as u32;
    judge(&Space {
        shown: &shown,
        magic,
        free_bytes: vfs.f_bavail.saturating_mul(vfs.f_frsize),
        total_bytes: vfs.f_blocks.saturating_mul(vfs.f_frsize),
        inodes: (vfs.f_favail, vfs.f_files),
        read_only: vfs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}

/// What the system tells about a file system.
pub(super) struct Space<'a> {
    pub(super) shown: &'a str,
    pub(super) magic: u32,
    pub(super) free_bytes: u64,
    pub(super) total_bytes: u64,
    /// Free and total; zero in total where there is no limit.
    pub(super) inodes: (u64, u64),
    pub(super) read_only: bool,
}

pub(super) fn judge(space: &Space<'_>) -> Finding {
    let kind = KINDS.iter().find(|(magic, ..)| *magic == space.magic);
    let name = kind.map_or_else(|| format!("type {:#x}", space.magic), |k| k.1.to_owned());
    let text = format!(
        "{} on {name}: {} of {} free",
        space.shown,
        human::bytes(space.free_bytes),
        human::bytes(space.total_bytes)
    );
    let say = |level, text: String, fix: &str| finding("disk", level, text, fix);
    if space.read_only {
        return say(Level::Fail, format!("{text}, read-only"), "mount it writable to receive");
    }
    if space.free_bytes == 0 {
        return say(Level::Fail, text, "free some space, or serve another file system");
    }
    if space.inodes.1 > 0 && space.inodes.0 == 0 {
        return say(
            Level::Fail,
            format!("{text}, but no inode is"),
            "remove files that are not needed",
        );
    }
    if space.free_bytes < space.total_bytes / 100 * FREE_PERCENT_MIN {
        return say(Level::Warn, text, "free some space: it is nearly full");
    }
    match kind.map(|k| k.2) {
        Some(Nature::Memory) => {
            say(Level::Warn, format!("{text}, in memory"), "serve a disk to keep data over a boot")
        }
        Some(Nature::Remote) => {
            let fix =
                "what counts as durable is up to the server; serve a local disk where you can";
            say(Level::Warn, text, fix)
        }
        Some(Nature::Layer) => say(
            Level::Warn,
            format!("{text}, a container's layer"),
            "mount a volume and serve that",
        ),
        Some(Nature::Durable) | None => say(Level::Ok, text, ""),
    }
}
