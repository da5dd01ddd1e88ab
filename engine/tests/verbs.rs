//! Real verbs: two rails in one process, over the devices named in `PORTWAY_TEST_RDMA` (such as
//! `rxe_a0,rxe_b0`). Without it every test prints that it was skipped. `scripts/rdma-guest.sh` has
//! devices on any machine.
//!
//! `PORTWAY_TEST_RDMA_UNPLUG` and `PORTWAY_TEST_RDMA_PLUG` are commands that take the wire from the
//! devices and give it back.
#![cfg(feature = "rdma")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "verbs/access.rs"]
mod access;
#[path = "verbs/lifetime.rs"]
mod lifetime;
#[path = "verbs/reading.rs"]
mod reading;
#[path = "verbs/side.rs"]
mod side;

use portway::transport::rdma::{SystemVerbs, Verbs};

#[test]
fn a_machine_without_devices_has_no_ports_and_says_why() {
    if std::env::var_os("PORTWAY_TEST_RDMA").is_some() {
        println!("SKIPPED: this machine has RDMA devices");
        return;
    }
    let verbs = match SystemVerbs::load() {
        Ok(verbs) => verbs,
        Err(remark) => return assert!(!remark.finding.is_empty() && !remark.fix.is_empty()),
    };
    let survey = verbs.survey();
    println!("{survey:?}");
    if survey.devices.is_empty() {
        assert!(survey.obstacle.is_some_and(|remark| !remark.fix.is_empty()));
        assert_eq!(verbs.ports(), []);
    }
}

#[test]
fn the_devices_have_usable_ports_with_a_chosen_address() {
    let Some(names) = side::devices() else { return };
    let verbs = SystemVerbs::load().unwrap();
    let survey = verbs.survey();
    let ports = verbs.ports();
    for name in &names {
        let device = survey.devices.iter().find(|device| device.name == *name).unwrap();
        println!("{device:?}");
        let port = ports.iter().find(|port| port.device == *name).unwrap();
        println!("{port:?}");
        let seen = &device.ports[0];
        let chosen = seen.chosen.as_ref().unwrap();
        assert_eq!((chosen.index, chosen.bytes), (port.gid_index, port.gid));
        assert_eq!((device.obstacle.as_ref(), seen.obstacle.as_ref()), (None, None));
        assert_eq!(seen.mtu, port.mtu, "the MTU from the interface is the device's");
        assert!(port.reads_max > 0 && port.mtu >= 256);
    }
    assert_eq!(verbs.ports(), ports, "in an order that stays");
}
