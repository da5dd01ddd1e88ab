//! The end that serves: it lends memory to what is measured, and says afterwards whether content
//! arrived as it was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use portway::api::Engine;
use portway::base::limits::LEASE_BYTES;
use portway::buf::Slab;
use portway::transport::rdma::{MeasuredPort, Operation, Plan, PortInfo, RailError, Role};

use super::super::told;
use super::words::{Answer, Ask, End, Open, Port};
use super::{fill, wrong};
use crate::system;

/// How often is looked for trouble where nothing is to be done.
const LOOK: Duration = Duration::from_millis(2);

/// What a session has lent.
pub(in crate::measure::net) struct Lender {
    engine: Engine,
    lent: Option<Lent>,
}

/// A port that is open, and the thread that serves it.
struct Lent {
    plan: Plan,
    cpu_s: f64,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<MeasuredPort, RailError>>,
}

impl Lender {
    /// Nothing is lent so far.
    pub(in crate::measure::net) fn new(engine: Engine) -> Self {
        Self { engine, lent: None }
    }

    /// Does what is asked. It blocks for as long as devices do.
    pub(in crate::measure::net) fn answer(&mut self, ask: &Ask) -> Answer {
        let done = match ask {
            Ask::Ports => self.ports(),
            Ask::Open(open) => self.open(open),
            Ask::Close => self.close(),
        };
        done.unwrap_or_else(|error| Answer::Refused { why: format!("{error:#}") })
    }

    fn ports(&self) -> Result<Answer> {
        let (_, ports) = self.engine.bare_ports().map_err(|error| told(&error))?;
        Ok(Answer::Ports { ports: ports.iter().map(Port::from).collect() })
    }

    fn open(&mut self, open: &Open) -> Result<Answer> {
        drop(self.lent.take());
        let (verbs, ports) = self.engine.bare_ports().map_err(|error| told(&error))?;
        let port = ports.get(open.port).context("the port is gone")?;
        let plan = open.plan();
        plan.check()?;
        let slab = Slab::new(plan.queue_pairs * LEASE_BYTES);
        let mut measured = verbs.open_measured(port, &slab)?;
        let ends = measured.create(&plan, Role::Answers, |memory| {
            fill(&plan, Role::Answers, memory);
        })?;
        let theirs: Vec<_> = open.ends.iter().map(|end| (*end).into()).collect();
        measured.connect(&PortInfo::from(&open.peer), &theirs)?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || serve(measured, plan, &told));
        self.lent = Some(Lent { plan, cpu_s: system::own_cpu_s(), stop, thread });
        Ok(Answer::Opened { ends: ends.into_iter().map(End::from).collect() })
    }

    fn close(&mut self) -> Result<Answer> {
        let lent = self.lent.take().context("nothing is open")?;
        let (plan, cpu_s) = (lent.plan, system::own_cpu_s() - lent.cpu_s);
        let memory = lent.end()?.destroy();
        let wrong = wrong(&plan, Role::Answers, &memory);
        Ok(Answer::Closed { wrong, cpu_s })
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        if let Some(lent) = self.lent.take() {
            // The session is over: nobody asks how it went.
            let _ = lent.end();
        }
    }
}

impl Lent {
    fn end(self) -> Result<MeasuredPort> {
        self.stop.store(true, Relaxed);
        let ended = self.thread.join().map_err(|_| anyhow!("a thread panicked"))?;
        Ok(ended?)
    }
}

/// Receives until it is stopped, as fast as it goes; where nothing is to be received it waits.
fn serve(mut port: MeasuredPort, plan: Plan, stop: &AtomicBool) -> Result<MeasuredPort, RailError> {
    while !stop.load(Relaxed) {
        port.poll(|_| {})?;
        if plan.operation != Operation::Send {
            std::thread::sleep(LOOK);
        }
    }
    Ok(port)
}
