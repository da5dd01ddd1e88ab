//! Caps on what this node sends: of one transfer, and of a link, which may change meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;

use super::connect::NodeLink;
use super::engine::Inner;
use crate::base::{Rate, SiteName};
use crate::runtime::shares::{Direction, Share};
use crate::transport::{Link, Pace, Paces};

/// How often is looked whether `portway.toml` has changed.
const LOOK: Duration = Duration::from_millis(500);

/// Keeps the caps of a session as `portway.toml` has them, for as long as this lives.
pub(super) struct Capped(Option<JoinHandle<()>>);

impl Drop for Capped {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Inner {
    /// Caps what `link` sends from the site `ours`: to the cap of its transfer, to what its link between
    /// sites may carry, which all processes of this home share, and to what others leave.
    pub(super) fn cap(self: &Arc<Self>, link: &NodeLink, ours: &SiteName, share: &Share) -> Capped {
        let own = share.limit().map(|rate| Arc::new(Pace::own(Some(rate))));
        let mut paces: Vec<_> = own.into_iter().chain(share.pace(Direction::Out)).collect();
        let peer = link.peer();
        let taken = (&peer.node, link.remote());
        let mut task = None;
        if let Some((name, known)) = self.config.link_taken((ours, &peer.site), taken) {
            match self.shared_pace(name, known.limit()) {
                Ok(pace) => {
                    let pace = Arc::new(pace);
                    paces.push(Arc::clone(&pace));
                    task = Some(tokio::spawn(follow(Arc::clone(self), name.to_owned(), pace)));
                }
                Err(error) => tracing::warn!(link = name, %error, "the link's limit does not hold"),
            }
        }
        link.set_paces(Paces::new(paces));
        Capped(task)
    }

    fn shared_pace(&self, name: &str, limit: Option<Rate>) -> std::io::Result<Pace> {
        let dir = self.state_path("pace");
        std::fs::create_dir_all(&dir)?;
        Pace::shared(&dir.join(name), limit)
    }
}

/// Sets `pace` anew whenever the file changes; a file with mistakes changes nothing.
async fn follow(inner: Arc<Inner>, name: String, pace: Arc<Pace>) {
    let path = inner.home.config_file();
    let mut seen = changed(&path);
    loop {
        tokio::time::sleep(LOOK).await;
        let now = changed(&path);
        if now == seen {
            continue;
        }
        seen = now;
        match inner.config.again(&inner.home) {
            Ok(config) => {
                let limit = config.links.get(&name).and_then(crate::config::Link::limit);
                if limit != pace.rate() {
                    let shown = limit.map_or_else(|| "none".to_owned(), |rate| rate.to_string());
                    tracing::info!(limit = shown, "the link has another limit");
                    pace.set(limit);
                }
            }
            Err(error) => tracing::warn!(%error, "the limits stay as they are"),
        }
    }
}

fn changed(path: &Path) -> Option<(SystemTime, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}
