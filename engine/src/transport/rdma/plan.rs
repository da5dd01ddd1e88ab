//! What a measurement asks of a port: which operation, over how many queue pairs, how large, how
//! many under way.

use super::{PortInfo, QpAddress, RailError};
use crate::base::limits::LEASE_BYTES;

/// Queue pairs of a measurement at most.
const QUEUE_PAIRS_MAX: usize = 64;
/// Messages under way in a queue pair at most.
const DEPTH_MAX: usize = 4096;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// RDMA READ: the end that measures takes content from the other one's memory.
    Read,
    /// RDMA WRITE: it puts content into the other one's memory.
    Write,
    /// SEND: the other end has receives posted, and the content goes where they say.
    Send,
}

/// Which end of a measurement a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It posts the operations.
    Asks,
    /// Its memory is read or written.
    Answers,
}

/// A measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What is measured.
    pub operation: Operation,
    /// Queue pairs, 1 to 64.
    pub queue_pairs: usize,
    /// Messages under way in each of them, 1 to 4096.
    pub depth: usize,
    /// Bytes of a message, 1 to 2 MiB.
    pub bytes: usize,
}

impl Plan {
    /// Whether all of it is within its bounds.
    ///
    /// # Errors
    /// One is not, and is named.
    pub fn check(&self) -> Result<(), RailError> {
        let bounds = [
            ("queue pairs", self.queue_pairs, QUEUE_PAIRS_MAX),
            ("messages under way in a queue pair", self.depth, DEPTH_MAX),
            ("bytes of a message", self.bytes, LEASE_BYTES),
        ];
        match bounds.iter().find(|(_, value, most)| !(1..=*most).contains(value)) {
            None => Ok(()),
            Some((what, value, most)) => {
                Err(RailError::new(format!("{value} {what}: 1 to {most} can be measured")))
            }
        }
    }
}

/// A queue pair, and the memory that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The queue pair.
    pub pair: QpAddress,
    /// Address of the first byte.
    pub base: u64,
    /// Key of the memory for the peer.
    pub rkey: u32,
}

/// The ports that go together best, as places in both lists; `None` if none do.
pub fn best_pair(mine: &[PortInfo], yours: &[PortInfo]) -> Option<(usize, usize)> {
    super::pair::pair(mine, yours, None).first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let plan = Plan { operation: Operation::Read, queue_pairs: 1, depth: 1, bytes: 1 };
        assert_eq!(plan.check(), Ok(()));
        let most = Plan { queue_pairs: 64, depth: 4096, bytes: LEASE_BYTES, ..plan };
        assert_eq!(most.check(), Ok(()));
        let words = |plan: Plan| plan.check().unwrap_err().what;
        assert_eq!(
            words(Plan { queue_pairs: 65, ..plan }),
            "65 queue pairs: 1 to 64 can be measured"
        );
        assert!(words(Plan { depth: 0, ..plan }).starts_with("0 messages under way"));
        assert!(words(Plan { bytes: LEASE_BYTES + 1, ..plan }).contains("bytes of a message"));
    }
}
