//! What the controller reaches over simulated links, and its parts one by one.
//!
//! Goodput here is of packets without headers; of a link that counts bytes of IP, payload is 0.96.
//! Links are a fifth as fast as those of the targets, with transfers a fifth as large: what counts
//! is the number of round trips.

mod cubic;
mod link;
mod parts;

use std::time::Duration;

use super::phase::Phase;
use link::{Link, Sim};

/// What a flow sends that is watched for a time.
const ENDLESS: u64 = 1 << 50;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Share of the link that was payload, and bytes sent for each byte that arrived.
fn transfer(link: Link, bytes: u64, seed: u64) -> (f64, f64) {
    let mut sim = Sim::new(link, seed);
    let flow = sim.bbr(0, bytes);
    sim.run(seconds(600));
    let counts = sim.flows[flow].counts;
    assert!(counts.arrived >= bytes, "seed {seed}: {counts:?}");
    let goodput = counts.arrived as f64 / counts.last.as_secs_f64() / link.rate;
    (goodput, counts.sent as f64 / counts.arrived as f64)
}

/// What arrived of each flow from `from` to `until`, in shares of the link.
fn shares(sim: &mut Sim, from: Duration, until: Duration) -> Vec<f64> {
    sim.run(from);
    let before: Vec<u64> = sim.flows.iter().map(|flow| flow.counts.arrived).collect();
    sim.run(until);
    let whole = sim.link.rate * until.saturating_sub(from).as_secs_f64();
    let arrived = sim.flows.iter().zip(before).map(|(flow, b)| flow.counts.arrived - b);
    arrived.map(|bytes| bytes as f64 / whole).collect()
}

/// Jain's index of fairness: 1 where all have the same, 1/n where one has everything.
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / squares / shares.len() as f64
}

#[test]
fn a_long_path_is_used_and_little_is_sent_twice_whatever_is_lost_at_random() {
    for (loss, goodput_min, sent_max) in
        [(0.0, 0.945, 1.01), (0.001, 0.94, 1.01), (0.01, 0.92, 1.03)]
    {
        for seed in [1, 2] {
            let link = Link { loss, ..Link::new(200, 50) };
            let (goodput, sent) = transfer(link, 430 << 20, seed);
            assert!(goodput >= goodput_min, "loss {loss}, seed {seed}: goodput {goodput:.3}");
            assert!(sent <= sent_max, "loss {loss}, seed {seed}: sent {sent:.3} times");
        }
    }
}

#[test]
fn a_short_transfer_has_its_start_behind_it_soon() {
    for loss in [0.0, 0.001, 0.01] {
        let (goodput, sent) = transfer(Link { loss, ..Link::new(200, 50) }, 107 << 20, 3);
        assert!(goodput >= 0.89, "loss {loss}: goodput {goodput:.3}");
        assert!(sent <= 1.04, "loss {loss}: sent {sent:.3} times");
    }
}

#[test]
fn a_buffer_of_any_depth_will_do() {
    for (products, goodput_min) in [(0.1, 0.80), (0.5, 0.93), (2.0, 0.93), (8.0, 0.93)] {
        let mut link = Link::new(200, 50);
        link.buffer = (link.buffer as f64 * products) as u64;
        let (goodput, sent) = transfer(link, 200 << 20, 4);
        assert!(goodput >= goodput_min, "{products} products: goodput {goodput:.3}");
        assert!(sent <= 1.03, "{products} products: sent {sent:.3} times");
    }
}

#[test]
fn a_deep_buffer_is_not_filled() {
    let mut link = Link::new(200, 50);
    link.buffer *= 20;
    let mut sim = Sim::new(link, 5);
    sim.bbr(0, ENDLESS);
    sim.run(seconds(2));
    assert!(sim.queue_max < link.product() * 3 / 2, "in start-up: {}", sim.queue_max);
    sim.queue_max = 0;
    sim.run(seconds(20));
    assert!(sim.queue_max < link.product() / 2, "while probing: {}", sim.queue_max);
}

