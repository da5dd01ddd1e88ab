//! The slab: page-aligned memory, allocated once and lent out in leases of one size.
//!
//! A lease has one owner at a time: it moves into a request and comes back in its completion.
//! Memory for content is bounded by the slab whatever the size of a transfer; who finds it empty
//! waits.

mod slab;

pub use slab::{LEASE_ALIGN, Lease, LeaseSlice, Slab};
