//! The gate of a node: what decides, and the log that has to have it.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::way::Way;
use crate::audit::{AuditLog, LogFolder, LogId, Place, Setup, Word};
use crate::base::{Class, FileTime, RelPath, TransferId, human};
use crate::config::{self, Config, Home};
use crate::identity::{AuditKey, Identity, SpiffeId};
use crate::policy::{
    Action, Decider, Decision, Principal, Relabel, Request, Side, Transport, Verdict,
};

/// How often is looked whether policy, roles or configuration have changed.
const LOOK: Duration = Duration::from_millis(250);

/// Why something may not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The policy, or a rule that no policy lifts.
    #[error("{0}")]
    Policy(String),
    /// The audit log cannot take the record, so nothing may cross.
    #[error("the audit log cannot be written, and without it nothing crosses: {0}")]
    Audit(String),
}

/// What somebody wants to move, from where to where.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The transfer.
    pub transfer: TransferId,
    /// Who wants it.
    pub who: SpiffeId,
    /// Push or pull.
    pub action: Action,
    /// The dataset, below the root of the node that serves it.
    pub path: RelPath,
    /// Its class.
    pub class: Class,
    /// The node that the content comes from.
    pub from: SpiffeId,
    /// The node that it goes to.
    pub to: SpiffeId,
    /// The link between their sites.
    pub link: Word,
    /// What carries it.
    pub transport: Transport,
}

impl Ask {
    /// Whether content leaves a site.
    pub(super) fn crosses(&self) -> bool {
        self.from.site != self.to.site
    }

    pub(super) fn request(&self) -> Request {
        let side = |id: &SpiffeId| Side { site: id.site.clone(), tier: id.tier };
        Request {
            who: Principal::from(&self.who),
            action: self.action,
            path: self.path.clone(),
            class: self.class.clone(),
            from: side(&self.from),
            to: side(&self.to),
            transport: self.transport,
            relabel: None,
        }
    }

    pub(super) fn places(&self) -> (Place, Place) {
        (Place::from(&self.from), Place::from(&self.to))
    }
}

/// The label of something, or that it has none.
pub type Label = Option<Vec<u8>>;

/// What guards a node's side of the border.
pub struct Border {
    home: Home,
    identity: Identity,
    decider: Decider,
    looked: Mutex<Looked>,
    /// Opened when something crosses first.
    log: Mutex<Option<Arc<AuditLog>>>,
    stage: Option<Stage>,
}

/// What a simulation has in place of the clock and of the log's directory. Changes of files are seen at
/// once then.
pub(crate) struct Stage {
    /// Seconds since 1970.
    pub(crate) now_s: Arc<AtomicI64>,
    /// Where the log lies.
    pub(crate) log: Mutex<LogFolder>,
}

/// What was there when it was looked last.
struct Looked {
    at: Instant,
    config: Config,
    stamps: Stamps,
    /// How often labels were changed.
    relabelled: u64,
}

/// When each file changed that decisions come from, its length, and which inode it is: two files that
/// replace each other within one tick of the clock may have the same length.
type Stamps = Vec<(PathBuf, Option<(SystemTime, u64, u64)>)>;

