//! What a source tells its target, and that the border is asked before.

use std::sync::Arc;

use super::{Driver, Failure, Input, denial, panicked, spawn_input};
use crate::transport::Link;
use crate::wire::Frame;

/// Whether a frame tells of content: that it is there, or what it is.
fn tells(frame: &Frame) -> bool {
    matches!(frame, Frame::Entries { .. } | Frame::Offer { .. } | Frame::Root { .. })
}

impl<L: Link> Driver<L> {
    /// Sends a frame. What tells of content waits, and all behind it, while the border is asked again:
    /// where the target has everything, nothing else asks after content was read.
    pub(super) fn send(&mut self, frame: Frame) {
        if matches!(frame, Frame::Refuse { .. }) {
            return self.frames.send(&frame);
        }
        if !self.withheld.is_empty() {
            return self.withheld.push(frame);
        }
        if !tells(&frame) {
            return self.frames.send(&frame);
        }
        if self.context.way.stands() {
            self.tell_class();
            return self.frames.send(&frame);
        }
        self.withheld.push(frame);
        let way = Arc::clone(&self.context.way);
        spawn_input(&mut self.work, &self.inputs, async move {
            let asked = tokio::task::spawn_blocking(move || way.check()).await;
            Input::Asked(match asked {
                Ok(asked) => asked.map_err(|denied| denial(&denied)),
                Err(_) => Err(panicked()),
            })
        });
    }

    /// Sends what waited for the border's word.
    pub(super) fn release(&mut self) {
        for frame in std::mem::take(&mut self.withheld) {
            if tells(&frame) {
                self.tell_class();
            }
            self.frames.send(&frame);
        }
    }

    /// Tells why the transfer ends once what was paid for is with the target.
    pub(super) fn land(&mut self, why: Failure) {
        let (way, link) = (Arc::clone(&self.context.way), self.context.link.clone());
        spawn_input(&mut self.work, &self.inputs, async move {
            way.landed(&link).await;
            Input::Landed(why)
        });
    }

    /// Tells of a class that is higher than it was told before, ahead of what has it: a label that was
    /// found later, or raised.
    fn tell_class(&mut self) {
        let class = self.context.way.class();
        if class != self.told {
            self.told = class.clone();
            self.frames.send(&Frame::Class(class));
        }
    }
}
