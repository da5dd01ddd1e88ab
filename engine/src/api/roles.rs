//! Roles from node to node: who has older ones takes the newer ones, if the CA signed them.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::Error;
use super::calls::Answer;
use super::connect::{self, Greet, Session};
use super::engine::Engine;
use super::server::Shared;
use crate::base::human;
use crate::border::{Border, Follow};
use crate::config::{Endpoint, Topic, take_roles};
use crate::identity::Expect;
use crate::policy::{BUNDLE_BYTES_MAX, RolesMark};
use crate::protocol::Failure;
use crate::transport::Link;

/// Bytes of a bundle in one part of an answer; a frame has room for them.
const PART: usize = 240 << 10;

#[derive(serde::Serialize)]
struct Nothing {}

impl Engine {
    /// Takes the roles of a peer that said in its greeting that it has newer ones; anything that is
    /// wrong is told here, and the session goes on.
    pub(super) async fn follow(
        &self,
        session: &Session,
        (endpoints, expect, label): (&[Endpoint], Expect, &str),
    ) {
        let (Some(theirs), Ok(border)) = (session.roles, self.border()) else { return };
        if !self.hears(&border, theirs, label) {
            return;
        }
        match self.fetch(&border, (endpoints, expect, label)).await {
            Ok(version) => {
                tracing::info!(version, from = label, "newer roles are taken");
                self.note(Topic::Roles, None);
            }
            Err(error) => {
                let text = format!("newer roles of {label} cannot be taken: {error}");
                self.note(Topic::Roles, Some(&text));
            }
        }
    }

    /// Whether roles that a peer told of are to be taken; what is wrong with them is noted.
    pub(super) fn hears(&self, border: &Border, theirs: RolesMark, label: &str) -> bool {
        let follow = border.follows(theirs);
        match follow {
            Follow::Stay | Follow::Take => {}
            Follow::Same => self.note(Topic::Roles, None),
            Follow::Fork => self.note(Topic::Roles, Some(&fork(label, theirs))),
            Follow::Hidden => self.note(Topic::Roles, Some(&hidden(label, theirs))),
        }
        follow == Follow::Take
    }

    /// Fetches the bundle in a session of its own, and takes it.
    async fn fetch(
        &self,
        border: &Arc<Border>,
        (endpoints, expect, label): (&[Endpoint], Expect, &str),
    ) -> Result<u64, Error> {
        let session = self.connect_to(endpoints, expect, (label, Greet::Wait)).await?;
        let mut bytes = Vec::new();
        let part = |body: &[u8]| {
            bytes.extend_from_slice(body);
            let large = || connect::refused(label, "protocol", "roles of more bytes than may be");
            if bytes.len() > BUNDLE_BYTES_MAX { Err(large()) } else { Ok(()) }
        };
        session.call_each("roles", &Nothing {}, part).await?;
        session.link.close("done").await;
        let (home, identity) = (self.0.home.clone(), self.identity()?);
        let (origin, border) =
            (PathBuf::from(format!("the bundle of {label}")), Arc::clone(border));
        let taken = super::server::blocking(move || {
            let taken = take_roles(&home, &identity, &bytes, &origin);
            border.look_again();
            taken
        });
        let roles = taken.await?.map_err(|error| {
            Error::new("policy", super::Exit::Failed, error.to_string()).hint(error.hint())
        })?;
        Ok(roles.version())
    }

    /// Notes a problem, or that it is over.
    pub(super) fn note(&self, topic: Topic, text: Option<&str>) {
        if let Some(text) = text.filter(|text| self.0.home.problem(topic).as_deref() != Some(text))
        {
            tracing::error!(problem = text, "about {}", topic.as_str());
        }
        if let Err(error) = self.0.home.note_problem(topic, text) {
            tracing::warn!(%error, "a note in the state directory cannot be changed");
        }
    }
}

fn fork(label: &str, theirs: RolesMark) -> String {
    let label = human::escaped(label.as_bytes());
    format!(
        "{label} has other roles of the same version {}, which the CA signed too: they are not \
         taken; portway grant or revoke where the CA is makes a version that is newer than both",
        theirs.version
    )
}

fn hidden(label: &str, theirs: RolesMark) -> String {
    let label = human::escaped(label.as_bytes());
    format!(
        "the roles here are signed by this node and hide version {} of the trust domain, which \
         {label} has: remove policy/roles.bundle and the state file policy.seen to take those",
        theirs.version
    )
}

/// Answers `roles`: the bundle, as it lies here.
pub(super) async fn roles(shared: &Arc<Shared>) -> Answer {
    let home = shared.engine.0.home.clone();
    let read = tokio::task::spawn_blocking(move || std::fs::read(home.roles_file())).await;
    let missing = || Failure::new("not-found", "there are no roles here");
    let bytes = Bytes::from(read.ok().and_then(Result::ok).ok_or_else(missing)?);
    let count = bytes.len().div_ceil(PART);
    Ok((0..count).map(|i| bytes.slice(i * PART..bytes.len().min((i + 1) * PART))).collect())
}
