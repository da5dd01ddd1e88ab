//! How large and how fast the index is, beside a table of redb that holds the same.
//!
//! `cargo bench -p portway-benches --bench index -- DIR [--millions N] [--chunks-per-file N]`
//!
//! Chunks have made-up digests and go in as a scan brings them: 1,024 at a time, with a flush after
//! each 262,144. Look-ups are of random chunks, known ones and unknown ones, alone and 1,024 in a
//! call, on one thread. Each table is filled in a process of its own, so that `VmHWM` is its memory
//! alone. The index finds paths; the table of redb only finds numbers.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;
use std::{env, fs, hint};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use portway::base::{Digest, RelPath};
use portway::index::{BaseId, FileChunks, Index, Opened};
use portway::storage::OsTree;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

/// Chunks in one insert, and in a look-up of many.
const BATCH: u64 = 1024;
/// Batches between two flushes.
const FLUSH_BATCHES: u64 = 256;
/// Bytes of a chunk.
const LEN: u32 = 64 << 10;

#[derive(Debug, Parser)]
struct Args {
    /// Directory to fill; 64 bytes a chunk and as much again while merging
    dir: PathBuf,
    /// Millions of chunks
    #[arg(long, default_value_t = 10)]
    millions: u64,
    /// Chunks of each file
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    chunks_per_file: u64,
    /// Look-ups of each kind
    #[arg(long, default_value_t = 1 << 20, value_parser = clap::value_parser!(u64).range(BATCH..))]
    look_ups: u64,
    /// Only this table
    #[arg(long)]
    only: Option<Kind>,
    /// `cargo bench` says so
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Index,
    Redb,
}

fn main() -> Result<()> {
    let args = Args::parse();
    match args.only {
        Some(Kind::Index) => index(&args),
        Some(Kind::Redb) => redb(&args),
        None => {
            for kind in ["index", "redb"] {
                let mut again = Command::new(env::current_exe()?);
                let status = again.args(env::args_os().skip(1)).args(["--only", kind]).status()?;
                ensure!(status.success(), "{kind}: {status}");
            }
            Ok(())
        }
    }
}

