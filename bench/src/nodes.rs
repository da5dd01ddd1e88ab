//! Two nodes on this machine, driven through the command line only, as a user would.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions};

use crate::system::{self, Socket};

/// How long a node may take until it is bound to its port.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the first node's admin socket may take to answer an invitation.
const INVITE_TIMEOUT: Duration = Duration::from_secs(10);

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    /// The first node of the trust domain, private.
    Onprem,
    /// The node that joined, public.
    Cloud,
}

impl Node {
    /// Its name and its site's.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Onprem => "onprem",
            Self::Cloud => "cloud",
        }
    }
}

/// Two enrolled nodes that know each other's address.
#[derive(Debug)]
pub(crate) struct Pair {
    portway: PathBuf,
    work: PathBuf,
    ports: [u16; 2],
}

impl Pair {
    /// Makes homes below `work` by `init`, `invite` and `join`, and keeps a copy of them.
    pub(crate) fn enrol(portway: &Path, work: &Path) -> Result<Self> {
        let portway = portway
            .canonicalize()
            .with_context(|| format!("no portway command at {}", portway.display()))?;
        let ports = system::free_ports(2)?;
        let pair = Self { portway, work: work.to_owned(), ports: [ports[0], ports[1]] };
        // What these nodes have is nobody's secret: it may leave.
        for node in [Node::Onprem, Node::Cloud] {
            let home = pair.work.join("homes").join(node.name());
            std::fs::create_dir_all(&home)?;
            std::fs::write(home.join("portway.toml"), "[border]\ndefault_class = \"public\"\n")?;
        }
        pair.call(
            Node::Onprem,
            &["init", "--name", "onprem", "--site", "onprem", "--tier", "private"],
        )?;
        let root = work.join("enrol-root");
        std::fs::create_dir_all(&root)?;
        let first = pair.serve(Node::Onprem, &root)?;
        let mut token = Err(anyhow::anyhow!("not asked"));
        let invite = ["invite", "--name", "cloud", "--site", "cloud", "--tier", "public"];
        system::wait_until(INVITE_TIMEOUT, || {
            token = pair.call(Node::Onprem, &invite);
            token.is_ok()
        });
        let token = token?;
        let token = token.lines().last().unwrap_or_default().trim();
        pair.call(Node::Cloud, &["join", token])?;
        for (node, other) in [(Node::Onprem, Node::Cloud), (Node::Cloud, Node::Onprem)] {
            pair.call(node, &["nodes", "add", other.name(), &pair.address(other)])?;
        }
        drop(first);
        copy(&work.join("homes"), &work.join("homes-fresh"))?;
        Ok(pair)
    }

    /// Sets both homes back to just enrolled: no index, no cached manifest, no journal.
    pub(crate) fn reset(&self) -> Result<()> {
        remove(&self.work.join("homes"))?;
        copy(&self.work.join("homes-fresh"), &self.work.join("homes"))
    }

    /// Adds lines to the configuration of both, until the next reset.
    pub(crate) fn configure(&self, lines: &str) -> Result<()> {
        for node in [Node::Onprem, Node::Cloud] {
            let path = self.home(node).join("portway.toml");
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            std::fs::write(&path, format!("{lines}\n{text}"))?;
        }
        Ok(())
    }

    /// The home of a node.
    pub(crate) fn home(&self, node: Node) -> PathBuf {
        self.work.join("homes").join(node.name())
    }

    /// Starts `serve` on a root and waits until it is bound to its port.
    pub(crate) fn serve(&self, node: Node, root: &Path) -> Result<Running> {
        let log = self.work.join(format!("serve-{}.log", node.name()));
        let port = self.ports[node as usize];
        let child = self
            .command(node)
            .args(["serve", "--listen", &self.address(node), "--root"])
            .arg(root)
            .stdout(File::options().create(true).append(true).open(&log)?)
            .stderr(File::options().create(true).append(true).open(&log)?)
            .spawn()
            .context("start portway serve")?;
        let mut running = Running(child);
        let mut ended = false;
        let bound = system::wait_until(START_TIMEOUT, || {
            ended = running.poll().is_some();
            ended || system::is_bound(Socket::Udp, port)
        });
        ensure!(bound && !ended, "{} does not serve: {}", node.name(), tail(&log));
        Ok(running)
    }

