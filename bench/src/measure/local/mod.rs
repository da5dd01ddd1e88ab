//! `local`: what this machine does with bytes alone, stage by stage, on one thread and on all.

mod disk;
mod memory;
mod stages;

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

pub(crate) use self::stages::Stages;
use super::rows::{self, OutputArgs, Sample};
use crate::result::{Kind, Row};
use crate::system;

/// Arguments of `local`.
#[derive(Debug, Args)]
pub(crate) struct LocalArgs {
    /// Directory on the file system whose reads and writes are measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Time for all runs of one case, in seconds
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Runs of each case; median, lowest and highest are printed
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u64).range(3..=99))]
    runs: u64,
    /// Size of the file that is read and written
    #[arg(long, value_parser = crate::size::parse, default_value = "512MiB")]
    file: u64,
    /// Read and write files from ordinary memory, as most programs do, not from the engine's huge pages
    #[arg(long)]
    ordinary_memory: bool,
    /// Only these stages: copy, digest, cut, encode, decode, aead, read, write
    #[arg(long, value_delimiter = ',')]
    stages: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// The stages, in the order in which a byte passes them.
const STAGES: [&str; 8] = ["copy", "digest", "cut", "encode", "decode", "aead", "read", "write"];

/// Rounds in which all cases take turns, each with a part of its runs: what changes slowly, what others
/// do on the machine or its clock, is in the spread of each.
const ROUNDS: u64 = 3;

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(s) if (0.05..=600.0).contains(&s) => Ok(s),
        _ => Err("a time is 0.05 to 600 seconds".to_owned()),
    }
}

/// Work that a thread repeats: each call returns the bytes that it worked on.
type Step = Box<dyn FnMut() -> Result<u64> + Send>;

/// One thing to measure.
struct Case {
    stage: &'static str,
    name: String,
    /// Bytes of one operation.
    size: u64,
    /// Makes the work of one thread, of so many; it is validated before it is measured.
    work: Box<dyn Fn(usize, usize) -> Result<Step>>,
    /// Done before each run, unmeasured.
    before: Box<dyn Fn() -> Result<()>>,
    /// Done at the end of each run, measured: a sync, say.
    after: Box<dyn Fn() -> Result<()>>,
    /// One call of each thread's work is a run, however long it takes.
    once: bool,
}

impl Case {
    fn new(
        stage: &'static str,
        name: impl Into<String>,
        size: u64,
        work: impl Fn(usize, usize) -> Result<Step> + 'static,
    ) -> Self {
        Self {
            stage,
            name: name.into(),
            size,
            work: Box::new(work),
            before: Box::new(|| Ok(())),
            after: Box::new(|| Ok(())),
            once: false,
        }
    }
}

/// Measures everything and prints it.
pub(crate) fn run(args: &LocalArgs) -> Result<bool> {
    for stage in &args.stages {
        let known = STAGES.join(", ");
        ensure!(STAGES.contains(&&**stage), "no stage is called `{stage}`; hint: one of {known}");
    }
    let wanted = |stage: &str| args.stages.is_empty() || args.stages.iter().any(|s| s == stage);
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let threads = if processors > 1 { vec![1, processors] } else { vec![1] };
    let mut cases = memory::cases();
    let bed = if wanted("read") || wanted("write") {
        Some(disk::Bed::new(&args.dir, args.file, processors, args.ordinary_memory)?)
    } else {
        None
    };
    cases.extend(bed.iter().flat_map(disk::Bed::cases));
    let when = rows::now();
    let cases = cases.iter().filter(|case| wanted(case.stage));
    let mut all: Vec<Measured<'_>> = cases
        .flat_map(|case| threads.iter().map(move |&threads| Measured::new(case, threads)))
        .collect();
    for round in 0..ROUNDS {
        let runs = args.runs / ROUNDS + u64::from(round < args.runs % ROUNDS);
        for measured in &mut all {
            eprintln!("{} {} ({} of {ROUNDS})", measured.case.stage, measured.name, round + 1);
            measured.round(runs, args)?;
        }
    }
    let rows = all.iter().filter(|measured| !measured.samples.is_empty()).map(Measured::row);
    args.output.give(Kind::Local, when, Vec::new(), rows.collect())?;
    Ok(true)
}

/// A case on so many threads, with its runs so far.
struct Measured<'a> {
    case: &'a Case,
    threads: usize,
    name: String,
    samples: Vec<Sample>,
    /// The kernel or the file system does not offer it.
    refused: bool,
}

impl<'a> Measured<'a> {
    fn new(case: &'a Case, threads: usize) -> Self {
        let name = format!("{}, {}", case.name, threads_word(threads));
        Self { case, threads, name, samples: Vec::new(), refused: false }
    }

    /// Some runs more.
    fn round(&mut self, runs: u64, args: &LocalArgs) -> Result<()> {
        if self.refused {
            return Ok(());
        }
        match measure(self.case, self.threads, runs, args) {
            Ok(samples) => self.samples.extend(samples),
            // What a kernel or file system does not offer is told, and the rest goes on.
            Err(error) if matches!(self.case.stage, "read" | "write") => {
                eprintln!("    not measured: {error:#}");
                (self.refused, self.samples) = (true, Vec::new());
            }
            Err(error) => return Err(error.context(self.name.clone())),
        }
        Ok(())
    }

    fn row(&self) -> Row {
        let row = rows::rate(self.case.stage, &self.name, &self.samples);
        Row { size: Some(self.case.size), ..row }
    }
}

fn threads_word(threads: usize) -> String {
    if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") }
}

/// A warm-up, then some runs of one case.
fn measure(case: &Case, threads: usize, runs: u64, args: &LocalArgs) -> Result<Vec<Sample>> {
    let work: Result<Vec<Step>> = (0..threads).map(|index| (case.work)(index, threads)).collect();
    let mut work = work?;
    let each = Duration::from_secs_f64(args.seconds / (args.runs + ROUNDS) as f64);
    once(case, &mut work, each)?;
    (0..runs).map(|_| once(case, &mut work, each)).collect()
}

/// One run: all threads begin together; the time ends when the last one is done.
fn once(case: &Case, work: &mut [Step], time: Duration) -> Result<Sample> {
    (case.before)()?;
    let (start, single) = (Barrier::new(work.len() + 1), case.once);
    thread::scope(|scope| {
        let threads: Vec<_> = work
            .iter_mut()
            .map(|step| {
                let start = &start;
                scope.spawn(move || -> Result<u64> {
                    start.wait();
                    let (began, mut bytes) = (Instant::now(), 0);
                    loop {
                        bytes += step()?;
                        if single || began.elapsed() >= time {
                            return Ok(bytes);
                        }
                    }
                })
            })
            .collect();
        let cpu = system::own_cpu_s();
        let began = Instant::now();
        start.wait();
        let mut bytes = 0;
        for thread in threads {
            bytes += thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        (case.after)()?;
        let wall_s = began.elapsed().as_secs_f64();
        Ok(Sample { bytes: bytes as f64, wall_s, cpu_s: system::own_cpu_s() - cpu })
    })
}

/// An error that says which path it is about.
fn at<T>(path: &Path, doing: &str, result: std::io::Result<T>) -> Result<T> {
    result.with_context(|| format!("cannot {doing} {}", path.display()))
}
