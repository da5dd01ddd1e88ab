//! One session in which parts of a file are read: recorded here as at the node that has it.

use std::sync::Arc;

use super::connect::{Session, refused};
use super::crossing::{Bounds, Wanted, blocking, denial, enter};
use super::ranges::ReadRequest;
use super::{Engine, Error, Remote};
use crate::audit::Ending;
use crate::base::{Class, Extent, RelPath, TransferId};
use crate::border::Way;
use crate::policy::Action;
use crate::transport::Link;

/// A session, and the way of what comes in it.
pub(super) struct Reading {
    session: Session,
    way: Arc<Way>,
}

impl Reading {
    /// Decides, and records it, before any content is asked for.
    pub(super) async fn begin(
        engine: &Engine,
        session: Session,
        (transfer, path, class): (TransferId, &RelPath, &Class),
    ) -> Result<Self, Error> {
        let border = engine.border()?;
        let (action, class, bounds) = (Action::Pull, class.clone(), Bounds::default());
        let wanted = Wanted { transfer, action, path, class, ours: true, outward: false, bounds };
        let ask = engine.ask(&border, &session.link, wanted);
        match enter(border, ask, &session.link).await {
            Ok(way) => Ok(Self { session, way }),
            Err(denied) => {
                session.link.close("denied at the other end").await;
                Err(denial(&denied))
            }
        }
    }

    /// The content of the ranges, back to back.
    pub(super) async fn ask(
        &self,
        remote: &Remote,
        request: &ReadRequest,
    ) -> Result<Vec<u8>, Error> {
        let label = remote.node.to_string();
        let wanted: u64 = request.ranges.iter().map(|range| range.1).sum();
        let mut content = Vec::with_capacity(wanted as usize);
        let more = |body: &[u8]| {
            content.extend_from_slice(body);
            if content.len() as u64 > wanted {
                return Err(refused(&label, "protocol", "more than was asked for"));
            }
            Ok(())
        };
        let answered = self.session.call_each("read", request, more).await;
        // What came is recorded, whether all of it came or not.
        let arrived = first(&request.ranges, content.len() as u64);
        self.way.arrived(&arrived).await.map_err(|denied| denial(&denied))?;
        answered?;
        if content.len() as u64 != wanted {
            return Err(refused(&label, "protocol", "less than was asked for"));
        }
        Ok(content)
    }

    /// Records how it ended, and ends the session.
    pub(super) async fn end(self, ending: Ending, why: &'static str) {
        let way = Arc::clone(&self.way);
        if let Err(error) = blocking(move || way.stop(ending, why, None)).await {
            tracing::error!(%error, "the end of a reading is not recorded");
        }
        let reason = if ending == Ending::Complete { "done" } else { why };
        self.session.link.close(reason).await;
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // Nobody closed it; the disk is not waited for here.
        if self.way.crosses() {
            let way = Arc::clone(&self.way);
            std::thread::spawn(move || {
                if let Err(error) = way.stop(Ending::Interrupted, "not closed", None) {
                    tracing::error!(%error, "the end of a reading is not recorded");
                }
            });
        }
    }
}

/// The first `len` bytes of ranges.
fn first(ranges: &[(u64, u64)], mut len: u64) -> Vec<(RelPath, Extent)> {
    let mut out = Vec::new();
    for &(offset, wanted) in ranges {
        let taken = wanted.min(len);
        if taken > 0 {
            out.push((RelPath::root(), Extent { offset, len: taken }));
        }
        len -= taken;
    }
    out
}
