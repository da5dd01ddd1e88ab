//! Good and bad devices, and what is said of them.

use super::*;
use crate::transport::rdma::sysfs::{Chosen, GidKind, Interface};

fn gid(index: u8, kind: GidKind) -> Gid {
    let mut bytes = [0; 16];
    bytes[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, index]);
    Gid { index, bytes, kind, interface: Some("ens1".to_owned()) }
}

fn port(number: u8) -> Port {
    let address = gid(1, GidKind::RoceV2);
    Port {
        number,
        state: "ACTIVE".to_owned(),
        fabric: Fabric::Ethernet,
        lid: 0,
        rate_mbit: 100_000,
        gids: vec![gid(0, GidKind::Infiniband), address.clone()],
        chosen: Some(Chosen { index: 1, bytes: address.bytes, why: "RoCE v2 of an IPv4 address" }),
        interface: Some(Interface { name: "ens1".to_owned(), state: "up".to_owned(), mtu: 9000 }),
        mtu: 4096,
        obstacle: None,
        advice: None,
    }
}

fn device(name: &str, ports: Vec<Port>) -> Device {
    Device {
        name: name.to_owned(),
        numa: Some(1),
        uverbs: Some("uverbs0".to_owned()),
        software: false,
        obstacle: None,
        ports,
    }
}

fn nowhere() -> System {
    System { sys: "/nonexistent".into(), ..System::default() }
}

/// What is said, a line each, and whether content can go by RDMA.
fn said(settings: &RdmaSection, devices: Vec<Device>) -> (Vec<String>, bool) {
    let survey = Survey { obstacle: None, devices };
    told(&RdmaChecks { built: true, settings, survey, library: None })
}

fn told(checks: &RdmaChecks<'_>) -> (Vec<String>, bool) {
    let findings = rdma(checks, &nowhere());
    for one in &findings {
        assert!(one.level == Level::Ok || !one.fix.is_empty(), "{one:?} has no fix");
    }
    let line = |f: &Finding| {
        format!("{:?} {}: {} [{}]", f.level, f.check, f.finding, f.fix).replace(" []", "")
    };
    (findings.iter().map(line).collect(), checks.usable())
}

fn named(names: &[&str]) -> RdmaSection {
    let devices = names.iter().map(|name| name.parse().expect("a port")).collect();
    RdmaSection { devices, ..RdmaSection::default() }
}

#[test]
fn a_port_that_works_is_described_with_the_address_it_takes() {
    let (lines, usable) = said(&RdmaSection::default(), vec![device("mlx5_0", vec![port(1)])]);
    assert_eq!(
        lines,
        [
            "Ok rdma: mlx5_0/1: ACTIVE, Ethernet, 100 Gb/s, ens1 (up, MTU 9000), packets of 4096 \
             bytes, memory node 1",
            "Ok rdma-gids: mlx5_0/1: takes 1 ::ffff:10.0.0.1 (RoCE v2), RoCE v2 of an IPv4 \
             address; not 0 ::ffff:10.0.0.0 (IB/RoCE v1)",
        ]
    );
    assert!(usable);
}

#[test]
fn without_devices_there_is_one_calm_line() {
    let settings = RdmaSection::default();
    let obstacle = Remark::new("this kernel has no RDMA", "load the driver");
    let survey = Survey { obstacle: Some(obstacle), devices: Vec::new() };
    let mut checks = RdmaChecks { built: true, settings: &settings, survey, library: None };
    let line = "Ok rdma: no RDMA device: this kernel has no RDMA; QUIC carries all";
    assert_eq!(told(&checks), (vec![line.to_owned()], false));
    // The same where the library is missing as well, and in a build without RDMA.
    checks.library = Some(Remark::new("no libibverbs", "install it"));
    checks.built = false;
    assert_eq!(told(&checks).0, [line]);
}

#[test]
fn an_adapter_without_its_driver_is_worth_a_note() {
    let dir = tempfile::tempdir().expect("a directory");
    let system = System { sys: dir.path().into(), ..System::default() };
    let obstacle = Remark::new("there is no RDMA device", "load the driver");
    let put = |address: &str, class: &str, vendor: &str| {
        let device = dir.path().join("bus/pci/devices").join(address);
        std::fs::create_dir_all(&device).expect("made");
        std::fs::write(device.join("class"), format!("{class}\n")).expect("written");
        std::fs::write(device.join("vendor"), format!("{vendor}\n")).expect("written");
    };
    put("0000:00:1f.0", "0x020000", "0x8086");
    assert_eq!(none(Some(&obstacle), &system).fix, "");
    put("0000:3b:00.0", "0x020000", "0x15b3");
    let note = "there is an adapter at 0000:3b:00.0: load the driver";
    assert_eq!(none(Some(&obstacle), &system).fix, note);
    put("0000:3a:00.0", "0x020700", "0x1077");
    assert!(none(Some(&obstacle), &system).fix.contains("3a:00.0"));
}

