//! A relay of datagrams with a link between its two sides.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use super::line::{Counters, Line, Link};

/// How often a waiting thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);
/// Kernel buffer of a socket in bytes, where that is allowed: a burst waits here, not in the link.
const BUFFER_BYTES: usize = 16 << 20;

/// A datagram under way: when it is due in seconds, its bytes, and where it goes.
struct Packet {
    due: f64,
    bytes: Vec<u8>,
    socket: Arc<UdpSocket>,
    /// `None` for where the socket is connected to.
    to: Option<SocketAddr>,
}

/// One direction: what it is, and the way to the thread that sends.
struct Direction {
    line: Line,
    queue: Sender<Packet>,
}

/// What all threads share.
struct Shared {
    began: Instant,
    stop: AtomicBool,
    forth: Mutex<Direction>,
    back: Mutex<Direction>,
}

/// A relay between clients and a server, for as long as it lives.
pub(crate) struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bind() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(LOOK))?;
    // Needs a right that not everybody has; the kernel's own size does as well, with less to spare.
    let _ = set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES);
    Ok(socket)
}

impl Relay {
    /// A relay to `server`; each direction has the link, and its own seed from `seed`.
    pub(crate) fn start(server: SocketAddr, link: Link, seed: u64) -> Result<Self> {
        let front = Arc::new(bind().context("open a socket for the link")?);
        let address = front.local_addr()?;
        let ([forth, back], [to_server, to_clients]) = {
            let (a, b) = (channel(), channel());
            ([a.0, b.0], [a.1, b.1])
        };
        let direction = |queue, seed| Mutex::new(Direction { line: Line::new(link, seed), queue });
        let shared = Arc::new(Shared {
            began: Instant::now(),
            stop: AtomicBool::new(false),
            forth: direction(forth, 2 * seed),
            back: direction(back, 2 * seed + 1),
        });
        let mut threads = Vec::new();
        for packets in [to_server, to_clients] {
            let shared = Arc::clone(&shared);
            threads.push(thread::spawn(move || send(&shared, &packets)));
        }
        let theirs = Arc::clone(&shared);
        threads.push(thread::spawn(move || receive(&theirs, &front, server)));
        Ok(Self { address, shared, threads })
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What went towards the server, and what came from it.
    pub(crate) fn counters(&self) -> [Counters; 2] {
        [&self.shared.forth, &self.shared.back].map(|it| locked(it).line.counters())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn ended(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Hands a datagram to a direction.
    fn pass(
        &self,
        direction: &Mutex<Direction>,
        bytes: &[u8],
        socket: &Arc<UdpSocket>,
        to: Option<SocketAddr>,
    ) {
        let mut direction = locked(direction);
        if let Some(due) = direction.line.offer(self.now(), bytes.len()) {
            let packet = Packet { due, bytes: bytes.to_vec(), socket: Arc::clone(socket), to };
            // Nobody sends any more once the relay ends.
            let _ = direction.queue.send(packet);
        }
    }
}

/// Sends what is due, in order.
fn send(shared: &Shared, packets: &Receiver<Packet>) {
    while !shared.ended() {
        let Ok(packet) = packets.recv_timeout(LOOK) else { continue };
        let early = packet.due - shared.now();
        if early > 0.0 {
            thread::sleep(Duration::from_secs_f64(early));
        }
        // As on any link, what cannot be sent is lost.
        let _ = match packet.to {
            None => packet.socket.send(&packet.bytes),
            Some(to) => packet.socket.send_to(&packet.bytes, to),
        };
    }
}

/// Receives from clients; each has a socket of its own to the server.
fn receive(shared: &Arc<Shared>, front: &Arc<UdpSocket>, server: SocketAddr) {
    let mut sides: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut answers = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while !shared.ended() {
        let Ok((len, client)) = front.recv_from(&mut buffer) else { continue };
        let side = match sides.entry(client) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let Ok(side) = bind().and_then(|side| side.connect(server).map(|()| side)) else {
                    continue;
                };
                let side = new.insert(Arc::new(side));
                let (shared, front) = (Arc::clone(shared), Arc::clone(front));
                let own = Arc::clone(side);
                answers.push(thread::spawn(move || answer(&shared, &own, &front, client)));
                side
            }
        };
        shared.pass(&shared.forth, &buffer[..len], side, None);
    }
    for thread in answers {
        let _ = thread.join();
    }
}

/// Receives the server's answers to one client.
fn answer(shared: &Shared, side: &UdpSocket, front: &Arc<UdpSocket>, client: SocketAddr) {
    let mut buffer = vec![0; 1 << 16];
    while !shared.ended() {
        // An error says that the server is gone, or only that nothing came.
        let Ok(len) = side.recv(&mut buffer) else { continue };
        shared.pass(&shared.back, &buffer[..len], front, Some(client));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_go_there_and_back_in_order_after_the_delay() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a server");
        let link = Link { rate_bps: 1e9, delay_s: 0.02, queue_s: 1.0, loss: 0.0, mtu: 1500 };
        let address = server.local_addr().expect("its address");
        let relay = Relay::start(address, link, 1).expect("a relay");
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a client");
        client.connect(relay.address()).expect("connected");
        let began = Instant::now();
        for number in 0..10_u8 {
            client.send(&[number; 1000]).expect("sent");
        }
        client.send(&[0; 1473]).expect("sent, and too large for the link");
        let mut buffer = [0; 2000];
        for number in 0..10_u8 {
            let (len, from) = server.recv_from(&mut buffer).expect("it arrives");
            assert_eq!(&buffer[..len], [number; 1000]);
            server.send_to(&buffer[..len], from).expect("sent back");
        }
        for number in 0..10_u8 {
            let len = client.recv(&mut buffer).expect("it comes back");
            assert_eq!(&buffer[..len], [number; 1000]);
        }
        assert!(began.elapsed() >= Duration::from_millis(40));
        let [there, back] = relay.counters();
        assert_eq!((there.passed_bytes, back.passed_bytes), (10_280, 10_280));
        assert_eq!(there.offered_bytes, 10_280);
    }
}