impl Border {
    /// The border of the node whose home this is. Whatever is wrong with its policy or roles denies.
    pub fn open(home: &Home, config: &Config, identity: Identity) -> Self {
        let before = stamps(home, config);
        // It may have changed since it was read, and no change of a stamp would tell.
        let (config, failed) = match config.again(home) {
            Ok(config) => (config, None),
            Err(error) => (config.clone(), Some(error)),
        };
        let decider = config::decider(home, &config, &identity);
        if let Some(error) = failed {
            decider.fail(&error.to_string());
        }
        let stamps = unless_moved(before, home, &config);
        let looked = Looked { at: Instant::now(), config, stamps, relabelled: 0 };
        Self {
            home: home.clone(),
            decider,
            identity,
            looked: Mutex::new(looked),
            log: Mutex::new(None),
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
        self.identity.id()
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

    /// Whether a transfer would be let through; a denial of what would cross is recorded.
    ///
    /// # Errors
    /// It would not.
    pub fn would(&self, ask: &Ask) -> Result<(), Denied> {
        let decision = self.decide(&ask.request());
        if decision.verdict == Verdict::Granted {
            return Ok(());
        }
        if ask.crosses() {
            let log = self.log()?;
            super::ledger::decided(&log, ask, &decision)?;
        }
        Err(Denied::Policy(decision.reason.as_str().to_owned()))
    }

    /// Whether the class of a dataset here may be raised, `from` one `to` another; recorded either way.
    ///
    /// # Errors
    /// It may not, or it cannot be recorded.
    pub fn relabel(&self, path: &RelPath, from: &Class, to: &Class) -> Result<(), Denied> {
        let us = self.us();
        let ask = Ask {
            transfer: TransferId(0),
            who: us.clone(),
            action: Action::Relabel,
            path: path.clone(),
            class: from.clone(),
            from: us.clone(),
            to: us.clone(),
            link: Word::from(us.site.clone()),
            transport: Transport::None,
        };
        let relabel = Some(Relabel { class: to.clone(), second: None });
        let decision = self.decide(&Request { relabel, ..ask.request() });
        let log = self.log()?;
        super::ledger::decided(&log, &ask, &decision)?;
        match decision.verdict {
            Verdict::Granted => Ok(()),
            Verdict::Denied => Err(Denied::Policy(decision.reason.as_str().to_owned())),
        }
    }

    /// The way for one session of a transfer. What crosses is recorded first. Blocks for the disk.
    ///
    /// # Errors
    /// It is denied, or cannot be recorded.
    pub fn enter(self: &Arc<Self>, ask: Ask) -> Result<Way, Denied> {
        Way::open(Arc::clone(self), ask)
    }

    /// Decides by policy and roles as they are now.
    pub(super) fn decide(&self, request: &Request) -> Arc<Decision> {
        self.refresh();
        let staged = self.stage.as_ref().map(|stage| stage.now_s.load(Relaxed));
        self.decider.decide(request, staged.unwrap_or_else(|| now().secs))
    }

    /// How often labels were changed here, as far as was seen.
    pub(super) fn relabelled(&self) -> u64 {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).relabelled
    }

    /// Has every transfer of this home look at its labels again.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn note_relabelling(&self) -> std::io::Result<()> {
        // Its length grows, so that two within one tick of the clock are two.
        let mut options = std::fs::File::options();
        let mut note = options.create(true).append(true).open(relabelled_file(&self.home))?;
        note.write_all(b".")
    }

    /// Takes up changes of the files that decisions come from.
    fn refresh(&self) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stage.is_none() && looked.at.elapsed() < LOOK {
            return;
        }
        looked.at = Instant::now();
        let fresh = stamps(&self.home, &looked.config);
        if fresh == looked.stamps {
            return;
        }
        // The last one says when `portway label` changed something.
        let others = fresh.len().saturating_sub(1);
        let grounds_same = fresh[..others] == looked.stamps[..others];
        looked.relabelled += u64::from(fresh.last() != looked.stamps.last());
        looked.stamps = fresh;
        if grounds_same {
            return;
        }
        match looked.config.again(&self.home) {
            Ok(config) => {
                looked.stamps =
                    unless_moved(std::mem::take(&mut looked.stamps), &self.home, &config);
                looked.config = config;
                config::refresh(&self.decider, &self.home, &looked.config, &self.identity);
                tracing::info!(version = ?self.decider.version(), "policy and roles are taken up");
            }
            Err(error) => {
                tracing::error!(%error, "nothing is let through");
                self.decider.fail(&error.to_string());
            }
        }
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
            attestation: self.identity.attest(key.public()).map_err(|e| text(&e))?,
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

/// Grows by a byte whenever labels are changed.
fn relabelled_file(home: &Home) -> PathBuf {
    home.state_dir().join("relabelled")
}

fn stamps(home: &Home, config: &Config) -> Stamps {
    let policy = config.settings.border.policy.clone().unwrap_or_else(|| home.policy_file());
    [home.config_file(), policy, home.roles_file(), relabelled_file(home)]
        .into_iter()
        .map(|path| {
            let stamp = stamp(&path);
            (path, stamp)
        })
        .collect()
}

/// The stamps from before the files were read, so that a change meanwhile is seen; unless the
/// configuration names another policy now.
fn unless_moved(before: Stamps, home: &Home, config: &Config) -> Stamps {
    let now = stamps(home, config);
    let same = before.iter().map(|it| &it.0).eq(now.iter().map(|it| &it.0));
    if same { before } else { now }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len(), meta.ino()))
}
