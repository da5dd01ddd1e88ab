//! Follows one transfer to its end.

use std::future::Future;
use std::pin::pin;

use portway::api::{Error, Exit, Outcome};
use portway::metrics::Snapshot;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Out;
use super::progress::Meter;

/// Shows progress until `done`. The first message of `interrupts` asks the transfer to stop where it
/// can resume, the second one ends the wait at once.
pub(crate) async fn watch(
    out: &Out,
    progress: impl Fn() -> Snapshot,
    interrupt: impl Fn(),
    done: impl Future<Output = Result<Outcome, Error>>,
    mut interrupts: Receiver<()>,
) -> Result<Outcome, Error> {
    let mut done = pin!(done);
    let mut ticks = interval_at(Instant::now() + out.interval(), out.interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut meter = Meter::default();
    let mut asked = false;
    let ended = loop {
        tokio::select! {
            biased;
            result = &mut done => break result,
            Some(()) = interrupts.recv() => {
                if asked {
                    break Err(at_once());
                }
                asked = true;
                out.note("interrupted: stopping where the transfer can resume; again stops at once");
                interrupt();
            }
            _ = ticks.tick() => {
                let now = progress();
                meter.add(&now);
                out.progress(&now, &meter);
            }
        }
    };
    out.progress_ends();
    ended
}

fn at_once() -> Error {
    Error::new("interrupted", Exit::Interrupted, "stopped at once by a second interrupt")
        .hint("the same command again resumes")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use tokio::sync::{Notify, mpsc};

    use super::*;
    use crate::out::Mode;
    use crate::out::test::out;
    use crate::out::text::test::{outcome, snapshot};

    #[tokio::test]
    async fn progress_is_told_until_the_end() {
        let (out, stdout, stderr) = out(Mode::Json);
        let (told, end) = (Cell::new(0), Notify::new());
        let progress = || {
            told.set(told.get() + 1);
            if told.get() == 3 {
                end.notify_one();
            }
            snapshot()
        };
        let (_interrupts, receiver) = mpsc::channel(2);
        let done = async {
            end.notified().await;
            Ok(outcome())
        };
        let ended = watch(&out, progress, || {}, done, receiver).await;
        assert_eq!(ended, Ok(outcome()));
        assert_eq!(stdout.text().lines().count(), 3);
        assert_eq!(stderr.text(), "");
    }

    #[tokio::test]
    async fn the_first_interrupt_is_graceful_and_the_second_immediate() {
        let (out, _stdout, stderr) = out(Mode::Silent);
        let (interrupts, receiver) = mpsc::channel(2);
        let graceful = Rc::new(Cell::new(0));
        let ask = || {
            graceful.set(graceful.get() + 1);
            interrupts.try_send(()).expect("room");
        };
        interrupts.try_send(()).expect("room");
        let ended = watch(&out, snapshot, ask, std::future::pending(), receiver).await;
        assert_eq!(graceful.get(), 1);
        assert_eq!(ended.map_err(|error| error.exit), Err(Exit::Interrupted));
        assert_eq!(stderr.text().lines().count(), 1);
    }
}
