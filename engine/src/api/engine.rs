//! The engine of one home: identity, configuration, and what every command begins with.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::connect::{self, Greet, Session};
use super::lanes::Lanes;
use super::path::{self, Own, PathChoice};
use super::{Compress, Error, Exit, NodeAddress, TransferOptions, TransportChoice};
use crate::base::{NodeName, SiteName, Tier};
use crate::border::Border;
use crate::buf::Slab;
use crate::config::{self, Config, Endpoint, Home, ServeRecord};
use crate::identity::{
    Enrolment, Expect, Identity, IdentityError, Live, SpiffeId, Token, UnixTime, join_config,
};
use crate::metrics::Registry;
use crate::policy::Kind;
use crate::runtime::codecs::Codecs;
use crate::storage::{Backend, Method};
use crate::transport::Link;
use crate::transport::quic::{Congestion, QuicConfig, QuicOptions};
use crate::transport::rdma::sysfs::{Remark, Roots, survey};
use crate::transport::rdma::{Ports, SystemVerbs, Verbs};

/// Everything that this process does for one home. Cheap to clone.
#[derive(Clone)]
pub struct Engine(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) home: Home,
    pub(super) config: Config,
    pub(super) quic: QuicConfig,
    pub(super) slab: Slab,
    pub(super) codecs: Arc<Codecs>,
    /// What transfers of each priority have.
    pub(super) lanes: Lanes,
    pub(super) registry: Registry,
    /// The border, opened when the first transfer needs it.
    pub(super) border: Mutex<Option<Arc<Border>>>,
    /// What a node that serves shows of itself.
    pub(super) live: OnceLock<Arc<Live>>,
    /// Identity and roles are kept fresh.
    pub(super) kept: AtomicBool,
    /// RDMA devices, or why there are none; looked for at first use.
    verbs: OnceLock<Result<Arc<SystemVerbs>, Remark>>,
}

/// What a node or a workload became by joining.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinReport {
    /// Its name.
    pub node: NodeName,
    /// Which of the two it is.
    pub kind: Kind,
    /// Its site.
    pub site: SiteName,
    /// The site's tier.
    pub tier: Tier,
    /// The inviting node, which is known under this name from now on.
    pub peer: NodeName,
}

/// Wall clock, for certificates and logs only.
pub(super) fn unix_now() -> UnixTime {
    UnixTime::since_unix_epoch(
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO),
    )
}

pub(super) fn clock_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl From<config::Compress> for Compress {
    fn from(set: config::Compress) -> Self {
        match set {
            config::Compress::Auto => Self::Auto,
            config::Compress::Always => Self::Always,
            config::Compress::Never => Self::Never,
        }
    }
}

pub(super) fn quic_options(config: &Config) -> QuicOptions {
    let (quic, limits) = (&config.settings.quic, &config.settings.limits);
    QuicOptions {
        connections: quic.connections as usize,
        window_bytes: (limits.window_mib as usize) << 20,
        mtu_max: quic.mtu_max as u16,
        congestion: match quic.congestion {
            config::Congestion::Auto => Congestion::Auto,
            config::Congestion::Bbr => Congestion::Bbr,
            config::Congestion::Cubic => Congestion::Cubic,
        },
        idle_ms: quic.idle_s * 1000,
        keep_alive_ms: quic.keep_alive_s * 1000,
        handshake_ms: quic.handshake_s * 1000,
        socket_buffer_bytes: (quic.socket_buffer_mib as usize) << 20,
        sessions_max: limits.sessions_max as usize,
        connections_max: limits.connections_max as usize,
        half_open_max: limits.half_open_max as usize,
        retry_above: limits.retry_above as usize,
        gso: quic.gso,
        ..QuicOptions::default()
    }
}

impl Engine {
    /// The engine of `home`. An identity is looked for when it is needed.
    ///
    /// # Errors
    /// The configuration does not make a usable transport.
    pub fn open(home: Home, config: Config) -> Result<Self, Error> {
        let quic = QuicConfig::new(quic_options(&config)).map_err(|error| {
            Error::new("config", Exit::Usage, format!("the configuration is wrong: {error}"))
                .hint("`portway config` explains every field and its bounds")
        })?;
        let slab = Slab::new((config.settings.limits.slab_mib as usize) << 20);
        let registry = Registry::default();
        let verbs = OnceLock::new();
        let codecs = Arc::default();
        let border = Mutex::new(None);
        let lanes = Lanes::default();
        let (live, kept) = (OnceLock::new(), AtomicBool::new(false));
        Ok(Self(Arc::new(Inner {
            home,
            config,
            quic,
            slab,
            codecs,
            lanes,
            registry,
            border,
            live,
            kept,
            verbs,
        })))
    }

