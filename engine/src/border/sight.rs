//! What of this node's data a peer across the border may see.

use std::sync::Arc;

use super::ask::Ask;
use super::gate::{Border, Label};
use super::way::Way;
use crate::base::RelPath;
use crate::policy::{Action, Verdict};

/// What one peer at another site may see here: whatever it asks about anything else is answered as if
/// that were not there. Nothing of this is recorded, since nobody asked for it.
pub struct Sight {
    border: Arc<Border>,
    /// What is asked about each dataset; path and class are filled in.
    ask: Ask,
}

impl Border {
    /// What the peer of `ask` may do `action` with, of all that is here; all of it inside a site.
    pub fn sight(self: &Arc<Self>, ask: &Ask, action: Action) -> Option<Sight> {
        if !ask.crosses() {
            return None;
        }
        let us = self.ourselves();
        let peer = if ask.from.id == us.id { ask.to.clone() } else { ask.from.clone() };
        let (who, from, to) = (peer.id.clone(), us, peer);
        let ask = Ask { who, action, from, to, ..ask.clone() };
        Some(Sight { border: Arc::clone(self), ask })
    }
}

impl Sight {
    /// Whether the peer may see what is directly in the directory `dir` and has these labels. From
    /// memory, unless no such question was asked a short time ago.
    pub fn sees(&self, dir: &RelPath, labels: impl IntoIterator<Item = Label>) -> bool {
        let Ok(class) = self.border.class(labels) else { return false };
        let ask = Ask { path: dir.clone(), class, ..self.ask.clone() };
        self.border.decide(&ask.request()).verdict == Verdict::Granted
    }
}

impl Way {
    /// What the peer may read of all that is here; all of it inside a site.
    pub fn sight(&self) -> Option<Sight> {
        self.border().sight(&self.asked(), Action::Pull)
    }
}
