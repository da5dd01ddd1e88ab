//! What direct I/O, registered buffers and uncached I/O cost and give beside plain reads and writes.
//!
//! `cargo bench -p portway-benches --bench storage -- DIR [--mib N] [--runs N]`
//!
//! Everything goes through leases of the slab. Ways take turns within a run, so that noise hits all
//! alike; medians are printed. `CPU` is that of this process, the kernel's share included; `all` is
//! that of the whole machine, which also has the kernel's own threads and whoever else is busy.

mod bed;
mod ring;
mod way;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use self::bed::{Bed, Sample};
use self::way::{READS, WRITES, Way};

#[derive(Debug, Parser)]
struct Args {
    /// Directory on the file system to measure; needs room for two files
    dir: PathBuf,
    /// Size of a file in MiB
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(8..))]
    mib: u64,
    /// Runs of each way; medians are printed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=99))]
    runs: u64,
    /// Only tables whose title has this word
    #[arg(long, default_value = "")]
    only: String,
    /// `cargo bench` says so
    #[arg(long, hide = true)]
    bench: bool,
}

/// One table: what is done, and by which ways.
struct Table {
    title: &'static str,
    ways: &'static [Way],
    work: Work,
}

/// What every way of a table does.
#[derive(Debug, Clone, Copy)]
enum Work {
    Read {
        /// Whether the page cache holds the file.
        warm: bool,
        /// Whether each lease is digested, as a source does, before the next is waited for.
        digest: bool,
    },
    Write {
        /// Whether pieces begin and end at odd offsets, as chunks cut by content do.
        odd: bool,
        /// Bytes between syncs; one more sync is at the end.
        sync_bytes: u64,
    },
}

/// What a receiver syncs at once.
const COMMIT_BYTES: u64 = 16 << 20;

const fn read(title: &'static str, warm: bool, digest: bool) -> Table {
    Table { title, ways: READS, work: Work::Read { warm, digest } }
}

const fn write(title: &'static str, odd: bool, sync_bytes: u64) -> Table {
    Table { title, ways: WRITES, work: Work::Write { odd, sync_bytes } }
}

const TABLES: [Table; 8] = [
    read("read, cold", false, false),
    read("read, cold, digested", false, true),
    read("read, warm", true, false),
    read("read, warm, digested", true, true),
    write("write, aligned, one sync", false, u64::MAX),
    write("write, odd pieces, one sync", true, u64::MAX),
    write("write, aligned, a sync every 16 MiB", false, COMMIT_BYTES),
    write("write, odd pieces, a sync every 16 MiB", true, COMMIT_BYTES),
];

fn main() -> Result<()> {
    let args = Args::parse();
    let bed = Bed::new(&args.dir, args.mib << 20)
        .with_context(|| format!("set up in {}", args.dir.display()))?;
    println!("{} MiB in {}, medians of {} runs", args.mib, bed.place(), args.runs);
    for table in TABLES.iter().filter(|table| table.title.contains(&args.only)) {
        println!("\n| {} | GB/s | CPU s/GB | all s/GB |\n|---|---:|---:|---:|", table.title);
        for (way, samples) in measure(&bed, table, args.runs)? {
            print_row(way, samples);
        }
    }
    Ok(())
}

/// The samples of each way, or why it cannot be taken here.
type Measured = Vec<(Way, Result<Vec<Sample>>)>;

fn measure(bed: &Bed, table: &Table, runs: u64) -> Result<Measured> {
    let mut measured: Measured = table.ways.iter().map(|way| (*way, Ok(Vec::new()))).collect();
    for _ in 0..runs {
        for (way, samples) in &mut measured {
            let Ok(taken) = samples else { continue };
            match bed.once(*way, table.work) {
                Ok(sample) => taken.push(sample),
                Err(error) => *samples = Err(error),
            }
        }
    }
    ensure!(measured.iter().any(|(_, samples)| samples.is_ok()), "nothing could be measured");
    Ok(measured)
}

fn print_row(way: Way, samples: Result<Vec<Sample>>) {
    match samples {
        Err(error) => println!("| {} | {error:#} | | |", way.title()),
        Ok(samples) => {
            let median = |of: fn(&Sample) -> f64| {
                let mut values: Vec<f64> = samples.iter().map(of).collect();
                values.sort_by(f64::total_cmp);
                values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
            };
            println!(
                "| {} | {:.2} | {:.3} | {:.3} |",
                way.title(),
                median(|s| s.gb / s.wall_s),
                median(|s| s.cpu_s / s.gb),
                median(|s| s.all_s / s.gb),
            );
        }
    }
}