    /// Makes the identity of the first node, and with it a trust domain. Returns its SPIFFE id.
    ///
    /// # Errors
    /// There is an identity already, or the home cannot be written.
    pub fn init(home: &Home, name: NodeName, site: SiteName, tier: Tier) -> Result<String, Error> {
        home.create().map_err(|e| home_error(home, &e))?;
        let config = Config::load(home, std::env::vars_os(), &[]).map_err(|e| Error::from(&e))?;
        let (who, lifetime_s) = ((name, site, tier), config.settings.identity.lifetime_s);
        let made = Identity::init_for(home.config_dir(), who, lifetime_s, unix_now());
        Ok(made.map_err(|e| identity_error(&e))?.id().to_string())
    }

    /// Takes up an invitation: makes a key here, has it certified, and knows the inviter.
    ///
    /// # Errors
    /// The token is not usable, the inviter cannot be reached or refuses.
    pub async fn join(home: &Home, config: &Config, token: &str) -> Result<JoinReport, Error> {
        let token: Token = token.trim().parse().map_err(|error| {
            Error::new("token", Exit::Usage, format!("this is not an invitation: {error}"))
                .hint("copy the whole token that `portway invite` printed")
        })?;
        home.create().map_err(|e| home_error(home, &e))?;
        let over = Identity::load(home.config_dir()).is_ok_and(|it| unix_now() > it.expires_at());
        let begun = if over {
            Enrolment::again(home.config_dir(), token, unix_now())
        } else {
            Enrolment::begin(home.config_dir(), token)
        };
        let enrolment = begun.map_err(|e| {
            Error::new("enrol", Exit::Failed, format!("cannot enrol: {e}"))
                .hint("a home has one identity; use another --home for another node")
        })?;
        let engine = Self::open(home.clone(), config.clone())?;
        let tls = join_config(enrolment.token()).map_err(|e| identity_error(&e))?;
        let addresses = enrolment.token().addresses().to_vec();
        let endpoints: Vec<Endpoint> = addresses.iter().filter_map(|a| a.parse().ok()).collect();
        let named = ("the inviting node", Greet::Wait);
        let session = connect::dial(&engine.0, &endpoints, tls, (None, None), named).await?;
        let request = super::calls::JoinRequest::of(enrolment.request());
        let reply: super::calls::JoinReply = session.call("join", &request).await?;
        let inviter = session.link.peer().node.clone();
        session.link.close("joined").await;
        let identity = enrolment.finish(&reply.chain_pem, unix_now()).map_err(|e| {
            Error::new("enrol", Exit::Refused, format!("the certificate cannot be used: {e}"))
        })?;
        let _ = config::add_node(home, &inviter, &endpoints);
        let id = identity.id().clone();
        let (node, kind, site, tier) = (id.node, id.kind, id.site, id.tier);
        Ok(JoinReport { node, kind, site, tier, peer: inviter })
    }

    /// Has the running `serve` of this home admit one node; returns the token for it.
    ///
    /// # Errors
    /// No `serve` runs here, this node has no CA, or it knows the site by another tier.
    pub async fn invite(
        &self,
        name: NodeName,
        site: SiteName,
        tier: Tier,
    ) -> Result<String, Error> {
        self.admit(super::calls::InviteRequest { name, site, tier, workload: false }).await
    }

    /// Who this node is.
    ///
    /// # Errors
    /// There is no identity, or it cannot be read.
    pub fn identity(&self) -> Result<Identity, Error> {
        let node = &self.0.config.settings.node;
        let loaded = match (&node.ca, &node.certificate, &node.key) {
            (Some(ca), Some(cert), Some(key)) => Identity::from_files(ca, cert, key),
            _ => Identity::load(self.0.home.config_dir()),
        };
        loaded.map_err(|e| identity_error(&e))
    }

    /// What guards this node's side of the border.
    pub(super) fn border(&self) -> Result<Arc<Border>, Error> {
        let mut border = self.0.border.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(border) = &*border {
            return Ok(Arc::clone(border));
        }
        // The file may have changed since this engine was opened.
        let config = self.0.config.again(&self.0.home).map_err(|error| Error::from(&error))?;
        let opened = Border::open(&self.0.home, &config, self.identity()?);
        Ok(Arc::clone(border.insert(Arc::new(opened))))
    }

