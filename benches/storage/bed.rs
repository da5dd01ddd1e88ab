//! Where ways are measured: one file to read, one to write, leases, and the clocks.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use portway::base::limits::LEASE_BYTES;
use portway::base::{Digest, RelPath};
use portway::buf::{Lease, Slab};
use portway::storage::{Backend, Method, OsTree, Tree as _};
use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate};
use rustix::io::{IoSlice, IoSliceMut, ReadWriteFlags};
use rustix::time::{ClockId, clock_gettime};

use crate::Work;
use crate::ring::{Ring, Verb};
use crate::way::{DEPTH, Through, Way};

/// What direct I/O is aligned to, in the file and in memory: enough for every device of today.
const ALIGN: usize = 4096;
/// Names of the files.
const SOURCE: &str = "portway-bench-source";
const TARGET: &str = "portway-bench-target";

/// A part of a file and where it lies in a lease.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) len: usize,
    at: usize,
}

impl Piece {
    pub(crate) fn of(self, lease: &[u8]) -> &[u8] {
        &lease[self.at..self.at + self.len]
    }

    pub(crate) fn of_mut(self, lease: &mut [u8]) -> &mut [u8] {
        &mut lease[self.at..self.at + self.len]
    }

    /// Head, aligned middle and tail. Memory and file have the same alignment.
    fn split(self) -> [Self; 3] {
        let head = (ALIGN - self.at % ALIGN) % ALIGN;
        let middle = (self.len - head) / ALIGN * ALIGN;
        let part =
            |skip: usize, len| Self { offset: self.offset + skip as u64, len, at: self.at + skip };
        [part(0, head), part(head, middle), part(head + middle, self.len - head - middle)]
    }
}

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) gb: f64,
    pub(crate) wall_s: f64,
    pub(crate) cpu_s: f64,
    pub(crate) all_s: f64,
}

pub(crate) struct Bed {
    dir: PathBuf,
    bytes: u64,
    slab: Slab,
    content: Vec<u8>,
}

impl Bed {
    pub(crate) fn new(dir: &Path, bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let bed = Self {
            dir: dir.canonicalize()?,
            bytes: bytes / LEASE_BYTES as u64 * LEASE_BYTES as u64,
            slab: Slab::new(2 * DEPTH * LEASE_BYTES),
            content: noise(),
        };
        let source = File::create(bed.dir.join(SOURCE))?;
        for piece in pieces(bed.bytes, false) {
            source.write_all_at(piece.of(&bed.content), piece.offset)?;
        }
        source.sync_all()?;
        Ok(bed)
    }

    /// Directory and file system, in words.
    pub(crate) fn place(&self) -> String {
        let kind = rustix::fs::statfs(&self.dir).map_or(0, |stat| stat.f_type);
        let name = match kind {
            0xEF53 => "ext4",
            0x0102_1994 => "tmpfs",
            0x5846_5342 => "XFS",
            0x9123_683E => "btrfs",
            _ => "another file system",
        };
        format!("{} ({name})", self.dir.display())
    }

