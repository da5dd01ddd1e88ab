//! Flows over one bottleneck, in virtual time: what quinn does with a controller, packet by packet.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use super::super::Bbr;
use super::super::Past;
use super::cubic::Cubic;

/// How long nothing may be heard, in nanoseconds.
const PROBE_TIMEOUT: u64 = 400_000_000;

/// The bottleneck and the way back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// Bytes per second.
    pub(super) rate: f64,
    /// Bytes that may wait in front of it; what comes then is dropped.
    pub(super) buffer: u64,
    /// Round trip without a queue.
    pub(super) rtt: Duration,
    /// Share of the packets that is lost before the queue.
    pub(super) loss: f64,
    /// Share of the packets that is a quarter of a round trip late.
    pub(super) late: f64,
    /// Packets that a receiver acknowledges together.
    pub(super) ack_every: u64,
    /// A receiver looks for packets this often.
    pub(super) tick: Duration,
    /// Size of a packet.
    pub(super) mtu: u16,
}

impl Link {
    /// A link of `mbit` Mb/s and `rtt_ms`, with one bandwidth-delay product of buffer.
    pub(super) fn new(mbit: u64, rtt_ms: u64) -> Self {
        let rate = mbit as f64 * 125_000.0;
        Self {
            rate,
            buffer: (rate * rtt_ms as f64 / 1000.0) as u64,
            rtt: Duration::from_millis(rtt_ms),
            loss: 0.0,
            late: 0.0,
            ack_every: 2,
            tick: Duration::from_micros(100),
            mtu: 1452,
        }
    }

    /// The bandwidth-delay product, in bytes.
    pub(super) fn product(&self) -> u64 {
        (self.rate * self.rtt.as_secs_f64()) as u64
    }
}

/// A controller under test, or one beside it.
pub(super) enum Control {
    Bbr(Box<Bbr>),
    Cubic(Cubic),
}

impl Control {
    fn window(&self) -> u64 {
        match self {
            Self::Bbr(bbr) => bbr.window_now(),
            Self::Cubic(cubic) => cubic.window(),
        }
    }

    fn on_sent(&mut self, now: Instant, bytes: u64) {
        if let Self::Bbr(bbr) = self {
            bbr.on_burst(now, bytes);
        }
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64) {
        match self {
            Self::Bbr(bbr) => bbr.delivery.on_ack(now, sent, bytes),
            Self::Cubic(cubic) => cubic.on_ack(now, sent, bytes),
        }
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool) {
        if let Self::Bbr(bbr) = self {
            bbr.on_acks(now, in_flight, app_limited);
        }
    }

