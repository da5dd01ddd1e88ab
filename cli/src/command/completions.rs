//! `portway completions`.

use clap::CommandFactory;
use portway::api::{Error, Exit};

use crate::args::{Cli, Completions};
use crate::out::Out;

pub(super) fn run(args: &Completions, out: &Out) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "portway", &mut script);
    let script = String::from_utf8(script)
        .map_err(|_| Error::new("completions", Exit::Failed, "the script is not UTF-8"))?;
    // The script is what was asked for, also with --json.
    out.raw(script.trim_end());
    Ok(Exit::Done)
}
