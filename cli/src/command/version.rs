//! `portway version`.

use portway::api::Exit;

use crate::out::Out;
use crate::out::event::Event;
use crate::version::{LONG, SHORT, STORAGE, TRANSPORTS};

pub(super) fn run(out: &Out) -> Exit {
    out.text(&format!("portway {LONG}"));
    out.event(&Event::Version { version: SHORT, transports: TRANSPORTS, storage: STORAGE });
    Exit::Done
}
