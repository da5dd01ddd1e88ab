//! The two ends of a session: they do what the machines ask for, each thing after a while.

mod source;
mod target;

pub(super) use source::{Held, SourceJob, SourceSide};
pub(super) use target::{Lane, TargetJob, TargetSide};

use super::world::{Check, World};
use crate::wire::Frame;

impl World {
    fn work_delay(&mut self) -> u64 {
        let bound = self.session.as_ref().map_or(1, |s| s.work_ns);
        self.rng.spread(bound)
    }

    fn wire_delay(&mut self) -> u64 {
        let bound = self.session.as_ref().map_or(1, |s| s.wire_ns);
        self.rng.spread(bound)
    }

    pub(super) fn is_dead(&self) -> bool {
        self.process.as_ref().is_none_or(|p| p.life.is_dead())
    }
}

fn decoded(frame: &Frame, bytes: &[u8]) -> Check<Frame> {
    match Frame::decode(bytes) {
        Ok(again) if again == *frame => Ok(again),
        Ok(_) => Err(format!("a {} frame changes on its way", frame.name())),
        Err(error) => Err(format!("a {} frame cannot be read: {error}", frame.name())),
    }
}
