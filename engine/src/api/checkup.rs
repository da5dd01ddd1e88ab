//! `doctor`: local checks, and what a peer says.

use std::path::PathBuf;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::calls::Pong;
use super::doctor::{LocalChecks, RdmaChecks, System, local};
use super::engine::{Engine, clock_ms};
use super::path::{self, PathChoice};
use super::{Error, Finding, Level, NodeAddress, TransportChoice};
use crate::base::human;
use crate::config::Topic;
use crate::storage::uring;
use crate::transport::Link;
use crate::transport::rdma::sysfs::{Roots, survey};

/// Clocks that differ by more than this confuse whoever reads two logs, in milliseconds.
const CLOCK_APART_MS: u64 = 2000;
/// Clocks that differ by more than this make certificates look invalid: what TLS forgives.
const CLOCK_WRONG_MS: u64 = 300_000;

#[derive(serde::Serialize)]
struct Nothing {}

impl Engine {
    /// Looks at this machine and, if `node` is given, at the way there.
    ///
    /// # Errors
    /// None so far: what is wrong is a finding.
    pub async fn doctor(&self, node: Option<NodeAddress>) -> Result<Vec<Finding>, Error> {
        let engine = self.clone();
        let mut findings = super::server::blocking(move || engine.local_findings()).await?;
        if let Some(node) = node {
            findings.extend(self.peer_findings(&node).await);
        }
        Ok(findings)
    }

    fn local_findings(&self) -> Vec<Finding> {
        let settings = &self.0.config.settings;
        let certificate = self.identity().ok().map(|identity| {
            let end = UNIX_EPOCH + Duration::from_secs(identity.expires_at().as_secs());
            (UNIX_EPOCH, end)
        });
        let root: Option<PathBuf> = settings.serve.root.clone();
        let mut findings = local(&LocalChecks {
            now: std::time::SystemTime::now(),
            certificate,
            root: root.as_deref(),
            slab_bytes: settings.limits.slab_mib << 20,
            socket_buffer_bytes: settings.quic.socket_buffer_mib << 20,
            probe_uring: &|| uring::probe().map_err(std::io::Error::other),
            rdma: RdmaChecks {
                built: path::BUILT,
                settings: &settings.rdma,
                survey: survey(&Roots::default()),
                library: self.0.verbs().err().cloned(),
            },
            gpus: crate::gpu::survey(),
            system: System::default(),
        });
        findings.extend(Topic::ALL.into_iter().filter_map(|topic| {
            Some(Finding {
                check: topic.as_str().to_owned(),
                level: Level::Warn,
                finding: self.0.home.problem(topic)?,
                fix: "it goes on by itself once what it says is mended".to_owned(),
            })
        }));
        findings
    }

    async fn peer_findings(&self, node: &NodeAddress) -> Vec<Finding> {
        let finding = |level, finding: String, fix: &str| Finding {
            check: "peer".to_owned(),
            level,
            finding,
            fix: fix.to_owned(),
        };
        let began = Instant::now();
        let session = match self.connect(node).await {
            Ok(session) => session,
            Err(error) => return vec![finding(Level::Fail, error.message, &error.hint)],
        };
        let connected = began.elapsed();
        let asked = Instant::now();
        let pong: Pong = match session.call("ping", &Nothing {}).await {
            Ok(pong) => pong,
            Err(error) => return vec![finding(Level::Fail, error.message, &error.hint)],
        };
        let round_trip = asked.elapsed();
        let apart_ms = pong.clock_ms.abs_diff(clock_ms());
        let meter = session.link.meter();
        let path = self.path(&session, TransportChoice::Auto);
        let peer = session.link.peer().clone();
        session.link.close("done").await;
        let reached = format!(
            "{} ({}, site {}, {} tier) answers in {:.1} ms, connected in {:.1} ms",
            peer.node,
            human::escaped(pong.program.as_bytes()),
            peer.site,
            peer.tier,
            round_trip.as_secs_f64() * 1e3,
            connected.as_secs_f64() * 1e3,
        );
        let clock = format!("its clock differs by {apart_ms} ms");
        let clock = match apart_ms {
            ms if ms <= CLOCK_APART_MS => finding(Level::Ok, clock, ""),
            ms if ms <= CLOCK_WRONG_MS => finding(Level::Warn, clock, "let both clocks follow NTP"),
            _ => finding(Level::Fail, clock, "set the clocks: certificates depend on them"),
        };
        let mtu =
            format!("datagrams of {} bytes so far; discovery goes on while it sends", meter.mtu);
        let path = match path {
            Ok(PathChoice { transport, reason, fix }) => Finding {
                check: "transport".to_owned(),
                level: Level::Ok,
                finding: format!("{}: {reason}", transport.as_str()),
                fix,
            },
            Err(error) => finding(Level::Fail, error.message, &error.hint),
        };
        vec![finding(Level::Ok, reached, ""), clock, finding(Level::Ok, mtu, ""), path]
    }
}
