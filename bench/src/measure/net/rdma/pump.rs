//! Messages posted as fast as they complete, or one after the other when each is due.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use portway::transport::rdma::{MeasuredPort, Plan};

use super::super::probe::{Probe, due};
use crate::measure::rows::Sample;
use crate::system;

/// Longest time without a completion.
const PATIENCE: Duration = Duration::from_secs(20);
/// A sleep ends so long before a message is due; the rest is waited for awake.
const NAP: Duration = Duration::from_micros(200);

/// A port that asks, with what is under way in each queue pair.
pub(super) struct Pump {
    port: MeasuredPort,
    plan: Plan,
    under_way: Vec<usize>,
    /// Messages that completed so far.
    pub(super) messages: u64,
}

impl Pump {
    /// Nothing is under way so far.
    pub(super) fn new(port: MeasuredPort, plan: Plan) -> Self {
        Self { port, plan, under_way: vec![0; plan.queue_pairs], messages: 0 }
    }

    /// Takes in what completed; gives how many messages that are.
    fn look(&mut self) -> Result<u64> {
        let (under_way, mut over) = (&mut self.under_way, 0);
        self.port.poll(|pair| {
            under_way[pair] -= 1;
            over += 1;
        })?;
        self.messages += over;
        Ok(over)
    }

    /// Posts what there is room for, one message of each queue pair after the other.
    fn fill(&mut self) -> Result<()> {
        while self.under_way.iter().any(|count| *count < self.plan.depth) {
            for pair in 0..self.plan.queue_pairs {
                if self.under_way[pair] < self.plan.depth {
                    self.port.post(pair)?;
                    self.under_way[pair] += 1;
                }
            }
        }
        Ok(())
    }

    /// Waits for all that is under way.
    fn drain(&mut self) -> Result<()> {
        let mut last = Instant::now();
        while self.under_way.iter().any(|count| *count > 0) {
            if self.look()? > 0 {
                last = Instant::now();
            }
            ensure!(last.elapsed() < PATIENCE, "the device does not complete any more");
        }
        Ok(())
    }

    /// Runs of `each`, after a warm-up of the same time. A run begins and ends with a completion, so
    /// that none counts in part.
    pub(super) fn runs(&mut self, runs: u64, each: Duration) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        let (mut began, mut cpu_s, mut messages) = (Instant::now(), 0.0, 0);
        let (mut warm, mut last) = (false, began);
        while (samples.len() as u64) < runs {
            self.fill()?;
            let over = self.look()?;
            let now = Instant::now();
            if over == 0 {
                ensure!(now - last < PATIENCE, "the device does not complete any more");
                continue;
            }
            (messages, last) = (messages + over, now);
            if now - began < each {
                continue;
            }
            let cpu = system::own_cpu_s();
            if warm {
                let bytes = messages as f64 * self.plan.bytes as f64;
                let wall_s = (now - began).as_secs_f64();
                samples.push(Sample { bytes, wall_s, cpu_s: cpu - cpu_s });
            }
            (began, cpu_s, messages, warm) = (now, cpu, 0, true);
        }
        self.drain()?;
        Ok(samples)
    }

    /// How long single messages take that are due at times of their own, so many a second.
    pub(super) fn latency(&mut self, per_second: f64, time: Duration) -> Result<Probe> {
        let due = due(per_second, time, 1);
        let began = Instant::now();
        let mut probe = Probe::new(began, due.clone())?;
        for (number, due) in due.into_iter().enumerate() {
            let when = began + due;
            while Instant::now() < when {
                let left = when.saturating_duration_since(Instant::now());
                std::thread::sleep(left.saturating_sub(NAP));
            }
            self.port.post(0)?;
            self.under_way[0] += 1;
            self.drain()?;
            probe.answer(number as u64, Instant::now());
        }
        Ok(probe)
    }

    /// The port, for what is to be destroyed.
    pub(super) fn into_port(self) -> MeasuredPort {
        self.port
    }
}
