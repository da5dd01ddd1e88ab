//! Small state of a home: measured rates, and locks against the same transfer twice.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::engine::{Inner, clock_ms};
use super::{Error, Exit, NodeAddress};
use crate::base::RelPath;
use crate::runtime::root::try_lock;
use crate::runtime::target::key_of;
use crate::transport::quic::Past;

/// Less on the wire than this says nothing about a rate, in bytes.
const NOTED_BYTES_MIN: u64 = 8 << 20;
/// How long a path is taken to be as it was, in milliseconds.
const PATH_MS: u64 = 3_600_000;
/// What is remembered of each node, by its address.
const RATES: &str = "rates.json";
const PATHS: &str = "paths.json";

/// Bytes per second on the wire of the last transfer to a node over this link, or `inward` from it,
/// that was worth measuring.
pub(super) fn last(inner: &Inner, (node, inward): (&NodeAddress, bool), link: &str) -> Option<f64> {
    read(inner, RATES).get(&key(node, inward, link)).copied()
}

fn key(node: &NodeAddress, inward: bool, link: &str) -> String {
    format!("{node} {link}{}", if inward { " inward" } else { "" })
}

fn read<T: DeserializeOwned>(inner: &Inner, name: &str) -> BTreeMap<String, T> {
    let text = fs::read(inner.state_path(name)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn write<T: Serialize>(inner: &Inner, name: &str, known: &BTreeMap<String, T>) {
    let Ok(text) = serde_json::to_vec(known) else { return };
    let fresh = inner.state_path(&format!("{name}.new"));
    if fs::write(&fresh, text).is_ok() {
        let _ = fs::rename(fresh, inner.state_path(name));
    }
}

/// Remembers the rate of a transfer; only a help for `plan`, so failures are passed over.
pub(super) fn note(
    inner: &Inner,
    (node, inward, link): (&NodeAddress, bool, &str),
    wire: u64,
    elapsed: Duration,
) {
    if wire < NOTED_BYTES_MIN {
        return;
    }
    let mut rates = read::<f64>(inner, RATES);
    rates.insert(key(node, inward, link), wire as f64 / elapsed.as_secs_f64().max(1e-3));
    write(inner, RATES, &rates);
}

/// A path as the last flow found it.
#[derive(Serialize, Deserialize)]
struct Path {
    bytes_per_s: u64,
    rtt_us: u64,
    /// When, in milliseconds since 1970.
    at_ms: u64,
}

/// A path goes to a node or a machine, whatever the port.
fn path_name(node: &str) -> String {
    node.parse().map_or_else(|_| node.to_owned(), |address: SocketAddr| address.ip().to_string())
}

/// The path to a node, if it was found a short time ago.
pub(super) fn past(inner: &Inner, node: &str) -> Option<Past> {
    let paths = read::<Path>(inner, PATHS);
    let Path { bytes_per_s: bandwidth, rtt_us, at_ms } = paths.get(&path_name(node))?;
    let fresh = clock_ms().checked_sub(*at_ms)? <= PATH_MS;
    fresh.then(|| Past { bandwidth: *bandwidth, rtt: Duration::from_micros(*rtt_us) })
}

/// Remembers the path to a node for the flows that come soon.
pub(super) fn note_path(inner: &Inner, node: &NodeAddress, found: Option<Past>) {
    let Some(Past { bandwidth: bytes_per_s, rtt }) = found else { return };
    let rtt_us = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
    let mut paths = read(inner, PATHS);
    paths.insert(path_name(&node.to_string()), Path { bytes_per_s, rtt_us, at_ms: clock_ms() });
    write(inner, PATHS, &paths);
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
