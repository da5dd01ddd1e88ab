//! What was posted and did not complete: each request's tag, and the memory that it holds.

use std::sync::Arc;

use crate::transport::rdma::Sink;

/// A request under way.
#[derive(Debug)]
pub(super) struct Entry {
    /// The caller's name for it.
    pub(super) tag: u64,
    /// Place of its queue pair.
    pub(super) queue_pair: usize,
    /// What it is.
    pub(super) kind: Kind,
}

/// Kind of a request.
#[derive(Debug)]
pub(super) enum Kind {
    /// A READ into this memory, which stays until the device is done.
    Read(Arc<Sink>),
    /// A window is being opened.
    Open(u32),
    /// A window is being closed.
    Close(u32),
}

/// The table. A request's number at the device is a slot and the slot's generation, so that a
/// completion that comes twice, or late, finds nothing.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    slots: Vec<Slot>,
    free: Vec<u32>,
    stale: u64,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    entry: Option<Entry>,
}

impl Outstanding {
    /// Takes in a request; gives its number.
    pub(super) fn insert(&mut self, entry: Entry) -> u64 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let Some(slot) = self.slots.get_mut(place as usize) else { return u64::MAX };
        slot.generation = slot.generation.wrapping_add(1);
        slot.entry = Some(entry);
        u64::from(slot.generation) << 32 | u64::from(place)
    }

    /// Takes out the request of this number; counts a number that stands for none.
    pub(super) fn remove(&mut self, number: u64) -> Option<Entry> {
        let (generation, place) = ((number >> 32) as u32, number as u32);
        let slot = self.slots.get_mut(place as usize).filter(|slot| slot.generation == generation);
        let entry = slot.and_then(|slot| slot.entry.take());
        match &entry {
            Some(_) => self.free.push(place),
            None => self.stale += 1,
        }
        entry
    }

    /// Lets go of every request. Numbers given so far stay dead.
    pub(super) fn clear(&mut self) {
        for (place, slot) in self.slots.iter_mut().enumerate() {
            if slot.entry.take().is_some() {
                self.free.push(place as u32);
            }
        }
    }

    /// Keeps the memory of all requests for good: a device may still touch it.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(self));
    }

    /// Completions that stood for no request.
    pub(super) fn stale(&self) -> u64 {
        self.stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tag: u64) -> Entry {
        Entry { tag, queue_pair: 0, kind: Kind::Open(0) }
    }

    #[test]
    fn a_late_or_doubled_completion_finds_nothing() {
        let mut table = Outstanding::default();
        let first = table.insert(entry(1));
        assert_eq!(table.remove(first).map(|entry| entry.tag), Some(1));
        assert!(table.remove(first).is_none(), "doubled");
        let second = table.insert(entry(2));
        assert_eq!(first as u32, second as u32, "the slot is used again");
        assert!(table.remove(first).is_none(), "late");
        assert_eq!(table.remove(second).map(|entry| entry.tag), Some(2));
        assert!(table.remove(u64::MAX).is_none() && table.remove(0).is_none());
        assert_eq!(table.stale(), 4);
    }

    #[test]
    fn cleared_requests_stay_dead_and_their_memory_goes() {
        let slab = crate::buf::Slab::new(0);
        let mut table = Outstanding::default();
        let sink = Sink::new(slab.try_lease().unwrap());
        let number = table.insert(Entry { tag: 1, queue_pair: 0, kind: Kind::Read(sink) });
        assert_eq!(slab.leases_out(), 1);
        table.clear();
        assert_eq!(slab.leases_out(), 0);
        table.insert(entry(2));
        assert!(table.remove(number).is_none());
    }
}
