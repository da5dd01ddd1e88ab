//! Small state of a home: measured rates, and locks against the same transfer twice.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::time::Duration;

use super::engine::Inner;
use super::{Error, Exit, NodeAddress};
use crate::base::RelPath;
use crate::runtime::root::try_lock;
use crate::runtime::target::key_of;

/// Less on the wire than this says nothing about a rate, in bytes.
const NOTED_BYTES_MIN: u64 = 8 << 20;

/// Bytes per second on the wire of the last transfer to a node over this link that was worth
/// measuring.
pub(super) fn last(inner: &Inner, node: &NodeAddress, link: &str) -> Option<f64> {
    read(inner).get(&key(node, link)).copied()
}

fn key(node: &NodeAddress, link: &str) -> String {
    format!("{node} {link}")
}

fn read(inner: &Inner) -> BTreeMap<String, f64> {
    let text = fs::read(inner.state_path("rates.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Remembers the rate of a transfer; only a help for `plan`, so failures are passed over.
pub(super) fn note(
    inner: &Inner,
    (node, link): (&NodeAddress, &str),
    wire: u64,
    elapsed: Duration,
) {
    if wire < NOTED_BYTES_MIN {
        return;
    }
    let mut rates = read(inner);
    rates.insert(key(node, link), wire as f64 / elapsed.as_secs_f64().max(1e-3));
    if let Ok(text) = serde_json::to_vec(&rates) {
        let path = inner.state_path("rates.json");
        let fresh = inner.state_path("rates.json.new");
        if fs::write(&fresh, text).is_ok() {
            let _ = fs::rename(fresh, path);
        }
    }
}

/// Holds the right to push to this path of this node from this home.
pub(super) fn lock(inner: &Inner, node: &NodeAddress, path: &RelPath) -> Result<File, Error> {
    let dir = inner.state_path("locks");
    let unusable = |e: std::io::Error| {
        Error::new("home", Exit::Failed, format!("cannot use {}: {e}", dir.display()))
            .hint("choose another home with --home DIR or PORTWAY_HOME")
    };
    fs::create_dir_all(&dir).map_err(unusable)?;
    let name = format!("{node}-{}", key_of(path)).replace(['/', ':', '[', ']'], "_");
    match try_lock(&dir.join(name)).map_err(unusable)? {
        Some(file) => Ok(file),
        None => {
            let message = format!("a push from this home to {node}:{path} is under way");
            Err(Error::new("conflict", Exit::Failed, message).hint("wait for it, or stop it first"))
        }
    }
}
