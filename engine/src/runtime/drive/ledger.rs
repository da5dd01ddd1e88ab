//! A target's work on journal and manifest.

use crate::audit::kill;
use crate::base::Digest;
use crate::protocol::{CommitJob, SettledObject, TargetInput};
use crate::runtime::target::TargetStore;

/// Work on journal and manifest, in the machine's order.
pub(super) enum LedgerJob {
    Commit(CommitJob),
    Settle(Vec<SettledObject>),
    Publish(Digest, u64),
}

impl LedgerJob {
    /// Does it; what the machine is told, if anything.
    pub(super) fn run(self, store: &TargetStore) -> Option<TargetInput> {
        Some(match self {
            Self::Commit(job) => {
                let committed = std::thread::scope(|scope| {
                    // The medium is waited for meanwhile.
                    scope.spawn(|| store.add_to_index(&job));
                    kill::step("commit-before");
                    store.commit(&job)
                });
                kill::step("commit-after");
                match committed {
                    Ok(objects) => TargetInput::Committed(objects),
                    Err(failure) => TargetInput::Broken(failure),
                }
            }
            Self::Settle(objects) => match store.settle(&objects) {
                Ok(()) => return None,
                Err(failure) => TargetInput::Broken(failure),
            },
            Self::Publish(root, entries) => {
                kill::step("publish-before");
                let published = store.publish(root, entries);
                kill::step("publish-after");
                TargetInput::Published(published)
            }
        })
    }
}
