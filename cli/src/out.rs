//! What reaches the user: results on standard output, everything else on standard error.

pub(crate) mod event;
pub(crate) mod progress;
pub(crate) mod text;
pub(crate) mod watch;

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use portway::api::{Error, Exit};
use portway::metrics::Snapshot;

use self::event::Event;
use self::progress::Meter;
use crate::args::Global;

/// How often progress is told: as events, as plain lines, on a terminal.
const JSON_MS: u64 = 200;
const PLAIN_MS: u64 = 2000;
const TERMINAL_MS: u64 = 100;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Not at all.
    Silent,
    /// One event per line.
    Json,
    /// A line now and then.
    Plain,
    /// One line that is drawn again and again.
    Terminal,
}

/// The two streams and how to use them.
pub(crate) struct Out {
    stdout: Mutex<Box<dyn Write + Send>>,
    stderr: Mutex<Box<dyn Write + Send>>,
    failure: Mutex<Option<io::Error>>,
    json: bool,
    quiet: bool,
    colour: bool,
    mode: Mode,
    bar: ProgressBar,
    interval: Duration,
}

impl Out {
    /// The process's own streams. `bar` is shared with whoever writes to standard error meanwhile.
    pub(crate) fn new(global: &Global, bar: ProgressBar) -> Self {
        let terminal = io::stderr().is_terminal();
        let mode = if global.no_progress || (global.quiet && !global.json) {
            Mode::Silent
        } else if global.json {
            Mode::Json
        } else if terminal {
            Mode::Terminal
        } else {
            Mode::Plain
        };
        let default_ms = match mode {
            Mode::Json | Mode::Silent => JSON_MS,
            Mode::Plain => PLAIN_MS,
            Mode::Terminal => TERMINAL_MS,
        };
        let wanted = std::env::var("PORTWAY_PROGRESS_MS").ok().and_then(|ms| ms.parse().ok());
        Self {
            stdout: Mutex::new(Box::new(io::stdout())),
            stderr: Mutex::new(Box::new(io::stderr())),
            failure: Mutex::new(None),
            json: global.json,
            quiet: global.quiet,
            colour: terminal && !no_colour(),
            mode,
            bar,
            interval: Duration::from_millis(wanted.unwrap_or(default_ms).clamp(1, default_ms)),
        }
    }

    /// Whether events are printed instead of text.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// How often progress is told.
    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// A result for people and pipes; nothing where events are printed.
    pub(crate) fn text(&self, text: &str) {
        if !self.json {
            self.stdout_line(text);
        }
    }

    /// A result in a form of its own, whatever the flags say.
    pub(crate) fn raw(&self, text: &str) {
        self.stdout_line(text);
    }

    /// A result that `--quiet` leaves out.
    pub(crate) fn report(&self, text: &str) {
        if !self.quiet {
            self.text(text);
        }
    }

    /// An event; nothing without `--json`.
    pub(crate) fn event(&self, event: &Event<'_>) {
        if !self.json {
            return;
        }
        match serde_json::to_string(event) {
            Ok(line) => self.stdout_line(&line),
            Err(error) => self.failed(error.into()),
        }
    }

    /// Something to know, for people only.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            self.stderr_line(text);
        }
    }

    /// Something that should not be overlooked.
    pub(crate) fn warning(&self, message: &str) {
        self.event(&Event::Warning { message });
        if !self.quiet {
            self.stderr_line(&format!("{} {message}", self.paint("33", "warning:")));
        }
    }

    /// Why a command ends badly, and what to do.
    pub(crate) fn error(&self, error: &Error) {
        self.event(&Event::Error {
            code: error.code,
            message: &error.message,
            hint: &error.hint,
            exit: error.exit as u8,
        });
        self.stderr_line(&format!("{} {}", self.paint("31", "error:"), error.message));
        if !error.hint.is_empty() {
            self.stderr_line(&format!("{} {}", self.paint("36", "hint:"), error.hint));
        }
    }

    /// Shows how a transfer stands.
    pub(crate) fn progress(&self, now: &Snapshot, meter: &Meter) {
        match self.mode {
            Mode::Silent => {}
            Mode::Json => self.event(&Event::progress(now, meter)),
            Mode::Plain => self.stderr_line(&text::progress(now, meter, false)),
            Mode::Terminal => {
                if self.bar.is_hidden() {
                    if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                        self.bar.set_style(style);
                    }
                    self.bar.set_draw_target(ProgressDrawTarget::stderr());
                }
                self.bar.set_message(text::progress(now, meter, true));
            }
        }
    }

    /// Takes the progress line away.
    pub(crate) fn progress_ends(&self) {
        self.bar.finish_and_clear();
    }

    /// Emphasis, where a terminal shows it; never the only meaning.
    pub(crate) fn paint(&self, sgr: &str, text: &str) -> String {
        if self.colour { format!("\x1b[1;{sgr}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Flushes, and tells whether every result reached its reader. A reader that went away does not
    /// count: it had enough.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        if let Err(error) = self.stdout.lock().unwrap_or_else(PoisonError::into_inner).flush() {
            self.failed(error);
        }
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                let message = format!("standard output cannot be written: {error}");
                Err(Error::new("output", Exit::Failed, message)
                    .hint("what was asked for is done; only its report is incomplete"))
            }
            _ => Ok(()),
        }
    }

    fn stdout_line(&self, text: &str) {
        let written = self.bar.suspend(|| {
            let mut stdout = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
            // One write per line: lines of several writers stay whole.
            stdout.write_all(format!("{text}\n").as_bytes()).and_then(|()| stdout.flush())
        });
        if let Err(error) = written {
            self.failed(error);
        }
    }

    fn stderr_line(&self, text: &str) {
        self.bar.suspend(|| {
            let mut stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
            // There is nobody left to tell about a failure here.
            let _ = stderr.write_all(format!("{text}\n").as_bytes());
        });
    }

    fn failed(&self, error: io::Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// <https://no-color.org>: set and not empty means none.
pub(crate) fn no_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
pub(crate) mod test {
    //! An `Out` whose streams end in memory.

    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        pub(crate) fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().expect("not poisoned")).into_owned()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An `Out` and where its standard output and standard error end.
    pub(crate) fn out(mode: Mode) -> (Out, Sink, Sink) {
        let (stdout, stderr) = (Sink::default(), Sink::default());
        let out = Out {
            stdout: Mutex::new(Box::new(stdout.clone())),
            stderr: Mutex::new(Box::new(stderr.clone())),
            failure: Mutex::new(None),
            json: mode == Mode::Json,
            quiet: false,
            colour: false,
            mode,
            bar: ProgressBar::hidden(),
            interval: Duration::from_millis(1),
        };
        (out, stdout, stderr)
    }
}