    /// Does the work once.
    pub(crate) fn once(&self, way: Way, work: Work) -> Result<Sample> {
        let name = self.dir.join(if matches!(work, Work::Read { .. }) { SOURCE } else { TARGET });
        if let Work::Write { .. } = work {
            let target = File::create(&name)?;
            // What an earlier run left is gone before the clock starts.
            target.sync_all()?;
        }
        let mut leases: Vec<Lease> =
            std::iter::from_fn(|| self.slab.try_lease()).take(DEPTH).collect();
        for lease in &mut leases {
            lease.copy_from_slice(&self.content);
        }
        let mut hands = Hands::new(self, way, &name, leases)?;
        let (odd, sync_bytes, verb) = match work {
            Work::Read { warm, .. } => {
                set_cached(&name, warm)?;
                (false, u64::MAX, Verb::Read)
            }
            Work::Write { odd, sync_bytes } => (odd, sync_bytes, Verb::Write),
        };
        let digest = matches!(work, Work::Read { digest: true, .. });
        let pieces = pieces(self.bytes, odd);
        let clocks = Clocks::now();
        if way.allocates() && verb == Verb::Write {
            fallocate(&hands.cached, FallocateFlags::empty(), 0, self.bytes)?;
        }
        let mut rest = &pieces[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|piece| {
                bytes += piece.len as u64;
                bytes <= sync_bytes
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            hands.pass(verb, now, |bytes| {
                if digest {
                    std::hint::black_box(Digest::of(bytes));
                }
            })?;
            if verb == Verb::Write {
                hands.cached.sync_all()?;
            }
            rest = later;
        }
        let sample = clocks.since(self.bytes);
        drop(hands);
        self.check(&name, &pieces)?;
        Ok(sample)
    }

    /// The file must hold what the leases held.
    fn check(&self, name: &Path, pieces: &[Piece]) -> Result<()> {
        let file = File::open(name)?;
        let mut buf = vec![0; LEASE_BYTES];
        for piece in pieces {
            file.read_exact_at(&mut buf[..piece.len], piece.offset)?;
            ensure!(buf[..piece.len] == *piece.of(&self.content), "wrong at {}", piece.offset);
        }
        Ok(())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for name in [SOURCE, TARGET] {
            let _ = std::fs::remove_file(self.dir.join(name));
        }
    }
}

/// What carries out a way: descriptors and leases.
struct Hands {
    cached: File,
    flags: ReadWriteFlags,
    direct: Option<File>,
    engine: Option<std::sync::Arc<dyn portway::storage::File>>,
    ring: Option<Ring>,
    leases: Vec<Lease>,
}

impl Hands {
    fn new(bed: &Bed, way: Way, name: &Path, mut leases: Vec<Lease>) -> Result<Self> {
        let through = way.through();
        let cached = OpenOptions::new().read(true).write(true).open(name)?;
        let direct = (through == Through::Direct).then(|| {
            let flags = OFlags::DIRECT.bits().cast_signed();
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(name)
        });
        let engine = match way {
            Way::Pool => Some(Backend::Pool),
            Way::Uring => Some(Backend::Uring),
            _ => None,
        };
        let engine = engine.map(|backend| {
            let tree = OsTree::open_with(&bed.dir, Method { backend, direct: false })?;
            let path = name.file_name().context("a name")?;
            let path = RelPath::from_bytes(path.as_encoded_bytes())?;
            anyhow::Ok(tree.open_rw(&path)?)
        });
        let ring = match way {
            Way::Ring { fixed, .. } => {
                Some(Ring::new(&bed.slab, std::mem::take(&mut leases), fixed)?)
            }
            _ => None,
        };
        Ok(Self {
            cached,
            // `RWF_DONTCACHE` of linux/fs.h.
            flags: match through {
                Through::CacheOnce => ReadWriteFlags::from_bits_retain(0x80),
                _ => ReadWriteFlags::empty(),
            },
            direct: direct.transpose().context("O_DIRECT")?,
            engine: engine.transpose()?,
            ring,
            leases,
        })
    }

