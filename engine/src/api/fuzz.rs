//! What the questions between nodes and their answers promise; `crate::fuzzing` lists them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::audit::telling::AuditRequest;
use super::calls::{
    InviteReply, InviteRequest, JoinReply, JoinRequest, PathRequest, Pong, asked, asked_path,
};
use super::checkpoints::{LatestReply, LatestRequest, RetainReply, RetainRequest};
use super::lowering::{RelabelReply, RelabelRequest};
use super::ranges::{FileReply, FileRequest, ReadRequest};
use super::{Keep, ListEntry, VerifyReport};
use crate::base::limits::FRAME_BYTES_MAX;
use crate::base::{NodeName, RelPath, SiteName, Tier};
use crate::metrics::NodeStatus;
use crate::runtime::root::Root;

/// What is read is written and read again. Numbers with a fraction may lose their last bit.
fn survives<T: Serialize + DeserializeOwned>(body: &[u8]) -> bool {
    let Ok(value) = asked::<T>(body) else { return false };
    let again = serde_json::to_vec(&value).expect("it was read");
    assert!(asked::<T>(&again).is_ok(), "{}", String::from_utf8_lossy(&again));
    true
}

pub(crate) fn question(data: &[u8]) -> bool {
    if data.len() > FRAME_BYTES_MAX {
        return false;
    }
    let mut known = survives::<InviteRequest>(data);
    known |= survives::<RelabelRequest>(data);
    known |= survives::<LatestRequest>(data) | survives::<RetainRequest>(data);
    known |= survives::<FileRequest>(data) | survives::<AuditRequest>(data);
    known |= asked::<ReadRequest>(data).is_ok_and(|request| request.is_in_bounds());
    if let Ok(request) = asked::<JoinRequest>(data)
        && let Some(der) = request.der()
    {
        let again = serde_json::to_vec(&JoinRequest::of(&der)).expect("it was read");
        let again: JoinRequest = asked(&again).expect("it was written");
        assert_eq!(again.der(), Some(der));
        known = true;
    }
    if let Ok(path) = asked_path(data) {
        assert!(!Root::is_own(&path));
        let again = serde_json::to_vec(&PathRequest::of(&path)).expect("it was read");
        assert_eq!(asked_path(&again).ok(), Some(path));
        known = true;
    }
    known
}

pub(crate) fn question_seeds() -> Vec<Vec<u8>> {
    let name = |text: &str| text.parse::<NodeName>().ok();
    let site = |text: &str| text.parse::<SiteName>().ok();
    let path = RelPath::from_typed(b"models/\xff").unwrap_or_default();
    let mut seeds = vec![
        serde_json::to_vec(&JoinRequest::of(b"\x30\x03\x02\x01\x00")),
        serde_json::to_vec(&PathRequest::of(&path)),
        serde_json::to_vec(&PathRequest::of(&RelPath::root())),
        serde_json::to_vec(&AuditRequest { held: 7 }),
        serde_json::to_vec(&LatestRequest::of(&path, Some(b"step-7"))),
        serde_json::to_vec(&RetainRequest::of(&path, Keep { last: 5, every: Some(1000) })),
    ];
    if let Ok(class) = "internal".parse() {
        let (id, path) = ("07".repeat(16), "6d6f64656c73".to_owned());
        seeds.push(serde_json::to_vec(&RelabelRequest { id, path, class }));
    }
    if let (Some(name), Some(site)) = (name("gpu-7"), site("onprem")) {
        seeds.push(serde_json::to_vec(&InviteRequest {
            name,
            site,
            tier: Tier::Private,
            workload: true,
        }));
    }
    seeds.into_iter().flatten().collect()
}

pub(crate) fn answer(data: &[u8]) -> bool {
    if data.len() > FRAME_BYTES_MAX {
        return false;
    }
    let known = [
        survives::<Pong>(data),
        survives::<InviteReply>(data),
        survives::<JoinReply>(data),
        survives::<Vec<ListEntry>>(data),
        survives::<VerifyReport>(data),
        survives::<NodeStatus>(data),
        survives::<RelabelReply>(data),
        survives::<Option<LatestReply>>(data),
        survives::<RetainReply>(data),
        survives::<FileReply>(data),
    ];
    known.contains(&true)
}

pub(crate) fn answer_seeds() -> Vec<Vec<u8>> {
    let entry = ListEntry {
        name: "a\\x0a".to_owned(),
        kind: "file".to_owned(),
        len: 7,
        mode: 0o640,
        mtime_s: -5,
        digest: Some("00".repeat(32)),
    };
    let report = VerifyReport {
        bad: vec![("a".to_owned(), "content".to_owned())],
        elapsed_s: 1.5,
        ..VerifyReport::default()
    };
    let status = NodeStatus {
        node: "gpu-7".to_owned(),
        version: "0.1.0".to_owned(),
        uptime_ms: 7,
        running: Vec::new(),
        recent: Vec::new(),
        index_chunks: 3,
        leases_out: (1, 64),
        disk_free_bytes: 5,
        valid_until_s: 1_780_272_000,
        roles: 4,
        problems: vec!["no node is known that has the CA".to_owned()],
    };
    let latest = LatestReply {
        name: "737465702d37".to_owned(),
        step: Some(7),
        root: "00".repeat(32),
        files: 1,
        bytes: 7,
    };
    let kept = vec![("step-2".to_owned(), "it may not".to_owned())];
    let retained = RetainReply { removed: vec!["step-1".to_owned()], in_use: Vec::new(), kept };
    [
        serde_json::to_vec(&latest),
        serde_json::to_vec(&retained),
        serde_json::to_vec(&Pong { program: "portway/0.1.0".to_owned(), clock_ms: 1 }),
        serde_json::to_vec(&InviteReply { token: "portway1:AAAA".to_owned() }),
        serde_json::to_vec(&JoinReply { chain_pem: "-----BEGIN".to_owned() }),
        serde_json::to_vec(&vec![entry]),
        serde_json::to_vec(&report),
        serde_json::to_vec(&status),
    ]
    .into_iter()
    .flatten()
    .collect()
}
