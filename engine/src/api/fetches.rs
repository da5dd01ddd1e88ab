//! Who of a site fetches a file from elsewhere: leases that one node of the site keeps.
//!
//! A file is named by where it comes from and what it is there. The first node of the site that asks
//! gets the lease and fetches it; the others wait, and are told where it is once it is there. A holder
//! that says nothing for a while has lost the lease. All this saves bytes and decides nothing else: a
//! node that is told nothing useful fetches the file itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::calls::{Answer, asked, json};
use super::server::Shared;
use crate::base::{Digest, NodeName};
use crate::policy::Kind;
use crate::protocol::Failure;
use crate::transport::Peer;

/// How long a lease is good for without a word of its holder.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// Most files that are known; the one that nobody asked about for longest is forgotten first.
const FILES_MAX: usize = 100_000;
/// Most copies of a file that are known.
const COPIES_MAX: usize = 8;
/// Longest path, or name of one, in a question, in bytes.
const TEXT_BYTES_MAX: usize = 8192;

/// A file at a node of another site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileAt {
    /// The name of the node, and the path there in hexadecimal digits.
    pub(super) node: String,
    pub(super) path: String,
    /// Its length, its time in seconds since 1970, and its digest if it was published.
    pub(super) len: u64,
    pub(super) mtime_s: i64,
    pub(super) digest: Option<String>,
}

/// A copy in the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CopyAt {
    /// The node that has it, and the path below its root in hexadecimal digits.
    pub(super) node: NodeName,
    pub(super) path: String,
    /// Root digest of what was published there.
    pub(super) root: String,
}

/// What a node wants of the lease of a file, or says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Wish {
    /// Where to get it. One whose copies nobody else can read gets no lease.
    Get { shares: bool },
    /// It is still being fetched.
    Keep,
    /// It is there: for others too, if it says where.
    Done { copy: Option<CopyAt> },
    /// It is not fetched after all.
    Leave,
    /// A copy cannot be read, or is another one.
    Lost { copy: CopyAt },
}

#[derive(Serialize, Deserialize)]
pub(super) struct FetchRequest {
    pub(super) file: FileAt,
    pub(super) wish: Wish,
}

/// What to do about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FetchReply {
    /// Fetch it from where it is.
    Fetch,
    /// Ask again soon: another node fetches it.
    Wait,
    /// A node of the site has it.
    There(CopyAt),
}

#[derive(Debug)]
struct File {
    /// Who fetches it, and until when that is believed.
    holder: Option<(NodeName, Instant)>,
    copies: Vec<CopyAt>,
    asked: Instant,
    /// Turns the copies over to those who ask.
    turn: usize,
}

/// The leases of a site.
#[derive(Debug, Default)]
pub(super) struct Fetches(Mutex<HashMap<Digest, File>>);

impl Fetches {
    fn files(&self) -> MutexGuard<'_, HashMap<Digest, File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a node of the site.
    fn answer(&self, who: &NodeName, key: Digest, wish: Wish, now: Instant) -> FetchReply {
        let mut files = self.files();
        if files.len() >= FILES_MAX && !files.contains_key(&key) {
            let oldest = files.iter().min_by_key(|(_, file)| file.asked).map(|(key, _)| *key);
            oldest.map(|key| files.remove(&key));
        }
        let new = || File { holder: None, copies: Vec::new(), asked: now, turn: 0 };
        let file = files.entry(key).or_insert_with(new);
        file.asked = now;
        file.answer(who, wish, now)
    }
}

impl File {
    fn answer(&mut self, who: &NodeName, wish: Wish, now: Instant) -> FetchReply {
        let holds = self.holder.as_ref().is_some_and(|(holder, _)| holder == who);
        match wish {
            Wish::Get { shares } => return self.get(who, shares, now),
            Wish::Keep if holds => self.holder = Some((who.clone(), now + LEASE)),
            Wish::Keep => {}
            Wish::Done { copy } => {
                self.holder = self.holder.take().filter(|_| !holds);
                // A node speaks for itself alone.
                if let Some(copy) = copy.filter(|copy| copy.node == *who) {
                    self.copies.retain(|known| known.node != *who);
                    if self.copies.len() < COPIES_MAX {
                        self.copies.push(copy);
                    }
                }
            }
            Wish::Leave => self.holder = self.holder.take().filter(|_| !holds),
            Wish::Lost { copy } => self.copies.retain(|known| *known != copy),
        }
        FetchReply::Fetch
    }

