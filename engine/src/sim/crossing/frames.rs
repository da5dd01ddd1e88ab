//! What the model says of each frame of a session between sites, and of its end.

use super::law::NO_CLASS;
use super::pump::{Pump, Work};
use super::session::Ended;
use super::tap::canaries;
use crate::base::{RelPath, Seq};
use crate::protocol::{SourceEnd, SourceInput, Stop, TargetEnd};
use crate::runtime::{denial, is_denial};
use crate::wire::{Frame, Known, Piece};

impl Pump<'_> {
    /// How the session ended, by what both sides say.
    pub(super) fn ended(&self) -> Result<Ended, String> {
        if let (Some(SourceEnd::Published(..)), Some(TargetEnd::Published(..))) =
            (&self.source_end, &self.target_end)
        {
            return Ok(Ended::Published);
        }
        let source = match &self.source_end {
            Some(SourceEnd::Stopped(stop)) => Some(stop),
            _ => None,
        };
        let target = match &self.target_end {
            Some(TargetEnd::Stopped(stop)) => Some(stop),
            _ => None,
        };
        let stops: Vec<_> = [source, target].into_iter().flatten().collect();
        let failures = stops.iter().map(|stop| match stop {
            Stop::Refused { failure, .. } | Stop::Violation(failure) | Stop::Local(failure) => {
                failure
            }
        });
        match failures.min_by_key(|failure| !is_denial(failure)) {
            Some(failure) if is_denial(failure) => Ok(Ended::Denied(failure.detail.clone())),
            Some(failure) if failure.code == "protocol" => Err(failure.detail.clone()),
            Some(failure) => Ok(Ended::Stopped(failure.code.clone())),
            None => Err("a session stands still".to_owned()),
        }
    }

    /// The source says something.
    pub(super) fn told(&mut self, frame: Frame) -> Result<(), String> {
        let tells =
            matches!(frame, Frame::Entries { .. } | Frame::Offer { .. } | Frame::Root { .. });
        if tells {
            self.unseen = None;
        }
        if tells && let Err(denied) = self.sides.out.check() {
            self.source.handle(SourceInput::Broken(denial(&denied)));
            return Ok(());
        }
        if tells && self.sides.out.class() != self.told {
            self.told = self.sides.out.class();
            self.add(Work::ToTarget(Frame::Class(self.told.clone())));
        }
        let plan = self.plan;
        if plan.crosses() {
            if !canaries(&frame.encode()).is_empty() {
                return Err(format!("a {} frame has content", frame.name()));
            }
            let telling = matches!(frame, Frame::Entries { .. } | Frame::Offer { .. });
            let something = self.world.model.below(plan.source, &plan.from).next().is_some();
            if telling && something && !self.world.permits(plan.source, plan.asked(self.class)) {
                return Err(format!("{plan:?}, of class {}, sent {}", self.class, frame.name()));
            }
        }
        if let Frame::Offer { run, pieces, .. } = &frame {
            self.offers.insert(*run, pieces.clone());
            for canary in pieces.iter().filter_map(|it| self.world.digests.get(&it.digest)) {
                let classes = self.world.model.classes(plan.source, *canary, &plan.from);
                let class = classes.into_iter().min().unwrap_or(NO_CLASS);
                if plan.crosses() && !self.world.permits(plan.source, plan.asked(class)) {
                    return Err(format!("{plan:?}, offered content of class {class}"));
                }
                self.world.model.comes(plan.target, *canary, class);
            }
        }
        self.add(Work::ToTarget(frame));
        Ok(())
    }

    /// The target answers: whether the source may learn what that tells.
    pub(super) fn answered(&mut self, frame: Frame) -> Result<(), String> {
        let (source, target) = (self.plan.source, self.plan.target);
        let asked = match &frame {
            _ if !self.plan.crosses() => None,
            Frame::Want { run, .. } => self.offers.get(run).cloned(),
            _ => None,
        };
        if let (Some(pieces), Frame::Want { wanted, .. }) = (asked, &frame) {
            for (i, piece) in pieces.iter().enumerate() {
                let Some(canary) = self.world.digests.get(&piece.digest).copied() else { continue };
                let got = (source, target, self.plan.to.clone(), canary);
                if wanted.bit(i) {
                    self.wanted.insert(canary);
                    self.world.tally.wanted += 1;
                    continue;
                }
                let gone = self.source_failed(piece.seq);
                if !gone
                    && !self.wanted.contains(&canary)
                    && !self.world.got.contains(&got)
                    && !self.world.may_know(target, source, canary)
                {
                    return Err(format!("{:?} tells that {canary:x} is there", self.plan));
                }
                self.world.tally.found += 1;
                self.world.got.insert(got);
            }
        }
        if let Frame::Verdicts(verdicts) = &frame
            && self.plan.crosses()
            && verdicts.iter().any(|verdict| matches!(verdict.known, Known::Have(_)))
        {
            let to = &self.plan.to;
            let got =
                |it: &(usize, usize, RelPath, u64)| (it.0, it.1, &it.2) == (source, target, to);
            if !self.world.got.iter().any(got) {
                return Err(format!("{:?} tells of files that never came from there", self.plan));
            }
        }
        self.add(Work::ToSource(frame));
        Ok(())
    }

    /// Pieces of an object that started over, or failed, are not wanted either.
    fn source_failed(&self, seq: Seq) -> bool {
        let later = |pieces: &Vec<Piece>| pieces.iter().any(|it| it.seq == seq && it.round > 0);
        self.offers.values().any(later) || self.target.failed() > 0
    }
}
