//! Places where a test ends this process, as a power cut would end it in the middle of its work.

/// A step on the way from a decision to its receipt. In builds with debug assertions the process is
/// aborted here if `PORTWAY_DIE_AT` is `STEP:N` and this is the Nth time; in others this is nothing.
#[cfg(debug_assertions)]
pub(crate) fn step(step: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    static ASKED: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();
    let asked = ASKED.get_or_init(|| {
        let text = std::env::var("PORTWAY_DIE_AT").ok()?;
        let (step, times) = text.split_once(':')?;
        Some((step.to_owned(), AtomicU32::new(times.parse().ok()?)))
    });
    if let Some((asked, times)) = asked
        && asked == step
        && times.fetch_sub(1, Relaxed) == 1
    {
        std::process::abort();
    }
}

/// A step on the way from a decision to its receipt.
#[cfg(not(debug_assertions))]
pub(crate) fn step(_step: &str) {}
