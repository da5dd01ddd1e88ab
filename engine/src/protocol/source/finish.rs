//! The end of objects and of the transfer: settled in order, and the root over all of them.

use super::{Source, SourceAction, State};
use crate::base::{Digest, Seq};
use crate::wire::Frame;

impl Source {
    pub(super) fn settle(&mut self, below: Seq) {
        if below > self.window.next() {
            return self.violation("more objects are settled than there are");
        }
        while self.window.base() < below {
            let seq = self.window.base();
            let Some(slot) = self.window.pop() else { return };
            match slot.state {
                State::Failed => {}
                State::Known(object) => {
                    let digest = slot.entry.is_file().then_some(object.digest);
                    self.root.push(&slot.entry, digest);
                    self.out.push_back(SourceAction::Close { seq, round: slot.round });
                }
                State::Announced | State::Queued | State::Reading => {
                    return self.violation(format!("object {seq} is settled before it was read"));
                }
            }
        }
    }

    /// Tells the root as soon as everything was read: the target need not ask for it when the last
    /// content has arrived.
    pub(super) fn tell_root(&mut self) {
        if self.scan_done && self.unread == 0 && self.root_sent.is_none() {
            let (root, failed) = (self.root_ahead(), self.failed());
            self.root_sent = Some(root);
            self.out.push_back(SourceAction::Send(Frame::Root { root, failed }));
        }
    }

    /// The root over everything, once all of it is known.
    fn root_ahead(&self) -> Digest {
        let mut root = self.root.clone();
        for slot in self.window.iter() {
            if let State::Known(object) = slot.state {
                root.push(&slot.entry, slot.entry.is_file().then_some(object.digest));
            }
        }
        root.finish()
    }
}
