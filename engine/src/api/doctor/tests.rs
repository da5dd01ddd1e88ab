//! Every check tells the good from the bad, and what to do about the bad.

use super::*;
use crate::config::RdmaSection;
use crate::transport::rdma::sysfs::{Roots, survey};

fn at(s: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(s)
}

fn shown(finding: &Finding) -> String {
    format!("{:?} {}: {} [{}]", finding.level, finding.check, finding.finding, finding.fix)
}

#[test]
fn a_clock_outside_the_certificates_time_fails() {
    let valid = Some((at(WRITTEN_S + 100), at(WRITTEN_S + 4000)));
    let level = |now| clock(at(now), valid).level;
    assert_eq!(level(WRITTEN_S - 1), Level::Fail);
    assert_eq!(level(WRITTEN_S + 99), Level::Fail);
    assert_eq!(level(WRITTEN_S + 100), Level::Ok);
    assert_eq!(level(WRITTEN_S + 4000), Level::Fail);
    assert_eq!(clock(at(WRITTEN_S), None).level, Level::Ok);
    assert_eq!(
        shown(&clock(at(WRITTEN_S + 4180), valid)),
        "Fail clock: this node's certificate ended 3 min 00 s ago \
         [have a new certificate signed: portway invite, portway join]"
    );
}

#[test]
fn small_buffers_come_with_the_command_that_enlarges_them() {
    assert_eq!(network::judge_buffers(4 << 20, 4 << 20, 4 << 20).level, Level::Ok);
    let small = network::judge_buffers(4 << 20, 212_992, 4 << 20);
    assert_eq!(small.level, Level::Warn);
    assert!(small.fix.contains("net.core.rmem_max=4194304"), "{}", small.fix);
}

#[test]
fn kernels_before_4_18_have_no_gso() {
    let level = |release| network::gso(release).level;
    assert_eq!([level("4.17.9-generic"), level("odd")], [Level::Warn; 2]);
    assert_eq!([level("4.18.0"), level("6.1-rc2"), level("10.0.1")], [Level::Ok; 3]);
}

#[test]
fn frames_below_the_minimum_are_told_with_their_interface() {
    let judge = |list: &[(&str, u64)]| {
        let list: Vec<_> = list.iter().map(|(name, mtu)| ((*name).to_owned(), *mtu)).collect();
        network::judge_mtu(&list)
    };
    assert_eq!(judge(&[]).level, Level::Warn);
    assert!(judge(&[("eth0", 9000), ("wg0", 1200)]).fix.contains("wg0"));
    assert_eq!(judge(&[("eth0", 9000)]).fix, "");
    assert!(judge(&[("eth0", 1500)]).fix.contains("jumbo"));
}

#[test]
fn interfaces_are_read_from_the_system() {
    let dir = tempfile::tempdir().expect("a directory");
    let system = System { sys: dir.path().into(), ..System::default() };
    for (name, mtu, state) in
        [("eth0", "9000", "up"), ("eth1", "1500", "down"), ("lo", "65536", "unknown")]
    {
        let interface = dir.path().join("class/net").join(name);
        std::fs::create_dir_all(&interface).expect("made");
        std::fs::write(interface.join("mtu"), format!("{mtu}\n")).expect("written");
        std::fs::write(interface.join("operstate"), format!("{state}\n")).expect("written");
    }
    assert_eq!(network::mtu(&system).finding, "eth0 9000");
}

#[test]
fn limits_below_what_is_wanted_are_told() {
    let level = |finding: Finding| finding.level;
    assert_eq!(level(limits::judge_open_files(Some(1024))), Level::Warn);
    assert_eq!(level(limits::judge_open_files(Some(4096))), Level::Ok);
    assert_eq!(level(limits::judge_open_files(None)), Level::Ok);
}

