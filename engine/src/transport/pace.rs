//! Caps on what leaves: a schedule that content books its place on.
//!
//! The generic cell rate algorithm (ITU-T I.371, virtual scheduling): a cap knows when the next byte
//! is due. What is sent moves that on by its time at the rate, and may leave a little early, so that
//! a late timer loses nothing. The schedule of a cap that several processes share is in a file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

use crate::base::Rate;

/// How much before it is due content may leave, in nanoseconds; also the most that a pause saves up.
/// Over a second that is 1.5 %.
const EARLY_NS: u64 = 15_000_000;
/// Time of what is booked at once, in nanoseconds.
const BOOKED_NS: u64 = 2_000_000;
/// Least that is booked at once, in bytes: a datagram.
const BOOKED_BYTES_MIN: u64 = 1200;
/// A schedule that is further ahead is of another boot, in nanoseconds.
const AHEAD_NS_MAX: u64 = 60_000_000_000;
/// How long a schedule that another process holds is waited for, at a time and in all.
const HELD: Duration = Duration::from_micros(200);
const HELD_TRIES: u32 = 500;

/// A cap on what leaves, which may be changed at any time.
#[derive(Debug)]
pub struct Pace {
    /// Bytes per second; zero while there is no cap.
    rate: AtomicU64,
    due: Due,
    /// Messages that wait for it now.
    waiting: AtomicUsize,
    /// What was booked is forgotten.
    forgotten: Notify,
}

/// When the next byte is due, in nanoseconds of the machine's monotonic clock.
#[derive(Debug)]
enum Due {
    Here(Mutex<u64>),
    File(File),
}

impl Pace {
    /// A cap of this process.
    pub fn own(rate: Option<Rate>) -> Self {
        Self::with(rate, Due::Here(Mutex::new(0)))
    }

    /// A cap that all processes share which name the same file.
    ///
    /// # Errors
    /// The file cannot be opened or made.
    pub fn shared(path: &Path, rate: Option<Rate>) -> io::Result<Self> {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Self::with(rate, Due::File(file)))
    }

    fn with(rate: Option<Rate>, due: Due) -> Self {
        let (waiting, forgotten) = (AtomicUsize::new(0), Notify::new());
        Self { rate: number(rate), due, waiting, forgotten }
    }

    /// Changes the cap, or lifts it.
    pub fn set(&self, rate: Option<Rate>) {
        self.rate.store(rate.map_or(0, Rate::bytes_per_s), Relaxed);
    }

    /// Changes the cap, and forgets what was booked at the one before: what waits may leave.
    pub fn begin(&self, rate: Option<Rate>) {
        self.set(rate);
        match &self.due {
            Due::Here(due) => *due.lock().unwrap_or_else(PoisonError::into_inner) = 0,
            // Whoever books meanwhile has its booking forgotten, too.
            Due::File(file) => drop(file.write_all_at(&[0; 8], 0)),
        }
        self.forgotten.notify_waiters();
    }

    /// The cap.
    pub fn rate(&self) -> Option<Rate> {
        Rate::from_bytes_per_s(self.rate.load(Relaxed))
    }

    /// Books `bytes` and returns how long they have to wait; `None` while another process books.
    fn book(&self, bytes: u64) -> Option<Duration> {
        let Some(rate) = self.rate() else { return Some(Duration::ZERO) };
        let now = now();
        match &self.due {
            Due::Here(due) => {
                let mut due = due.lock().unwrap_or_else(PoisonError::into_inner);
                let (wait, next) = schedule(*due, now, rate.nanos(bytes));
                *due = next;
                Some(wait)
            }
            Due::File(file) => {
                flock(file, FlockOperation::NonBlockingLockExclusive).ok()?;
                let mut due = [0; 8];
                // A file that is new or cannot be read: nothing was booked.
                let _ = file.read_exact_at(&mut due, 0);
                let (wait, next) = schedule(u64::from_le_bytes(due), now, rate.nanos(bytes));
                let _ = file.write_all_at(&next.to_le_bytes(), 0);
                let _ = flock(file, FlockOperation::Unlock);
                Some(wait)
            }
        }
    }

    /// Returns when `bytes` may leave.
    async fn pass(&self, bytes: u64) {
        for _ in 0..HELD_TRIES {
            let forgotten = self.forgotten.notified();
            if let Some(wait) = self.book(bytes) {
                if !wait.is_zero() {
                    self.waiting.fetch_add(1, Relaxed);
                    let _waits = Waits(&self.waiting);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = forgotten => {}
                    }
                }
                return;
            }
            tokio::time::sleep(HELD).await;
        }
    }
}

/// Counts a message as waiting for as long as this lives.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn number(rate: Option<Rate>) -> AtomicU64 {
    AtomicU64::new(rate.map_or(0, Rate::bytes_per_s))
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How long content has to wait that takes `nanos` at the rate, and when what follows is due.
fn schedule(due: u64, now: u64, nanos: u64) -> (Duration, u64) {
    let due = if due > now.saturating_add(AHEAD_NS_MAX) { now } else { due.max(now) };
    let wait = (due - now).saturating_sub(EARLY_NS);
    (Duration::from_nanos(wait), due.saturating_add(nanos))
}

