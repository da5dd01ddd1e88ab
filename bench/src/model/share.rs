//! Transfers that share a network, from event to event: who is there when, and who is late.
//!
//! Transfers under way have equal shares for each session, except that no session goes faster than
//! its own limit (max-min fairness). This is what congestion control aims at
//! (`docs/transports.md`: Jain indices of 0.99 between two transfers). Between events rates do not
//! change, so the simulation is exact. More bytes or less capacity leave more of every transfer at
//! every moment; this is why the least capacity can be found by halving an interval.

use super::arrivals::Job;
use super::calendar::{HOUR_S, Hours};

/// A transfer that ends within so many seconds ends now: sums of times have no more digits.
const SAME_S: f64 = 1e-6;
/// A transfer counts as late from here on, in seconds: less is rounding.
const LATE_S: f64 = 1e-3;

/// What the transfers of one flow may do.
#[derive(Debug, Clone)]
pub(crate) struct Lane<'a> {
    /// When they may move.
    pub(crate) hours: &'a Hours,
    /// Sessions of each.
    pub(crate) sessions: f64,
    /// Highest rate of a session, in bytes of content per second.
    pub(crate) session_max: f64,
    /// Seconds until content moves.
    pub(crate) start_s: f64,
}

/// What transfers share.
#[derive(Debug, Clone)]
pub(crate) struct Network<'a> {
    /// Bytes of content per second, of all links together.
    pub(crate) capacity: f64,
    /// One for each flow.
    pub(crate) lanes: Vec<Lane<'a>>,
    /// What the bytes of every transfer are multiplied by.
    pub(crate) growth: f64,
}

/// A transfer that was not there in time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Late {
    /// Which.
    pub(crate) job: Job,
    /// By how many seconds, or by how many at least.
    pub(crate) by_s: f64,
    /// Flows of the transfers that shared the network with it at the end, itself left out.
    pub(crate) beside: usize,
}

struct Active {
    job: usize,
    left: f64,
    rate: f64,
}

