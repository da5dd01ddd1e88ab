//! What a decision costs: remembered, and evaluated anew.
//!
//! `cargo bench -p portway-benches --bench policy`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use anyhow::{Result, ensure};
use criterion::Criterion;
use portway::base::{RelPath, Tier};
use portway::policy::{
    Action, Classes, Decider, Grant, Policy, Request, Roles, Side, Transport, Verdict,
};

/// 2026-06-01, in seconds since 1970.
const NOW: i64 = 1_780_272_000;
/// Datasets that are asked about in turn.
const DATASETS: usize = 1000;

fn request(at: usize) -> Result<Request> {
    Ok(Request {
        who: "spiffe://portway-0123456789abcdef/tier/private/site/onprem/node/gpu-1".parse()?,
        action: Action::Push,
        path: RelPath::from_bytes(format!("checkpoints/run-7/step-{at}").as_bytes())?,
        class: "public".parse()?,
        from: Side { site: "onprem".parse()?, tier: Tier::Private },
        to: Side { site: "cloud".parse()?, tier: Tier::Public },
        transport: Transport::Quic,
        relabel: None,
    })
}

fn roles(request: &Request) -> Result<Roles> {
    let role = "exporter".parse()?;
    let grant = Grant { identity: request.who.clone(), role, dataset: RelPath::root() };
    Ok(Roles::default().grant(grant, None, NOW)?)
}

fn main() -> Result<()> {
    let policy = Policy::builtin(1, Classes::default(), BTreeMap::new())?;
    let requests = (0..DATASETS).map(request).collect::<Result<Vec<_>>>()?;
    let roles = roles(&requests[0])?;
    let decider = Decider::new(policy.clone(), roles.clone());
    let granted = requests.iter().all(|one| decider.decide(one, NOW).verdict == Verdict::Granted);
    ensure!(granted, "the ready policy grants what is public");

    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .configure_from_args();
    let mut group = criterion.benchmark_group("policy");
    let mut next = requests.iter().cycle();
    group.bench_function("remembered", |b| {
        b.iter(|| next.next().map(|request| decider.decide(black_box(request), NOW)));
    });
    group.bench_function("evaluated", |b| {
        b.iter(|| policy.decide(black_box(&requests[0]), &roles, NOW));
    });
    group.finish();
    criterion.final_summary();
    Ok(())
}
