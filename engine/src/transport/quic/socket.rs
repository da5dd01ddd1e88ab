//! A UDP socket that counts its payload and never hands the kernel more than one send can carry.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Notify;

use super::gather::{Gathers, Waiting, is_full, send_late};

/// Most payload that one UDP send carries over IPv4, in bytes, segments included.
const SEND_BYTES_MAX: usize = 65_507;
/// Most segments the kernel cuts one send into (`UDP_MAX_SEGMENTS` of older kernels).
const SEGMENTS_MAX: usize = 64;

/// What crossed one socket.
#[derive(Debug, Default)]
pub(super) struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    datagrams_sent: AtomicU64,
    datagrams_received: AtomicU64,
}

impl Counters {
    /// UDP payload bytes sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// UDP payload bytes received.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Datagrams sent, and received.
    pub(super) fn datagrams(&self) -> (u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.datagrams_sent), of(&self.datagrams_received))
    }
}

/// How many datagrams of `segment` bytes `len` bytes are.
fn datagrams(len: usize, segment: usize) -> u64 {
    len.div_ceil(segment.max(1)) as u64
}

/// Kernel buffers of a socket, as the system granted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketBuffers {
    /// What was asked for, in bytes and each direction.
    pub asked: usize,
    /// What holds received datagrams, in bytes.
    pub receive: usize,
    /// What holds datagrams to send, in bytes.
    pub send: usize,
}

/// An open socket with its counters and buffers.
pub(super) struct Opened {
    pub(super) socket: Arc<dyn AsyncUdpSocket>,
    pub(super) counters: Arc<Counters>,
    pub(super) buffers: SocketBuffers,
}

/// Opens a UDP socket on `address` whose datagrams have at most `mtu_max` bytes of payload.
pub(super) fn open(address: SocketAddr, buffer_bytes: usize, mtu_max: u16) -> io::Result<Opened> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // Without it, a wildcard address may serve IPv6 alone; systems that refuse do just that.
        let _ = socket.set_only_v6(false);
    }
    // The system clamps these to its own limits; what it granted is read back.
    let _ = socket.set_recv_buffer_size(buffer_bytes);
    let _ = socket.set_send_buffer_size(buffer_bytes);
    // Linux reports twice the size, of which half is its own bookkeeping (socket(7)).
    let buffers = SocketBuffers {
        asked: buffer_bytes,
        receive: socket.recv_buffer_size().unwrap_or(0) / 2,
        send: socket.send_buffer_size().unwrap_or(0) / 2,
    };
    socket.bind(&address.into())?;
    let inner = TokioRuntime.wrap_udp_socket(socket.into())?;
    let counters = Arc::new(Counters::default());
    let socket = Arc::new(Metered {
        // One kernel read returns at most 64 KiB, so no more room than that is of use.
        receive_segments: inner
            .max_receive_segments()
            .min(usize::from(u16::MAX).div_ceil(usize::from(mtu_max.max(1472)))),
        inner,
        counters: Arc::clone(&counters),
        segments: AtomicUsize::new(SEGMENTS_MAX),
        waiting: Mutex::default(),
        waits: Arc::default(),
    });
    tokio::spawn(send_late(Arc::downgrade(&socket), Arc::clone(&socket.waits)));
    Ok(Opened { socket, counters, buffers })
}

/// How many segments of `bytes` each fit one send.
fn segments_that_fit(bytes: usize) -> usize {
    (SEND_BYTES_MAX / bytes.max(1)).clamp(1, SEGMENTS_MAX)
}

/// quinn hands over up to ten segments whatever their size, and the kernel refuses a send above
/// 65,507 bytes. The refusal looks like loss and throws the path MTU back to 1200 bytes.
#[derive(Debug)]
struct Metered {
    inner: Arc<dyn AsyncUdpSocket>,
    counters: Arc<Counters>,
    /// Segments that fit one send at the segment size last seen.
    segments: AtomicUsize,
    receive_segments: usize,
    waiting: Mutex<Waiting>,
    /// Something waits.
    waits: Arc<Notify>,
}

impl Metered {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send_one(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)?;
        let len = transmit.contents.len();
        let count = datagrams(len, transmit.segment_size.unwrap_or(len));
        self.counters.sent.fetch_add(len as u64, Ordering::Relaxed);
        self.counters.datagrams_sent.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }
}

