//! One open port of a simulated node: its queue pairs, windows and completions.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use super::queue::{CompletionQueue, Entry, Kind, QueuePair, flip};
use super::window::Bound;
use crate::buf::Slab;
use crate::transport::rdma::{Completion, RailError};

/// Tags that a generation of queue pairs leaves behind for stale completions.
const TAGS_KEPT: usize = 64;

/// One of two things that a rail can sleep on.
#[derive(Clone)]
pub(super) struct Bell(pub(super) Arc<OwnedFd>);

impl Bell {
    pub(super) fn new() -> Result<Self, RailError> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map(|fd| Self(Arc::new(fd)))
            .map_err(|error| RailError::new(format!("no descriptor for wake-ups: {error}")))
    }

    pub(super) fn ring(&self) {
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    pub(super) fn silence(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

/// What wakes a rail: completions, and events of port and queue pairs.
#[derive(Clone)]
pub(super) struct Bells {
    pub(super) completion: Bell,
    pub(super) event: Bell,
}

pub(super) struct Trouble {
    pub(super) error: RailError,
    /// It is over with the queue pairs.
    pub(super) of_queue_pair: bool,
}

pub(super) struct End {
    pub(super) port: usize,
    /// The slab, registered: kept until the end is closed.
    pub(super) slab: Slab,
    pub(super) queue_pairs: Vec<QueuePair>,
    pub(super) windows: BTreeMap<u32, Bound>,
    pub(super) windows_opened: u32,
    pub(super) completions: CompletionQueue,
    /// What is done and will never be said to be; the device may still write to it.
    pub(super) lost: Vec<Kind>,
    /// Tags of this generation that completed last.
    tags: VecDeque<u64>,
    pub(super) troubles: VecDeque<Trouble>,
    pub(super) armed: bool,
    pub(super) bells: Option<Bells>,
}

impl End {
    pub(super) fn new(port: usize, slab: Slab, bells: Option<Bells>) -> Self {
        Self {
            port,
            slab,
            queue_pairs: Vec::new(),
            windows: BTreeMap::new(),
            windows_opened: 0,
            completions: CompletionQueue::default(),
            lost: Vec::new(),
            tags: VecDeque::new(),
            troubles: VecDeque::new(),
            armed: false,
            bells,
        }
    }

    pub(super) fn trouble(&mut self, what: String, of_queue_pair: bool) {
        self.troubles.push_back(Trouble { error: RailError::new(what), of_queue_pair });
        if let Some(bells) = &self.bells {
            bells.event.ring();
        }
    }

    /// Takes an entry off the completion queue: its memory is let go of, where it may be.
    pub(super) fn polled(&mut self, entry: Entry) -> Completion {
        let Entry { queue_pair, tag, result, kind, spoil, .. } = entry;
        if let Some((sink, bit)) = spoil {
            flip(&sink, bit);
        }
        if let Some(kind) = kind {
            if let Some(queue_pair) = self.queue_pairs.get_mut(queue_pair) {
                queue_pair.outstanding -= 1;
            }
            self.remember(tag);
            match kind {
                Kind::Open(id) if result.is_err() => {
                    if self.windows.get(&id).is_some_and(|window| !window.closing) {
                        self.windows.remove(&id);
                    }
                }
                // One that could not be closed keeps its content until the queue pairs are gone.
                Kind::Close(id) if result.is_ok() => {
                    self.windows.remove(&id);
                }
                Kind::Open(_) | Kind::Close(_) | Kind::Read(_) => {}
            }
        }
        Completion { tag, result: result.map_err(|status| RailError::new(status.text())) }
    }

    fn remember(&mut self, tag: u64) {
        self.tags.push_back(tag);
        if self.tags.len() > TAGS_KEPT {
            self.tags.pop_front();
        }
    }

    /// Forgets queue pairs, windows and everything posted; gives tags that are stale from now on.
    pub(super) fn destroy(&mut self) -> Vec<u64> {
        let posted = self.queue_pairs.iter().flat_map(|queue_pair| &queue_pair.work);
        let mut tags: Vec<u64> = posted.map(|work| work.tag).collect();
        tags.extend(self.completions.coming.iter().map(|entry| entry.tag));
        tags.extend(self.completions.ready.iter().map(|entry| entry.tag));
        tags.extend(self.tags.drain(..));
        tags.truncate(TAGS_KEPT);
        self.queue_pairs.clear();
        self.windows.clear();
        self.completions = CompletionQueue::default();
        self.lost.clear();
        self.armed = false;
        self.troubles.retain(|trouble| !trouble.of_queue_pair);
        tags
    }

    /// READs whose sinks this end holds.
    pub(super) fn sinks(&self) -> usize {
        let posted = self.queue_pairs.iter().flat_map(|queue_pair| &queue_pair.work);
        let posted = posted.map(|work| &work.kind);
        let entries = self.completions.coming.iter().chain(&self.completions.ready);
        let entries = entries.filter_map(|entry| entry.kind.as_ref());
        let held = posted.chain(entries).chain(&self.lost);
        held.filter(|kind| matches!(kind, Kind::Read(_))).count()
    }
}
