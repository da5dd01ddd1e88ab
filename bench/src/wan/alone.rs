//! An emulated link by itself, for whatever goes over UDP: `portway-bench relay`.

use std::net::SocketAddr;
use std::thread;

use anyhow::{Result, ensure};
use clap::Args;

use super::{Link, Relay};

/// Arguments of `relay`.
#[derive(Debug, Args)]
pub(crate) struct RelayArgs {
    /// Where the link leads: ADDR:PORT (UDP)
    to: SocketAddr,
    /// Rate of the link, in Mb/s of IP packets
    #[arg(long, default_value_t = 1000.0)]
    rate_mbit: f64,
    /// Round trip, in ms
    #[arg(long, default_value_t = 50.0)]
    rtt_ms: f64,
    /// Packets lost at random each way, in per cent
    #[arg(long, default_value_t = 0.0)]
    loss_percent: f64,
    /// Longest wait before the link, in ms [default: the round trip]
    #[arg(long)]
    queue_ms: Option<f64>,
    /// Largest IP packet, in bytes
    #[arg(long, default_value_t = 1500)]
    mtu: usize,
    /// What chance loses: the same seed loses the same packets
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Prints the address of the near end and relays until the process is stopped.
pub(crate) fn run(args: &RelayArgs) -> Result<bool> {
    let link = args.link()?;
    let relay = Relay::start(args.to, link, args.seed)?;
    println!("{}", relay.address());
    loop {
        thread::park();
    }
}

impl RelayArgs {
    fn link(&self) -> Result<Link> {
        let queue_ms = self.queue_ms.unwrap_or(self.rtt_ms);
        ensure!(
            self.rate_mbit > 0.0 && self.rtt_ms >= 0.0 && queue_ms >= 0.0,
            "a link has a rate, a round trip and a queue\nhint: none is negative, and the rate not 0"
        );
        ensure!(
            (0.0..=100.0).contains(&self.loss_percent),
            "{} % cannot be lost\nhint: --loss-percent takes 0 to 100",
            self.loss_percent
        );
        Ok(Link {
            rate_bps: self.rate_mbit * 1e6,
            delay_s: self.rtt_ms / 2e3,
            queue_s: queue_ms / 1e3,
            loss: self.loss_percent / 100.0,
            mtu: self.mtu,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_a_round_trip_unless_it_is_said() {
        let to = (std::net::Ipv4Addr::LOCALHOST, 1).into();
        let args = RelayArgs {
            to,
            rate_mbit: 100.0,
            rtt_ms: 40.0,
            loss_percent: 0.5,
            queue_ms: None,
            mtu: 1500,
            seed: 1,
        };
        let expected = Link { rate_bps: 1e8, delay_s: 0.02, queue_s: 0.04, loss: 0.005, mtu: 1500 };
        assert_eq!(args.link().expect("a link"), expected);
        let queue = RelayArgs { queue_ms: Some(5.0), ..args };
        assert_eq!(queue.link().expect("a link"), Link { queue_s: 0.005, ..expected });
        assert!(RelayArgs { loss_percent: 101.0, ..queue }.link().is_err());
    }
}
