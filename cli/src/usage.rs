//! A command line that makes no sense, told like every other error.

use std::process::ExitCode;

use clap::CommandFactory;
use indicatif::ProgressBar;
use portway::api::{Error, Exit};

use crate::args::{Cli, Global};
use crate::out::Out;

/// Prints help and version as they are, anything else as an error with a hint.
pub(crate) fn report(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return match error.print() {
            Err(failure) if failure.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        };
    }
    // The flags were not read, so this one is looked for by hand.
    let json = std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json");
    let out = Out::new(&Global { json, ..Global::default() }, ProgressBar::hidden());
    let known = Cli::command();
    let mut words = std::env::args_os().skip(1);
    let named = words.find_map(|word| Some(known.find_subcommand(&word)?.get_name()));
    let command = named.map_or_else(String::new, |name| format!("{name} "));
    out.error(&told(&error.render().to_string(), &command));
    let _ = out.finish();
    ExitCode::from(Exit::Usage as u8)
}

/// From clap's words: the first paragraph says what is wrong, `tip:` lines say what to do, the usage
/// line comes last.
fn told(text: &str, command: &str) -> Error {
    let mut paragraphs = text.trim().split("\n\n");
    let first = paragraphs.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let mut hints = Vec::new();
    for paragraph in paragraphs {
        for line in paragraph.lines().map(str::trim) {
            if let Some(tip) = line.strip_prefix("tip: ") {
                hints.push(tip.to_owned());
            } else if let Some(usage) = line.strip_prefix("Usage: ") {
                hints.push(format!("usage is {usage}"));
            }
        }
    }
    if hints.is_empty() {
        hints.push(format!("portway {command}--help"));
    }
    Error::new("usage", Exit::Usage, message).hint(hints.join("; "))
}
