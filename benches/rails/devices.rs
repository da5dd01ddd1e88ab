//! Devices of one machine whose wire is a memory copy, made when completions are polled.

use std::collections::{HashMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use portway::base::NodeName;
use portway::buf::Slab;
use portway::transport::rdma::{
    Completion, Fabric, PortInfo, QpAddress, Rail, RailError, Read, Verbs, Window,
};

/// Work that a queue pair takes at once.
const DEPTH: usize = 64;
/// READs that are carried out at one poll.
const BATCH: usize = 4;

/// Windows of both ends by their key.
#[derive(Default)]
struct Hub {
    windows: Mutex<HashMap<u32, Bytes>>,
    next: AtomicU32,
}

/// The only device of one end.
pub(crate) struct CopyVerbs {
    hub: Arc<Hub>,
    name: &'static str,
}

impl CopyVerbs {
    /// The devices of two ends that reach each other.
    pub(crate) fn pair() -> [Self; 2] {
        let hub = Arc::<Hub>::default();
        ["copy0", "copy1"].map(|name| Self { hub: Arc::clone(&hub), name })
    }
}

impl Verbs for CopyVerbs {
    type Rail = CopyRail;

    fn ports(&self) -> Vec<PortInfo> {
        vec![PortInfo {
            device: self.name.to_owned(),
            port: 1,
            fabric: Fabric::Ethernet,
            gid: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1],
            gid_index: 0,
            lid: 0,
            mtu: 4096,
            rate_mbit: 0,
            numa: None,
            reads_max: 16,
        }]
    }

    fn open(&self, _: &PortInfo, _: &NodeName, _: &Slab) -> Result<CopyRail, RailError> {
        Ok(CopyRail { hub: Arc::clone(&self.hub), work: Vec::new(), keys: HashMap::new() })
    }
}

enum Work {
    Read(Read),
    Other,
}

/// An open port of [`CopyVerbs`].
pub(crate) struct CopyRail {
    hub: Arc<Hub>,
    /// What is posted on each queue pair.
    work: Vec<VecDeque<(u64, Work)>>,
    keys: HashMap<u32, usize>,
}

impl CopyRail {
    fn post(&mut self, queue_pair: usize, tag: u64, work: Work) -> Result<(), RailError> {
        let queue = self.work.get_mut(queue_pair).ok_or_else(|| RailError::new("no queue pair"))?;
        queue.push_back((tag, work));
        Ok(())
    }

    fn copy(&self, read: &Read) -> Result<(), RailError> {
        let windows = self.hub.windows.lock().expect("nobody panicked");
        let content = windows.get(&read.rkey).cloned();
        drop(windows);
        let content = content.ok_or_else(|| RailError::new("no such window"))?;
        let from = read.remote as usize - content.as_ptr() as usize;
        let part = content.get(from..from + read.len);
        let part = part.ok_or_else(|| RailError::new("outside the window"))?;
        read.sink.lease()[read.at..read.at + read.len].copy_from_slice(part);
        Ok(())
    }
}

impl Rail for CopyRail {
    fn create(&mut self, count: usize) -> Result<Vec<QpAddress>, RailError> {
        self.destroy();
        self.work = (0..count).map(|_| VecDeque::new()).collect();
        Ok(vec![QpAddress { number: 1, psn: 1 }; count])
    }

    fn connect(&mut self, _: &PortInfo, _: &[QpAddress]) -> Result<(), RailError> {
        Ok(())
    }

    fn destroy(&mut self) {
        self.work.clear();
        let mut windows = self.hub.windows.lock().expect("nobody panicked");
        for key in self.keys.drain() {
            windows.remove(&key.0);
        }
    }

    fn room(&self, queue_pair: usize) -> usize {
        self.work.get(queue_pair).map_or(0, |queue| DEPTH.saturating_sub(queue.len()))
    }

    fn read(&mut self, queue_pair: usize, tag: u64, read: Read) -> Result<(), RailError> {
        self.post(queue_pair, tag, Work::Read(read))
    }

    fn open_window(
        &mut self,
        queue_pair: usize,
        tag: u64,
        content: Vec<Bytes>,
    ) -> Result<Window, RailError> {
        let [content] = <[Bytes; 1]>::try_from(content).map_err(|_| RailError::new("parts"))?;
        let rkey = self.hub.next.fetch_add(1, Ordering::Relaxed);
        let base = content.as_ptr() as u64;
        self.keys.insert(rkey, queue_pair);
        self.hub.windows.lock().expect("nobody panicked").insert(rkey, content);
        self.post(queue_pair, tag, Work::Other)?;
        Ok(Window { id: rkey, base, rkey })
    }

    fn close_window(&mut self, tag: u64, id: u32) -> Result<(), RailError> {
        let queue_pair = self.keys.remove(&id).ok_or_else(|| RailError::new("no such window"))?;
        self.hub.windows.lock().expect("nobody panicked").remove(&id);
        self.post(queue_pair, tag, Work::Other)
    }

    fn ring(&mut self) -> Result<(), RailError> {
        Ok(())
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), RailError> {
        let mut reads = 0;
        for queue_pair in 0..self.work.len() {
            while reads < BATCH {
                let Some((tag, work)) = self.work[queue_pair].pop_front() else { break };
                if let Work::Read(read) = work {
                    self.copy(&read)?;
                    reads += 1;
                }
                done.push(Completion { tag, result: Ok(()) });
            }
        }
        Ok(())
    }

    fn trouble(&mut self) -> Option<RailError> {
        None
    }

    fn is_up(&mut self) -> bool {
        true
    }

    fn arm(&mut self) -> Result<(), RailError> {
        Ok(())
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
}
