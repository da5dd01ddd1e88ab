//! A command line that makes no sense, told like every other error.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;
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
    let mut told = told(&error.render().to_string(), &command);
    if error.kind() == ErrorKind::MissingRequiredArgument {
        explain(&mut told, command.trim_end(), std::env::args_os().skip(1));
    }
    out.error(&told);
    let _ = out.finish();
    ExitCode::from(Exit::Usage as u8)
}

/// From clap's words: the first paragraph says what is wrong, `tip:` lines say what to do, the usage
/// line comes last.
fn told(text: &str, command: &str) -> Error {
    let mut paragraphs = text.trim().split("\n\n");
    let first = paragraphs.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let message = message.replace("invalid digit found in string", "it has to be a whole number");
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

/// Says what is missing where clap's words do not, and how it looks.
fn explain(error: &mut Error, command: &str, words: impl Iterator<Item = OsString>) {
    let example = match command {
        "push" | "plan" => {
            // clap gives the only word to the destination, which is the last.
            let alone =
                error.message.contains("<SOURCE>") && !error.message.contains("<NODE:PATH>");
            if alone && !words.skip(1).any(|word| is_remote(&word)) {
                error.message =
                    String::from("the destination is missing: NODE:PATH, after the sources");
            }
            "checkpoints/step-100 cloud:checkpoints/"
        }
        "pull" => "cloud:checkpoints/step-100 checkpoints/",
        "limit" => {
            error.message = String::from("the limit is missing: a RATE, or off");
            "wan 200Mb/s"
        }
        _ => return,
    };
    error.hint = format!("{}; for example: portway {command} {example}", error.hint);
}

/// Whether a word looks like NODE:PATH.
fn is_remote(word: &OsStr) -> bool {
    let word = word.to_string_lossy();
    let node = word.split_once(':').map_or("", |(node, _)| node);
    !node.is_empty() && !node.starts_with('-') && !node.contains(['/', '='])
}