    /// Starts a transfer with `--json`; events go to `log`, errors to the same name with `.err`.
    pub(crate) fn transfer(
        &self,
        client: Node,
        transfer: &Transfer,
        log: &Path,
    ) -> Result<Running> {
        let mut command = self.command(client);
        match transfer {
            Transfer::Push { source, to, path, through, compress } => {
                let target = match through {
                    None => format!("{}:{path}", to.name()),
                    Some(address) => format!("portway://{address}/{path}"),
                };
                command.args(["push", "--json"]);
                if let Some(compress) = compress {
                    command.args(["--compress", compress]);
                }
                command.arg(source).arg(target)
            }
            Transfer::Pull { from, path, target } => {
                command.args(["pull", "--json"]).arg(format!("{}:{path}", from.name())).arg(target)
            }
        };
        let child = command
            .stdout(File::create(log)?)
            .stderr(File::create(log.with_extension("err"))?)
            .spawn()
            .context("start portway")?;
        Ok(Running(child))
    }

    /// Where a node listens.
    pub(crate) fn socket_address(&self, node: Node) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[node as usize]).into()
    }

    fn address(&self, node: Node) -> String {
        self.socket_address(node).to_string()
    }

    fn command(&self, node: Node) -> Command {
        let mut command = Command::new(&self.portway);
        command.env("PORTWAY_HOME", self.home(node));
        command.current_dir(&self.work).stdin(Stdio::null());
        command
    }

    fn call(&self, node: Node, args: &[&str]) -> Result<String> {
        let output = self.command(node).args(args).output().context("run portway")?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            bail!("portway {} at {}: {}: {}", args[0], node.name(), output.status, words.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// What is to move.
#[derive(Debug)]
pub(crate) enum Transfer {
    /// `portway push SOURCE NODE:PATH`.
    Push {
        /// A local tree.
        source: PathBuf,
        /// The serving node.
        to: Node,
        /// Path below its root.
        path: String,
        /// Where the node is reached instead of its own address.
        through: Option<SocketAddr>,
        /// When content is made smaller, in words of `--compress`.
        compress: Option<String>,
    },
    /// `portway pull NODE:PATH TARGET`.
    Pull {
        /// The serving node.
        from: Node,
        /// Path below its root.
        path: String,
        /// A local path.
        target: PathBuf,
    },
}

/// A process that is killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    /// Takes charge of a process.
    pub(crate) fn new(child: Child) -> Self {
        Self(child)
    }

    /// Its id.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, if it has.
    pub(crate) fn poll(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }

    /// Waits for its end, for a bounded time.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let mut status = None;
        system::wait_until(timeout, || {
            status = self.poll();
            status.is_some()
        });
        status
    }

    /// Waits for its end and leaves it a zombie, so that its CPU time can still be read.
    pub(crate) fn wait_unreaped(&self) -> std::io::Result<()> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        rustix::process::waitid(WaitId::Pid(Pid::from_child(&self.0)), options)?;
        Ok(())
    }

    /// Kills it with SIGKILL and reaps it; false if it had ended by itself.
    pub(crate) fn kill(&mut self) -> bool {
        use std::os::unix::process::ExitStatusExt as _;
        if self.poll().is_some() {
            return false;
        }
        let _ = self.0.kill();
        // It may have ended between the two calls; then it was not the signal that ended it.
        self.0.wait().is_ok_and(|status| status.signal().is_some())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

/// Copies a tree with all its metadata.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg("--").arg(from).arg(to).status().context("cp")?;
    ensure!(status.success(), "cannot copy {} to {}", from.display(), to.display());
    Ok(())
}

/// Removes a tree, read-only directories included; one that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    if std::fs::remove_dir_all(path).is_err() {
        let chmod = Command::new("chmod").args(["-R", "u+rwX", "--"]).arg(path).status();
        chmod.context("chmod")?;
        std::fs::remove_dir_all(path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}
