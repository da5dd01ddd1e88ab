//! `serve`: a node that exports a root, answers questions, and takes part in transfers.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::engine::{Engine, canonical, identity_error, unix_now};
use super::fetches::Fetches;
use super::{Error, Exit, admin, lanes};
use crate::base::NodeName;
use crate::config::{Home, ServeLock, ServeLockError, ServeRecord};
use crate::identity::{InviteError, Invites, Live, SpiffeId, live_server_config, peer_of};
use crate::policy::Kind;
use crate::runtime::root::Root;
use crate::runtime::target::Recovered;
use crate::transport::quic::{QuicListener, QuicTls};
use crate::transport::{LinkError, Peer};

/// Longest that running transfers may take to become resumable when the node stops.
const STOPPING: Duration = Duration::from_secs(20);

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The directory to export.
    pub root: PathBuf,
    /// Where to listen (UDP); port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where `/metrics` and `/healthz` answer; port 0 takes a free one.
    pub admin: Option<SocketAddr>,
}

/// A node that listens.
pub struct Server {
    shared: Arc<Shared>,
    listener: QuicListener,
    admin: Option<admin::Admin>,
    record: ServeRecord,
    lock: ServeLock,
}

pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) node: NodeName,
    pub(super) us: SpiffeId,
    pub(super) root: Arc<Root>,
    pub(super) invites: Option<Arc<Invites>>,
    pub(super) listen: SocketAddr,
    pub(super) started: Instant,
    pub(super) stopping: watch::Sender<bool>,
    pub(super) healthy: AtomicBool,
    /// Whose turn it is to be told of the audit log.
    pub(super) audits: tokio::sync::Mutex<()>,
    /// Who of this site fetches what.
    pub(super) fetches: Fetches,
}

impl Shared {
    /// Whether a peer is this node itself, by a command of its home.
    pub(super) fn is_own(&self, peer: &Peer) -> bool {
        (&peer.node, peer.kind, &peer.site) == (&self.us.node, self.us.kind, &self.us.site)
    }
}

impl Engine {
    /// Begins to serve.
    ///
    /// # Errors
    /// There is no identity, the root cannot be used, an address is taken, or the home is served
    /// already.
    pub async fn serve(&self, options: ServeOptions) -> Result<Server, Error> {
        let identity = self.current_identity().await?;
        if identity.id().kind == Kind::Workload {
            let message = format!("{} is a workload, and only nodes serve", identity.id());
            return Err(Error::new("workload", Exit::Usage, message)
                .hint("serve from the home of a node: portway invite --name NAME"));
        }
        let lock = lock(&self.0.home)?;
        let invites = self.invites();
        let reset_key = identity.reset_key();
        let live = self.0.live.get_or_init(|| Arc::new(Live::new(identity.clone())));
        let server = live_server_config(live, invites.clone()).map_err(|e| identity_error(&e))?;
        let dir = canonical(&options.root)?;
        let method = self.0.method();
        let root = blocking(move || Root::open(&dir, method)).await?.map_err(|e| {
            Error::new("root", Exit::Failed, e.to_string())
                .hint("serve a directory that this user may write")
        })?;
        let root = Arc::new(root);
        let judged = invites.clone();
        let tls = QuicTls {
            client: None,
            server: Some(server),
            peer: Arc::new(move |chain| {
                peer_of(chain, judged.as_deref(), unix_now())
                    .map_err(|e| LinkError::Refused { detail: e.to_string() })
            }),
            reset_key: Some(reset_key),
        };
        let listener = QuicListener::bind(options.listen, &tls, &self.0.quic).map_err(|e| {
            Error::new("listen", Exit::Failed, e.to_string())
                .hint("is another serve running? --listen takes another ADDR:PORT")
        })?;
        // Who connects meanwhile waits for it.
        recover(&root).await?;
        let shared = Arc::new(Shared {
            engine: self.clone(),
            node: identity.id().node.clone(),
            us: identity.id().clone(),
            root,
            invites,
            listen: listener.local_addr(),
            started: Instant::now(),
            stopping: watch::channel(false).0,
            healthy: AtomicBool::new(true),
            audits: tokio::sync::Mutex::default(),
            fetches: Fetches::default(),
        });
        let admin = match options.admin {
            Some(address) => Some(admin::Admin::bind(address, Arc::clone(&shared)).await?),
            None => None,
        };
        let record = ServeRecord {
            node: shared.node.clone(),
            address: listener.local_addr(),
            admin: admin.as_ref().map(admin::Admin::address),
            pid: std::process::id(),
            root: Some(shared.root.dir.clone()),
        };
        let home = &self.0.home;
        record.write(home).map_err(|e| {
            let file = home.serve_file();
            Error::new("home", Exit::Failed, format!("cannot write {}: {e}", file.display()))
        })?;
        Ok(Server { shared, listener, admin, record, lock })
    }

