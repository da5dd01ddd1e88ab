//! The gate of a node: what decides, and the log that has to have it.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ask::{Ask, Denied};
use super::looked::{Changes, Looked};
use super::purse::{Books, Purse};
use super::session::Session;
use super::stamps::relabelled_file;
use super::way::Way;
use crate::audit::{AuditLog, Checkpoint, Ending, LogFolder, LogId, Place, Setup, Word};
use crate::base::{Class, FileTime, NodeName, SiteName, TransferId, human};
use crate::config::{Config, Home};
use crate::cost::Tariff;
use crate::identity::{AuditKey, Identity, SpiffeId};
use crate::policy::{Broken, Decider, Decision, Principal, Request, Verdict};

/// The label of something, or that it has none.
pub type Label = Option<Vec<u8>>;

/// What guards a node's side of the border.
pub struct Border {
    home: Home,
    pub(super) us: SpiffeId,
    /// As it was renewed last.
    pub(super) identity: RwLock<Identity>,
    pub(super) decider: Decider,
    pub(super) looked: Mutex<Looked>,
    /// Opened when something crosses first.
    log: Mutex<Option<Arc<AuditLog>>>,
    /// Sessions between sites that are under way.
    under_way: Mutex<HashMap<(TransferId, SpiffeId), Weak<Session>>>,
    /// The last checkpoint of each peer's log that was kept.
    pub(super) witnessed: Mutex<BTreeMap<LogId, Checkpoint>>,
    pub(super) stage: Option<Stage>,
}

/// What a simulation has in place of the clock and of the log's directory. Changes of files are seen at
/// once then.
pub(crate) struct Stage {
    /// Seconds since 1970.
    pub(crate) now_s: Arc<AtomicI64>,
    /// Where the log lies.
    pub(crate) log: Mutex<LogFolder>,
}

impl Border {
    /// The border of the node whose home this is. Whatever is wrong with its policy or roles denies.
    pub fn open(home: &Home, config: &Config, identity: Identity) -> Self {
        let decider = Decider::broken(Broken::new("nothing was read yet"));
        let looked = Looked::first(home, config, &decider, &identity);
        Self {
            home: home.clone(),
            decider,
            us: identity.id().clone(),
            identity: RwLock::new(identity),
            looked: Mutex::new(looked),
            log: Mutex::new(None),
            under_way: Mutex::default(),
            witnessed: Mutex::default(),
            stage: None,
        }
    }

    /// The border of a simulated node.
    pub(crate) fn staged(home: &Home, config: &Config, identity: Identity, stage: Stage) -> Self {
        Self { stage: Some(stage), ..Self::open(home, config, identity) }
    }

    /// A simulated node starts again, with its log there.
    pub(crate) fn restart(&self, log: LogFolder) {
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(stage) = &self.stage {
            *stage.log.lock().unwrap_or_else(PoisonError::into_inner) = log;
        }
    }

    /// Who this node is.
    pub fn us(&self) -> &SpiffeId {
        &self.us
    }

    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    /// The class of what has these labels, the highest of them; nothing without a label has the
    /// default class.
    ///
    /// # Errors
    /// A label is none of the classes that are configured here.
    pub fn class(&self, labels: impl IntoIterator<Item = Label>) -> Result<Class, Denied> {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let classes = &looked.config.classes;
        let mut highest: Option<Class> = None;
        for label in labels {
            let Some(label) = label else {
                let class = classes.default_class();
                highest =
                    Some(highest.map_or(class.clone(), |it| classes.join(&it, class).clone()));
                continue;
            };
            let class = std::str::from_utf8(&label).ok().and_then(|text| text.parse().ok());
            let Some(class) = class.filter(|class| classes.rank(class).is_some()) else {
                let shown = human::escaped(&label);
                return Err(Denied::Policy(format!("the label {shown} is no class of this node")));
            };
            highest = Some(highest.map_or(class.clone(), |it| classes.join(&it, &class).clone()));
        }
        Ok(highest.unwrap_or_else(|| classes.default_class().clone()))
    }

    /// The class of what has no label.
    pub fn default_class(&self) -> Class {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.config.classes.default_class().clone()
    }

    /// The higher one of two classes.
    pub fn join(&self, one: &Class, other: &Class) -> Class {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.config.classes.join(one, other).clone()
    }

    /// The link that a session of this node takes with `node` of another site, which is at `remote`; as
    /// `portway.toml` has it now.
    pub fn link_taken(
        &self,
        site: &SiteName,
        (node, remote): (&NodeName, Option<SocketAddr>),
    ) -> Option<String> {
        self.refresh();
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = looked.config.link_taken((&self.us().site, site), (node, remote));
        taken.map(|(name, _)| name.to_owned())
    }

    /// What this node pays for a byte that it sends over a link; none where that is not known.
    pub(super) fn tariff(&self, link: &Word) -> Option<Tariff> {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let config = &looked.config;
        config.links.get(link.as_str())?.tariff(config.settings.cost.currency)
    }

