//! The table, in Markdown.

use std::path::Path;

use super::Work;
use super::measure::Sample;
use super::mover::Mover;
use super::program::said;
use crate::spread::Spread;

/// Prints medians, and the ratio of each wall time to that of the first mover; `head` says what
/// ran.
pub(crate) fn print(runs: u64, works: &[Work], movers: &[Mover], samples: &[Sample], head: &str) {
    println!("{head}\n");
    println!("Medians of {runs} runs, movers in turns, sources cached, loopback.\n");
    println!(
        "| workload | mover | wall s | wall + sync s | GB/s | CPU s client + server | others' CPU s | wire MB \
         | wire / content | peak MiB client + server | wall / {} | equal |",
        movers.first().map_or("", |mover| mover.title())
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|");
    for work in works {
        let mut first_wall = None;
        for mover in movers {
            let of = |sample: &&Sample| sample.mover == *mover && sample.work == work.name;
            let own: Vec<&Sample> = samples.iter().filter(of).collect();
            let middle = |value: fn(&Sample) -> f64| {
                Spread::of(own.iter().map(|s| value(s)).collect()).median
            };
            let wall = middle(|s| s.wall_s);
            let ratio = wall / *first_wall.get_or_insert(wall);
            let wire = middle(|s| s.wire_bytes as f64);
            println!(
                "| {} | {} | {wall:.2} | {:.2} | {:.3} | {:.2} + {:.2} | {:.2} | {:.1} | {:.4} \
                 | {:.0} + {:.0} | {ratio:.2} | {} |",
                work.name,
                mover.title(),
                middle(|s| s.synced_s),
                work.bytes as f64 / wall / 1e9,
                middle(|s| s.client_cpu_s),
                middle(|s| s.server_cpu_s),
                middle(|s| s.others_cpu_s),
                wire / 1e6,
                wire / work.bytes as f64,
                middle(|s| s.client_peak_bytes as f64 / 1_048_576.0),
                middle(|s| s.server_peak_bytes as f64 / 1_048_576.0),
                match own.iter().all(|sample| sample.equal) {
                    true if mover.keeps_meta() => "yes",
                    true => "content",
                    false => "NO",
                },
            );
        }
    }
}

/// What it ran on: processor, cores, kernel, file system.
pub(crate) fn machine(target: &Path) -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let parent = target.parent().unwrap_or(target).display().to_string();
    let file_system = said(Path::new("stat"), &["-f", "-c", "%T", &parent]);
    format!(
        "{}, {cores} cores, Linux {}, target on {file_system}",
        model.map_or("unknown processor", |(_, model)| model),
        kernel.trim(),
    )
}
