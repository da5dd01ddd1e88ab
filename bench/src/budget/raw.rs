//! quinn with nothing around it, as two processes: `bench/examples/raw_quinn.rs`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::nodes::Running;
use crate::system;

/// How long each may take to begin, or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A receiver, to which one can send again and again.
pub(super) struct RawQuinn {
    program: PathBuf,
    server: Running,
    address: String,
    certificate: String,
    mtu: u16,
    /// What the sender prints.
    said: PathBuf,
}

impl RawQuinn {
    /// Starts the receiver; what the two print lies in `dir`.
    pub(super) fn start(program: &Path, mtu: u16, dir: &Path) -> Result<Self> {
        let shown = dir.join("raw-serve");
        let server = Command::new(program)
            .args(["serve", &mtu.to_string()])
            .stdin(Stdio::null())
            .stdout(File::create(&shown)?)
            .spawn()
            .with_context(|| format!("start {}", program.display()))
            .context("hint: cargo build --release -p portway-bench --example raw_quinn")?;
        let server = Running::new(server);
        let mut line = String::new();
        let listens = system::wait_until(PATIENCE, || {
            line = std::fs::read_to_string(&shown).unwrap_or_default();
            line.ends_with('\n')
        });
        ensure!(listens, "{} does not say where it listens", program.display());
        let (address, certificate) = line.trim().split_once(' ').context("half an address")?;
        Ok(Self {
            program: program.to_owned(),
            server,
            address: address.to_owned(),
            certificate: certificate.to_owned(),
            mtu,
            said: dir.join("raw-send"),
        })
    }

    /// Sends for a time: CPU seconds of a gigabyte, of both ends.
    pub(super) fn cpu_s_per_gb(&self, time: Duration) -> Result<f64> {
        let cpu = |pid| system::cpu_s(pid).context("quinn's example is gone");
        let before = cpu(self.server.pid())?;
        let sender = Command::new(&self.program)
            .args(["send", &self.address, &self.certificate])
            .args([time.as_secs_f64().to_string(), self.mtu.to_string()])
            .stdin(Stdio::null())
            .stdout(File::create(&self.said)?)
            .spawn()
            .context("start quinn's example")?;
        let mut sender = Running::new(sender);
        sender.wait_unreaped()?;
        let spent = cpu(sender.pid())? + cpu(self.server.pid())? - before;
        let status = sender.wait(PATIENCE).context("quinn's example cannot be reaped")?;
        ensure!(status.success(), "quinn's example ended with {status}");
        let said = std::fs::read_to_string(&self.said)?;
        // GB a second once it is warm, and the GB of all.
        let gb = said.split_whitespace().nth(1).and_then(|word| word.parse::<f64>().ok());
        Ok(spent / gb.context("quinn's example printed no figure")?)
    }
}