    /// The invitations that can be redeemed here, where the CA is.
    fn invites(&self) -> Option<Arc<Invites>> {
        let lifetime_s = self.0.config.settings.identity.lifetime_s;
        match Invites::open(self.0.home.config_dir()) {
            Ok(invites) => Some(Arc::new(invites.lifetime_s(lifetime_s))),
            Err(InviteError::NoCa) => None,
            Err(error) => {
                tracing::warn!(%error, "invitations cannot be used");
                None
            }
        }
    }
}

/// The right to serve a home, before anything of it is touched.
fn lock(home: &Home) -> Result<ServeLock, Error> {
    home.serve_lock().map_err(|error| {
        let (code, hint) = match error {
            ServeLockError::Taken { .. } => ("served", "stop it, or use another --home"),
            ServeLockError::Io(_) => ("home", "choose another with --home DIR or PORTWAY_HOME"),
        };
        Error::new(code, Exit::Failed, error.to_string()).hint(hint)
    })
}

/// Rolls interrupted publishes forward before anyone can ask for their targets.
async fn recover(root: &Arc<Root>) -> Result<(), Error> {
    let (begun, own) = (Instant::now(), Arc::clone(root));
    let recovered = blocking(move || {
        own.expire_parts(unix_now().as_secs().cast_signed());
        own.recover()
    });
    match recovered.await? {
        Ok(Recovered { rolled, failed }) => {
            for target in rolled {
                tracing::info!(%target, ms = begun.elapsed().as_millis(), "rolled a publish forward");
            }
            for (path, failure) in failed {
                let reason = failure.detail;
                tracing::error!(%path, %reason, "half done, and cannot be finished; it stays as it is");
            }
            Ok(())
        }
        Err(failure) => Err(Error::new("recovery", Exit::Failed, failure.detail)
            .hint("what is staged under .portway/staging stays; mend the cause and start again")),
    }
}

/// Runs blocking work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::new("internal", Exit::Failed, e.to_string()))
}

impl Server {
    /// This node's name.
    pub fn node(&self) -> NodeName {
        self.shared.node.clone()
    }

    /// Where it listens.
    pub fn listen(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Where metrics are, if anywhere.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(admin::Admin::address)
    }

    /// Serves until `shutdown` completes; then stops gracefully: running transfers make durable
    /// what they have, and their peers may resume.
    ///
    /// # Errors
    /// None so far.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let Self { shared, listener, admin: _admin, record, lock: _lock } = self;
        shared.engine.keep();
        let stop_scan = Arc::new(AtomicBool::new(false));
        let scan = shared.engine.0.config.settings.serve.index_scan.then(|| {
            let (root, stop) = (Arc::clone(&shared.root), Arc::clone(&stop_scan));
            let work = move || crate::runtime::scan::index_root(&root, &stop);
            lanes::spawn_nice("portway-scan", work)
        });
        let mut sessions = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                link = listener.accept() => match link {
                    Some(link) => {
                        let shared = Arc::clone(&shared);
                        sessions.spawn(async move { shared.session(link).await });
                    }
                    None => break,
                },
                Some(_) = sessions.join_next(), if !sessions.is_empty() => {}
            }
        }
        shared.healthy.store(false, Relaxed);
        stop_scan.store(true, Relaxed);
        shared.stopping.send_replace(true);
        let all = async { while sessions.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(STOPPING, all).await;
        listener.close("the node stops").await;
        if let Some(scan) = scan.flatten() {
            let _ = blocking(move || scan.join()).await;
        }
        let root = Arc::clone(&shared.root);
        let _ = blocking(move || root.index.flush()).await;
        let _ = record.remove(&shared.engine.0.home);
        Ok(())
    }
}
