//! How one file of a stage comes: from its source, or from a node of this site.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use super::{Inner, deep};
use crate::api::fetches::Wish;
use crate::api::pull::Place;
use crate::api::retry::stopped;
use crate::api::site::{self, From};
use crate::api::{Error, Exit, Outcome, Remote, TransferOptions};
use crate::base::RelPath;

/// Pause before a file is tried again that another process stages now.
pub(super) const BUSY: Duration = Duration::from_millis(100);

impl Inner {
    /// Fetches one file from its source, or from a node of this site: then also tells `true`.
    pub(super) async fn fetch(&self, name: &RelPath) -> Result<(Outcome, bool), Error> {
        let path = self.source.path.join_path(name).map_err(|e| deep(name, &e))?;
        let source = Remote { node: self.source.node.clone(), path, into: false };
        let known = self.together.as_ref().and_then(|it| Some((&it.site, it.file(name)?)));
        let Some((site, file)) = known else {
            return Ok((self.pull(source, name, &self.options).await?, false));
        };
        let (mut lost, mut cancelled) = (Vec::new(), self.cancel.subscribe());
        let local = self.local.join(OsStr::from_bytes(name.as_bytes()));
        loop {
            let copy = match site.find(file, &lost, &mut cancelled).await {
                From::Copy(copy) => copy,
                From::Source => {
                    let keeping = site.keep(file);
                    let ended = self.pull(source, name, &self.options).await;
                    drop(keeping);
                    let wish = ended.as_ref().map_or(Wish::Leave, |outcome| Wish::Done {
                        copy: site.copy(&local, &outcome.root),
                    });
                    site.tell(file, wish).await;
                    return ended.map(|outcome| (outcome, false));
                }
            };
            let pulled = match copy.remote() {
                Some(near) => self.pull(near, name, &site::near(&self.options)).await.map(Some),
                None => Ok(None),
            };
            match pulled {
                Ok(Some(outcome)) if outcome.root == copy.root => {
                    let copy = site.copy(&local, &outcome.root);
                    site.tell(file, Wish::Done { copy }).await;
                    return Ok((outcome, true));
                }
                Err(error) if *cancelled.borrow() => return Err(error),
                Err(error) => tracing::info!(%name, %error, "a copy in this site cannot be had"),
                Ok(_) => tracing::info!(%name, "a copy in this site is another one"),
            }
            site.tell(file, Wish::Lost { copy: copy.clone() }).await;
            lost.push(copy);
        }
    }

    /// Pulls one file. Where another process stages the same file it is waited for; then there is
    /// nothing left to move.
    async fn pull(
        &self,
        source: Remote,
        name: &RelPath,
        options: &TransferOptions,
    ) -> Result<Outcome, Error> {
        let path = self.place.path.join_path(name).map_err(|e| deep(name, &e))?;
        let mut cancelled = self.cancel.subscribe();
        loop {
            let place = Place { root: Arc::clone(&self.place.root), path: path.clone() };
            let (target, options) =
                (self.local.join(OsStr::from_bytes(name.as_bytes())), options.clone());
            let transfer = self.engine.pull_into(source.clone(), target, options, Some(place));
            let mut ended = Box::pin(transfer.clone().wait());
            let ended = tokio::select! {
                ended = &mut ended => ended,
                () = stopped(&mut cancelled) => {
                    transfer.interrupt();
                    ended.await
                }
            };
            match ended {
                Ok(outcome) => match outcome.failed.first() {
                    Some((path, why)) => {
                        let message = format!("{path} was not published: {why}");
                        return Err(Error::new("partial", Exit::Partial, message));
                    }
                    None => return Ok(outcome),
                },
                Err(error) if error.code == "conflict" && !*cancelled.borrow() => {
                    tokio::time::sleep(BUSY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
