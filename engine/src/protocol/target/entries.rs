//! What the source announces: entries in their order, and what is known of each.

use super::{Checked, Slot, State, Target, TargetAction};
use crate::base::limits::{ENTRY_WINDOW, OBJECTS_MAX};
use crate::base::{Digest, RelPath, Seq};
use crate::manifest::{Entry, EntryKind, Object};
use crate::protocol::Failure;
use crate::wire::{Frame, Known, Verdict};

/// Where entries may lie, by those before them.
#[derive(Default)]
pub(super) struct Places {
    /// Directories whose contents may still be announced, outermost first.
    parents: Vec<RelPath>,
    last: Option<RelPath>,
    /// The snapshot is one file or link: nothing lies below it.
    single: bool,
}

impl Places {
    /// Canonical order makes every name unique, and every parent an announced directory.
    fn take(&mut self, entry: &Entry) -> Result<(), &'static str> {
        if self.last.as_ref().is_some_and(|last| *last >= entry.path) {
            return Err("entries are not in canonical order");
        }
        let parent = entry.path.parent();
        if let Some(parent) = &parent {
            while self.parents.last().is_some_and(|dir| dir != parent) {
                self.parents.pop();
            }
            if self.parents.is_empty() && !parent.is_root() {
                return Err("its directory was not announced");
            }
            if self.single {
                return Err("the snapshot is a single file");
            }
        }
        if entry.kind == EntryKind::Dir {
            self.parents.push(entry.path.clone());
        } else if entry.path.is_root() {
            self.single = true;
        }
        self.last = Some(entry.path.clone());
        Ok(())
    }
}

impl Target {
    /// The next entries are announced.
    pub(super) fn entries(&mut self, first: Seq, entries: Vec<Entry>) {
        if first != self.window.next() || self.entries_done.is_some() {
            return self.violation("entries out of turn");
        }
        if self.window.len() + entries.len() > ENTRY_WINDOW + 1 {
            return self.violation(format!("more than {ENTRY_WINDOW} entries are unsettled"));
        }
        if u64::from(first) + entries.len() as u64 > u64::from(OBJECTS_MAX) {
            return self.violation("more objects than a snapshot may have");
        }
        let mut files = 0;
        for entry in &entries {
            if let Err(detail) = self.places.take(entry) {
                return self.violation(format!("{}: {detail}", entry.path));
            }
            files += u64::from(entry.is_file());
            self.open_files += usize::from(entry.is_file());
            let Some(bytes_total) = self.bytes_total.checked_add(entry.len()) else {
                return self.violation("more content than can be counted");
            };
            self.bytes_total = bytes_total;
            let state = if entry.is_file() {
                State::Checking
            } else {
                State::Done(Object { digest: Digest::default(), len: 0, cutter: 0 })
            };
            let seq = self.window.push(Slot::new(entry.clone(), state));
            if let Err(failure) = self.judge(entry) {
                self.fail(seq, failure, true);
            }
        }
        self.files_total += files;
        if !entries.is_empty() {
            self.checks += 1;
            self.out.push_back(TargetAction::Check { first, entries });
        }
    }

    /// Whether an entry can be at the target at all. What is below a directory that cannot is deeper still.
    fn judge(&self, entry: &Entry) -> Result<(), Failure> {
        if entry.path.depth() > self.depth_max {
            let max = self.depth_max;
            let detail = format!("the target path leaves room for {max} components");
            return Err(Failure::new("path-too-deep", detail));
        }
        match &entry.kind {
            EntryKind::Symlink(text) if !entry.path.link_stays_below(text) => {
                Err(Failure::new("unsafe-link", "the link leaves the snapshot"))
            }
            _ => Ok(()),
        }
    }

    /// What is there of files that were announced.
    pub(super) fn checked(&mut self, answers: Vec<(Seq, Checked)>) {
        self.checks = self.checks.saturating_sub(1);
        let mut verdicts = Vec::with_capacity(answers.len());
        for (seq, checked) in answers {
            let Some(slot) = self.window.slot_mut(seq) else { continue };
            if slot.state != State::Checking {
                continue;
            }
            let known = match checked {
                Checked::Need => {
                    slot.state = State::Open;
                    Known::Need
                }
                Checked::Resumed(object) => {
                    slot.state = State::Done(object);
                    slot.counts.resumed = object.len;
                    self.numbers.resumed += object.len;
                    Known::Have(object)
                }
                Checked::Published(object) => {
                    slot.state = State::Done(object);
                    slot.counts.deduplicated = object.len;
                    self.numbers.deduplicated += object.len;
                    Known::Have(object)
                }
            };
            if known != Known::Need {
                self.numbers.files += 1;
                self.open_files -= 1;
            }
            verdicts.push(Verdict { seq, known });
        }
        if !verdicts.is_empty() {
            self.out.push_back(TargetAction::Send(Frame::Verdicts(verdicts)));
        }
    }
}
