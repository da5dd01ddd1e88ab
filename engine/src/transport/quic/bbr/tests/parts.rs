//! The parts of the controller, one by one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::congestion::{Controller, ControllerFactory};

use super::super::bounds::{flight_that_fitted, is_too_high};
use super::super::delivery::Delivery;
use super::super::model::{ExtraAcked, FullPipe, MaxBandwidth, MinRtt, Sojourn};
use super::super::window::FastStart;
use super::super::{Bbr, BbrConfig};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn ago(now: Instant, before: u64) -> Instant {
    now.checked_sub(ms(before)).expect("a time since the machine started")
}

fn is(number: f64, other: f64) -> bool {
    (number - other).abs() < 1e-9
}

#[test]
fn a_sample_is_what_one_round_trip_delivered() {
    let start = Instant::now();
    let mut delivery = Delivery::new(start);
    for burst in 0..10 {
        assert!(delivery.on_sent(start + ms(10 * burst), 10_000));
    }
    for burst in 0..10 {
        let (sent, now) = (start + ms(10 * burst), start + ms(10 * burst + 100));
        for _ in 0..10 {
            delivery.on_ack(now, sent, 1000);
        }
        assert!(delivery.on_sent(now, 10_000));
        let in_flight = delivery.in_flight - 10_000;
        let sample = delivery.on_end_acks(in_flight, ms(100)).expect("a sample");
        assert_eq!(sample.acked, 10_000);
        assert_eq!(sample.rtt, ms(100));
        assert!(is(sample.sojourn, 0.1));
        let whole = (burst + 1) * 10_000;
        assert_eq!((sample.delivered, sample.prior_delivered), (whole, 0));
    }
    delivery.on_ack(start + ms(200), start + ms(100), 10_000);
    let sample = delivery.on_end_acks(90_000, ms(100)).expect("a sample");
    assert!((sample.rate - 1e6).abs() < 1.0, "100 kB in 100 ms: {}", sample.rate);
}

#[test]
fn a_sample_over_less_than_a_round_trip_is_no_rate() {
    let start = Instant::now();
    let mut delivery = Delivery::new(start);
    delivery.on_sent(start, 10_000);
    delivery.on_ack(start + ms(50), start, 10_000);
    let sample = delivery.on_end_acks(0, ms(60)).expect("a sample");
    assert!(sample.rate == 0.0 && sample.delivered == 10_000);
}

#[test]
fn acknowledgements_alone_are_not_remembered_as_sent() {
    let start = Instant::now();
    let mut delivery = Delivery::new(start);
    for n in 0..1000 {
        assert!(!delivery.on_sent(start + ms(n), 60));
    }
    assert_eq!(delivery.in_flight, 0);
    assert!(delivery.burst(start + ms(500)).is_none());
}

#[test]
fn what_was_sent_long_ago_is_forgotten() {
    let start = Instant::now();
    let mut delivery = Delivery::new(start);
    for n in 0..100_000 {
        delivery.on_sent(start + ms(n), 1200);
    }
    assert!(delivery.remembered() < 2100, "{}", delivery.remembered());
    assert!(delivery.burst(start).is_none());
    assert!(delivery.burst(start + ms(99_000)).is_some());
}

#[test]
fn an_application_without_data_marks_what_is_in_flight() {
    let start = Instant::now();
    let mut delivery = Delivery::new(start);
    delivery.on_sent(start, 1000);
    delivery.mark_app_limited();
    assert!(delivery.is_app_limited());
    delivery.on_sent(start + ms(10), 1000);
    delivery.on_ack(start + ms(50), start, 1000);
    assert!(!delivery.on_end_acks(1000, ms(1)).expect("a sample").app_limited);
    delivery.on_ack(start + ms(60), start + ms(10), 1000);
    assert!(delivery.on_end_acks(0, ms(1)).expect("a sample").app_limited);
    assert!(!delivery.is_app_limited(), "what was in flight then was delivered");
}

#[test]
fn loss_has_to_be_over_the_threshold_by_more_than_chance() {
    let packets = |lost: u64, flight: u64| is_too_high(lost * 1000, flight * 1000, 1000);
    assert!(!packets(0, 0));
    assert!(!packets(1, 10));
    assert!(packets(2, 10));
    assert!(!packets(8, 250), "3.2 % of few is chance");
    assert!(packets(10, 250));
    assert!(!packets(100, 10_000) && !packets(228, 10_000));
    assert!(packets(229, 10_000));
}

#[test]
fn what_fitted_is_where_losses_crossed_the_threshold() {
    // 100 packets were in flight and the last 20 were lost: at 81.6 packets, 1.6 are 2 %.
    assert_eq!(flight_that_fitted(100_000, 20_000, 20_000), 81_632);
    // All was lost before the last packets.
    assert_eq!(flight_that_fitted(100_000, 20_000, 1000), 99_000);
    assert_eq!(flight_that_fitted(1000, 3000, 3000), 0);
}

#[test]
fn bandwidth_is_the_most_of_two_cycles() {
    let mut bandwidth = MaxBandwidth::default();
    bandwidth.update(10.0);
    bandwidth.update(8.0);
    assert!(is(bandwidth.get(), 10.0));
    bandwidth.advance();
    bandwidth.update(5.0);
    assert!(is(bandwidth.get(), 10.0));
    bandwidth.advance();
    bandwidth.advance();
    assert!(is(bandwidth.get(), 5.0), "a cycle without a sample forgets nothing");
}

