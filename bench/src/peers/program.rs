//! The commands of the movers: where they are, and what to do where one is not.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use rustix::fs::Access;

use super::mover::Mover;

/// Where daemons are, which the PATH of most users leaves out.
const DAEMONS: &str = "/usr/sbin";

/// Commands that take part only where they are named.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Programs {
    /// The qcp command
    #[arg(long, default_value = "qcp")]
    pub(super) qcp: PathBuf,
    /// The sendme command
    #[arg(long, default_value = "sendme")]
    pub(super) sendme: PathBuf,
    /// The borg command
    #[arg(long, default_value = "borg")]
    pub(super) borg: PathBuf,
    /// The ssh daemon, for qcp
    #[arg(long, default_value = "sshd")]
    pub(super) sshd: PathBuf,
}

impl Programs {
    /// The same with full paths, for these movers.
    ///
    /// # Errors
    ///
    /// A command is not installed; the hint says how to.
    pub(super) fn resolve(&self, movers: &[Mover]) -> Result<Self> {
        let mut found = self.clone();
        for mover in movers {
            match mover {
                Mover::Portway => {}
                Mover::Rsync => {
                    find(Path::new("rsync"), "apt-get install rsync")?;
                }
                Mover::Qcp => {
                    found.qcp = find(&self.qcp, "cargo install qcp, or --qcp PATH")?;
                    found.sshd = find(&self.sshd, "apt-get install openssh-server")?;
                    find(Path::new("ssh"), "apt-get install openssh-client")?;
                }
                Mover::Sendme => {
                    found.sendme = find(&self.sendme, "cargo install sendme, or --sendme PATH")?;
                }
                Mover::Borg => {
                    found.borg = find(&self.borg, "apt-get install borgbackup, or --borg PATH")?;
                }
            }
        }
        Ok(found)
    }

    /// What a mover says of its version; `portway` is the command of that mover.
    pub(super) fn version(&self, mover: Mover, portway: &Path) -> String {
        let program = match mover {
            Mover::Rsync => Path::new("rsync"),
            Mover::Qcp => &self.qcp,
            Mover::Sendme => &self.sendme,
            Mover::Borg => &self.borg,
            Mover::Portway => portway,
        };
        said(program, &["--version"])
    }
}

/// The first line that a command prints.
pub(super) fn said(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let line = text.unwrap_or_default().lines().next().unwrap_or_default().to_owned();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The full path of a command; one without a directory is looked for as a shell does.
fn find(program: &Path, hint: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let bare = program.components().count() == 1 && !program.is_absolute();
    let directories = std::env::split_paths(&path).chain([PathBuf::from(DAEMONS)]);
    let candidates: Vec<PathBuf> = if bare {
        directories.map(|directory| directory.join(program)).collect()
    } else {
        vec![program.to_owned()]
    };
    let runs = |candidate: &&PathBuf| {
        candidate.is_file() && rustix::fs::access(*candidate, Access::EXEC_OK).is_ok()
    };
    let found = candidates.iter().find(runs);
    let found =
        found.with_context(|| format!("{} is not installed\nhint: {hint}", program.display()))?;
    // A directory of PATH may be relative, and movers run in others. Links stay: some look at
    // the name that they were called by.
    Ok(std::path::absolute(found)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_found_where_a_shell_finds_it() {
        let shell = find(Path::new("sh"), "").unwrap();
        assert!(shell.is_absolute() && shell.ends_with("sh"), "{}", shell.display());
        assert_eq!(find(&shell, "").unwrap(), shell);
    }

    #[test]
    fn a_command_that_is_not_there_is_told_with_a_hint() {
        let programs = Programs { borg: "no-such-borg".into(), ..Programs::default() };
        let error = programs.resolve(&[Mover::Portway, Mover::Borg]).unwrap_err();
        let text = format!("{error:#}");
        assert_eq!(
            text,
            "no-such-borg is not installed\nhint: apt-get install borgbackup, or --borg PATH"
        );
    }
}
