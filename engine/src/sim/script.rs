//! What one seed does: transfers with faults, then without, and looks after each.

use super::rng::Rng;
use super::world::{Check, Outcome, World};
use super::{Faults, Options, Report, Violation};
use crate::base::RelPath;

/// Runs the script of `seed`.
///
/// # Errors
/// The first thing that did not hold.
pub fn run(seed: u64, options: Options) -> Result<Report, Violation> {
    let mut step = "set up";
    let mut world =
        World::new(seed, options).map_err(|detail| Violation { seed, events: 0, step, detail })?;
    match script(&mut world, &mut step) {
        Ok(()) => Ok(Report { trace: world.digest(), tally: world.tally }),
        Err(detail) => Err(Violation { seed, events: world.tally.events, step, detail }),
    }
}

fn script(world: &mut World, step: &mut &'static str) -> Check {
    let to = target_path(&mut world.rng, world.work.roots[0].0.as_bytes() == b"src/one.bin");
    *step = "first transfer";
    let faults = some_faults(&mut world.rng);
    let outcome = transfer(world, &to, faults)?;
    // The index is a cache: it may be lost with the power, and keeps one place of a chunk, which
    // may be gone after a change though the chunk is elsewhere too.
    let mut indexed =
        !faults.kills && !faults.power && !faults.disk && !faults.changes && !faults.rot;
    if world.rng.chance(60) {
        world.work.change(&mut world.rng).map_err(|e| format!("no change: {e}"))?;
        *step = "second transfer";
        let faults = some_faults(&mut world.rng);
        indexed = false;
        transfer(world, &to, faults)?;
    } else if faults.power && matches!(outcome, Outcome::Published(..)) {
        *step = "power loss after publishing";
        world.rest_and_lose_power();
        world.check_published(&outcome)?;
    }
    *step = "transfer in peace";
    let outcome = transfer(world, &to, Faults::default())?;
    world.check_same(&outcome)?;
    if world.rng.chance(50) {
        *step = "power loss at the end";
        world.rest_and_lose_power();
        world.check_published(&outcome)?;
        world.check_same(&outcome)?;
        indexed = false;
    }
    *step = "transfer of the unchanged";
    unchanged(world, &to)?;
    *step = "transfer to another path";
    let copy = RelPath::from_typed(b"copies/of it").map_err(|e| e.to_string())?;
    let outcome = transfer(world, &copy, Faults::default())?;
    world.check_same(&outcome)?;
    match outcome {
        Outcome::Published(published, _) if indexed && published.numbers.sent > 0 => {
            Err(format!("{} bytes were sent that are there", published.numbers.sent))
        }
        _ => Ok(()),
    }
}

fn transfer(world: &mut World, to: &RelPath, faults: Faults) -> Check<Outcome> {
    let outcome = world.transfer(to, faults)?;
    world.tally.transfers += 1;
    world.tally.bytes_sent += world.transfer.sent;
    world.check_published(&outcome)?;
    Ok(outcome)
}

/// Nothing is read, sent or touched for what is there.
fn unchanged(world: &mut World, to: &RelPath) -> Check {
    let failed = |e| format!("cannot look at the source: {e}");
    let (read, times) = (world.work.bytes_read().map_err(failed)?, world.touched()?);
    let outcome = world.transfer(to, Faults::default())?;
    if world.work.bytes_read().map_err(failed)? != read {
        return Err(format!("unchanged files were read: {outcome:?}"));
    }
    let now = world.touched()?;
    if let Some((then, now)) = times.iter().zip(&now).find(|(then, now)| then != now) {
        return Err(format!("unchanged, and yet touched: {then:?} {now:?}"));
    }
    world.check_published(&outcome)?;
    world.check_same(&outcome)
}

fn target_path(rng: &mut Rng, single: bool) -> RelPath {
    let paths: &[&[u8]] = if single { &[b"one.bin", b"d/one"] } else { &[b"", b"m", b"models/a"] };
    rng.pick(paths).and_then(|path| RelPath::from_bytes(path).ok()).unwrap_or_default()
}

fn some_faults(rng: &mut Rng) -> Faults {
    let one = |rng: &mut Rng| rng.chance(40);
    Faults {
        network: one(rng),
        corruption: rng.chance(30),
        kills: one(rng),
        power: one(rng),
        disk: rng.chance(30),
        changes: rng.chance(25),
        rot: rng.chance(15),
    }
}
