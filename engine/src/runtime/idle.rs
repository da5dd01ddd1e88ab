//! How many processors of this machine do nothing.

use std::fs;
use std::time::{Duration, Instant};

/// Idle processors, between one look and the next.
#[derive(Default)]
pub(super) struct IdleClock {
    /// When was looked last, and what was read.
    last: Option<(Instant, u64)>,
}

impl IdleClock {
    /// How many processors were idle since the last look, if that is at least `watch` ago; `None`
    /// before that, and where it is more than `stale` ago: then it says nothing of now.
    pub(super) fn idle(&mut self, now: Instant, watch: Duration, stale: Duration) -> Option<f64> {
        let since = self.last.map(|(at, _)| now.duration_since(at));
        if since.is_some_and(|since| since < watch) {
            return None;
        }
        self.look(now, idle_ticks(&fs::read_to_string("/proc/stat").ok()?)?, stale)
    }

    fn look(&mut self, now: Instant, ticks: u64, stale: Duration) -> Option<f64> {
        let (at, before) = self.last.replace((now, ticks))?;
        let since = now.duration_since(at);
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        let idle = ticks.saturating_sub(before) as f64 / per_second / since.as_secs_f64();
        (since <= stale).then_some(idle)
    }
}

/// Ticks that processors did nothing since the system began, or waited for a disk, by the text of
/// `/proc/stat` (proc(5)).
pub(super) fn idle_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let mut ticks = line.split_ascii_whitespace().map(str::parse::<u64>).skip(3);
    Some(ticks.next()?.ok()? + ticks.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_processors_are_counted_between_looks() {
        let per_second = rustix::param::clock_ticks_per_second();
        let (start, stale) = (Instant::now(), Duration::from_secs(2));
        let mut clock = IdleClock::default();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(clock.look(at(0), 1000, stale), None);
        assert_eq!(clock.look(at(500), 1000 + per_second, stale), Some(2.0));
        assert_eq!(clock.look(at(1500), 1000 + per_second, stale), Some(0.0));
        assert_eq!(clock.look(at(9000), 1000 + 9 * per_second, stale), None, "too long ago");
        assert_eq!(clock.idle(at(9100), Duration::from_millis(250), stale), None, "too soon");
    }

    #[test]
    fn the_systems_words_are_understood() {
        let stat = "cpu  100 2 30 4000 50 0 6 0 0 0\ncpu0 1 1 1 1 1 1\n";
        assert_eq!(idle_ticks(stat), Some(4050));
        for odd in ["", "cpu", "cpu  1 2 3", "cpu  1 2 3 4", "cpu  1 2 3 x 5", "cpu0 1 2 3 4 5"] {
            assert_eq!(idle_ticks(odd), None, "{odd}");
        }
        let real = fs::read_to_string("/proc/stat").expect("a Linux system");
        assert!(idle_ticks(&real).is_some());
    }
}
