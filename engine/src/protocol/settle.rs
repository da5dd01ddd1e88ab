//! A window over objects in canonical order: settled at its front, growing at its back.

use std::collections::VecDeque;

use crate::base::Seq;

/// Objects that are under way, by number; the front settles first.
pub(super) struct Window<T> {
    slots: VecDeque<T>,
    base: Seq,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self { slots: VecDeque::new(), base: 0 }
    }
}

impl<T> Window<T> {
    /// Number of the first object that is not settled.
    pub(super) fn base(&self) -> Seq {
        self.base
    }

    /// Number that the next object gets.
    pub(super) fn next(&self) -> Seq {
        self.base + self.slots.len() as Seq
    }

    /// Objects under way.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Adds an object at the back.
    pub(super) fn push(&mut self, slot: T) -> Seq {
        self.slots.push_back(slot);
        self.next() - 1
    }

    /// The object `seq`, or `None` if it is settled or not yet known.
    pub(super) fn slot(&self, seq: Seq) -> Option<&T> {
        self.slots.get(seq.checked_sub(self.base)? as usize)
    }

    /// The object `seq`, to change.
    pub(super) fn slot_mut(&mut self, seq: Seq) -> Option<&mut T> {
        self.slots.get_mut(seq.checked_sub(self.base)? as usize)
    }

    /// All objects under way, from the front.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter()
    }

    /// The front object.
    pub(super) fn front(&self) -> Option<&T> {
        self.slots.front()
    }

    /// Takes the front object out.
    pub(super) fn pop(&mut self) -> Option<T> {
        let slot = self.slots.pop_front()?;
        self.base += 1;
        Some(slot)
    }
}
