//! The `portway` command: read the command line, call the engine, print.

mod args;
mod command;
mod facade;
mod log;
mod memory;
mod notify;
mod out;
mod setup;
mod signals;
mod usage;
mod version;

use std::process::ExitCode;

use clap::Parser;
use indicatif::ProgressBar;
use portway::api::{Error, Exit};

use crate::args::Cli;
use crate::out::Out;

fn main() -> ExitCode {
    memory::share_heaps();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error),
    };
    let bar = ProgressBar::hidden();
    let out = Out::new(&cli.global, bar.clone());
    log::start(&cli, bar);
    let result = run(cli, &out);
    let exit = result.unwrap_or_else(|error| {
        out.error(&error);
        error.exit
    });
    let exit = out.finish().map_or_else(
        |error| {
            out.error(&error);
            error.exit
        },
        |()| exit,
    );
    ExitCode::from(exit as u8)
}

fn run(cli: Cli, out: &Out) -> Result<Exit, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Error::new("runtime", Exit::Failed, format!("no threads can be started: {error}"))
            .hint("raise the limit on processes: ulimit -u")
    })?;
    let result = runtime.block_on(Box::pin(command::run(cli, out)));
    // A blocking call under way must not hold up a command that was stopped at once.
    runtime.shutdown_background();
    result
}
