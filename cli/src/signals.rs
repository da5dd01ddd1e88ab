//! SIGINT and SIGTERM as messages.

use portway::api::{Error, Exit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};

/// Most signals that wait to be read; more of them say nothing new.
const WAITING_MAX: usize = 4;

/// One message per signal. From here on the signals do not end the process.
pub(crate) fn interrupts() -> Result<Receiver<()>, Error> {
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Error::new("signals", Exit::Failed, format!("signals cannot be received: {error}"))
        })
    };
    let (mut int, mut term) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let (sender, receiver) = channel(WAITING_MAX);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = int.recv() => {}
                _ = term.recv() => {}
            }
            if sender.try_send(()).is_err() && sender.is_closed() {
                break;
            }
        }
    });
    Ok(receiver)
}
