//! The movers that are compared, each with a server and a client.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::Work;
use super::measure::{Meter, Sample};
use super::program::Programs;
use crate::compare::{self, Options};
use crate::nodes::{self, Node, Pair, Running, Transfer};
use crate::system::{self, Socket};

/// How long a daemon may take to listen, and an unmeasured push to end.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(10);
const BASE_TIMEOUT: Duration = Duration::from_mins(5);

/// A target with fewer files is removed at once.
const FEW_FILES: usize = 100;

/// A program that moves trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mover {
    /// `rsync -a` to an rsync daemon.
    Rsync,
    /// `qcp -r -p` to an ssh daemon.
    Qcp,
    /// `sendme receive` from `sendme send`.
    Sendme,
    /// `borg create` to a local repository.
    Borg,
    /// `portway push` to `portway serve`.
    Portway,
}

impl Mover {
    /// Its name in the table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Rsync => "rsync",
            Self::Qcp => "qcp",
            Self::Sendme => "sendme",
            Self::Borg => "borg",
            Self::Portway => "portway",
        }
    }

    /// Whether modes and times arrive as they were: qcp leaves out times of directories, sendme
    /// leaves out all.
    pub(super) fn keeps_meta(self) -> bool {
        !matches!(self, Self::Qcp | Self::Sendme)
    }
}

/// What is set up once.
#[derive(Debug)]
pub(crate) struct Bench {
    pair: Option<Pair>,
    pub(super) run: PathBuf,
    pub(super) target: PathBuf,
    /// Targets of earlier runs.
    aside: PathBuf,
    /// When Portway makes content smaller, in words of `--compress`.
    pub(crate) compress: Option<String>,
    /// Lines of the configuration of both of its nodes.
    pub(crate) lines: String,
    /// Largest payload of a datagram in bytes, for movers that are told.
    pub(super) mtu: Option<u16>,
    /// Commands of movers.
    pub(super) programs: Programs,
}

impl Bench {
    /// Enrols two nodes if Portway takes part.
    pub(crate) fn new(portway: &Path, run: &Path, target: &Path, movers: &[Mover]) -> Result<Self> {
        nodes::remove(run)?;
        std::fs::create_dir_all(run)?;
        let takes_part = movers.contains(&Mover::Portway);
        let pair = takes_part.then(|| Pair::enrol(portway, run)).transpose()?;
        let aside = target.with_extension("old");
        nodes::remove(&aside)?;
        Ok(Self {
            pair,
            run: run.to_owned(),
            target: target.to_owned(),
            aside,
            compress: None,
            lines: String::new(),
            mtu: None,
            programs: Programs::default(),
        })
    }

    /// One run from a fresh target, judged afterwards.
    pub(crate) fn once(&self, mover: Mover, work: &Work) -> Result<Sample> {
        self.put_away()?;
        std::fs::create_dir_all(&self.target)?;
        let below = || self.target.join(work.source.file_name().unwrap_or_default());
        let (mut sample, place) = match mover {
            Mover::Rsync => (self.rsync(work)?, self.target.clone()),
            Mover::Qcp => (self.qcp(work)?, below()),
            Mover::Sendme => (self.sendme(work)?, below()),
            Mover::Borg => self.borg(work)?,
            Mover::Portway => (self.portway(work)?, self.target.join("set")),
        };
        let options = Options { meta: mover.keeps_meta(), skip_special: true };
        let differences = compare::trees(&work.source, &place, options)?;
        differences.iter().take(5).for_each(|difference| eprintln!("    {difference}"));
        sample.equal = differences.is_empty();
        Ok(sample)
    }