impl AsyncUdpSocket for Metered {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut waiting = self.waiting();
        let Some(size) = transmit.segment_size else {
            waiting.send(|waiting| self.send_one(waiting))?;
            return self.send_one(transmit);
        };
        let fit = segments_that_fit(size);
        self.segments.store(fit, Ordering::Relaxed);
        let most = fit.min(self.inner.max_transmit_segments()) * size;
        if !waiting.takes(transmit, size, most) {
            waiting.send(|waiting| self.send_one(waiting))?;
        }
        if waiting.keeps(transmit, size, most) {
            waiting.add(transmit, size);
            self.waits.notify_one();
            return Ok(());
        }
        if !waiting.is_empty() {
            waiting.add(transmit, size);
            let sent = waiting.send(|waiting| self.send_one(waiting));
            if is_full(&sent) {
                // It is taken over, and goes when there is room.
                self.waits.notify_one();
                return Ok(());
            }
            return sent;
        }
        // The MTU may have grown, or differ between connections, since quinn asked for the
        // number of segments: such a send goes in parts. Should a later part have to wait, quinn
        // sends all of it again, and the peer drops what it saw twice.
        for contents in transmit.contents.chunks(fit * size) {
            self.send_one(&Transmit {
                contents,
                segment_size: (contents.len() > size).then_some(size),
                ..*transmit
            })?;
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let polled = self.inner.poll_recv(cx, buffers, metas);
        if let Poll::Ready(Ok(count)) = &polled {
            let metas = &metas[..*count];
            let bytes: usize = metas.iter().map(|meta| meta.len).sum();
            let count = metas.iter().map(|meta| datagrams(meta.len, meta.stride)).sum();
            self.counters.received.fetch_add(bytes as u64, Ordering::Relaxed);
            self.counters.datagrams_received.fetch_add(count, Ordering::Relaxed);
        }
        polled
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments().min(self.segments.load(Ordering::Relaxed))
    }

    fn max_receive_segments(&self) -> usize {
        self.receive_segments
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl Gathers for Metered {
    fn send_waiting(&self) -> io::Result<()> {
        self.waiting().send(|waiting| self.send_one(waiting))
    }

    fn room(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.create_io_poller()
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.waits.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_never_exceeds_what_the_kernel_takes() {
        assert_eq!(segments_that_fit(8952), 7);
        assert_eq!(segments_that_fit(1452), 45);
        assert_eq!(segments_that_fit(65_507), 1);
        for size in 1..=SEND_BYTES_MAX {
            assert!(segments_that_fit(size) * size <= SEND_BYTES_MAX, "{size}");
        }
    }

    #[tokio::test]
    async fn a_batch_above_the_limit_arrives_whole() {
        let home = SocketAddr::from(([127, 0, 0, 1], 0));
        let receiver = tokio::net::UdpSocket::bind(home).await.expect("bind");
        let opened = open(home, 1 << 20, 8952).expect("open");
        let contents: Vec<u8> = (0..8 * 8952_usize).map(|i| (i / 8952) as u8).collect();
        let transmit = Transmit {
            destination: receiver.local_addr().expect("address"),
            ecn: None,
            contents: &contents,
            segment_size: Some(8952),
            src_ip: None,
        };
        let mut poller = Arc::clone(&opened.socket).create_io_poller();
        std::future::poll_fn(|cx| poller.as_mut().poll_writable(cx)).await.expect("writable");
        opened.socket.try_send(&transmit).expect("sent");
        let mut buffer = vec![0; 65_536];
        for index in 0..8_u8 {
            let len = receiver.recv(&mut buffer).await.expect("a datagram");
            assert_eq!((len, buffer[0]), (8952, index));
        }
        assert_eq!(opened.counters.sent(), 8 * 8952);
        assert_eq!(opened.counters.datagrams(), (8, 0));
    }

    /// Batches of ten segments of 1,000 bytes; each segment is full of its number.
    fn batches(numbers: std::ops::Range<u8>) -> Vec<u8> {
        numbers.flat_map(|number| [number; 1000]).collect()
    }

    #[tokio::test]
    async fn batches_of_a_flight_wait_for_each_other_and_arrive_in_order() {
        let home = SocketAddr::from(([127, 0, 0, 1], 0));
        let receiver = tokio::net::UdpSocket::bind(home).await.expect("bind");
        let other = tokio::net::UdpSocket::bind(home).await.expect("bind");
        let opened = open(home, 1 << 20, 8952).expect("open");
        let mut poller = Arc::clone(&opened.socket).create_io_poller();
        std::future::poll_fn(|cx| poller.as_mut().poll_writable(cx)).await.expect("writable");
        let send = |to: &tokio::net::UdpSocket, contents: &[u8], segment_size| {
            let destination = to.local_addr().expect("address");
            let transmit =
                Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
            opened.socket.try_send(&transmit).expect("sent");
        };
        let sent = || opened.counters.datagrams().0;
        send(&receiver, &batches(0..10), Some(1000));
        send(&receiver, &batches(10..20), Some(1000));
        assert_eq!(sent(), 0, "more may come");
        send(&receiver, &batches(20..23), Some(1000));
        assert_eq!(sent(), 23, "a short batch ends a flight");
        // As many as the kernel takes go at once, and another flight or a single datagram ends one.
        (0..6).for_each(|_| send(&receiver, &batches(23..33), Some(1000)));
        assert_eq!(sent(), 23 + 60);
        send(&receiver, &batches(33..43), Some(1000));
        send(&other, &batches(0..10), Some(1000));
        assert_eq!(sent(), 83 + 10);
        send(&other, &[7; 50], None);
        assert_eq!(sent(), 93 + 11);
        // Nothing more comes: it does not wait for ever.
        send(&receiver, &batches(43..53), Some(1000));
        let mut buffer = vec![0; 65_536];
        let expected = (0..23).chain((0..6).flat_map(|_| 23..33)).chain(33..53);
        for number in expected {
            let len = receiver.recv(&mut buffer).await.expect("a datagram");
            assert_eq!((len, buffer[0]), (1000, number));
        }
        assert_eq!(sent(), 114);
    }
}
