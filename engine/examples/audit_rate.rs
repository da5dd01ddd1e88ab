//! How fast an audit log is verified, and how fast it takes records.
//!
//! `cargo run --release -p portway --example audit_rate -- [RECORDS]`
//!
//! Lays a log of a million records in a temporary folder (`$TMPDIR`), verifies it three times, and
//! appends from one thread and from many, each record durable before the next of its thread.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use portway::audit::{
    AuditLog, Crossing, Decision, Entries, Export, ExtentSet, Format, Known, LogFolder, LogId,
    Place, Progress, Record, Setup, verify,
};
use portway::base::{Digest, Extent, FileTime, RelPath, Tier, TransferId};
use portway::identity::{AuditKey, Identity, UnixTime};
use portway::policy::{Action, PolicyVersion, Principal, Reason, Transport, Verdict};

type Failure = Box<dyn std::error::Error>;

/// Records that one thread waits for.
const ALONE: u64 = 500;
/// Threads that fill the log, and records of each in the timing.
const THREADS: u64 = 64;
const EACH: u64 = 500;

fn main() -> Result<(), Failure> {
    let records = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse::<u64>())?;
    let home = std::env::temp_dir().join(format!("portway-audit-rate-{}", std::process::id()));
    std::fs::create_dir_all(&home)?;
    let measured = measure(&home, records);
    std::fs::remove_dir_all(&home)?;
    measured
}

fn measure(home: &Path, records: u64) -> Result<(), Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let identity = Identity::init(
        home,
        "gpu-1".parse()?,
        "onprem".parse()?,
        Tier::Private,
        UnixTime::since_unix_epoch(now),
    )?;
    let key = AuditKey::load_or_create(&Identity::folder(home))?;
    let attestation = identity.attest(key.public())?;
    let node = Principal::from(identity.id());
    let new_log = LogId::random().ok_or("no randomness")?;
    let folder = LogFolder::open(&home.join("audit"))?;
    let setup = Setup { key, node, attestation, new_log };
    let log = AuditLog::open(folder.clone(), setup, time(now))?;

    let record = |n| record(n, Principal::from(identity.id()));
    let start = Instant::now();
    for n in 0..ALONE {
        log.append(time(now), record(n)?)?;
    }
    let alone = start.elapsed();
    println!("one thread: {:.0} us a record", alone.as_secs_f64() * 1e6 / ALONE as f64);
    let start = Instant::now();
    fill(&log, now, THREADS * EACH, &record)?;
    let many = start.elapsed().as_secs_f64();
    println!("{THREADS} threads: {:.0} records/s", (THREADS * EACH) as f64 / many);
    let left = records.saturating_sub(log.checkpoint().size);
    fill(&log, now, left, &record)?;

    for _ in 0..3 {
        let start = Instant::now();
        let report = verify(&folder, &Known::default())?;
        let spent = start.elapsed().as_secs_f64();
        let rate = report.records as f64 / spent;
        println!("verify: {} records in {spent:.2} s, {rate:.0} records/s", report.records);
    }
    let start = Instant::now();
    let lines = Export::new([Entries::open(&folder)?])?.write(
        &mut std::io::sink(),
        Format::JsonLines,
        |_| true,
    )?;
    println!("export: {lines} lines in {:.2} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn time(since: Duration) -> FileTime {
    FileTime { secs: since.as_secs().cast_signed(), nanos: since.subsec_nanos() }
}

/// Appends `count` records from many threads.
fn fill(
    log: &AuditLog,
    now: Duration,
    count: u64,
    record: &(impl Fn(u64) -> Result<Record, Failure> + Sync),
) -> Result<(), Failure> {
    let each = count.div_ceil(THREADS);
    let failed = std::thread::scope(|scope| {
        let run = |thread: u64| {
            let last = ((thread + 1) * each).min(count);
            for n in thread * each..last {
                let record = record(n).map_err(|error| error.to_string())?;
                log.append(time(now), record).map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(())
        };
        let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || run(n))).collect();
        let mut ends = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        ends.find_map(|end| end.unwrap_or_else(|_| Err("a thread failed".to_owned())).err())
    });
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// A decision, or progress of three extents.
fn record(n: u64, who: Principal) -> Result<Record, Failure> {
    let crossing = Crossing {
        transfer: TransferId(u128::from(n / 10)),
        who,
        path: RelPath::from_typed(b"checkpoints/run-17/step-4000")?,
        root: None,
        class: "internal".parse()?,
        from: Place { site: "onprem".parse()?, node: "gpu-1".parse()? },
        to: Place { site: "cloud".parse()?, node: "gpu-7".parse()? },
        link: "onprem-cloud".parse()?,
        transport: Transport::Quic,
        policy: PolicyVersion { number: 12, digest: Digest::of(b"policy") },
    };
    if n.is_multiple_of(10) {
        let reason = Reason::new("internal data may go to the partner site");
        let (action, verdict) = (Action::Push, Verdict::Granted);
        return Ok(Record::Decision(Decision { crossing, action, verdict, reason }));
    }
    let mut left = ExtentSet::default();
    for part in 0..3 {
        let object = RelPath::from_typed(format!("model-{part}.safetensors").as_bytes())?;
        left.insert(&object, Extent { offset: (n % 10) << 24, len: 16 << 20 });
    }
    Ok(Record::Progress(Progress { crossing, bytes: left.bytes(), left }))
}
