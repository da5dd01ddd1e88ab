//! Units, identifiers, extents, paths and limits that every other module speaks in.

mod digest;
pub mod hex;
pub mod human;
mod ids;
pub mod limits;
mod parts;
mod path;
mod priority;
mod rate;
pub mod utc;
mod words;

pub(crate) use digest::PieceHasher;
pub use digest::{Digest, ParseDigestError};
pub use ids::{
    Class, Extent, Jurisdiction, NodeName, ParseNameError, ParseTransferIdError, Seq, SiteName,
    Stamp, Tier, TransferId,
};
pub use parts::{Parts, PartsError};
pub use path::{PathError, RelPath};
pub use priority::{ParsePriorityError, Priority};
pub use rate::{ParseRateError, Rate};
pub(crate) use words::words;

/// Nanoseconds on a clock that only ever moves forward, with an arbitrary origin.
///
/// Pure modules are given the time; in the simulation it is virtual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The time `ms` milliseconds later.
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// Milliseconds since `earlier`; zero if `earlier` is later.
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }
}

/// Seconds and nanoseconds since the Unix epoch, as a file system keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct FileTime {
    /// Whole seconds; negative before 1970.
    pub secs: i64,
    /// Nanoseconds within the second, below 1,000,000,000.
    pub nanos: u32,
}
