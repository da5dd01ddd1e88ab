//! `qcp -r -p` to a throw-away ssh daemon: scp's words, files over QUIC.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result};

use super::mover::{Bench, Mover, spawn};
use super::sshd::Sshd;
use super::{Meter, Sample, Work};
use crate::nodes;

/// What it is told of the link, since its windows are made of that: by itself it expects 12.5 MB/s
/// and 300 ms. More than loopback brings, with a product that a machine has room for.
const LINK: [&str; 6] = ["--rx", "2500M", "--tx", "2500M", "--rtt", "5"];

impl Bench {
    /// Moves a tree to the directory of its name below the target.
    pub(super) fn qcp(&self, work: &Work) -> Result<Sample> {
        let sshd = Sshd::start(&self.programs.sshd, &self.run.join("sshd"))?;
        let log = self.run.join("qcp.log");
        let mut target = OsString::from("127.0.0.1:");
        target.push(&self.target);
        target.push("/");
        let config = &sshd.client_config;
        let mut command = Command::new(&self.programs.qcp);
        command.args(["-q", "-r", "-p"]).args(LINK);
        command.arg("--remote-qcp-binary").arg(&self.programs.qcp);
        command.arg("--ssh-config").arg(config).args(["-S", "-F", "-S"]).arg(config);
        if let Some(mtu) = self.mtu {
            command.args(["--max-mtu", &mtu.to_string()]);
        }
        command.arg(&work.source).arg(target);
        let meter = Meter::begin((Mover::Qcp, work), Some(sshd.pid()), &self.target)?;
        meter
            .watch(spawn(&mut command, &log)?)
            .with_context(|| format!("{}; sshd: {}", nodes::tail(&log), nodes::tail(&sshd.log)))
    }
}