#[test]
fn acknowledgements_that_gather_do_not_slow_it() {
    for (ack_every, tick_ms) in [(2, 5), (40, 2), (100, 10)] {
        let link = Link { ack_every, tick: Duration::from_millis(tick_ms), ..Link::new(200, 50) };
        let (goodput, sent) = transfer(link, 200 << 20, 6);
        assert!(goodput >= 0.90, "{ack_every} in {tick_ms} ms: goodput {goodput:.3}");
        assert!(sent <= 1.03, "{ack_every} in {tick_ms} ms: sent {sent:.3} times");
    }
}

#[test]
fn packets_that_come_late_do_not_stop_it() {
    let (goodput, _) = transfer(Link { late: 0.005, ..Link::new(200, 50) }, 200 << 20, 7);
    assert!(goodput >= 0.85, "goodput {goodput:.3}");
}

#[test]
fn slow_and_short_paths_are_used_too() {
    for (mbit, rtt_ms, bytes) in [(2, 100, 5 << 20), (100, 2, 100 << 20), (10, 300, 30 << 20)] {
        let (goodput, sent) = transfer(Link::new(mbit, rtt_ms), bytes, 8);
        assert!(goodput >= 0.84, "{mbit} Mb/s, {rtt_ms} ms: goodput {goodput:.3}");
        assert!(sent <= 1.06, "{mbit} Mb/s, {rtt_ms} ms: sent {sent:.3} times");
    }
}

#[test]
fn two_flows_share_a_link() {
    for (products, later_ms, seed) in
        [(0.5, 0, 1), (0.5, 5000, 2), (1.0, 0, 3), (1.0, 5000, 4), (2.0, 5000, 5)]
    {
        let mut link = Link::new(100, 50);
        link.buffer = (link.buffer as f64 * products) as u64;
        let mut sim = Sim::new(link, seed);
        sim.bbr(0, ENDLESS);
        sim.bbr(later_ms, ENDLESS);
        let shares = shares(&mut sim, seconds(15), seconds(45));
        let index = jain(&shares);
        assert!(index >= 0.9, "{products} products, {later_ms} ms later: {shares:.2?}, {index:.3}");
    }
}

/// A third of what a second flow of CUBIC would leave to the first, half of the link.
#[test]
fn cubic_beside_it_keeps_a_third_of_its_share_and_so_does_it_beside_cubic() {
    for (products, seed) in [(0.5, 1), (1.0, 2), (2.0, 3)] {
        for cubic_first in [true, false] {
            let mut link = Link::new(100, 50);
            link.buffer = (link.buffer as f64 * products) as u64;
            let mut sim = Sim::new(link, seed);
            if cubic_first {
                sim.cubic(0, ENDLESS);
                sim.bbr(3000, ENDLESS);
            } else {
                sim.bbr(0, ENDLESS);
                sim.cubic(3000, ENDLESS);
            }
            let shares = shares(&mut sim, seconds(15), seconds(45));
            let least = shares.iter().copied().fold(1.0, f64::min);
            assert!(least >= 1.0 / 6.0, "{products} products, {cubic_first}: {shares:.2?}");
        }
    }
}

#[test]
fn a_link_that_becomes_slower_is_followed() {
    let mut sim = Sim::new(Link::new(200, 50), 9);
    let flow = sim.bbr(0, ENDLESS);
    sim.run(seconds(8));
    sim.link.rate /= 4.0;
    sim.link.buffer /= 4;
    let share = shares(&mut sim, seconds(14), seconds(24))[0];
    assert!(share >= 0.9, "share {share:.3}");
    let bw = sim.model(flow).bw();
    assert!(bw < 1.3 * sim.link.rate, "bandwidth {bw} of {}", sim.link.rate);
    let lost = sim.flows[flow].counts.lost as f64 / sim.flows[flow].counts.sent as f64;
    assert!(lost < 0.15, "lost {lost:.3}");
}

#[test]
fn a_link_that_becomes_faster_is_followed() {
    let mut sim = Sim::new(Link::new(50, 50), 10);
    sim.bbr(0, ENDLESS);
    sim.run(seconds(8));
    sim.link.rate *= 4.0;
    sim.link.buffer *= 4;
    let share = shares(&mut sim, seconds(18), seconds(28))[0];
    assert!(share >= 0.9, "share {share:.3}");
}

