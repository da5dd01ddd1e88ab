//! What the kernel tells of processes, sockets and the loopback device.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(2);
/// Most processes followed below one.
const PROCESSES_MAX: usize = 1000;

/// How long the rate of digests is measured.
const DIGEST_TIME: Duration = Duration::from_secs(1);

/// Waits until `ready` holds; false if it did not in time.
pub(crate) fn wait_until(timeout: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + timeout;
    loop {
        if ready() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// Distinct ports of 127.0.0.1 that are free for UDP now.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>> {
    let sockets: std::io::Result<Vec<_>> =
        (0..count).map(|_| UdpSocket::bind(("127.0.0.1", 0))).collect();
    let ports: std::io::Result<Vec<u16>> =
        sockets?.iter().map(|socket| Ok(socket.local_addr()?.port())).collect();
    Ok(ports?)
}

/// Kinds of sockets that can be waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Socket {
    /// Bound for UDP.
    Udp,
    /// Listening for TCP.
    Tcp,
}

/// Whether somebody is bound to a port, learnt without touching it.
pub(crate) fn is_bound(socket: Socket, port: u16) -> bool {
    let tables = match socket {
        Socket::Udp => ["/proc/self/net/udp", "/proc/self/net/udp6"],
        Socket::Tcp => ["/proc/self/net/tcp", "/proc/self/net/tcp6"],
    };
    let end = format!(":{port:04X}");
    tables.iter().any(|table| {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        text.lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().unwrap_or_default();
            // State 0A is LISTEN.
            let listens = fields.nth(1) == Some("0A");
            local.ends_with(&end) && (listens || matches!(socket, Socket::Udp))
        })
    })
}

/// Bytes that crossed the loopback device of this network namespace, each counted once.
pub(crate) fn loopback_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/net/dev").context("read /proc/self/net/dev")?;
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    let bytes = line.and_then(|line| line.split_whitespace().next());
    bytes.and_then(|bytes| bytes.parse().ok()).context("no loopback device")
}

/// Whether no other interface than loopback is there: a network namespace of one's own.
pub(crate) fn only_loopback() -> bool {
    let text = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    text.lines().skip(2).count() == 1
}

/// CPU seconds of a process and of all its children that have ended; works on a zombie.
pub(crate) fn cpu_s(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the last parenthesis may hold anything. Then: state, ppid, ...; utime,
    // stime, cutime and cstime are fields 14 to 17 of the line (proc(5)), 11 to 14 from the state.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// CPU seconds of this process so far, all its threads together.
pub(crate) fn own_cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// CPU seconds that all processors together were busy since the machine started.
pub(crate) fn busy_s() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    // user, nice, system, idle, iowait, irq, softirq (proc(5)).
    let fields: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    let ticks: u64 = [0, 1, 2, 5, 6].iter().filter_map(|index| fields.get(*index)).sum();
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// A process and all below it.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut pids = vec![pid];
    let mut next = 0;
    while next < pids.len() && pids.len() < PROCESSES_MAX {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", pids[next]));
        for task in tasks.into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children"));
            let children = children.unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        next += 1;
    }
    pids
}

/// Memory of a group of processes over time.
#[derive(Debug, Default)]
pub(crate) struct MemoryPeak {
    /// Highest resident memory of each process, by its own account.
    each: HashMap<u32, u64>,
    /// Highest sum of resident memory at one moment.
    together: u64,
}

impl MemoryPeak {
    /// Looks once.
    pub(crate) fn sample(&mut self, root: u32) {
        let mut sum = 0;
        for pid in family(root) {
            let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
                continue;
            };
            sum += kib_of(&status, "VmRSS:");
            let peak = self.each.entry(pid).or_default();
            *peak = (*peak).max(kib_of(&status, "VmHWM:"));
        }
        self.together = self.together.max(sum);
    }

    /// The peak in bytes: of the group at one moment, or of one process if that was higher.
    pub(crate) fn bytes(&self) -> u64 {
        self.together.max(self.each.values().copied().max().unwrap_or(0)) << 10
    }
}

/// Free memory that is left alone, in bytes: the system needs some.
const UNTOUCHED_BYTES: u64 = 1 << 30;
/// Free memory that is touched at most where less would do, in bytes.
const TOUCHED_BYTES_MAX: u64 = 16 << 30;
/// Bytes that are touched at once.
const TOUCHED_AT_ONCE: usize = 64 << 20;
/// How long more than what a run needs is touched: a host may be slow to give pages.
const TOUCH_TIME_MAX: Duration = Duration::from_secs(8);

/// Memory that nothing uses, in bytes; none where the system does not say.
fn free_bytes() -> u64 {
    kib_of(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemFree:") << 10
}

/// What a text of the kernel says behind a name, in KiB; none if it does not.
fn kib_of(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Touches memory and frees it again: a virtual machine that gave free pages back to its host
/// pays four times as much for their first touch, whoever comes first.
///
/// Which free pages are handed out next nobody knows, so all of them are touched, within a bound, and
/// no longer than [`TOUCH_TIME_MAX`] beyond `bytes`.
pub(crate) fn pretouch(bytes: u64) {
    let all = bytes.max(free_bytes().saturating_sub(UNTOUCHED_BYTES).min(TOUCHED_BYTES_MAX));
    let begun = Instant::now();
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let touched = |pieces: &[Vec<u8>]| pieces.len() as u64 * TOUCHED_AT_ONCE as u64;
    while touched(&pieces) < bytes || (touched(&pieces) < all && begun.elapsed() < TOUCH_TIME_MAX) {
        pieces.push(vec![1; TOUCHED_AT_ONCE]);
    }
    std::hint::black_box(&pieces);
}

/// Waits until a port is taken; an error if it is not in time.
pub(crate) fn wait_bound(socket: Socket, port: u16, timeout: Duration) -> Result<()> {
    let bound = wait_until(timeout, || is_bound(socket, port));
    ensure!(bound, "nobody took {socket:?} port {port} within {} s", timeout.as_secs());
    Ok(())
}

/// Bytes a second that one core digests, in pieces as large as a run of content.
pub(crate) fn digest_rate() -> f64 {
    let content = vec![0x5a_u8; 2 << 20];
    let (begun, mut bytes) = (Instant::now(), 0.0);
    while begun.elapsed() < DIGEST_TIME {
        std::hint::black_box(blake3::hash(&content));
        bytes += content.len() as f64;
    }
    bytes / begun.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_port_is_seen_and_a_free_one_is_not() {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        assert!(is_bound(Socket::Udp, socket.local_addr().unwrap().port()));
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_bound(Socket::Tcp, port));
        drop(listener);
        assert!(!is_bound(Socket::Tcp, port));
    }

    #[test]
    fn cpu_time_of_a_zombie_is_still_told() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let options =
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).unwrap();
        assert!(cpu_s(child.id()).is_some());
        assert!(child.wait().unwrap().success());
        assert!(cpu_s(child.id()).is_none());
    }
}
