//! A series of trees, one after the other over one link, to a receiver that keeps the earlier ones.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::line::Counters;
use super::{Link, Relay, Sample, WanArgs, push};
use crate::compare::{self, Options};
use crate::nodes::{self, Node, Pair};
use crate::peers::read_all;
use crate::spread::Spread;
use crate::system;

/// One tree of the series.
#[derive(Debug)]
struct Step {
    /// Its name, here and at the receiver.
    name: String,
    source: PathBuf,
    /// Its content in bytes.
    bytes: u64,
}

/// Pushes the directories below `series` in the order of their names, with each loss and each mode,
/// and prints a line for each; false if one that arrived differs from its source.
pub(super) fn measure(args: &WanArgs, pair: &Pair, series: &Path, run: &Path) -> Result<bool> {
    let steps = steps(series)?;
    println!(
        "| loss % | compress | step | content MB | sent / content | back / content | wall s |"
    );
    println!("|---:|---|---|---:|---:|---:|---:|");
    let mut equal = true;
    for &loss in &args.loss_percent {
        for compress in &args.compress {
            let mut samples: Vec<Vec<Sample>> = steps.iter().map(|_| Vec::new()).collect();
            for number in 1..=args.runs {
                let link = (args.link(loss), number);
                equal &= once(pair, run, &steps, link, compress, &mut samples)
                    .with_context(|| format!("loss {loss} %, {compress}, run {number}"))?;
            }
            print(&steps, (loss, compress), &samples);
        }
    }
    Ok(equal)
}

/// The directories below one, sorted by name.
fn steps(series: &Path) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let entries =
        std::fs::read_dir(series).with_context(|| format!("open {}", series.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What begins with a point is under construction, or none of ours.
        if entry.file_type()?.is_dir() && !name.starts_with('.') {
            let source = entry.path();
            steps.push(Step { name, bytes: read_all(&source)?, source });
        }
    }
    steps.sort_by(|one, other| one.name.cmp(&other.name));
    let there = series.display();
    ensure!(!steps.is_empty(), "no directory in {there}\nhint: each directory there is a step");
    Ok(steps)
}

/// All steps to a fresh receiver, over a link with a seed; whether all arrived as they were.
fn once(
    pair: &Pair,
    run: &Path,
    steps: &[Step],
    (link, seed): (Link, u64),
    compress: &str,
    samples: &mut [Vec<Sample>],
) -> Result<bool> {
    let target = run.join("target");
    nodes::remove(&target)?;
    std::fs::create_dir_all(&target)?;
    pair.reset()?;
    let _server = pair.serve(Node::Cloud, &target)?;
    let relay = Relay::start(pair.socket_address(Node::Cloud), link, seed)?;
    let mut equal = true;
    for (step, samples) in steps.iter().zip(samples) {
        let before = relay.counters();
        system::pretouch(step.bytes + (256 << 20));
        let through = Some(relay.address());
        let wall_s = push(pair, run, (&step.source, &step.name), through, compress)
            .with_context(|| step.name.clone())?;
        let after = relay.counters();
        let [there, back] = [0, 1].map(|way| since(after[way], before[way]));
        eprintln!("{compress}, {}: {wall_s:.2} s", step.name);
        samples.push(Sample { wall_s, there, back });
        let options = Options { meta: true, skip_special: true };
        let differences = compare::trees(&step.source, &target.join(&step.name), options)?;
        differences.iter().take(5).for_each(|it| eprintln!("    {it}"));
        equal &= differences.is_empty();
    }
    Ok(equal)
}

/// What a direction saw between two readings.
fn since(after: Counters, before: Counters) -> Counters {
    Counters {
        offered_bytes: after.offered_bytes - before.offered_bytes,
        passed_bytes: after.passed_bytes - before.passed_bytes,
        lost: after.lost - before.lost,
        dropped: after.dropped - before.dropped,
    }
}

/// A line for each step, of medians, and one for all of them.
fn print(steps: &[Step], (loss, compress): (f64, &str), samples: &[Vec<Sample>]) {
    let (mut content, mut there, mut back, mut wall) = (0.0, 0.0, 0.0, 0.0);
    let line = |name: &str, content: f64, there: f64, back: f64, wall: f64| {
        println!(
            "| {loss} | {compress} | {name} | {:.1} | {:.4} | {:.4} | {wall:.2} |",
            content / 1e6,
            there / content,
            back / content
        );
    };
    for (step, samples) in steps.iter().zip(samples) {
        let middle =
            |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(value).collect()).median;
        let [bytes, forth, answers, took] = [
            step.bytes as f64,
            middle(|sample| sample.there.offered_bytes as f64),
            middle(|sample| sample.back.offered_bytes as f64),
            middle(|sample| sample.wall_s),
        ];
        line(&step.name, bytes, forth, answers, took);
        content += bytes;
        there += forth;
        back += answers;
        wall += took;
    }
    line("all", content, there, back, wall);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_directories_in_the_order_of_names() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        for name in ["ckpt-000110", "ckpt-000100", ".part-000120"] {
            std::fs::create_dir(at(name)).expect("a step");
        }
        std::fs::write(at("ckpt-000110/model"), [0; 7]).expect("content");
        std::fs::write(at("notes"), "no step").expect("a file");
        let found = steps(directory.path()).expect("steps");
        let found: Vec<_> = found.iter().map(|step| (step.name.as_str(), step.bytes)).collect();
        assert_eq!(found, [("ckpt-000100", 0), ("ckpt-000110", 7)]);
        assert!(steps(&at("ckpt-000100")).is_err());
    }
}
