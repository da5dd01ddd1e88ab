//! Who reads what for peers, so that nothing is removed under a reader.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::RelPath;

/// How long a reader whose session was lost may take to come back: the longest pause between two
/// attempts of an opener (10 s), and time to dial.
const COMES_BACK: Duration = Duration::from_mins(1);

/// Paths that are being read.
#[derive(Default)]
pub struct Readers(Mutex<Vec<Entry>>);

struct Entry {
    id: u64,
    path: RelPath,
    /// When it counts no more; `None` while it reads.
    until: Option<Instant>,
}

/// A path is being read until this is dropped.
pub struct Reading<'a> {
    readers: &'a Readers,
    id: u64,
    comes_back: bool,
}

impl Readers {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        entries.retain(|entry| entry.until.is_none_or(|until| until > now));
        entries
    }

    /// Whether anyone reads just now.
    pub fn any(&self) -> bool {
        self.entries().iter().any(|entry| entry.until.is_none())
    }

    /// Begins to read `path` and what is below it.
    pub fn begin(&self, path: &RelPath) -> Reading<'_> {
        let mut entries = self.entries();
        let id = entries.iter().map(|entry| entry.id + 1).max().unwrap_or(0);
        entries.push(Entry { id, path: path.clone(), until: None });
        Reading { readers: self, id, comes_back: false }
    }

    /// Does `work`, and lets nobody begin to read meanwhile, unless `path`, something below it or a
    /// directory above it is being read.
    pub fn unless_read<T>(&self, path: &RelPath, work: impl FnOnce() -> T) -> Option<T> {
        let entries = self.entries();
        let touches = |read: &RelPath| read.strip(path).is_some() || path.strip(read).is_some();
        (!entries.iter().any(|entry| touches(&entry.path))).then(work)
    }
}

impl Reading<'_> {
    /// The reader's session was lost: it counts for a while longer.
    pub fn comes_back(&mut self) {
        self.comes_back = true;
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut entries = self.readers.entries();
        let Some(at) = entries.iter().position(|entry| entry.id == self.id) else { return };
        let Entry { id, path, .. } = entries.swap_remove(at);
        if self.comes_back {
            // One is enough for those that read the same again and again.
            entries.retain(|entry| entry.until.is_none() || entry.path != path);
            entries.push(Entry { id, path, until: Some(Instant::now() + COMES_BACK) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_with_what_is_above_and_below_it() {
        let path = |text: &str| RelPath::from_typed(text.as_bytes()).unwrap();
        let readers = Readers::default();
        let free = |text| readers.unless_read(&path(text), || ()).is_some();
        let other = readers.begin(&path("b"));
        let mut reading = readers.begin(&path("runs/7/step-1"));
        drop(other);
        assert!(!free("runs/7/step-1") && !free("runs/7") && !free("runs/7/step-1/model"));
        assert!(free("runs/7/step-10") && free("runs/8") && free("b"));
        reading.comes_back();
        drop(reading);
        for _ in 0..3 {
            readers.begin(&path("runs/7/step-1/model")).comes_back();
        }
        assert_eq!(readers.entries().len(), 2, "what is read again and again is one entry");
        assert!(!free("runs/7/step-1"), "its session was lost, and it may come back");
        let reading = readers.begin(&path("b"));
        drop(reading);
        assert!(free("b"));
    }
}