#[test]
fn the_shortest_round_trip_is_believed_for_ten_seconds() {
    let start = Instant::now();
    let mut rtt = MinRtt::new(start);
    assert!(!rtt.is_known());
    rtt.update(start + ms(50), ms(50));
    for second in 1..=5 {
        rtt.update(start + ms(1000 * second), ms(80));
        assert!(!rtt.is_probe_due());
    }
    rtt.update(start + ms(5100), ms(80));
    assert!(rtt.is_probe_due());
    rtt.on_probed(start + ms(5300));
    rtt.update(start + ms(5400), ms(80));
    assert!(!rtt.is_probe_due());
    assert_eq!(rtt.get(), ms(50));
    rtt.update(start + ms(10_100), ms(80));
    assert_eq!(rtt.get(), ms(80));
}

#[test]
fn data_acknowledged_at_once_is_more_than_the_bandwidth_explains() {
    let start = Instant::now();
    let mut extra = ExtraAcked::new(start);
    extra.update(start + ms(10), 50_000, 1e6, 0, false, 1 << 20);
    assert_eq!(extra.get(), 50_000);
    extra.update(start + ms(20), 5000, 1e6, 1, false, 1 << 20);
    assert_eq!(extra.get(), 50_000, "55 kB in 10 ms at 1 MB/s are 45 kB too many, not more");
    for round in 2..20 {
        extra.update(start + ms(100 * round), 1000, 1e6, round, false, 1 << 20);
    }
    assert_eq!(extra.get(), 1000, "forgotten after ten rounds");
}

#[test]
fn time_in_flight_follows_within_a_round_trip() {
    let mut sojourn = Sojourn::default();
    sojourn.update(0.05, 1000, 100_000);
    assert!(is(sojourn.get(), 0.05));
    for _ in 0..100 {
        sojourn.update(0.1, 1000, 100_000);
    }
    assert!((0.098..0.1).contains(&sojourn.get()), "{}", sojourn.get());
}

#[test]
fn a_pipe_is_full_after_three_rounds_without_growth() {
    let mut pipe = FullPipe::default();
    for rate in [1.0, 2.0, 4.0, 4.5, 4.6] {
        pipe.update(rate);
        assert!(!pipe.now);
    }
    pipe.update(4.7);
    assert!(pipe.now && pipe.ever);
    pipe.reset(4.7);
    assert!(!pipe.now && pipe.ever);
}

/// A controller that has a model: 1 MB/s, 100 ms.
fn settled(start: Instant) -> (Bbr, Instant) {
    let mut bbr = Bbr::new(start, 1200, 1);
    let mut now = start;
    for round in 0..12 {
        for step in 0..20 {
            now = start + ms(round * 100 + step * 5);
            bbr.on_sent(now, 5000, 0);
            let sent = ago(now, 100);
            if sent >= start {
                bbr.delivery.on_ack(now, sent, 5000);
                bbr.on_end_acks(now, 100_000, false, None);
            }
        }
    }
    (bbr, now)
}

#[test]
fn the_window_is_the_rate_times_the_time_in_flight() {
    let (bbr, _) = settled(Instant::now());
    assert!(bbr.full_pipe.ever);
    assert!((bbr.bw() - 1e6).abs() < 1e5, "{}", bbr.bw());
    let window = bbr.window();
    assert!((85_000..115_000).contains(&window), "{window}");
    let rate = bbr.metrics().pacing_rate.expect("a rate");
    assert!((7_000_000..9_000_000).contains(&rate), "{rate} bits a second");
}

#[test]
fn persistent_congestion_leaves_four_packets() {
    let (mut bbr, now) = settled(Instant::now());
    bbr.on_congestion_event(now, ago(now, 100), true, 5000);
    assert_eq!(bbr.window(), 4 * 1200);
    let sent = ago(now, 95);
    bbr.delivery.on_ack(now + ms(5), sent, 5000);
    bbr.on_end_acks(now + ms(5), 5000, false, None);
    assert_eq!(bbr.window(), 4 * 1200 + 5000, "and it grows by what is acknowledged");
}

#[test]
fn a_router_that_marks_packets_is_heeded() {
    let (mut bbr, mut now) = settled(Instant::now());
    for _ in 0..60 {
        now += ms(5);
        bbr.on_sent(now, 5000, 0);
        bbr.delivery.on_ack(now, ago(now, 100), 5000);
        bbr.on_end_acks(now, 100_000, false, None);
        bbr.on_congestion_event(now, ago(now, 100), false, 0);
    }
    assert!(bbr.bounds.bw_short_term.is_finite());
    assert!(bbr.bounds.short_term < 110_000, "{}", bbr.bounds.short_term);
}

#[test]
fn a_smaller_or_larger_packet_moves_the_least_window() {
    let (mut bbr, now) = settled(Instant::now());
    bbr.on_mtu_update(8952);
    bbr.on_congestion_event(now, now, true, 1200);
    assert_eq!(bbr.window(), 4 * 8952);
    let copy = bbr.clone_box();
    assert_eq!(copy.window(), bbr.window());
    assert!(copy.into_any().is::<Bbr>());
}

#[test]
fn what_was_never_sent_is_no_sample_and_no_fault() {
    let start = Instant::now();
    let mut bbr = Arc::new(BbrConfig::default()).build(start, 1200);
    let window = bbr.window();
    bbr.on_end_acks(start, 0, true, None);
    bbr.on_congestion_event(start, start, false, 1200);
    assert_eq!(bbr.window(), window);
    assert_eq!(bbr.window(), bbr.initial_window());
}

#[test]
fn a_fast_start_ends_after_eight_late_acknowledgements_in_a_row() {
    let (mut start, shortest) = (FastStart::new(), Duration::from_millis(50));
    let mut hear = |ms| start.ends(Duration::from_millis(ms), shortest);
    let heard = [53, 53, 53, 53, 53, 53, 53, 51, 53, 53, 53, 53, 53, 53, 53, 53].map(&mut hear);
    assert_eq!(heard.iter().position(|ended| *ended), Some(15), "one in time begins anew");
}