    /// A session with the `serve` of this home.
    pub(super) async fn own_serve(&self) -> Result<Session, Error> {
        let record = ServeRecord::read(&self.0.home).ok().flatten().ok_or_else(|| {
            Error::new("no-serve", Exit::Failed, "no `portway serve` runs for this home")
                .hint("start it: portway serve --root DIR")
        })?;
        let mut address = record.address;
        if address.ip().is_unspecified() {
            address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        let named = ("the serve of this home", Greet::Wait);
        self.connect_to(&[Endpoint::Address(address)], Expect::Any, named).await
    }

    /// A session with a node.
    pub(super) async fn connect(&self, node: &NodeAddress) -> Result<Session, Error> {
        let (endpoints, expect) = self.locate(node)?;
        self.connect_at(&endpoints, expect, (&node.to_string(), Greet::Wait)).await
    }

    /// How this node dials, and who it is.
    pub(super) async fn dialling(
        &self,
        expect: Expect,
    ) -> Result<(Arc<rustls::ClientConfig>, Identity), Error> {
        let identity = self.current_identity().await?;
        self.take_up(&identity).await;
        let tls = crate::identity::client_config(&identity, expect);
        Ok((tls.map_err(|e| identity_error(&e))?, identity))
    }

    pub(super) async fn connect_to(
        &self,
        endpoints: &[Endpoint],
        expect: Expect,
        named: (&str, Greet),
    ) -> Result<Session, Error> {
        let (tls, identity) = self.dialling(expect).await?;
        let roles = self.border()?.roles();
        connect::dial(&self.0, endpoints, tls, (Some(identity.id()), roles), named).await
    }
}

impl Engine {
    /// How content goes in a session.
    ///
    /// # Errors
    /// RDMA was asked for and is not possible.
    pub(super) fn path(
        &self,
        session: &Session,
        choice: TransportChoice,
    ) -> Result<PathChoice, Error> {
        let identity = self.identity()?;
        let ports = self.0.ports_for(identity.id(), session.link.peer());
        let own = self.0.own(identity.id(), &ports);
        path::choose(&own, session.link.peer(), &session.rails, choice)
    }
}

impl Inner {
    /// Whether content is to be made smaller, as far as this node is asked.
    pub(super) fn compress(&self, options: &TransferOptions) -> Compress {
        options.compress.unwrap_or_else(|| self.config.settings.transfer.compress.into())
    }

    /// The ports of this node that work, whatever people set. Called for each session.
    pub(super) fn ports(&self) -> Ports {
        let verbs = match self.verbs() {
            Ok(verbs) => verbs,
            Err(remark) => return Ports::none(&remark.finding),
        };
        let ports = verbs.ports();
        if !ports.is_empty() {
            return Ports::Usable(ports).fit();
        }
        let remark = survey(&Roots::default()).first_obstacle();
        Ports::none(remark.map_or(String::new(), |remark| remark.finding))
    }

    /// The RDMA devices of this node.
    pub(super) fn verbs(&self) -> Result<&Arc<SystemVerbs>, &Remark> {
        self.verbs.get_or_init(|| SystemVerbs::load().map(Arc::new)).as_ref()
    }

    pub(super) fn own<'a>(&'a self, us: &'a SpiffeId, ports: &'a Ports) -> Own<'a> {
        let settings = &self.config.settings.rdma;
        Own { built: path::BUILT, site: &us.site, tier: us.tier, settings, ports }
    }

    /// How files are read and written.
    pub(super) fn method(&self) -> Method {
        let settings = &self.config.settings.storage;
        Method {
            backend: match settings.backend {
                config::Backend::Auto => Backend::Auto,
                config::Backend::Pool => Backend::Pool,
                config::Backend::Uring => Backend::Uring,
            },
            direct: settings.direct,
        }
    }

    /// A directory below the home's state for small files of this kind.
    pub(super) fn state_path(&self, name: &str) -> std::path::PathBuf {
        self.home.state_dir().join(name)
    }
}

pub(super) fn unknown_node(config: &Config, name: &NodeName) -> Error {
    let known: Vec<&str> = config.nodes.keys().map(NodeName::as_str).collect();
    let similar = config::similar(name.as_str(), known.iter().copied());
    let hint = match similar.first() {
        Some(similar) => format!("did you mean {similar}? `portway nodes` lists what is known"),
        None => format!("make it known: portway nodes add {name} ADDR:PORT"),
    };
    Error::new("unknown-node", Exit::Usage, format!("no node is called {name}")).hint(hint)
}

fn home_error(home: &Home, error: &std::io::Error) -> Error {
    let dir = home.config_dir().display();
    Error::new("home", Exit::Failed, format!("cannot use {dir} as a home: {error}"))
        .hint("choose another with --home DIR or PORTWAY_HOME")
}

pub(super) fn identity_error(error: &IdentityError) -> Error {
    let hint = match error {
        IdentityError::Missing { .. } => {
            "begin with `portway init --name NAME --site SITE --tier private|public`, or join with \
             a token"
        }
        IdentityError::Exists { .. } => "a home has one identity; use --home for another node",
        IdentityError::Unfinished { .. } => "run `portway join TOKEN` again",
        IdentityError::Expired { .. } => {
            "have it invited again where the CA is, and run `portway join TOKEN` here"
        }
        IdentityError::NotYetValid { .. } => "set the clock of this machine",
        _ => "",
    };
    let code = match error {
        IdentityError::Missing { .. } | IdentityError::Unfinished { .. } => "no-identity",
        IdentityError::Exists { .. } => "identity-exists",
        IdentityError::Expired { .. } => "expired",
        _ => "identity",
    };
    let exit = match error {
        IdentityError::Missing { .. } | IdentityError::Exists { .. } => Exit::Usage,
        _ => Exit::Refused,
    };
    Error::new(code, exit, error.to_string()).hint(hint)
}

/// The directory of a path that is typed, absolute and without links.
pub(super) fn canonical(path: &Path) -> Result<std::path::PathBuf, Error> {
    std::fs::canonicalize(path).map_err(|error| {
        let shown = path.display();
        Error::new("no-such-path", Exit::Usage, format!("cannot use {shown}: {error}"))
    })
}