    fn on_loss(&mut self, now: Instant, sent: Instant, bytes: u64) {
        match self {
            Self::Bbr(bbr) => bbr.on_loss(now, sent, bytes),
            Self::Cubic(cubic) => cubic.on_loss(now, sent),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Flying,
    Acked,
    Lost,
}

/// What a flow did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) sent: u64,
    /// Bytes that arrived, each once.
    pub(super) arrived: u64,
    pub(super) lost: u64,
    /// When the last of them arrived.
    pub(super) last: Duration,
}

/// One sender and its receiver.
pub(super) struct Flow {
    pub(super) control: Control,
    pub(super) counts: Counts,
    /// How many bytes it has to send.
    pub(super) bytes: u64,
    /// Bytes per second that the application gives, if that is a limit, and the bytes it had given
    /// before that, and when it began.
    pub(super) app_rate: Option<f64>,
    pub(super) app_given: (u64, Duration),
    app_limited: bool,
    /// Packets since the oldest one without an answer.
    flight: VecDeque<(Instant, State)>,
    first: u64,
    in_flight: u64,
    largest_acked: Option<u64>,
    srtt: Option<f64>,
    tokens: f64,
    tokens_at: Instant,
    wake: Option<u64>,
    heard: u64,
    /// What the receiver has not acknowledged.
    unacked: Vec<u64>,
    ack_timer: bool,
    probe_timer: bool,
}

impl Flow {
    pub(super) fn new(control: Control, begin: Duration, bytes: u64, now: Instant) -> Self {
        Self {
            control,
            counts: Counts::default(),
            bytes,
            app_rate: None,
            app_given: (0, begin),
            app_limited: false,
            flight: VecDeque::new(),
            first: 0,
            in_flight: 0,
            largest_acked: None,
            srtt: None,
            tokens: 1e9,
            tokens_at: now,
            wake: None,
            heard: 0,
            unacked: Vec::new(),
            ack_timer: false,
            probe_timer: false,
        }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake(usize),
    Arrive(usize, u64),
    AckTimer(usize),
    Ack(usize, Vec<u64>),
    Probe(usize, u64),
}

/// The simulation.
pub(super) struct Sim {
    pub(super) link: Link,
    pub(super) flows: Vec<Flow>,
    /// Most bytes that waited in the queue since this was set to zero.
    pub(super) queue_max: u64,
    base: Instant,
    now: u64,
    order: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    line_free_at: f64,
    dice: u64,
}

impl Sim {
    pub(super) fn new(link: Link, seed: u64) -> Self {
        Self {
            link,
            flows: Vec::new(),
            queue_max: 0,
            base: Instant::now(),
            now: 0,
            order: 0,
            events: BinaryHeap::new(),
            line_free_at: 0.0,
            dice: seed,
        }
    }

    /// Adds a flow of BBR that begins after `begin_ms` and has `bytes` to send.
    pub(super) fn bbr(&mut self, begin_ms: u64, bytes: u64) -> usize {
        let begin = Duration::from_millis(begin_ms);
        let seed = self.dice ^ (self.flows.len() as u64 + 1);
        let bbr = Bbr::new(self.base + begin, self.link.mtu, seed);
        self.add(Control::Bbr(Box::new(bbr)), begin, bytes)
    }

    /// Adds a flow of BBR that begins at once and knows what an earlier one found.
    pub(super) fn bbr_after(&mut self, past: Past, bytes: u64) -> usize {
        let bbr = Bbr::new(self.base, self.link.mtu, self.dice ^ 1).after(Some(past));
        self.add(Control::Bbr(Box::new(bbr)), Duration::ZERO, bytes)
    }

    /// Adds a flow of CUBIC.
    pub(super) fn cubic(&mut self, begin_ms: u64, bytes: u64) -> usize {
        let begin = Duration::from_millis(begin_ms);
        self.add(Control::Cubic(Cubic::new(self.link.mtu)), begin, bytes)
    }

    fn add(&mut self, control: Control, begin: Duration, bytes: u64) -> usize {
        self.flows.push(Flow::new(control, begin, bytes, self.base + begin));
        let index = self.flows.len() - 1;
        self.at(begin.as_nanos() as u64, Event::Wake(index));
        self.flows[index].wake = Some(begin.as_nanos() as u64);
        index
    }

    pub(super) fn model(&self, flow: usize) -> &Bbr {
        match &self.flows[flow].control {
            Control::Bbr(bbr) => bbr,
            Control::Cubic(_) => panic!("flow {flow} is not one of BBR"),
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((time, self.order, event)));
    }

    fn instant(&self) -> Instant {
        self.base + Duration::from_nanos(self.now)
    }

    /// A random number from 0 to 1 (`SplitMix64`).
    fn chance(&mut self) -> f64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Runs until `until`, or until everything arrived.
    pub(super) fn run(&mut self, until: Duration) {
        let until = until.as_nanos() as u64;
        while let Some(Reverse((time, _, _))) = self.events.peek()
            && *time <= until
            && self.flows.iter().any(|f| f.counts.arrived < f.bytes)
        {
            let Some(Reverse((time, _, event))) = self.events.pop() else { return };
            self.now = time;
            match event {
                Event::Wake(flow) => {
                    if self.flows[flow].wake == Some(time) {
                        self.flows[flow].wake = None;
                        self.send(flow);
                    }
                }
                Event::Arrive(flow, packet) => self.arrive(flow, packet),
                Event::AckTimer(flow) => {
                    self.flows[flow].ack_timer = false;
                    self.acknowledge(flow);
                }
                Event::Ack(flow, packets) => self.acked(flow, &packets),
                Event::Probe(flow, heard) => self.probe(flow, heard),
            }
        }
    }