#[test]
fn too_little_memory_to_lock_is_told_where_rdma_needs_it() {
    let judge = |limit, rdma| limits::judge_locked_memory(limit, 128 << 20, rdma);
    assert_eq!(judge(Some(64 << 10), false).level, Level::Warn);
    assert_eq!(judge(Some(8 << 20), false).level, Level::Ok);
    assert_eq!(judge(Some(128 << 20), true).level, Level::Ok);
    assert_eq!(judge(None, true).level, Level::Ok);
    assert_eq!(
        shown(&judge(Some(8 << 20), true)),
        "Warn memlock: 8.39 MB may be locked, the slab has 134 MB: RDMA locks it once for each \
         rail that is open [ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit; root is \
         exempt]"
    );
    assert!(limits::may_lock_all("Name:\tx\nCapEff:\t000001ffffffffff\n"));
    assert!(!limits::may_lock_all("CapEff:\t0000000000000000\n"));
    assert!(!limits::may_lock_all("CapPrm:\t000001ffffffffff\n"));
}

#[test]
fn a_refused_io_uring_names_the_switch_that_refuses_it() {
    let refused = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
    assert_eq!(limits::judge_uring(Ok(()), Some(2)).level, Level::Ok);
    let fix = |disabled| limits::judge_uring(refused(), disabled).fix;
    assert!(fix(Some(2)).contains("io_uring_disabled=0"));
    assert!(fix(Some(1)).contains("io_uring_group"));
    assert!(fix(Some(0)).contains("seccomp"));
}

#[test]
fn roots_that_lose_data_or_have_no_room_are_told() {
    let space = |magic, free_bytes| disk::Space {
        shown: "/data",
        magic,
        free_bytes,
        total_bytes: 1000 << 30,
        inodes: (1, 2),
        read_only: false,
    };
    let level = |space: disk::Space<'_>| disk::judge(&space).level;
    assert_eq!(level(space(0xEF53, 500 << 30)), Level::Ok);
    assert_eq!(level(space(0xDEAD, 500 << 30)), Level::Ok);
    for magic in [0x0102_1994, 0x6969, 0x794C_7630] {
        assert_eq!(level(space(magic, 500 << 30)), Level::Warn, "{magic:#x}");
    }
    assert_eq!(level(space(0xEF53, 1 << 30)), Level::Warn);
    assert_eq!(level(space(0xEF53, 0)), Level::Fail);
    assert_eq!(level(disk::Space { inodes: (0, 2), ..space(0xEF53, 1 << 39) }), Level::Fail);
    assert_eq!(level(disk::Space { inodes: (0, 0), ..space(0x9123_683E, 1 << 39) }), Level::Ok);
    assert_eq!(level(disk::Space { read_only: true, ..space(0xEF53, 1 << 39) }), Level::Fail);
    assert!(disk::judge(&space(0x0102_1994, 500 << 30)).finding.contains("/data on tmpfs"));
}

#[test]
fn every_local_check_runs_here_and_bad_findings_have_a_fix() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = RdmaSection::default();
    let findings = local(&LocalChecks {
        now: SystemTime::now(),
        certificate: None,
        root: Some(dir.path()),
        slab_bytes: 128 << 20,
        socket_buffer_bytes: 4 << 20,
        probe_uring: &|| Ok(()),
        rdma: RdmaChecks {
            built: true,
            settings: &settings,
            survey: survey(&Roots::default()),
            library: None,
        },
        gpus: crate::gpu::survey(),
        system: System::default(),
    });
    let checks: Vec<&str> = findings.iter().map(|finding| finding.check.as_str()).collect();
    // What follows depends on the devices that are here.
    assert!(checks.len() >= 10);
    assert_eq!(
        checks[..10],
        [
            "clock",
            "clock-sync",
            "udp-buffers",
            "gso",
            "mtu",
            "fd-limit",
            "memlock",
            "io-uring",
            "disk",
            "rdma"
        ]
    );
    assert_eq!(checks.last(), Some(&"gpu"));
    for finding in &findings {
        assert!(finding.level == Level::Ok || !finding.fix.is_empty(), "{}", shown(finding));
    }
    let missing = disk::root(Some(&dir.path().join("missing")));
    assert_eq!(missing.level, Level::Fail);
}
