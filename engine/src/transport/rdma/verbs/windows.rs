//! The windows of a rail: what is open, over which content, and memory windows to use again.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::domain::Domain;
use super::region::{Region, Use};
use super::window::MemoryWindow;
use crate::buf::Slab;
use crate::transport::rdma::RailError;

/// Keys of closed regions that are not used again soon.
const KEYS_REMEMBERED: usize = 64;

/// An open window.
pub(super) struct Opened {
    /// Place of its queue pair.
    pub(super) queue_pair: usize,
    /// How it is made.
    pub(super) by: By,
    /// Whether its closing was posted.
    pub(super) closing: bool,
    /// What can be read through it. It stays until nothing can.
    pub(super) content: Vec<Bytes>,
}

/// How a window is made.
pub(super) enum By {
    /// A memory window with this key.
    Window(MemoryWindow, u32),
    /// A region of its own.
    Region(Region),
}

/// The windows.
#[derive(Default)]
pub(super) struct Windows {
    open: HashMap<u32, Opened>,
    free: VecDeque<MemoryWindow>,
    closed_keys: VecDeque<u32>,
    next: u32,
}

impl Windows {
    /// Takes in a window; gives its name.
    pub(super) fn insert(&mut self, opened: Opened) -> u32 {
        while self.open.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.insert(id, opened);
        id
    }

    /// The window of this name.
    pub(super) fn find(&mut self, id: u32) -> Option<&mut Opened> {
        self.open.get_mut(&id)
    }

    /// A memory window that is not bound: the one that has been free the longest, or a new one.
    pub(super) fn window(
        &mut self,
        domain: &Arc<Domain>,
        region: &Arc<Region>,
    ) -> Result<MemoryWindow, RailError> {
        match self.free.pop_front() {
            Some(window) => Ok(window),
            None => MemoryWindow::new(domain, region),
        }
    }

    /// A region over `span` that the peer can read, with a key that was not in use lately.
    pub(super) fn region(
        &self,
        domain: &Arc<Domain>,
        slab: &Slab,
        span: &Range<usize>,
    ) -> Result<Region, RailError> {
        let mut old = Vec::new();
        loop {
            let region = Region::new(domain, slab, span.clone(), Use::RemoteRead)?;
            if !self.closed_keys.contains(&region.rkey()) || old.len() > KEYS_REMEMBERED {
                return Ok(region);
            }
            // It stays while another is made, which therefore gets another key.
            old.push(region);
        }
    }

    /// Forgets a window that nothing can be read through any more, and lets go of its content.
    pub(super) fn closed(&mut self, id: u32) {
        match self.open.remove(&id).map(|opened| opened.by) {
            Some(By::Window(window, _)) => self.free.push_back(window),
            Some(By::Region(region)) => {
                self.closed_keys.push_back(region.rkey());
                if self.closed_keys.len() > KEYS_REMEMBERED {
                    self.closed_keys.pop_front();
                }
            }
            None => {}
        }
    }

    /// Destroys all windows; gives the content that was behind them.
    pub(super) fn destroy(&mut self) -> Vec<Vec<Bytes>> {
        self.free.clear();
        self.open.drain().map(|(_, opened)| opened.content).collect()
    }
}

/// The smallest range that has all of `content`, which lies in one lease of the slab.
pub(super) fn span(slab: &Slab, content: &[Bytes]) -> Result<Range<usize>, RailError> {
    let parts = content.iter().filter(|part| !part.is_empty());
    let mut span: Option<Range<usize>> = None;
    for part in parts {
        if !slab.holds(part) {
            return Err(RailError::new("a window is only over content in the slab"));
        }
        let start = part.as_ptr() as usize;
        let end = start + part.len();
        span = Some(span.map_or(start..end, |old| old.start.min(start)..old.end.max(end)));
    }
    let span = span.ok_or_else(|| RailError::new("a window has to be over some content"))?;
    if !slab.in_one_lease(&span) {
        return Err(RailError::new("a window is over content of one lease only"));
    }
    Ok(span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::LEASE_BYTES;

    #[test]
    fn a_window_spans_content_of_one_lease_of_the_slab() {
        let (slab, other) = (Slab::new(0), Slab::new(0));
        let (one, two) = (slab.try_lease().unwrap(), slab.try_lease().unwrap());
        let foreign = other.try_lease().unwrap().freeze();
        let (one, two) = (one.freeze(), two.freeze());
        let start = one.as_ptr() as usize;
        let content = [one.slice(100..200), Bytes::new(), one.slice(10..20)];
        assert_eq!(span(&slab, &content).unwrap(), start + 10..start + 200);
        let whole = [one.slice(0..LEASE_BYTES)];
        assert_eq!(span(&slab, &whole).unwrap(), start..start + LEASE_BYTES);
        for wrong in [
            vec![],
            vec![Bytes::new()],
            vec![one.slice(0..1), two.slice(0..1)],
            vec![foreign.slice(0..1)],
            vec![Bytes::from_static(b"static")],
        ] {
            assert!(span(&slab, &wrong).is_err(), "{wrong:?}");
        }
    }
}