    /// Sends what window, pacer and application allow, in bursts, as quinn does.
    fn send(&mut self, flow: usize) {
        let (now, mtu) = (self.instant(), u64::from(self.link.mtu));
        let mut burst = 0;
        loop {
            let f = &mut self.flows[flow];
            let window = f.control.window();
            let left = f.bytes.saturating_sub(f.counts.sent - f.counts.lost);
            let given = f.app_rate.map_or(u64::MAX, |rate| {
                let (before, since) = f.app_given;
                before + (rate * (now - self.base).saturating_sub(since).as_secs_f64()) as u64
            });
            let idle = left == 0 || f.counts.sent - f.counts.lost + mtu > given;
            let blocked = f.in_flight + mtu >= window;
            let srtt = f.srtt.unwrap_or(0.1);
            let capacity =
                (window as f64 * 0.002 / srtt).clamp(10.0 * mtu as f64, 256.0 * mtu as f64);
            f.tokens = f.tokens.min(capacity);
            if f.tokens < mtu as f64 {
                let elapsed = (now - f.tokens_at).as_secs_f64();
                f.tokens = (f.tokens + window as f64 * 1.25 * elapsed / srtt).min(capacity);
                f.tokens_at = now;
            }
            let paced = f.tokens < mtu as f64;
            if burst > 0 && (burst == 10 * mtu || idle || blocked || paced) {
                f.control.on_sent(now, burst);
                burst = 0;
            }
            if idle {
                f.app_limited = true;
                if left > 0 {
                    self.wake(flow, self.now + 1_000_000);
                }
                return;
            }
            f.app_limited = false;
            if blocked {
                return;
            }
            if paced {
                let wait = (capacity - f.tokens) * srtt / window as f64 * 0.8;
                self.wake(flow, self.now + (wait * 1e9) as u64 + 1);
                return;
            }
            f.tokens -= mtu as f64;
            burst += mtu;
            self.transmit(flow);
        }
    }

    fn wake(&mut self, flow: usize, time: u64) {
        if self.flows[flow].wake.is_none_or(|earlier| earlier > time || earlier < self.now) {
            self.flows[flow].wake = Some(time);
            self.at(time, Event::Wake(flow));
        }
    }

    fn transmit(&mut self, flow: usize) {
        let (now, mtu, link) = (self.instant(), u64::from(self.link.mtu), self.link);
        let f = &mut self.flows[flow];
        f.flight.push_back((now, State::Flying));
        let packet = f.first + f.flight.len() as u64 - 1;
        f.in_flight += mtu;
        f.counts.sent += mtu;
        let heard = f.heard;
        if !std::mem::replace(&mut f.probe_timer, true) {
            self.at(self.now + PROBE_TIMEOUT, Event::Probe(flow, heard));
        }
        if self.chance() < link.loss {
            return;
        }
        let start = self.line_free_at.max(self.now as f64);
        let queue = ((start - self.now as f64) * link.rate / 1e9) as u64;
        if queue + mtu > link.buffer {
            return;
        }
        self.queue_max = self.queue_max.max(queue);
        self.line_free_at = start + mtu as f64 / link.rate * 1e9;
        let late = if link.late > 0.0 && self.chance() < link.late {
            link.rtt / 4
        } else {
            Duration::ZERO
        };
        let there = self.line_free_at as u64 + (link.rtt / 2 + late).as_nanos() as u64;
        let tick = (link.tick.as_nanos() as u64).max(1);
        self.at(there.div_ceil(tick) * tick, Event::Arrive(flow, packet));
    }