#[test]
fn a_port_that_cannot_be_used_is_told_with_what_helps() {
    let down = Port {
        state: "DOWN".to_owned(),
        chosen: None,
        interface: None,
        mtu: 0,
        obstacle: Some(Remark::new("the port is DOWN, not ACTIVE", "ip link set up")),
        ..port(2)
    };
    let (lines, usable) = said(&RdmaSection::default(), vec![device("mlx5_0", vec![down.clone()])]);
    assert_eq!(
        lines[0],
        "Warn rdma: mlx5_0/2: DOWN, Ethernet, 100 Gb/s, memory node 1: the port is DOWN, not \
         ACTIVE [ip link set up]"
    );
    assert!(lines[1].starts_with("Ok rdma-gids: mlx5_0/2: takes none; not 0 "), "{}", lines[1]);
    assert!(!usable);
    assert!(said(&RdmaSection::default(), vec![device("mlx5_0", vec![down, port(1)])]).1);
}

#[test]
fn a_small_mtu_is_told_and_the_port_is_used_all_the_same() {
    let advice = Remark::new("packets carry 1024 of 4096 bytes", "ip link set ens1 mtu 9000");
    let small = Port { mtu: 1024, advice: Some(advice), ..port(1) };
    let (lines, usable) = said(&RdmaSection::default(), vec![device("mlx5_0", vec![small])]);
    let told = "Warn rdma-mtu: mlx5_0/1: packets carry 1024 of 4096 bytes [ip link set ens1 mtu \
                9000]";
    assert_eq!(lines[2], told);
    assert!(usable);
}

#[test]
fn a_device_out_of_reach_and_a_missing_library_are_told() {
    let settings = RdmaSection::default();
    let obstacle = Remark::new("/dev/infiniband/uverbs0 cannot be opened", "chmod");
    let locked = Device { obstacle: Some(obstacle), ..device("mlx5_0", vec![port(1)]) };
    let (lines, usable) = said(&settings, vec![locked]);
    assert_eq!(lines[0], "Warn rdma: mlx5_0: /dev/infiniband/uverbs0 cannot be opened [chmod]");
    assert!(!usable);
    let survey = Survey { obstacle: None, devices: vec![device("mlx5_0", vec![port(1)])] };
    let library = Some(Remark::new("there is no libibverbs.so.1", "apt-get install libibverbs1"));
    let (lines, usable) = told(&RdmaChecks { built: true, settings: &settings, survey, library });
    assert!(lines[0].starts_with("Warn rdma: there is no libibverbs.so.1 ["), "{}", lines[0]);
    assert!(!usable);
}

#[test]
fn ports_that_nobody_named_stay_unused_without_alarm() {
    let down =
        Port { obstacle: Some(Remark::new("the port is DOWN", "ip link set up")), ..port(2) };
    let two = vec![device("mlx5_0", vec![port(1), down]), device("rxe0", vec![port(1)])];
    let (lines, usable) = said(&named(&["mlx5_0/1"]), two.clone());
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[2], "Ok rdma: rxe0 stays unused: rdma.devices does not name it");
    assert!(usable && lines.iter().all(|line| line.starts_with("Ok ")));
    let (lines, usable) = said(&named(&["mlx5_7", "rxe0/2"]), two);
    assert_eq!(
        lines.last().map(String::as_str),
        Some(
            "Warn rdma: rdma.devices names mlx5_7, rxe0/2, which this machine does not have \
             [correct rdma.devices: there are mlx5_0/1, mlx5_0/2, rxe0/1]"
        )
    );
    assert!(!usable);
}

#[test]
fn settings_that_keep_devices_unused_are_named() {
    let devices = || vec![device("mlx5_0", vec![port(1)]), device("a\u{1b}b", vec![port(1)])];
    let off = RdmaSection { enabled: false, ..RdmaSection::default() };
    let (lines, usable) = said(&off, devices());
    let note = "rdma.enabled = true lets them be used";
    let line = "rdma.enabled is false: mlx5_0, a\\x1bb stay unused, QUIC carries all";
    assert_eq!((lines, usable), (vec![format!("Ok rdma: {line} [{note}]")], false));
    let secret = RdmaSection { plaintext: false, ..RdmaSection::default() };
    assert!(said(&secret, devices()).0[0].contains("does not encrypt"));
    let settings = RdmaSection::default();
    let survey = Survey { obstacle: None, devices: devices() };
    let without = RdmaChecks { built: false, settings: &settings, survey, library: None };
    assert!(told(&without).0[0].starts_with("Ok rdma: this build has no RDMA: mlx5_0"));
}

#[test]
fn a_long_table_of_addresses_is_cut_short() {
    let gids = (0..40).map(|index| gid(index, GidKind::RoceV2)).collect();
    let text = table(&Port { gids, ..port(1) });
    assert!(text.starts_with("takes 1 ") && text.ends_with(" and 31 more"), "{text}");
}
