//! Two nodes of one trust domain on loopback, in one process.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "helpers of several test binaries, each of which uses some"
)]

pub mod raw;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portway::api::{Engine, Error, NodeAddress, Outcome, Remote, ServeOptions, TransferOptions};
use portway::base::{RelPath, Tier};
use portway::config::{Config, Endpoint, Home, add_node};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub struct Node {
    pub home: Home,
    pub root: PathBuf,
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<Result<(), Error>>>,
}

pub fn config(home: &Home) -> Config {
    Config::load(home, std::iter::empty(), &[]).expect("a configuration")
}

pub fn engine(home: &Home) -> Engine {
    Engine::open(home.clone(), config(home)).expect("an engine")
}

impl Node {
    pub async fn serve(home: &Home, root: &Path, listen: SocketAddr) -> Self {
        fs::create_dir_all(root).unwrap();
        let options =
            ServeOptions { root: root.to_owned(), listen, admin: Some(([127, 0, 0, 1], 0).into()) };
        let begun = Instant::now();
        let server = loop {
            match engine(home).serve(options.clone()).await {
                // A node that comes back may find its port held for a moment: by what is left of
                // itself, or by a client of another test.
                Err(error) if error.code == "listen" && begun.elapsed().as_secs() < 20 => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                served => break served.expect("a server"),
            }
        };
        let address = server.listen();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        Self {
            home: home.clone(),
            root: root.to_owned(),
            address,
            stop: Some(stop),
            task: Some(task),
        }
    }

    pub async fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(task) = self.task.take() {
            task.await.unwrap().unwrap();
        }
    }
}

/// A pair: `onprem` holds the CA and `cloud` serves; both serve, and know each other.
pub struct Pair {
    pub dir: TempDir,
    pub onprem: Node,
    pub cloud: Node,
}

impl Pair {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let home = |name: &str| Home::at(dir.path().join(format!("home-{name}")));
        let (a, b) = (home("onprem"), home("cloud"));
        let parse = |s: &str| s.parse().unwrap();
        // What has no label may leave, so that tests of moving need not speak of the border.
        for home in [&a, &b] {
            home.create().unwrap();
            fs::write(home.config_file(), "[border]\ndefault_class = \"public\"\n").unwrap();
        }
        Engine::init(&a, parse("onprem"), "dc".parse().unwrap(), Tier::Private).unwrap();
        let onprem = Node::serve(&a, &dir.path().join("root-onprem"), any).await;
        let token = engine(&a)
            .invite(parse("cloud"), "aws".parse().unwrap(), Tier::Public)
            .await
            .expect("a token");
        let joined = Engine::join(&b, &config(&b), &token).await.expect("joined");
        assert_eq!(joined.node.as_str(), "cloud");
        assert_eq!(joined.peer.as_str(), "onprem");
        let cloud = Node::serve(&b, &dir.path().join("root-cloud"), any).await;
        add_node(&a, &parse("cloud"), &[Endpoint::Address(cloud.address)]).unwrap();
        Self { dir, onprem, cloud }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A third node's home, of the same domain, that knows `cloud`.
    pub async fn third(&self, name: &str) -> Home {
        let home = Home::at(self.path(&format!("home-{name}")));
        let (node, site) = (name.parse().unwrap(), "lab".parse().unwrap());
        let token = engine(&self.onprem.home).invite(node, site, Tier::Public).await.unwrap();
        Engine::join(&home, &config(&home), &token).await.expect("joined");
        let cloud = Endpoint::Address(self.cloud.address);
        add_node(&home, &"cloud".parse().unwrap(), &[cloud]).unwrap();
        home
    }

    /// The cloud node stops, `meanwhile` is done to its root, and it comes back where it was.
    pub async fn restart_cloud(&mut self, meanwhile: impl FnOnce(&Path)) {
        self.cloud.stop().await;
        meanwhile(&self.cloud.root);
        let (home, root) = (self.cloud.home.clone(), self.cloud.root.clone());
        self.cloud = Node::serve(&home, &root, self.cloud.address).await;
    }

    pub async fn push(&self, source: &Path, target: &str) -> Result<Outcome, Error> {
        self.push_with(source, target, TransferOptions::default()).await
    }

    pub async fn push_with(
        &self,
        source: &Path,
        target: &str,
        options: TransferOptions,
    ) -> Result<Outcome, Error> {
        let engine = engine(&self.onprem.home);
        engine.push(vec![source.to_owned()], remote("cloud", target), options).wait().await
    }

    pub async fn pull(&self, source: &str, target: &Path) -> Result<Outcome, Error> {
        let engine = engine(&self.onprem.home);
        let options = TransferOptions::default();
        engine.pull(remote("cloud", source), target.to_owned(), options).wait().await
    }
}

pub fn remote(node: &str, path: &str) -> Remote {
    Remote {
        node: NodeAddress::Name(node.parse().unwrap()),
        path: RelPath::from_typed(path.as_bytes()).unwrap(),
        into: path.ends_with('/'),
    }
}

/// Deterministic bytes that do not compress or repeat.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Names, kinds, modes, times and content of a tree, in order.
pub fn fingerprint(top: &Path) -> Vec<String> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    let mut lines = Vec::new();
    let mut todo = vec![top.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(top).unwrap().as_os_str().as_bytes().to_vec();
        let content = if meta.is_symlink() {
            format!("link {}", fs::read_link(&path).unwrap().display())
        } else if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            "dir".to_owned()
        } else {
            portway::base::Digest::of(&fs::read(&path).unwrap()).to_string()
        };
        let mode = if meta.is_symlink() { 0 } else { meta.mode() & 0o777 };
        let (s, ns) = (meta.mtime(), meta.mtime_nsec());
        lines.push(format!("{name:?} {mode:o} {s}.{ns} {content}"));
    }
    lines.sort();
    lines
}
