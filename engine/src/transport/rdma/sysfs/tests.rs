//! Surveys of made-up machines.

use std::fs;
use std::net::Ipv6Addr;

use super::*;

/// A made-up `/sys` and `/dev`.
struct Machine {
    dir: tempfile::TempDir,
    roots: Roots,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots { sys: dir.path().join("sys"), dev: dir.path().join("dev") };
        Self { dir, roots }
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    /// An adapter with one port on Ethernet, up, with addresses as of a usual host.
    fn adapter(&self, name: &str, uverbs: &str) -> String {
        let device = format!("sys/class/infiniband/{name}");
        let port = format!("{device}/ports/1");
        for (file, text) in [
            ("node_type", "1: CA"),
            ("device/numa_node", "1"),
            ("ports/1/state", "4: ACTIVE"),
            ("ports/1/link_layer", "Ethernet"),
            ("ports/1/lid", "0x0"),
            ("ports/1/rate", "100 Gb/sec (4X EDR)"),
        ] {
            self.file(&format!("{device}/{file}"), text);
        }
        for (index, gid, kind) in [
            (0, "fe80:0000:0000:0000:0200:00ff:fe00:000a", "IB/RoCE v1"),
            (1, "fe80:0000:0000:0000:0200:00ff:fe00:000a", "RoCE v2"),
            (2, "0000:0000:0000:0000:0000:ffff:0a00:0001", "IB/RoCE v1"),
            (3, "0000:0000:0000:0000:0000:ffff:0a00:0001", "RoCE v2"),
            (4, "fd00:0000:0000:0000:0000:0000:0000:0001", "RoCE v2"),
            (5, "0000:0000:0000:0000:0000:0000:0000:0000", "RoCE v2"),
        ] {
            self.gid(&port, index, gid, kind);
        }
        self.file("sys/class/net/eth0/mtu", "9000");
        self.file("sys/class/net/eth0/operstate", "up");
        self.file(&format!("sys/class/infiniband_verbs/{uverbs}/ibdev"), name);
        self.file(&format!("dev/infiniband/{uverbs}"), "");
        port
    }

    fn gid(&self, port: &str, index: u8, gid: &str, kind: &str) {
        self.file(&format!("{port}/gids/{index}"), gid);
        self.file(&format!("{port}/gid_attrs/types/{index}"), kind);
        self.file(&format!("{port}/gid_attrs/ndevs/{index}"), "eth0");
    }

    fn device(&self) -> Device {
        let mut survey = survey(&self.roots);
        assert_eq!((survey.obstacle, survey.devices.len()), (None, 1));
        survey.devices.remove(0)
    }

    fn port(&self) -> Port {
        self.device().ports.remove(0)
    }
}

#[test]
fn a_usual_adapter_is_read_whole_and_its_ipv4_address_is_chosen() {
    let machine = Machine::new();
    machine.adapter("mlx5_0", "uverbs0");
    let device = machine.device();
    assert_eq!(device.name, "mlx5_0");
    assert_eq!((device.numa, device.software, device.obstacle), (Some(1), false, None));
    assert_eq!(device.uverbs.as_deref(), Some("uverbs0"));
    let port = &device.ports[0];
    assert_eq!((port.number, port.fabric, port.lid), (1, Fabric::Ethernet, 0));
    assert_eq!((port.rate_mbit, port.mtu), (100_000, 4096));
    assert_eq!(port.gids.len(), 5, "the empty entry is left out");
    assert_eq!(port.gids[3].to_string(), "3 ::ffff:10.0.0.1 (RoCE v2)");
    let chosen = port.chosen.as_ref().unwrap();
    assert_eq!((chosen.index, chosen.why), (3, "RoCE v2 of an IPv4 address"));
    assert_eq!(port.interface.as_ref().unwrap().name, "eth0");
    assert_eq!((&port.obstacle, &port.advice), (&None, &None));
}

#[test]
fn a_global_address_goes_before_a_link_local_one_and_version_1_never() {
    let gid = |index: u8, address: &str, kind| Gid {
        index,
        bytes: address.parse::<Ipv6Addr>().unwrap().octets(),
        kind,
        interface: None,
    };
    let v2 = GidKind::RoceV2;
    let choice = |gids: &[Gid]| choose(Fabric::Ethernet, gids).map(|chosen| chosen.index);
    let link_local = gid(0, "fe80::1", v2);
    let link_local_4 = gid(1, "::ffff:169.254.1.1", v2);
    let global = gid(2, "2001:db8::1", v2);
    let first = gid(3, "::ffff:192.168.0.1", v2);
    let second = gid(4, "::ffff:10.0.0.1", v2);
    let old = gid(5, "::ffff:10.0.0.1", GidKind::Infiniband);
    let mut all = vec![old, link_local, link_local_4, global, second, first];
    for expected in [Some(3), Some(4), Some(2), Some(1), Some(0), None] {
        assert_eq!(choice(&all), expected);
        all.pop_if(|_| expected.is_some());
    }
}

