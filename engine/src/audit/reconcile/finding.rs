//! What a comparison of two logs finds, in words.

use std::fmt;

use crate::audit::extents::ExtentSet;
use crate::audit::names::Ending;
use crate::base::TransferId;

/// One of the two logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// The first one.
    Ours,
    /// The second one.
    Theirs,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "our log",
            Self::Theirs => "their log",
        })
    }
}

/// One thing in which two logs differ, or in which one contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// One log knows nothing of a transfer between the two nodes that did something.
    Missing {
        /// The transfer.
        transfer: TransferId,
        /// The log that lacks it.
        end: End,
    },
    /// The logs say different things of a transfer.
    Value {
        /// The transfer.
        transfer: TransferId,
        /// What differs.
        what: &'static str,
        /// What ours says.
        ours: String,
        /// What theirs says.
        theirs: String,
    },
    /// Bytes that crossed according to one log only.
    Extents {
        /// The transfer.
        transfer: TransferId,
        /// Those that are only in ours.
        ours: ExtentSet,
        /// Those that are only in theirs.
        theirs: ExtentSet,
    },
    /// Content crossed, and this log has no decision before it that granted it.
    NotGranted {
        /// The transfer.
        transfer: TransferId,
        /// The log.
        end: End,
        /// The record that says that content crossed.
        seq: u64,
    },
    /// A receipt is not signed by both ends, or says something else than the log that it is in.
    Receipt {
        /// The transfer.
        transfer: TransferId,
        /// The log.
        end: End,
        /// The receipt's record.
        seq: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A receipt in one log names a stop record that the other one does not have.
    ReceiptMissing {
        /// The transfer.
        transfer: TransferId,
        /// The log that lacks it.
        end: End,
    },
    /// An end did not sign what the other one said.
    Disputed {
        /// The transfer.
        transfer: TransferId,
        /// The log that tells it.
        end: End,
        /// The record.
        seq: u64,
        /// What differed, in that end's words.
        why: String,
    },
}

impl Difference {
    /// The transfer.
    pub fn transfer(&self) -> TransferId {
        match self {
            Self::Missing { transfer, .. }
            | Self::Value { transfer, .. }
            | Self::Extents { transfer, .. }
            | Self::NotGranted { transfer, .. }
            | Self::Receipt { transfer, .. }
            | Self::ReceiptMissing { transfer, .. }
            | Self::Disputed { transfer, .. } => *transfer,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transfer {}: ", self.transfer())?;
        match self {
            Self::Missing { end, .. } => write!(f, "{end} knows nothing of it"),
            Self::Value { what, ours, theirs, .. } => {
                write!(f, "{what} is {ours} in our log and {theirs} in their log")
            }
            Self::Extents { ours, theirs, .. } => {
                let (ours, theirs) = (ours.bytes(), theirs.bytes());
                write!(f, "{ours} bytes crossed only by our log, {theirs} only by their log")
            }
            Self::NotGranted { end, seq, .. } => {
                write!(f, "content crossed without a grant before it ({end}, record {seq})")
            }
            Self::Receipt { end, seq, what, .. } => {
                write!(f, "the receipt {what} ({end}, record {seq})")
            }
            Self::ReceiptMissing { end, .. } => {
                write!(f, "{end} lacks what a receipt in the other one is about")
            }
            Self::Disputed { end, seq, why, .. } => {
                write!(f, "it was not signed for: {why} ({end}, record {seq})")
            }
        }
    }
}

/// Something that a lost link or a process that died explains, and that is told all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// Bytes that one log has and the other has not, of sessions that were cut short.
    Unsettled {
        /// The transfer.
        transfer: TransferId,
        /// Bytes that left and are not known to have arrived.
        left_only: u64,
        /// Bytes that arrived and that the sender, which died, did not come to record.
        arrived_only: u64,
    },
    /// One end saw the end of the last session, the other one did not.
    Ending {
        /// The transfer.
        transfer: TransferId,
        /// How it ended by our log.
        ours: Option<Ending>,
        /// How it ended by theirs.
        theirs: Option<Ending>,
    },
    /// One end died, or lost the link, before it had the receipt that the other one has.
    ReceiptMissing {
        /// The transfer.
        transfer: TransferId,
        /// The log that lacks it.
        end: End,
    },
    /// Content was published, and both ends lost each other before they signed for it.
    Unsigned {
        /// The transfer.
        transfer: TransferId,
    },
    /// One end prepared for a transfer of which the other one has no record; nothing moved.
    OneSided {
        /// The transfer.
        transfer: TransferId,
        /// The log that has it.
        end: End,
    },
    /// Each end calls the link by another name; names of links are of each node's configuration.
    Link {
        /// The transfer.
        transfer: TransferId,
        /// Its name by our log.
        ours: String,
        /// Its name by theirs.
        theirs: String,
    },
}

impl Remark {
    /// The transfer.
    pub fn transfer(&self) -> TransferId {
        match self {
            Self::Unsettled { transfer, .. }
            | Self::Ending { transfer, .. }
            | Self::ReceiptMissing { transfer, .. }
            | Self::Unsigned { transfer }
            | Self::OneSided { transfer, .. }
            | Self::Link { transfer, .. } => *transfer,
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = |ending: &Option<Ending>| ending.map_or("not recorded", Ending::as_str);
        write!(f, "transfer {}: ", self.transfer())?;
        match self {
            Self::Unsettled { left_only, arrived_only, .. } => write!(
                f,
                "a session was cut short: {left_only} bytes left and are not known to have arrived, \
                 {arrived_only} arrived and were not recorded as left"
            ),
            Self::Ending { ours, theirs, .. } => {
                let (ours, theirs) = (ending(ours), ending(theirs));
                write!(f, "its end is {ours} in our log and {theirs} in their log")
            }
            Self::ReceiptMissing { end, .. } => {
                write!(f, "{end} was cut short before it had the receipt")
            }
            Self::Unsigned { .. } => f.write_str("it was cut short before a receipt was signed"),
            Self::OneSided { end, .. } => write!(f, "only {end} has it, and nothing moved"),
            Self::Link { ours, theirs, .. } => {
                write!(f, "the link is called {ours} in our log and {theirs} in their log")
            }
        }
    }
}