/// `SplitMix64` as a function of its state.
fn mix(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The digest of chunk `n`.
fn digest(n: u64) -> Digest {
    let mut out = Digest::default();
    for (word, at) in out.0.chunks_exact_mut(8).zip(1..) {
        word.copy_from_slice(&mix(n * 4 + at).to_be_bytes());
    }
    out
}

/// Prints the rate of some work.
fn rate<T>(what: &str, count: u64, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let done = work()?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{what:44} {:12.0} a second ({seconds:.2} s)", count as f64 / seconds);
    Ok(done)
}

/// A line of `/proc/self/status`, in bytes.
fn memory(name: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context(name.to_owned())?;
    Ok(kib.parse::<u64>()? << 10)
}

fn per_chunk(what: &str, bytes: u64, chunks: u64) {
    let each = bytes as f64 / chunks as f64;
    println!("{what:44} {each:12.2} bytes a chunk ({} MB)", bytes / 1_000_000);
}

/// Times look-ups with a function that tells how many of some chunks are known.
fn look_ups(
    args: &Args,
    when: &str,
    chunks: u64,
    find: &mut dyn FnMut(&[Digest]) -> Result<usize>,
) -> Result<()> {
    for (kind, known) in [("known", true), ("unknown", false)] {
        for size in [BATCH, 1] {
            let count = if size == 1 { args.look_ups / 4 } else { args.look_ups };
            let from = if known { 0 } else { chunks };
            let asked: Vec<Digest> =
                (0..count).map(|n| digest(from + mix(n ^ size) % chunks)).collect();
            let found = rate(&format!("{when}: find {kind}, {size} in a call"), count, || {
                let each = asked.chunks(size as usize).map(&mut *find);
                each.sum::<Result<usize>>()
            })?;
            ensure!(found as u64 == if known { count } else { 0 }, "{found} of {count} found");
        }
    }
    Ok(())
}

fn index(args: &Args) -> Result<()> {
    let chunks = args.millions * 1_000_000;
    let dir = args.dir.join("index");
    fs::create_dir_all(&dir)?;
    let before = memory("VmHWM")?;
    let index = open(&dir)?.0;
    println!("index, {chunks} chunks, {} in a file", args.chunks_per_file);
    rate("insert", chunks, || fill(&index, chunks, args.chunks_per_file))?;
    per_chunk("memory at most while filling", memory("VmHWM")? - before, chunks);
    per_chunk("on disk", index.stats()?.bytes_on_disk, chunks);
    let find = |index: &Index, asked: &[Digest]| {
        let places = index.find(hint::black_box(asked))?;
        Ok(places.iter().filter(|places| !places.is_empty()).count())
    };
    println!("{} runs", runs(&dir)?);
    look_ups(args, "as filled", chunks, &mut |asked| find(&index, asked))?;
    rate("merge what is due", chunks, || {
        while !index.tend(1 << 16)? {}
        Ok(index.flush()?)
    })?;
    println!("{} runs", runs(&dir)?);
    rate("sweep", chunks, || {
        while !index.sweep(1 << 16)? {}
        Ok(index.flush()?)
    })?;
    ensure!(runs(&dir)? == 1, "a sweep leaves one run");
    look_ups(args, "swept", chunks, &mut |asked| find(&index, asked))?;
    ceiling(args, &dir)?;
    per_chunk("memory at most, sweep and all", memory("VmHWM")? - before, chunks);
    per_chunk("on disk, swept", index.stats()?.bytes_on_disk, chunks);
    drop(index);
    let (index, opened) = rate("open", chunks, || open(&dir))?;
    ensure!(matches!(opened, Opened::Kept), "{opened:?}");
    ensure!(index.stats()?.chunks == chunks, "all are there");
    drop(index);
    Ok(fs::remove_dir_all(&dir)?)
}

fn open(dir: &Path) -> Result<(Index, Opened)> {
    let tree = OsTree::open(dir)?;
    Ok(Index::open(Arc::new(tree), &RelPath::from_bytes(b".portway/index.redb")?)?)
}

fn runs(dir: &Path) -> Result<usize> {
    Ok(fs::read_dir(dir.join(".portway/index.runs"))?.count())
}

/// What a known chunk costs at least: one entry read from somewhere in the one run.
fn ceiling(args: &Args, dir: &Path) -> Result<()> {
    let run = fs::read_dir(dir.join(".portway/index.runs"))?.next().context("a run")??;
    let file = fs::File::open(run.path())?;
    let entries = file.metadata()?.len() / 43;
    let mut entry = [0; 40];
    rate("pread of 40 bytes at random", args.look_ups, || {
        let at = (0..args.look_ups).map(|n| mix(n) % entries * 40);
        Ok(at.into_iter().try_for_each(|at| file.read_exact_at(&mut entry, at))?)
    })
}

fn fill(index: &Index, chunks: u64, per_file: u64) -> Result<()> {
    let base = index.add_base(&RelPath::from_bytes(b"data/checkpoints/step-0001000")?)?;
    let mut batch = Vec::with_capacity(BATCH as usize);
    for start in (0..chunks).step_by(BATCH as usize) {
        let end = (start + BATCH).min(chunks);
        batch.clear();
        batch.extend((start..end).map(|n| (digest(n), n % per_file * u64::from(LEN), LEN)));
        insert(index, base, start, &batch, per_file)?;
        if (start / BATCH + 1).is_multiple_of(FLUSH_BATCHES) {
            index.flush()?;
        }
    }
    Ok(index.flush()?)
}

/// Inserts chunks from the one numbered `start` on, each with the others of its file.
fn insert(
    index: &Index,
    base: BaseId,
    start: u64,
    batch: &[(Digest, u64, u32)],
    per_file: u64,
) -> Result<()> {
    let mut files = Vec::new();
    let mut rest = batch;
    let mut at = start;
    while !rest.is_empty() {
        let file = at / per_file;
        let count = ((file + 1) * per_file - at).min(rest.len() as u64);
        let (chunks, others) = rest.split_at(count as usize);
        let path = format!("rank-{:04}/part-{file:08}.safetensors", file / 1000);
        files.push(FileChunks { path: RelPath::from_bytes(path.as_bytes())?, chunks });
        (rest, at) = (others, at + count);
    }
    Ok(index.insert(base, &files)?)
}

/// Short digest to base, file, length and offset.
const CHUNKS: TableDefinition<u128, [u8; 20]> = TableDefinition::new("chunks");

fn redb(args: &Args) -> Result<()> {
    let chunks = args.millions * 1_000_000;
    fs::create_dir_all(&args.dir)?;
    let path = args.dir.join("plain.redb");
    let before = memory("VmHWM")?;
    let db = Database::builder().set_cache_size(16 << 20).create(&path)?;
    println!("redb, {chunks} chunks");
    rate("insert", chunks, || fill_redb(&db, chunks, args.chunks_per_file))?;
    per_chunk("memory at most", memory("VmHWM")? - before, chunks);
    per_chunk("on disk", fs::metadata(&path)?.len(), chunks);
    look_ups(args, "as filled", chunks, &mut |asked| {
        let table = db.begin_read()?.open_table(CHUNKS)?;
        let mut asked: Vec<u128> = asked.iter().map(Digest::short).collect();
        asked.sort_unstable();
        let mut found = 0;
        for short in asked {
            found += usize::from(table.get(short)?.is_some());
        }
        Ok(found)
    })?;
    drop(db);
    Ok(fs::remove_file(&path)?)
}

fn fill_redb(db: &Database, chunks: u64, per_file: u64) -> Result<()> {
    for start in (0..chunks).step_by(BATCH as usize) {
        let mut txn = db.begin_write()?;
        let durable = (start / BATCH + 1).is_multiple_of(FLUSH_BATCHES) || start + BATCH >= chunks;
        txn.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
        let mut rows: Vec<(u128, [u8; 20])> = (start..(start + BATCH).min(chunks))
            .map(|n| {
                let mut row = [0; 20];
                row[4..8].copy_from_slice(&((n / per_file) as u32).to_le_bytes());
                row[8..12].copy_from_slice(&LEN.to_le_bytes());
                row[12..].copy_from_slice(&(n % per_file).to_le_bytes());
                (digest(n).short(), row)
            })
            .collect();
        rows.sort_unstable();
        let mut table = txn.open_table(CHUNKS)?;
        for (short, row) in rows {
            table.insert(short, row)?;
        }
        drop(table);
        txn.commit()?;
    }
    Ok(())
}