    fn pass(&mut self, verb: Verb, pieces: &[Piece], mut each: impl FnMut(&[u8])) -> Result<()> {
        let file = self.direct.as_ref().unwrap_or(&self.cached);
        if let Some(ring) = &mut self.ring {
            if self.direct.is_none() || verb == Verb::Read {
                return ring.pass(verb, file, pieces, each);
            }
            // Edges first, one by one: they share pages with their neighbours' edges.
            let middles: Vec<Piece> = pieces.iter().map(|piece| piece.split()[1]).collect();
            for piece in pieces {
                let [head, _, tail] = piece.split();
                self.cached.write_all_at(head.of(ring.any_lease()), head.offset)?;
                self.cached.write_all_at(tail.of(ring.any_lease()), tail.offset)?;
            }
            return ring.pass(verb, file, &middles, each);
        }
        for (piece, slot) in pieces.iter().zip((0..DEPTH).cycle()) {
            let lease = &mut self.leases[slot];
            match (&self.engine, verb) {
                (Some(engine), Verb::Read) => {
                    let read = engine.read_at(piece.of_mut(lease), piece.offset)?;
                    ensure!(read == piece.len, "{read} bytes of {}", piece.len);
                }
                (Some(engine), Verb::Write) => engine.write_at(piece.of(lease), piece.offset)?,
                (None, Verb::Read) => read_all(file, piece, lease, self.flags)?,
                (None, Verb::Write) if self.direct.is_some() => {
                    let [head, middle, tail] = piece.split();
                    self.cached.write_all_at(head.of(lease), head.offset)?;
                    write_all(file, &middle, lease, self.flags)?;
                    self.cached.write_all_at(tail.of(lease), tail.offset)?;
                }
                (None, Verb::Write) => write_all(file, piece, lease, self.flags)?,
            }
            each(piece.of(lease));
        }
        Ok(())
    }
}

fn read_all(file: &File, piece: &Piece, lease: &mut [u8], flags: ReadWriteFlags) -> Result<()> {
    let mut done = 0;
    while done < piece.len {
        let rest = &mut piece.of_mut(lease)[done..];
        let offset = piece.offset + done as u64;
        let read = rustix::io::preadv2(file, &mut [IoSliceMut::new(rest)], offset, flags)?;
        ensure!(read > 0, "the file ends early");
        done += read;
    }
    Ok(())
}

fn write_all(file: &File, piece: &Piece, lease: &[u8], flags: ReadWriteFlags) -> Result<()> {
    let mut done = 0;
    while done < piece.len {
        let rest = &piece.of(lease)[done..];
        let offset = piece.offset + done as u64;
        let written = rustix::io::pwritev2(file, &[IoSlice::new(rest)], offset, flags)?;
        ensure!(written > 0, "nothing was written");
        done += written;
    }
    Ok(())
}

/// A file of `bytes` in pieces of a lease. Odd ones are a little shorter, and lie in the lease as
/// they lie in the file's pages, which is what direct I/O needs.
fn pieces(bytes: u64, odd: bool) -> Vec<Piece> {
    let (mut pieces, mut offset) = (Vec::new(), 0);
    while offset < bytes {
        let at = (offset % ALIGN as u64) as usize;
        let shorter = if odd { ALIGN + (offset / 7 % 50_000) as usize } else { 0 };
        let len = (LEASE_BYTES - shorter).min((bytes - offset) as usize);
        pieces.push(Piece { offset, len, at });
        offset += len as u64;
    }
    pieces
}

/// Bytes that no device can squeeze.
fn noise() -> Vec<u8> {
    let mut content = Vec::with_capacity(LEASE_BYTES);
    for block in 0..LEASE_BYTES as u64 / 32 {
        content.extend_from_slice(&Digest::of(&block.to_le_bytes()).0);
    }
    content
}

/// Puts a file into the page cache or out of it.
fn set_cached(name: &Path, cached: bool) -> Result<()> {
    let mut file = File::open(name)?;
    if cached {
        std::io::copy(&mut file, &mut std::io::sink())?;
    } else {
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// Clocks at one moment.
struct Clocks {
    at: Instant,
    cpu_s: f64,
    all_s: f64,
}

impl Clocks {
    fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        // user, nice, system, idle, iowait, irq, softirq (proc(5)), in ticks.
        let fields: Vec<u64> = stat
            .lines()
            .next()
            .unwrap_or_default()
            .split(' ')
            .filter_map(|f| f.parse().ok())
            .collect();
        let ticks: u64 = [0, 1, 2, 5, 6].iter().filter_map(|index| fields.get(*index)).sum();
        Self {
            at: Instant::now(),
            cpu_s: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            all_s: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
        }
    }

    fn since(&self, bytes: u64) -> Sample {
        let wall_s = self.at.elapsed().as_secs_f64();
        let now = Self::now();
        Sample {
            gb: bytes as f64 / 1e9,
            wall_s,
            cpu_s: now.cpu_s - self.cpu_s,
            all_s: now.all_s - self.all_s,
        }
    }
}