#[test]
fn a_path_that_becomes_longer_or_shorter_is_followed() {
    for (before_ms, after_ms) in [(50, 100), (100, 50)] {
        let mut sim = Sim::new(Link::new(100, before_ms), 11);
        let flow = sim.bbr(0, ENDLESS);
        sim.run(seconds(8));
        sim.link.rtt = Duration::from_millis(after_ms);
        let share = shares(&mut sim, seconds(25), seconds(35))[0];
        assert!(share >= 0.9, "{before_ms} to {after_ms} ms: share {share:.3}");
        let rtt = sim.model(flow).min_rtt.get();
        let real = Duration::from_millis(after_ms);
        assert!(rtt >= real && rtt < real * 11 / 10, "{before_ms} to {after_ms} ms: {rtt:?}");
    }
}

#[test]
fn an_application_that_gives_little_is_not_taken_for_a_slow_link() {
    let mut sim = Sim::new(Link::new(100, 50), 12);
    let flow = sim.bbr(0, ENDLESS);
    sim.run(seconds(3));
    sim.flows[flow].app_rate = Some(sim.link.rate / 5.0);
    sim.flows[flow].app_given = (sim.flows[flow].counts.arrived, seconds(3));
    let share = shares(&mut sim, seconds(4), seconds(15))[0];
    assert!((0.19..0.21).contains(&share), "all that was given: {share:.3}");
    sim.flows[flow].app_rate = None;
    let share = shares(&mut sim, seconds(15), seconds(17))[0];
    assert!(share >= 0.85, "at once, when there is more: {share:.3}");
}

#[test]
fn a_link_that_was_cut_for_a_while_is_used_again() {
    let mut sim = Sim::new(Link::new(100, 50), 13);
    sim.bbr(0, ENDLESS);
    sim.run(seconds(4));
    sim.link.loss = 1.0;
    sim.run(seconds(6));
    sim.link.loss = 0.0;
    let share = shares(&mut sim, seconds(9), seconds(20))[0];
    assert!(share >= 0.85, "share {share:.3}");
}

#[test]
fn a_flow_goes_through_its_phases_in_order() {
    let mut sim = Sim::new(Link::new(50, 50), 14);
    let flow = sim.bbr(0, ENDLESS);
    let mut seen = vec![Phase::Startup];
    for step in 1..2400 {
        sim.run(Duration::from_millis(step * 5));
        let phase = sim.model(flow).phase;
        if seen.last() != Some(&phase) {
            seen.push(phase);
        }
    }
    let arrow = |from, to| {
        use Phase::{Cruise, Down, Drain, ProbeRtt, Refill, Startup, Up};
        matches!(
            (from, to),
            (Startup, Drain)
                // Drain and Down can be over within one acknowledgement.
                | (Startup | Drain | Down | Up, Down | Cruise)
                | (Down | Cruise, Refill)
                | (Refill, Up)
                | (Drain | Down | Cruise | Refill | Up, ProbeRtt)
                | (ProbeRtt, Cruise)
        )
    };
    for pair in seen.windows(2) {
        assert!(arrow(pair[0], pair[1]), "{pair:?} of {seen:?}");
    }
    for phase in [Phase::Cruise, Phase::Refill, Phase::Up, Phase::Down, Phase::ProbeRtt] {
        assert!(seen.contains(&phase), "{phase:?} is not among {seen:?}");
    }
}

#[test]
fn loss_at_random_is_not_taken_for_congestion() {
    for seed in 1..4 {
        let mut sim = Sim::new(Link { loss: 0.01, ..Link::new(50, 50) }, seed);
        let flow = sim.bbr(0, ENDLESS);
        for second in 2..16 {
            sim.run(seconds(second));
            let bw = sim.model(flow).bw();
            assert!(bw > 0.9 * sim.link.rate, "seed {seed}, after {second} s: {bw}");
        }
    }
}

