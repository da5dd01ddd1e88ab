//! Power loss: what is durable stays, of the rest a part that depends on a seed.

use std::collections::BTreeSet;

use super::content::Content;
use super::names;
use super::rng::Rng;
use super::state::{Body, FileOp, ROOT, State};

/// Unit in which writes are torn, in bytes: the smallest sector of a disk.
const SECTOR_BYTES: u64 = 512;

/// Turns `state` into what is found after the power came back.
pub(super) fn crash(state: &mut State, seed: u64) {
    let mut rng = Rng::new(seed);
    // All and nothing are worth seeing often: most bugs show at one of them.
    let percent = match rng.below(4) {
        0 => 0,
        1 => 100,
        _ => rng.below(101),
    };
    let survivors = names::take_survivors(&mut state.log, || rng.chance(percent));
    state.apply(survivors);
    state.log.clear();
    for ino in std::mem::take(&mut state.dirty) {
        let Some(inode) = state.inodes.get_mut(&ino) else { continue };
        // Times may be durable though the content is not, and the other way round.
        if rng.chance(percent) {
            inode.durable_attr = inode.attr.clone();
        }
        if let Body::File { durable, pending, .. } = &mut inode.body {
            let pending = std::mem::take(pending);
            lose_some(durable, pending, percent, &mut rng);
        }
    }
    boot(state);
}

/// Applies the part of the pending operations that made it to the medium.
fn lose_some(durable: &mut Content, pending: Vec<FileOp>, percent: u64, rng: &mut Rng) {
    // Either the first few survive, or any of them.
    let in_order = rng.chance(50);
    let first = rng.below(pending.len() as u64 + 1);
    for (n, op) in (0_u64..).zip(pending) {
        let survives = match percent {
            0 => false,
            100 => true,
            _ if in_order => n < first,
            _ => rng.chance(percent),
        };
        // The last one before the cut is the one under way, so it may be torn.
        let torn = (1..100).contains(&percent) && (rng.chance(30) || (in_order && n == first));
        match op {
            FileOp::SetLen(len) if survives => durable.set_len(len),
            FileOp::Write { offset, data } if torn => tear(durable, &data, offset, rng),
            FileOp::Write { offset, data } if survives => durable.write(&data, offset),
            FileOp::Write { offset, data } if percent > 0 && rng.chance(20) => {
                // The length is durable and the bytes are not: they read as zeros.
                durable.set_len(durable.len().max(offset + data.len() as u64));
            }
            FileOp::SetLen(_) | FileOp::Write { .. } => {}
        }
    }
}

/// Writes a part of `data`, cut at sectors: its beginning, or sectors from all over.
fn tear(durable: &mut Content, data: &[u8], offset: u64, rng: &mut Rng) {
    let beginning = rng.chance(50);
    let sectors = data.len() as u64 / SECTOR_BYTES + 2;
    let first = rng.below(sectors);
    let mut at = 0;
    for n in 0..sectors {
        let boundary = ((offset + at as u64) / SECTOR_BYTES + 1) * SECTOR_BYTES;
        let end = data.len().min((boundary - offset) as usize);
        if if beginning { n < first } else { rng.chance(50) } {
            durable.write(&data[at..end], offset + at as u64);
        }
        at = end;
        if at == data.len() {
            break;
        }
    }
}

/// Starts anew from what is durable.
fn boot(state: &mut State) {
    let mut reachable = BTreeSet::new();
    let mut open = vec![ROOT];
    while let Some(ino) = open.pop() {
        let Some(inode) = state.inodes.get_mut(&ino) else { continue };
        if !reachable.insert(ino) {
            inode.more_names += 1;
            continue;
        }
        inode.attr = inode.durable_attr.clone();
        (inode.handles, inode.named, inode.more_names) = (0, true, 0);
        match &mut inode.body {
            Body::File { live, durable, .. } => *live = durable.clone(),
            Body::Dir { live, durable } => {
                *live = durable.clone();
                open.extend(durable.values());
            }
            Body::Link(_) | Body::Special(_) => {}
        }
    }
    state.inodes.retain(|ino, _| reachable.contains(ino));
    let pages = |body: &Body| if let Body::File { live, .. } = body { live.pages() } else { 0 };
    state.used_pages = state.inodes.values().map(|inode| pages(&inode.body)).sum();
    state.orphans.clear();
    state.faults.clear();
    state.boots += 1;
}
