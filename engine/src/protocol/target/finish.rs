//! The end of objects and of the transfer: settled in order, then published.

use super::{SettledObject, Slot, State, Stop, Target, TargetAction, TargetEnd, Task};
use crate::protocol::{FailedObject, Failure};
use crate::wire::{Frame, Published};

impl Target {
    /// Settles the objects at the front of the window that are done or failed.
    pub(super) fn settle_front(&mut self) {
        let mut settled = Vec::new();
        while self.window.front().is_some_and(Slot::settled) {
            let seq = self.window.base();
            let Some(slot) = self.window.pop() else { break };
            let State::Done(object) = slot.state else { continue };
            let object = slot.entry.is_file().then_some(object);
            self.root.push(&slot.entry, object.map(|o| o.digest));
            settled.push(SettledObject { seq, entry: slot.entry, object, list: slot.list });
        }
        if !settled.is_empty() && self.task == Task::Receive {
            self.out.push_back(TargetAction::Settle(settled));
        }
        let state = (self.window.base(), self.numbers);
        if state != self.settled_sent {
            self.settled_sent = state;
            let (below, numbers) = state;
            self.out.push_back(TargetAction::Send(Frame::Settled { below, numbers }));
        }
    }

    /// Publishes once everything is settled and both ends have the same root.
    pub(super) fn publish_if_complete(&mut self) {
        let (Some(_), Some((theirs, failed)), 0, false) =
            (self.entries_done, self.their_root, self.window.len(), self.publishing)
        else {
            return;
        };
        if self.checks > 0 {
            // Directories and links wait for nothing, but whether they changed is to be known.
            return;
        }
        if failed < self.failed() {
            // It has yet to hear of some, and makes another root then.
            return;
        }
        let root = self.root.finish();
        if root != theirs {
            let detail = format!("the source's root is {theirs}, what was received has {root}");
            return self.stop(Stop::Violation(Failure::new("root-mismatch", detail)));
        }
        if !self.failed.is_empty() && self.numbers.files == 0 {
            let FailedObject { path, failure, .. } = &self.failed[0];
            let detail = format!("every file failed, the first is {path}: {}", failure.detail);
            let failure = Failure::new("nothing-to-publish", detail);
            return self.stop(Stop::Violation(failure));
        }
        self.publishing = true;
        if self.task == Task::Plan {
            return self.published(Ok(()));
        }
        let entries = self.root.entries();
        self.out.push_back(TargetAction::Publish { root, entries });
        if self.planted.duplicate_publish {
            self.out.push_back(TargetAction::Publish { root, entries });
        }
    }

    /// It was published, or could not be.
    pub(super) fn published(&mut self, result: Result<(), Failure>) {
        match result {
            Err(failure) => self.stop(Stop::Local(failure)),
            Ok(()) => {
                let published = Published { root: self.root.finish(), numbers: self.numbers };
                self.out.push_back(TargetAction::Send(Frame::Published(published.clone())));
                let failed = std::mem::take(&mut self.failed);
                self.ended = true;
                self.out.push_back(TargetAction::End(TargetEnd::Published(published, failed)));
            }
        }
    }
}