/// How long a flow takes to move `bytes` and what it sends for each byte, with and without what a
/// flow found that used `before`.
fn resumed(before: Link, link: Link, bytes: u64, seed: u64) -> [(Duration, f64); 2] {
    let mut first = Sim::new(before, seed);
    let flow = first.bbr(0, 100 << 20);
    first.run(seconds(60));
    let past = first.model(flow).found().expect("the path is found");
    [Some(past), None].map(|past| {
        let mut sim = Sim::new(link, seed + 100);
        let flow = match past {
            Some(past) => sim.bbr_after(past, bytes),
            None => sim.bbr(0, bytes),
        };
        sim.run(seconds(600));
        let counts = sim.flows[flow].counts;
        assert!(counts.arrived >= bytes);
        (counts.last, counts.sent as f64 / counts.arrived as f64)
    })
}

#[test]
fn a_flow_that_knows_its_path_has_its_start_behind_it_sooner() {
    for (mbit, rtt_ms, seed) in [(200, 50, 1), (200, 50, 2), (100, 200, 3)] {
        let link = Link::new(mbit, rtt_ms);
        let [(after, sent), (before, _)] = resumed(link, link, 20 << 20, seed);
        let gained = before.saturating_sub(after);
        assert!(gained >= link.rtt * 3 / 4, "{mbit} Mb/s, {rtt_ms} ms: {before:?} to {after:?}");
        assert!(sent <= 1.03, "{mbit} Mb/s, {rtt_ms} ms: sent {sent:.3} times");
    }
}

#[test]
fn a_path_that_got_narrower_or_is_another_costs_little() {
    let before = Link::new(200, 50);
    for (mbit, rtt_ms) in [(100, 50), (20, 50), (200, 5), (20, 200)] {
        let link = Link::new(mbit, rtt_ms);
        let [(after, sent), (unknowing, _)] = resumed(before, link, 20 << 20, 4);
        let ratio = after.as_secs_f64() / unknowing.as_secs_f64();
        assert!(ratio <= 1.05, "{mbit} Mb/s, {rtt_ms} ms: {unknowing:?} to {after:?}");
        assert!(sent <= 1.06, "{mbit} Mb/s, {rtt_ms} ms: sent {sent:.3} times");
    }
}

/// What a flow lost in its first two seconds, and the most that it had in flight, in
/// bandwidth-delay products.
fn start(link: Link, seed: u64) -> (f64, f64) {
    let mut sim = Sim::new(link, seed);
    let flow = sim.bbr(0, ENDLESS);
    let mut peak = 0;
    for ms in 1..=2000 {
        sim.run(Duration::from_millis(ms));
        peak = peak.max(sim.model(flow).delivery.in_flight);
    }
    let products = |bytes: u64| bytes as f64 / link.product() as f64;
    (products(sim.flows[flow].counts.lost), products(peak))
}

#[test]
fn a_start_overfills_a_path_by_no_more_than_the_draft_does() {
    // What doubles with each round trip until it knows has 2.0 products in flight, and in a queue of
    // one product lost 0.06 to 0.24 of them. The first flight alone is two products of 10 Mb/s.
    for (mbit, products, lost_max, peak_max) in [
        (10, 0.25, 3.5, 4.0),
        (10, 1.0, 3.7, 4.0),
        (50, 0.25, 2.0, 2.3),
        (50, 1.0, 0.3, 2.3),
        (200, 0.1, 2.3, 2.3),
        (200, 1.0, 0.3, 2.3),
        (1000, 0.1, 2.3, 2.3),
        (1000, 1.0, 0.3, 2.3),
    ] {
        let mut link = Link::new(mbit, 50);
        link.buffer = (link.buffer as f64 * products) as u64;
        for seed in 1..4 {
            let (lost, peak) = start(link, seed);
            let told = format!("{mbit} Mb/s, a queue of {products}, seed {seed}");
            assert!(lost <= lost_max, "{told}: lost {lost:.2} products");
            assert!(peak <= peak_max, "{told}: {peak:.2} products in flight");
        }
    }
}

#[test]
fn a_fast_link_is_full_after_seven_round_trips() {
    for seed in 1..4 {
        let mut sim = Sim::new(Link::new(1000, 50), seed);
        let flow = sim.bbr(0, ENDLESS);
        sim.run(Duration::from_millis(350));
        let known = sim.model(flow).bw() / sim.link.rate;
        assert!(known >= 0.95, "seed {seed}: {known:.3} of the rate is known");
    }
}