    fn get(&mut self, who: &NodeName, shares: bool, now: Instant) -> FetchReply {
        // Who asks for a file has it no more.
        self.copies.retain(|copy| copy.node != *who);
        if !self.copies.is_empty() {
            self.turn += 1;
            return FetchReply::There(self.copies[self.turn % self.copies.len()].clone());
        }
        match &self.holder {
            Some((holder, until)) if holder != who && *until > now => FetchReply::Wait,
            _ if shares => {
                self.holder = Some((who.clone(), now + LEASE));
                FetchReply::Fetch
            }
            _ => FetchReply::Fetch,
        }
    }
}

/// Answers `fetch`.
pub(super) fn fetch(shared: &Arc<Shared>, peer: &Peer, body: &[u8]) -> Answer {
    if peer.site != shared.us.site || peer.kind != Kind::Node {
        return Err(Failure::new("not-allowed", "only nodes of this site share what they fetch"));
    }
    shared.standing(peer)?;
    let FetchRequest { file, wish } = asked(body)?;
    if file.path.len() > TEXT_BYTES_MAX || file.node.len() > TEXT_BYTES_MAX {
        return Err(Failure::new("protocol", "a path is too long"));
    }
    let words = serde_json::to_vec(&file).map_err(|e| Failure::new("internal", e.to_string()))?;
    json(&shared.fetches.answer(&peer.node, Digest::of(&words), wish, Instant::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        name.parse().expect("a name")
    }

    fn copy(name: &str) -> CopyAt {
        CopyAt { node: node(name), path: "61".to_owned(), root: "r".to_owned() }
    }

    struct Site {
        fetches: Fetches,
        now: Instant,
    }

    impl Site {
        fn new() -> Self {
            Self { fetches: Fetches::default(), now: Instant::now() }
        }

        fn say(&self, who: &str, wish: Wish) -> FetchReply {
            self.fetches.answer(&node(who), Digest([1; 32]), wish, self.now)
        }
    }

    const GET: Wish = Wish::Get { shares: true };

    #[test]
    fn the_first_fetches_and_the_others_are_told_where_it_is() {
        let site = Site::new();
        assert_eq!(site.say("a", GET), FetchReply::Fetch);
        assert_eq!(site.say("b", GET), FetchReply::Wait);
        assert_eq!(site.say("a", GET), FetchReply::Fetch, "who asks again goes on");
        site.say("b", Wish::Done { copy: Some(copy("a")) });
        assert_eq!(site.say("b", GET), FetchReply::Wait, "nobody speaks for another node");
        site.say("a", Wish::Done { copy: Some(copy("a")) });
        assert_eq!(site.say("b", GET), FetchReply::There(copy("a")));
        site.say("b", Wish::Done { copy: Some(copy("b")) });
        let told = [site.say("c", GET), site.say("c", GET)];
        assert_ne!(told[0], told[1], "copies take turns");
        site.say("c", Wish::Lost { copy: copy("a") });
        assert_eq!(site.say("c", GET), FetchReply::There(copy("b")));
        assert_eq!(site.say("b", GET), FetchReply::Fetch, "it has its copy no more");
    }

    #[test]
    fn a_holder_that_dies_or_gives_up_loses_the_lease() {
        let mut site = Site::new();
        site.say("a", GET);
        site.now += LEASE / 2;
        site.say("a", Wish::Keep);
        site.now += LEASE / 2;
        assert_eq!(site.say("b", GET), FetchReply::Wait, "it was kept");
        site.now += LEASE;
        assert_eq!(site.say("b", GET), FetchReply::Fetch);
        site.say("a", Wish::Keep);
        assert_eq!(site.say("a", GET), FetchReply::Wait, "it is another's now");
        site.say("b", Wish::Leave);
        assert_eq!(site.say("a", GET), FetchReply::Fetch);
        site.say("a", Wish::Done { copy: None });
        assert_eq!(site.say("b", Wish::Get { shares: false }), FetchReply::Fetch);
        assert_eq!(site.say("c", GET), FetchReply::Fetch, "whose copy nobody can read holds none");
    }
}
