//! A throw-away ssh daemon for movers that begin with ssh: keys and configuration of its own.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::mover::START_TIMEOUT;
use crate::nodes::{self, Running};
use crate::system::{self, Socket};

/// Where a daemon of root wants an empty directory, which its package makes at start only.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// A daemon on a free port of 127.0.0.1 that lets its user in without a password.
#[derive(Debug)]
pub(super) struct Sshd {
    running: Running,
    /// What `ssh -F` takes to get there.
    pub(super) client_config: PathBuf,
    /// What it says.
    pub(super) log: PathBuf,
}

impl Sshd {
    /// Makes all that it takes in a directory, and starts it.
    pub(super) fn start(program: &Path, directory: &Path) -> Result<Self> {
        nodes::remove(directory)?;
        std::fs::create_dir_all(directory)?;
        if rustix::process::geteuid().is_root() {
            std::fs::create_dir_all(PRIVILEGE_SEPARATION)?;
        }
        let (host, user) = (directory.join("host"), directory.join("user"));
        key(&host)?;
        key(&user)?;
        let authorized = directory.join("user.pub");
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let config = directory.join("sshd_config");
        // The files are not in a home of its user, so their owner and mode are not judged.
        let text = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey \"{}\"\nAuthorizedKeysFile \"{}\"\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
             StrictModes no\nUsePAM no\nPidFile none\n",
            host.display(),
            authorized.display(),
        );
        std::fs::write(&config, text)?;
        let client_config = directory.join("ssh_config");
        let text = format!(
            "Host *\nPort {port}\nIdentityFile \"{}\"\nIdentitiesOnly yes\nBatchMode yes\n\
             StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n",
            user.display(),
        );
        std::fs::write(&client_config, text)?;
        let log = directory.join("sshd.log");
        let child = Command::new(program)
            .args(["-D", "-e", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()
            .context("start sshd")?;
        let running = Running::new(child);
        system::wait_bound(Socket::Tcp, port, START_TIMEOUT).with_context(|| nodes::tail(&log))?;
        Ok(Self { running, client_config, log })
    }

    /// Its id.
    pub(super) fn pid(&self) -> u32 {
        self.running.pid()
    }
}

/// Makes a pair of keys without a password.
fn key(path: &Path) -> Result<()> {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "portway-bench", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .context("start ssh-keygen")?;
    ensure!(made.success(), "ssh-keygen ended with {made}");
    Ok(())
}