impl Network<'_> {
    /// The first transfer found to be late, if there is one.
    pub(crate) fn first_late(&self, jobs: &[Job]) -> Option<Late> {
        self.run(jobs, true, &mut |_, _, _| {}).pop()
    }

    /// All transfers that are late.
    pub(crate) fn all_late(&self, jobs: &[Job]) -> Vec<Late> {
        self.run(jobs, false, &mut |_, _, _| {})
    }

    /// When each transfer is there.
    pub(crate) fn ends(&self, jobs: &[Job]) -> Vec<f64> {
        // Whatever is due long before everything is late, by when it is there.
        const DUE: f64 = -1e9;
        let numbered = |(number, job): (usize, &Job)| Job { due: DUE - number as f64, ..*job };
        let numbered: Vec<Job> = jobs.iter().enumerate().map(numbered).collect();
        let mut ends = vec![0.0; jobs.len()];
        for late in self.all_late(&numbered) {
            ends[(DUE - late.job.due) as usize] = late.job.due + late.by_s;
        }
        ends
    }

    /// Tells `used` of each stretch of time: from, to, and bytes of content per second.
    pub(crate) fn usage(&self, jobs: &[Job], used: &mut dyn FnMut(f64, f64, f64)) {
        self.run(jobs, false, used);
    }

    fn run(
        &self,
        jobs: &[Job],
        first_only: bool,
        used: &mut dyn FnMut(f64, f64, f64),
    ) -> Vec<Late> {
        let ready = |job: &Job| {
            let lane = &self.lanes[job.flow];
            lane.hours.opens(job.at) + lane.start_s
        };
        let mut coming: Vec<(f64, usize)> =
            jobs.iter().enumerate().map(|(number, job)| (ready(job), number)).collect();
        coming.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        let mut late = Vec::new();
        let mut active: Vec<Active> = Vec::new();
        let mut now = f64::NEG_INFINITY;
        loop {
            if active.is_empty() {
                let Some((at, _)) = coming.last() else { return late };
                now = now.max(*at);
            }
            while coming.last().is_some_and(|(at, _)| *at <= now) {
                let Some((_, job)) = coming.pop() else { break };
                let left = jobs[job].bytes * self.growth;
                let limit = |job: usize| self.lanes[jobs[job].flow].session_max;
                // In order of their limits, for the shares.
                let place = active.partition_point(|other| limit(other.job) <= limit(job));
                active.insert(place, Active { job, left, rate: 0.0 });
            }
            let (rate, windows) = self.shares(jobs, &mut active, now);
            let mut end = coming.last().map_or(f64::INFINITY, |(at, _)| *at);
            if windows {
                end = end.min(((now / HOUR_S).floor() + 1.0) * HOUR_S);
            }
            for one in &active {
                end = end.min(now + one.left / one.rate);
            }
            used(now, end, rate);
            let passed = end - now;
            now = end;
            let beside = active.len() - 1;
            active.retain_mut(|one| {
                let job = &jobs[one.job];
                let there = one.left <= one.rate * (passed + SAME_S);
                one.left -= one.rate * passed;
                if now > job.due + LATE_S && (there || first_only) {
                    late.push(Late { job: *job, by_s: now - job.due, beside });
                }
                !there
            });
            if first_only && !late.is_empty() {
                return late;
            }
        }
    }

    /// Sets the rates of all that are under way; the sum, and whether any has a window.
    fn shares(&self, jobs: &[Job], active: &mut [Active], now: f64) -> (f64, bool) {
        let lane = |one: &Active| &self.lanes[jobs[one.job].flow];
        let mut windows = false;
        let mut sessions = 0.0;
        for one in active.iter_mut() {
            let lane = lane(one);
            windows |= *lane.hours != Hours::ALWAYS;
            one.rate = if lane.hours.is_open(now) { lane.sessions } else { 0.0 };
            sessions += one.rate;
        }
        let mut capacity = self.capacity;
        for one in active.iter_mut().filter(|one| one.rate > 0.0) {
            let lane = lane(one);
            one.rate = lane.sessions * lane.session_max.min(capacity / sessions);
            capacity -= one.rate;
            sessions -= lane.sessions;
        }
        (self.capacity - capacity, windows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(sessions: f64, session_max: f64) -> Lane<'static> {
        const ALWAYS: &Hours = &Hours::ALWAYS;
        Lane { hours: ALWAYS, sessions, session_max, start_s: 0.0 }
    }

    fn job(flow: usize, at: f64, bytes: f64) -> Job {
        Job { flow, at, due: at, bytes }
    }

    fn ends(network: &Network<'_>, jobs: &[Job]) -> Vec<f64> {
        network.ends(jobs).iter().map(|end| end.round()).collect()
    }

    #[test]
    fn sessions_have_equal_shares_and_limits_leave_theirs_to_others() {
        let network = Network {
            capacity: 10.0,
            lanes: vec![lane(1.0, 100.0), lane(1.0, 2.0), lane(3.0, 100.0)],
            growth: 1.0,
        };
        // 5 each until 20, then alone.
        assert_eq!(ends(&network, &[job(0, 0.0, 100.0), job(0, 0.0, 200.0)]), [20.0, 30.0]);
        // The second has 2, the first the other 8.
        assert_eq!(ends(&network, &[job(0, 0.0, 80.0), job(1, 0.0, 20.0)]), [10.0, 10.0]);
        // Three of four sessions.
        assert_eq!(ends(&network, &[job(0, 0.0, 25.0), job(2, 0.0, 75.0)]), [10.0, 10.0]);
        // The second comes when half of the first is there.
        assert_eq!(ends(&network, &[job(0, 0.0, 100.0), job(0, 5.0, 50.0)]), [15.0, 15.0]);
    }

    #[test]
    fn windows_close_over_what_is_under_way() {
        let hours: Hours = {
            let text =
                serde::de::value::StrDeserializer::<serde::de::value::Error>::new("01:00-02:00");
            serde::Deserialize::deserialize(text).unwrap()
        };
        let lanes = vec![Lane { hours: &hours, ..lane(1.0, 100.0) }];
        let network = Network { capacity: 1.0, lanes, growth: 1.0 };
        // An hour on Monday, and half an hour on Tuesday.
        let end = ends(&network, &[job(0, 0.0, 5400.0)]);
        assert_eq!(end, [25.5 * 3600.0]);
    }

    #[test]
    fn what_is_used_is_what_was_to_move() {
        let lanes = vec![lane(1.0, 100.0), lane(2.0, 3.0)];
        let network = Network { capacity: 10.0, lanes, growth: 2.0 };
        let jobs = [job(0, 0.0, 100.0), job(1, 3.0, 70.0), job(0, 500.0, 5.0)];
        let mut bytes = 0.0;
        network.usage(&jobs, &mut |from, to, rate| {
            assert!(from <= to && (0.0..=10.0 + 1e-9).contains(&rate));
            bytes += (to - from) * rate;
        });
        assert!((bytes - 350.0).abs() < 1e-3, "{bytes}");
    }

    #[test]
    fn the_first_late_is_found_without_the_rest() {
        let network = Network { capacity: 10.0, lanes: vec![lane(1.0, 100.0)], growth: 1.0 };
        let in_time = Job { due: 10.0, ..job(0, 0.0, 100.0) };
        assert_eq!(network.first_late(&[in_time]), None);
        let late = Job { due: 9.0, ..in_time };
        let other = Job { at: 20.0, ..late };
        assert_eq!(network.first_late(&[late, other]).map(|late| late.job), Some(late));
        assert_eq!(network.all_late(&[late, other]).len(), 2);
    }
}