    /// Clears the target. Many files are only moved aside: ext4 without a journal is slow to make
    /// new files for minutes after it removed old ones, whoever asks.
    fn put_away(&self) -> Result<()> {
        if !self.target.exists() {
            return Ok(());
        }
        let directory = std::fs::File::open(&self.target)?;
        if files(&self.target, FEW_FILES)? < FEW_FILES {
            nodes::remove(&self.target)?;
        } else {
            std::fs::create_dir_all(&self.aside)?;
            let place = self.aside.join(std::fs::read_dir(&self.aside)?.count().to_string());
            std::fs::rename(&self.target, place)?;
        }
        // What that leaves to write is not the next mover's.
        Ok(rustix::fs::syncfs(directory)?)
    }

    /// Removes everything that the runs left at the target.
    pub(crate) fn clean(&self) -> Result<()> {
        nodes::remove(&self.target)?;
        nodes::remove(&self.aside)?;
        nodes::remove(&self.run)
    }

    fn rsync(&self, work: &Work) -> Result<Sample> {
        if let Some(base) = &work.base {
            nodes::copy(&base.join("."), &self.target)?;
        }
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let config = self.run.join("rsyncd.conf");
        // Without `reverse lookup = no` the daemon asks for the client's name, which can take 10 s.
        let owner = if rustix::process::geteuid().is_root() { "uid = 0\ngid = 0\n" } else { "" };
        let target = self.target.display();
        let text = format!(
            "use chroot = no\nreverse lookup = no\n{owner}[target]\npath = {target}\nread only = no\n"
        );
        std::fs::write(&config, text)?;
        let log = File::create(self.run.join("rsync-server.log"))?;
        let mut option = std::ffi::OsString::from("--config=");
        option.push(&config);
        let daemon = Command::new("rsync")
            .args(["--daemon", "--no-detach", "--address=127.0.0.1", &format!("--port={port}")])
            .arg(option)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start rsync; is it installed?")?;
        let daemon = Running::new(daemon);
        system::wait_bound(Socket::Tcp, port, START_TIMEOUT)?;
        let mut source = work.source.clone().into_os_string();
        source.push("/");
        let target = format!("rsync://127.0.0.1:{port}/target/");
        let mut command = Command::new("rsync");
        command.arg("-a").arg("--").arg(source).arg(target);
        let log = self.run.join("rsync-client.log");
        let meter = Meter::begin((Mover::Rsync, work), Some(daemon.pid()), &self.target)?;
        meter.watch(spawn(&mut command, &log)?).with_context(|| nodes::tail(&log))
    }

    fn portway(&self, work: &Work) -> Result<Sample> {
        let pair = self.pair.as_ref().context("portway does not take part")?;
        pair.reset()?;
        pair.configure(&self.lines)?;
        let server = pair.serve(Node::Cloud, &self.target)?;
        let log = self.run.join("push.jsonl");
        let push = |source: &Path| Transfer::Push {
            source: source.to_owned(),
            to: Node::Cloud,
            path: "set".into(),
            through: None,
            compress: self.compress.clone(),
        };
        if let Some(base) = &work.base {
            let mut first = pair.transfer(Node::Onprem, &push(base), &log)?;
            let status = first.wait(BASE_TIMEOUT);
            let done = status.is_some_and(|status| status.success());
            ensure!(done, "push of the base: {}", nodes::tail(&log.with_extension("err")));
        }
        let meter = Meter::begin((Mover::Portway, work), Some(server.pid()), &self.target)?;
        let client = pair.transfer(Node::Onprem, &push(&work.source), &log)?;
        meter.watch(client).with_context(|| nodes::tail(&log.with_extension("err")))
    }
}

/// Counts files below a directory, up to a number.
fn files(directory: &Path, max: usize) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let below = entry.file_type()?.is_dir();
        count += if below { files(&entry.path(), max - count)? } else { 1 };
        if count >= max {
            break;
        }
    }
    Ok(count)
}

/// Starts a client; what it says goes to a log.
pub(super) fn spawn(command: &mut Command, log: &Path) -> Result<Running> {
    let out = File::create(log)?;
    let child = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn();
    Ok(Running::new(child.context("start the client")?))
}