    fn arrive(&mut self, flow: usize, packet: u64) {
        let every = self.link.ack_every;
        let f = &mut self.flows[flow];
        f.counts.arrived += u64::from(self.link.mtu);
        f.counts.last = Duration::from_nanos(self.now);
        let gap = f.unacked.last().is_some_and(|last| packet != last + 1);
        f.unacked.push(packet);
        if f.unacked.len() as u64 >= every || gap {
            self.acknowledge(flow);
        } else if !f.ack_timer {
            f.ack_timer = true;
            self.at(self.now + 25_000_000, Event::AckTimer(flow));
        }
    }

    fn acknowledge(&mut self, flow: usize) {
        let packets = std::mem::take(&mut self.flows[flow].unacked);
        if !packets.is_empty() {
            let back = (self.link.rtt / 2).as_nanos() as u64;
            self.at(self.now + back, Event::Ack(flow, packets));
        }
    }

    fn acked(&mut self, flow: usize, packets: &[u64]) {
        let (now, mtu) = (self.instant(), u64::from(self.link.mtu));
        let f = &mut self.flows[flow];
        f.heard += 1;
        let newest = packets.iter().max().copied();
        let mut rtt = None;
        for &packet in packets {
            let Some(at) = packet.checked_sub(f.first) else { continue };
            let Some((sent, state)) = f.flight.get_mut(at as usize) else { continue };
            if *state != State::Flying {
                // It was given up too early: it arrived, and so will what was sent in its place.
                f.counts.arrived -= mtu;
                continue;
            }
            *state = State::Acked;
            f.in_flight -= mtu;
            f.control.on_ack(now, *sent, mtu);
            if newest > f.largest_acked && Some(packet) == newest {
                rtt = Some((now - *sent).as_secs_f64());
            }
        }
        f.largest_acked = f.largest_acked.max(newest);
        f.control.on_end_acks(now, f.in_flight, f.app_limited);
        if let Some(rtt) = rtt {
            f.srtt = Some(f.srtt.map_or(rtt, |srtt| srtt + (rtt - srtt) / 8.0));
        }
        self.detect_losses(flow, rtt.unwrap_or(0.0));
        self.send(flow);
    }

    /// Packets three behind the newest one acknowledged, or 9/8 of a round trip old, are lost
    /// (RFC 9002, section 6.1).
    fn detect_losses(&mut self, flow: usize, rtt: f64) {
        let (now, mtu) = (self.instant(), u64::from(self.link.mtu));
        let f = &mut self.flows[flow];
        let Some(largest) = f.largest_acked else { return };
        let old = Duration::from_secs_f64(f.srtt.unwrap_or(0.33).max(rtt) * 9.0 / 8.0);
        let (mut lost, mut last) = (0, None);
        for (index, (sent, state)) in f.flight.iter_mut().enumerate() {
            let packet = f.first + index as u64;
            if packet + 3 > largest && (packet >= largest || now - *sent < old) {
                break;
            }
            if *state == State::Flying {
                *state = State::Lost;
                lost += mtu;
                last = Some(*sent);
            }
        }
        while f.flight.front().is_some_and(|(_, state)| *state != State::Flying) {
            f.flight.pop_front();
            f.first += 1;
        }
        if let Some(last) = last {
            f.in_flight -= lost;
            f.counts.lost += lost;
            f.control.on_loss(now, last, lost);
        }
    }

    /// Where nothing was heard for long, a packet is sent whatever the window says.
    fn probe(&mut self, flow: usize, heard: u64) {
        let f = &mut self.flows[flow];
        f.probe_timer = f.in_flight > 0;
        if f.in_flight == 0 {
            return;
        }
        let now_heard = f.heard;
        if now_heard == heard {
            let (now, mtu) = (self.instant(), u64::from(self.link.mtu));
            self.transmit(flow);
            self.flows[flow].control.on_sent(now, mtu);
        }
        self.at(self.now + PROBE_TIMEOUT, Event::Probe(flow, now_heard));
    }
}