#[test]
fn a_port_that_cannot_be_used_says_why_and_what_helps() {
    let machine = Machine::new();
    let port = machine.adapter("mlx5_0", "uverbs0");
    let obstacle = || machine.port().obstacle.unwrap();
    machine.file(&format!("{port}/state"), "1: DOWN");
    assert!(obstacle().finding.contains("DOWN") && obstacle().fix.contains("cable"));
    machine.file(&format!("{port}/state"), "4: ACTIVE");
    machine.file("sys/class/net/eth0/mtu", "300");
    assert!(obstacle().finding.contains("300 bytes"));
    machine.file("sys/class/net/eth0/mtu", "1500");
    let seen = machine.port();
    assert_eq!((seen.mtu, seen.obstacle), (1024, None));
    assert!(seen.advice.unwrap().fix.contains("mtu 9000"));
    for index in 1..5 {
        machine.file(&format!("{port}/gid_attrs/types/{index}"), "IB/RoCE v1");
    }
    assert!(obstacle().finding.contains("no RoCE v2 address"));
}

#[test]
fn a_device_that_cannot_be_used_says_why() {
    let machine = Machine::new();
    machine.adapter("mlx5_0", "uverbs0");
    let obstacle = || machine.device().obstacle.unwrap();
    machine.file("sys/class/infiniband/mlx5_0/node_type", "4: RNIC");
    assert!(obstacle().finding.contains("iWARP"));
    machine.file("sys/class/infiniband/mlx5_0/node_type", "7: <unknown>");
    assert!(obstacle().finding.contains("neither"));
    machine.file("sys/class/infiniband/mlx5_0/node_type", "1: CA");
    fs::remove_file(machine.roots.dev.join("infiniband/uverbs0")).unwrap();
    assert!(obstacle().finding.contains("is missing"));
    fs::remove_dir_all(machine.roots.sys.join("class/infiniband_verbs")).unwrap();
    assert_eq!(obstacle().fix, "modprobe ib_uverbs");
}

#[test]
fn a_device_file_without_permission_is_an_obstacle() {
    use std::os::unix::fs::PermissionsExt as _;
    let machine = Machine::new();
    machine.adapter("mlx5_0", "uverbs0");
    let file = machine.roots.dev.join("infiniband/uverbs0");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    if access(&file, Access::READ_OK).is_ok() {
        println!("SKIPPED: this user may read everything");
        return;
    }
    assert!(machine.device().obstacle.unwrap().finding.contains("cannot be opened"));
}

#[test]
fn infiniband_takes_its_first_gid_and_soft_roce_is_known_as_software() {
    let machine = Machine::new();
    let port = machine.adapter("rxe0", "uverbs0");
    fs::remove_dir_all(machine.roots.sys.join("class/infiniband/rxe0/device")).unwrap();
    let device = machine.device();
    assert_eq!((device.software, device.numa), (true, None));
    machine.file(&format!("{port}/link_layer"), "InfiniBand");
    machine.file(&format!("{port}/lid"), "0x1f");
    machine.file(&format!("{port}/rate"), "2.5 Gb/sec (1X SDR)");
    let port = machine.port();
    assert_eq!((port.fabric, port.lid, port.rate_mbit), (Fabric::InfiniBand, 31, 2500));
    assert_eq!((port.chosen.unwrap().index, port.mtu, port.obstacle), (0, 0, None));
}

#[test]
fn a_machine_without_rdma_says_so() {
    let machine = Machine::new();
    let none = survey(&machine.roots);
    assert!(none.obstacle.unwrap().finding.contains("no RDMA") && none.devices.is_empty());
    fs::create_dir_all(machine.roots.sys.join("class/infiniband")).unwrap();
    assert_eq!(survey(&machine.roots).obstacle.unwrap().finding, "there is no RDMA device");
}

#[test]
fn odd_files_are_taken_for_nothing() {
    let machine = Machine::new();
    let port = machine.adapter("mlx5_0", "uverbs0");
    machine.file(&format!("{port}/rate"), "fast");
    machine.file(&format!("{port}/lid"), "-1");
    machine.file(&format!("{port}/gids/3"), "no address");
    machine.file(&format!("{port}/gids/300"), "::1");
    machine.file(&format!("{port}/gid_attrs/ndevs/4"), "../../etc");
    machine.file("sys/class/infiniband/mlx5_0/device/numa_node", "-1");
    let device = machine.device();
    let port = &device.ports[0];
    assert_eq!((device.numa, port.rate_mbit, port.lid), (None, 0, 0));
    assert_eq!(port.chosen.as_ref().unwrap().index, 4);
    assert_eq!(port.interface, None);
}