    /// Whether a transfer would be let through; a denial of what would cross is recorded.
    ///
    /// # Errors
    /// It would not.
    pub fn would(&self, ask: &Ask) -> Result<(), Denied> {
        let decision = self.judge(ask, &ask.request());
        if decision.verdict == Verdict::Granted {
            return Ok(());
        }
        if ask.crosses() {
            let log = self.log()?;
            super::ledger::decided(&log, ask, &decision)?;
        }
        Err(Denied::of(&decision))
    }

    /// The way for one session of a transfer. What crosses is recorded first. Blocks for the disk.
    ///
    /// # Errors
    /// It is denied, or cannot be recorded.
    pub fn enter(self: &Arc<Self>, ask: Ask) -> Result<Way, Denied> {
        Way::open(Arc::clone(self), ask)
    }

    /// Ends an older session of the same transfer with the same peer: what is recorded of a transfer is
    /// one session after the other.
    pub(super) fn take_over(&self, ask: &Ask) -> Result<(), Denied> {
        let older = self.sessions().remove(&self.name(ask)).and_then(|older| older.upgrade());
        let why = "a newer session of the same transfer took over";
        older.map_or(Ok(()), |older| older.stop(Ending::Interrupted, why, None).map(drop))
    }

    /// A session began. Those that are over are forgotten.
    pub(super) fn entered(&self, ask: &Ask, session: &Arc<Session>) {
        let mut sessions = self.sessions();
        sessions.retain(|_, session| session.strong_count() > 0);
        sessions.insert(self.name(ask), Arc::downgrade(session));
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<(TransferId, SpiffeId), Weak<Session>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self, ask: &Ask) -> (TransferId, SpiffeId) {
        (ask.transfer, ask.other_end(self.us()).1.clone())
    }

    /// Decides by policy and roles as they are now.
    pub(super) fn decide(&self, request: &Request) -> Arc<Decision> {
        self.refresh();
        let staged = self.stage.as_ref().map(|stage| stage.now_s.load(Relaxed));
        self.decider.decide(request, staged.unwrap_or_else(|| now().secs))
    }

    /// What changed here, as far as was seen.
    pub(super) fn changes(&self) -> Changes {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).changes
    }

    /// What bounds the cost of a session now; `None` where nothing does. Blocks.
    ///
    /// # Errors
    /// Nothing is left to spend, or its link is closed.
    pub(super) fn purse(&self, ask: &Ask) -> Result<Option<Purse>, Denied> {
        if !ask.crosses() {
            return Ok(None);
        }
        self.books(|books| books.purse(ask))
    }

    /// Why something may be moved or may not, in the policy's words.
    pub fn reason(&self, ask: &Ask) -> String {
        self.decide(&ask.request()).reason.as_str().to_owned()
    }

    /// How many bytes of the wire a pull may still take; `None` for any number. Blocks.
    ///
    /// # Errors
    /// None at all, or nobody knows what they cost.
    pub fn wire_left(&self, ask: &Ask) -> Result<Option<u64>, Denied> {
        if !ask.crosses() {
            return Ok(None);
        }
        self.books(|books| books.wire_left(ask))
    }

    fn books<T>(&self, read: impl FnOnce(&Books<'_>) -> T) -> T {
        // The books are looked into without the lock: they may be long.
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let config = looked.config.clone();
        drop(looked);
        let us = Place::from(self.us());
        read(&Books { home: &self.home, config: &config, us: &us, at: now().secs })
    }

    /// Has every transfer of this home look at its labels again.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn note_relabelling(&self) -> std::io::Result<()> {
        // Its length grows, so that two within one tick of the clock are two.
        self.relabelled()?.write_all(b".")
    }

    /// The turn to change labels, of all processes of this home; it ends when it is dropped. What was found
    /// out about the class of something stays true meanwhile, as far as Portway changes it. Blocks.
    ///
    /// # Errors
    /// Its file cannot be opened or locked.
    pub fn turn_to_label(&self) -> std::io::Result<std::fs::File> {
        let turn = self.relabelled()?;
        turn.lock()?;
        Ok(turn)
    }

    fn relabelled(&self) -> std::io::Result<std::fs::File> {
        let mut options = std::fs::File::options();
        options.create(true).append(true).open(relabelled_file(&self.home))
    }

    /// The audit log, opened at the first call.
    pub(crate) fn log(&self) -> Result<Arc<AuditLog>, Denied> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = &*log {
            return Ok(Arc::clone(log));
        }
        let opened = Arc::new(self.open_log().map_err(Denied::Audit)?);
        *log = Some(Arc::clone(&opened));
        Ok(opened)
    }

    fn open_log(&self) -> Result<AuditLog, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let key = AuditKey::load_or_create(&self.home.identity_dir()).map_err(|e| text(&e))?;
        let setup = Setup {
            node: Principal::from(self.us()),
            attestation: self.identity().attest(key.public()).map_err(|e| text(&e))?,
            key,
            new_log: LogId::random().ok_or("the system gave no random bytes")?,
        };
        let folder = match &self.stage {
            Some(stage) => stage.log.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            None => LogFolder::open(&self.home.audit_dir()).map_err(|e| text(&e))?,
        };
        AuditLog::open(folder, setup, now()).map_err(|e| format!("{e} (hint: {})", e.hint()))
    }
}

/// The wall clock.
pub(super) fn now() -> FileTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    FileTime {
        secs: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: since.subsec_nanos(),
    }
}
