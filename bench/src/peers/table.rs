//! The table, in Markdown.

use std::path::Path;

use super::Work;
use super::measure::Sample;
use super::mover::Mover;
use super::program::said;

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
            let middle = |value: fn(&Sample) -> f64| median(own.iter().map(|s| value(s)).collect());
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0]) - 2.5).abs() < 1e-9);
    }
}
