//! Every obstacle to RDMA is told, in the order in which it matters.

use super::*;

const NO_PORT: &str = "the port is DOWN";

/// One situation; the default is the one in which RDMA carries content.
#[derive(Clone)]
struct Case {
    built: bool,
    settings: RdmaSection,
    tier: Tier,
    peer_site: &'static str,
    peer_tier: Tier,
    ports: Ports,
    theirs: Ports,
}

fn port(device: &str, fabric: Fabric) -> PortInfo {
    PortInfo {
        device: device.to_owned(),
        port: 1,
        fabric,
        gid: [1; 16],
        gid_index: 0,
        lid: 0,
        mtu: 4096,
        rate_mbit: 100_000,
        numa: None,
        reads_max: 16,
    }
}

fn usable(devices: &[&str], fabric: Fabric) -> Ports {
    Ports::Usable(devices.iter().map(|device| port(device, fabric)).collect())
}

fn good() -> Case {
    Case {
        built: true,
        settings: RdmaSection::default(),
        tier: Tier::Private,
        peer_site: "dc1",
        peer_tier: Tier::Private,
        ports: usable(&["mlx5_0", "mlx5_1"], Fabric::Ethernet),
        theirs: usable(&["mlx5_0"], Fabric::Ethernet),
    }
}

impl Case {
    fn with<R>(&self, run: impl FnOnce(&Own<'_>, &Peer) -> R) -> R {
        let name = "gpu-2".parse().expect("a name");
        let site = self.peer_site.parse().expect("a name");
        let peer = Peer::lasting(name, site, self.peer_tier);
        let site = "dc1".parse().expect("a name");
        let own = Own {
            built: self.built,
            site: &site,
            tier: self.tier,
            settings: &self.settings,
            ports: &self.ports,
        };
        run(&own, &peer)
    }

    fn choose(&self, choice: TransportChoice) -> Result<PathChoice, Error> {
        self.with(|own, peer| choose(own, peer, &self.theirs, choice))
    }

    fn offer(&self) -> Ports {
        self.with(offer)
    }
}

#[test]
fn inside_a_private_site_with_ports_at_both_ends_rdma_carries_content() {
    for choice in [TransportChoice::Auto, TransportChoice::Rdma] {
        let path = good().choose(choice).expect("a path");
        assert_eq!(path.transport, Transport::Rdma);
        let reason = "both nodes are of the private site dc1; ports on Ethernet: 2 here, 1 there";
        assert_eq!((path.reason.as_str(), path.fix.as_str()), (reason, ""));
    }
    let path = good().choose(TransportChoice::Quic).expect("a path");
    assert_eq!((path.transport, path.reason.as_str()), (Transport::Quic, "asked for"));
    assert_eq!(good().offer(), good().ports);
}

/// Each obstacle: what is wrong, the reason, the error's hint.
fn obstacles() -> Vec<(Case, &'static str, &'static str)> {
    let set = |change: fn(&mut Case)| {
        let mut case = good();
        change(&mut case);
        case
    };
    vec![
        (
            set(|c| c.peer_site = "eu1"),
            "gpu-2 is of site eu1, this node of dc1",
            "RDMA stays inside one private site; leave out --transport rdma",
        ),
        (
            set(|c| c.tier = Tier::Public),
            "site dc1 is of the public tier",
            "RDMA stays inside one private site; leave out --transport rdma",
        ),
        (
            set(|c| c.peer_tier = Tier::Public),
            "site dc1 is of the public tier",
            "RDMA stays inside one private site; leave out --transport rdma",
        ),
        (
            set(|c| c.built = false),
            "this build has no RDMA",
            "build with the feature rdma, which is on by default; or leave out --transport rdma",
        ),
        (
            set(|c| c.settings.enabled = false),
            "rdma.enabled is false",
            "set rdma.enabled = true in portway.toml; or leave out --transport rdma",
        ),
        (
            set(|c| c.settings.plaintext = false),
            "rdma.plaintext is false, and RDMA does not encrypt",
            "set rdma.plaintext = true where the site's fabric may carry plain text; or leave out \
             --transport rdma",
        ),
        (
            set(|c| c.ports = Ports::none(NO_PORT)),
            "no port for RDMA: the port is DOWN",
            "`portway doctor` says what is missing; or leave out --transport rdma",
        ),
        (
            set(|c| c.ports = Ports::Usable(Vec::new())),
            "no port for RDMA",
            "`portway doctor` says what is missing; or leave out --transport rdma",
        ),
        (
            set(|c| c.settings.devices = vec!["mlx5_9".parse().expect("a port")]),
            "rdma.devices names none of the ports that work: mlx5_0/1, mlx5_1/1",
            "correct rdma.devices, or leave it empty; or leave out --transport rdma",
        ),
        (
            set(|c| c.theirs = Ports::none("rdma.enabled is false")),
            "no port for RDMA at gpu-2: rdma.enabled is false",
            "`portway doctor` on gpu-2 says what is missing; or leave out --transport rdma",
        ),
        (
            set(|c| c.theirs = Ports::none("")),
            "no port for RDMA at gpu-2",
            "`portway doctor` on gpu-2 says what is missing; or leave out --transport rdma",
        ),
        (
            set(|c| c.theirs = usable(&["mlx5_0"], Fabric::InfiniBand)),
            "ports here are on Ethernet, those of gpu-2 on InfiniBand",
            "a rail joins two ports on one network; or leave out --transport rdma",
        ),
    ]
}

#[test]
fn each_obstacle_leads_to_quic_with_its_reason_and_to_an_error_where_rdma_was_asked_for() {
    for (case, reason, hint) in obstacles() {
        let path = case.choose(TransportChoice::Auto).expect("a path");
        assert_eq!((path.transport, path.reason.as_str()), (Transport::Quic, reason));
        assert!(path.fix.is_empty() || hint.starts_with(&path.fix), "{}", path.fix);
        let error = case.choose(TransportChoice::Rdma).expect_err("impossible");
        assert_eq!(error.message, format!("content cannot go by RDMA: {reason}"));
        assert_eq!((error.code, error.exit, error.hint.as_str()), ("no-rdma", Exit::Failed, hint));
        let path = case.choose(TransportChoice::Quic).expect("a path");
        assert_eq!(path.reason, "asked for");
    }
}

#[test]
fn the_first_of_several_obstacles_is_the_one_that_settings_cannot_move() {
    let mut case = good();
    case.theirs = Ports::none("");
    case.settings.enabled = false;
    case.built = false;
    case.peer_site = "eu1";
    let reason = |case: &Case| case.choose(TransportChoice::Auto).expect("a path").reason;
    assert!(reason(&case).contains("eu1"));
    case.peer_site = "dc1";
    assert_eq!(reason(&case), "this build has no RDMA");
    case.built = true;
    assert_eq!(reason(&case), "rdma.enabled is false");
}

#[test]
fn only_named_ports_are_offered() {
    let mut case = good();
    case.settings.devices = vec!["mlx5_1/1".parse().expect("a port")];
    assert_eq!(case.offer(), usable(&["mlx5_1"], Fabric::Ethernet));
    case.settings.devices = vec!["mlx5_1/2".parse().expect("a port")];
    assert!(matches!(case.offer(), Ports::None { why } if why.contains("rdma.devices")));
}

#[test]
fn a_peer_behind_a_border_and_one_that_enrols_learn_of_no_port() {
    for (case, reason, _) in obstacles() {
        // What the peer's own ports are changes nothing of what it is told.
        let rails = case.offer();
        if case.theirs != good().theirs {
            assert_eq!(rails, good().ports, "{reason}");
            continue;
        }
        let Ports::None { why } = rails else { panic!("{reason}: ports were told") };
        assert_eq!(
            why,
            reason
                .strip_prefix("no port for RDMA")
                .map_or(reason, |rest| { rest.trim_start_matches(": ") })
        );
    }
    let told = good().with(|own, peer| {
        let peer = Peer { enrolling: Some([0; 32]), ..peer.clone() };
        offer(own, &peer)
    });
    assert_eq!(told, Ports::none(""));
}
