//! `borg create` to a repository at the target: what a store that keeps each chunk once does.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::mover::{Bench, Mover, spawn};
use super::{Meter, Sample, Work};
use crate::nodes;

impl Bench {
    /// Keeps a tree in a repository that holds the tree before, and gets it out again unmeasured;
    /// returns where to as well.
    pub(super) fn borg(&self, work: &Work) -> Result<(Sample, PathBuf)> {
        nodes::remove(&self.run.join("borg"))?;
        let repository = self.target.join("repository");
        let at = |directory: &Path| self.borg_command(directory);
        done(at(&self.target).args(["init", "--encryption", "none"]).arg(&repository))?;
        let archive = |name: &str| format!("{}::{name}", repository.display());
        let create = ["create", "--compression", "none"];
        if let Some(base) = &work.base {
            let (parent, name) = split(base)?;
            done(at(parent).args(create).arg(archive("base")).arg(name))?;
        }
        let log = self.run.join("borg.log");
        let (parent, name) = split(&work.source)?;
        let mut command = at(parent);
        command.args(create).arg(archive("set")).arg(name);
        let meter = Meter::begin((Mover::Borg, work), None, &self.target)?;
        let sample = meter.watch(spawn(&mut command, &log)?).with_context(|| nodes::tail(&log))?;
        let extracted = self.target.join("extracted");
        std::fs::create_dir(&extracted)?;
        done(at(&extracted).arg("extract").arg(archive("set")))?;
        Ok((sample, extracted.join(name)))
    }

    /// The command in a directory: paths in an archive are as they are given. Its cache is this
    /// bench's own.
    fn borg_command(&self, directory: &Path) -> Command {
        let mut command = Command::new(&self.programs.borg);
        command.current_dir(directory).env("BORG_BASE_DIR", self.run.join("borg"));
        command.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
        command
    }
}

/// Where a tree is and its name, under which it is kept: of `.` borg forgets the times.
fn split(tree: &Path) -> Result<(&Path, &OsStr)> {
    tree.parent().zip(tree.file_name()).context("a tree without a name")
}

/// Runs a command that is not measured, to its end.
fn done(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context("start borg")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "borg ended with {}: {}", output.status, said.trim());
    Ok(())
}
