//! The ways in which content is read and written.

/// Leases that a ring of the benchmark has under way.
pub(crate) const DEPTH: usize = 8;

/// One way to move bytes between leases and a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The engine's backend `pool`.
    Pool,
    /// The engine's backend `uring`.
    Uring,
    /// One plain call after the other.
    Call(Through),
    /// As `Call`, to a file that has its blocks before.
    CallAllocated(Through),
    /// `DEPTH` leases under way in one ring.
    Ring {
        through: Through,
        /// Whether the slab is registered with the ring.
        fixed: bool,
    },
}

/// What content goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through {
    /// The page cache.
    Cache,
    /// The page cache, which forgets it at once (`RWF_DONTCACHE`, Linux 6.14).
    CacheOnce,
    /// Nothing (`O_DIRECT`).
    Direct,
}

use Through::{Cache, CacheOnce, Direct};

pub(crate) const READS: &[Way] = &[
    Way::Pool,
    Way::Uring,
    Way::Call(CacheOnce),
    Way::Call(Direct),
    Way::Ring { through: Cache, fixed: false },
    Way::Ring { through: Cache, fixed: true },
    Way::Ring { through: Direct, fixed: false },
    Way::Ring { through: Direct, fixed: true },
];

pub(crate) const WRITES: &[Way] = &[
    Way::Pool,
    Way::Uring,
    Way::Call(CacheOnce),
    Way::Call(Direct),
    Way::CallAllocated(Direct),
    Way::Ring { through: Cache, fixed: false },
    Way::Ring { through: Cache, fixed: true },
    Way::Ring { through: Direct, fixed: false },
    Way::Ring { through: Direct, fixed: true },
];

impl Way {
    /// As a row of a table.
    pub(crate) fn title(self) -> String {
        match self {
            Self::Pool => "pool (as it is)".to_owned(),
            Self::Uring => "uring (as it is)".to_owned(),
            Self::Call(through) => format!("one call, {}", through.title()),
            Self::CallAllocated(through) => format!("one call, {}, allocated", through.title()),
            Self::Ring { through, fixed } => {
                let fixed = if fixed { ", registered" } else { "" };
                format!("ring of {DEPTH}, {}{fixed}", through.title())
            }
        }
    }

    /// What content goes through.
    pub(crate) fn through(self) -> Through {
        match self {
            Self::Pool | Self::Uring => Cache,
            Self::Call(through) | Self::CallAllocated(through) | Self::Ring { through, .. } => {
                through
            }
        }
    }

    /// Whether the file gets its blocks before it is written. A ring's direct writes behind the end
    /// of a file would wait for one another.
    pub(crate) fn allocates(self) -> bool {
        matches!(self, Self::CallAllocated(_) | Self::Ring { through: Direct, .. })
    }
}

impl Through {
    fn title(self) -> &'static str {
        match self {
            Cache => "cached",
            CacheOnce => "cached once",
            Direct => "direct",
        }
    }
}
