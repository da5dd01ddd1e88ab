//! The engine's log for Python's `logging`: records wait in a queue that a Python thread empties, so
//! no thread of the engine ever waits for the interpreter.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};

use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Most records that wait; what comes on top is counted and told.
const WAITING_MAX: usize = 1024;

static LEVEL: AtomicU8 = AtomicU8::new(u8::MAX);
static INSTALL: Once = Once::new();
static QUEUE: Mutex<Queue> =
    Mutex::new(Queue { records: VecDeque::new(), dropped: 0, stopped: false });
static FILLED: Condvar = Condvar::new();

/// Logger, level of `logging`, and text.
type Record = (String, u8, String);

struct Queue {
    records: VecDeque<Record>,
    dropped: u64,
    stopped: bool,
}

fn queue() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number that Python's `logging` has for a level; it has none below `DEBUG`.
fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

struct Bridge;

impl<S: Subscriber> Layer<S> for Bridge {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // The level may change later; without this the first answer would hold for good.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        number(*metadata.level()) >= LEVEL.load(Relaxed)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let logger = metadata.target().replace("::", ".");
        let record = (logger, number(*metadata.level()), text.message + &text.fields);
        let mut queue = queue();
        if queue.records.len() < WAITING_MAX {
            queue.records.push_back(record);
            FILLED.notify_one();
        } else {
            queue.dropped += 1;
        }
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// Begins to keep records of `level` and above.
#[pyfunction]
pub(crate) fn log_start(level: u8) {
    INSTALL.call_once(|| {
        let bridge = tracing_subscriber::registry().with(Bridge);
        // Only one can be there; a program that embeds the interpreter may have its own.
        let _ = tracing::subscriber::set_global_default(bridge);
    });
    queue().stopped = false;
    LEVEL.store(level, Relaxed);
}

/// Keeps no more records, and lets `log_records` return what there is.
#[pyfunction]
pub(crate) fn log_stop(py: Python<'_>) {
    LEVEL.store(u8::MAX, Relaxed);
    py.detach(|| queue().stopped = true);
    FILLED.notify_all();
}

/// Waits for records; None once there are no more and none will come.
#[pyfunction]
pub(crate) fn log_records(py: Python<'_>) -> Option<Vec<Record>> {
    py.detach(|| {
        let mut queue = queue();
        while queue.records.is_empty() && !queue.stopped {
            queue = FILLED.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let mut records: Vec<Record> = queue.records.drain(..).collect();
        if queue.dropped > 0 {
            let text = format!("{} records were dropped: they came too fast", queue.dropped);
            records.push(("portway".to_owned(), number(Level::WARN), text));
            queue.dropped = 0;
        }
        (!records.is_empty()).then_some(records)
    })
}