/// The caps that hold for a session, all of them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Paces(Arc<[Arc<Pace>]>);

impl Paces {
    /// These caps.
    pub fn new(paces: Vec<Arc<Pace>>) -> Self {
        Self(paces.into())
    }

    /// Whether nothing will ever be capped.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lowest cap; `None` while there is none.
    pub fn rate(&self) -> Option<Rate> {
        self.0.iter().filter_map(|pace| pace.rate()).min()
    }

    /// Whether content waits for a cap that other transfers have, too.
    pub fn holds_for_others(&self) -> bool {
        let held = |pace: &Pace| pace.waiting.load(Relaxed) > 0;
        self.0.iter().any(|pace| matches!(pace.due, Due::File(_)) && held(pace))
    }

    /// How many bytes are to be booked at once; `None` while there is no cap.
    pub fn step(&self) -> Option<u64> {
        let rate = self.rate()?.bytes_per_s();
        let step = u128::from(rate) * u128::from(BOOKED_NS) / 1_000_000_000;
        Some(u64::try_from(step).unwrap_or(u64::MAX).max(BOOKED_BYTES_MIN))
    }

    /// Returns when `bytes` may leave.
    pub async fn pass(&self, bytes: u64) {
        for pace in self.0.iter() {
            pace.pass(bytes).await;
        }
    }

    /// Returns when `bytes` may leave, which are booked a step at a time.
    pub async fn pass_all(&self, mut bytes: u64) {
        while let Some(step) = self.step()
            && bytes > 0
        {
            let now = bytes.min(step);
            self.pass(now).await;
            bytes -= now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Sends steps of 2 ms for a while; a timer is late by up to `late`. Returns how many left.
    fn sent(until: u64, late: impl Fn(u64) -> u64) -> u64 {
        let (mut now, mut due, mut count) = (1000 * MS, 0, 0);
        let began = now;
        while now < began + until {
            let (wait, next) = schedule(due, now, 2 * MS);
            due = next;
            if !wait.is_zero() {
                now += wait.as_nanos() as u64 + late(count);
            }
            count += 1;
        }
        count
    }

    #[test]
    fn over_a_second_the_cap_holds_within_two_hundredths() {
        // How late a timer is, and how late each hundredth.
        for (late, hiccup) in [(0, 0), (MS, MS), (3 * MS, 3 * MS), (MS / 10, 14 * MS)] {
            let count = sent(1000 * MS, |n| if n % 100 == 99 { hiccup } else { late });
            assert!((498..=509).contains(&count), "{count} of 500");
        }
    }

    #[test]
    fn a_pause_saves_up_no_more_than_a_moment() {
        let (wait, due) = schedule(5 * MS, 900 * MS, 2 * MS);
        assert_eq!((wait, due), (Duration::ZERO, 902 * MS));
    }

    #[test]
    fn a_schedule_of_another_boot_is_not_waited_for() {
        let (wait, due) = schedule(u64::MAX, 900 * MS, 2 * MS);
        assert_eq!((wait, due), (Duration::ZERO, 902 * MS));
    }

    #[test]
    fn two_processes_share_a_cap() {
        let dir = tempfile::tempdir().expect("a directory");
        let rate = Rate::from_bytes_per_s(1_000_000);
        let open = || Pace::shared(&dir.path().join("dc1-eu1"), rate).expect("opened");
        let (one, other) = (open(), open());
        assert_eq!(one.book(1_000_000), Some(Duration::ZERO));
        let wait = other.book(1_000_000).expect("not held");
        assert!(wait > Duration::from_millis(900), "{wait:?}");
        flock(dir_file(&one), FlockOperation::NonBlockingLockExclusive).expect("locked");
        assert_eq!(other.book(1), None, "somebody else books");
    }

    fn dir_file(pace: &Pace) -> &File {
        match &pace.due {
            Due::File(file) => file,
            Due::Here(_) => panic!("not shared"),
        }
    }

    #[tokio::test]
    async fn what_waits_may_leave_when_a_cap_begins_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let slow = Rate::from_bytes_per_s(1);
        let pace = Arc::new(Pace::shared(&dir.path().join("bulk"), slow).expect("opened"));
        let paces = Paces::new(vec![Arc::clone(&pace)]);
        // Fifty seconds are booked at once.
        paces.pass(50).await;
        let waits = tokio::spawn({
            let paces = paces.clone();
            async move { paces.pass(1).await }
        });
        while !paces.holds_for_others() {
            tokio::task::yield_now().await;
        }
        pace.begin(slow);
        waits.await.expect("it leaves");
        assert!(!paces.holds_for_others());
        assert_eq!(pace.book(1), Some(Duration::ZERO), "nothing is booked");
    }

    #[tokio::test]
    async fn a_lifted_cap_lets_everything_pass() {
        let pace = Arc::new(Pace::own(Rate::from_bytes_per_s(1)));
        let paces = Paces::new(vec![Arc::clone(&pace)]);
        assert_eq!(paces.step(), Some(BOOKED_BYTES_MIN));
        pace.set(None);
        assert_eq!((paces.rate(), paces.step()), (None, None));
        paces.pass_all(u64::MAX).await;
    }
}
