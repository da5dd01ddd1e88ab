//! Log lines on standard error, in peace with the progress line.

use std::io::{self, IsTerminal, Write};

use indicatif::ProgressBar;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::args::{Cli, Command, LogFormat};
use crate::out::no_colour;

/// Starts logging: `RUST_LOG` decides, else `-v`, else warnings only (for `serve`: what it does).
pub(crate) fn start(cli: &Cli, bar: ProgressBar) {
    let serves = matches!(cli.command, Command::Serve(_));
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        let level = match (cli.global.quiet, cli.global.verbose + u8::from(serves)) {
            (true, _) => "error",
            (_, 0) => "warn",
            (_, 1) => "info",
            (_, 2) => "debug",
            _ => "trace",
        };
        EnvFilter::new(format!("warn,portway={level}"))
    });
    let writer = AroundBar(bar);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(io::stderr().is_terminal() && !no_colour());
    // A second start can only come from a test; the first one stays.
    let _ = match cli.global.log_format {
        LogFormat::Human => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// Standard error, with the progress line out of the way while a log line is written.
#[derive(Clone)]
struct AroundBar(ProgressBar);

impl Write for AroundBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for AroundBar {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
