//! Who yields to whom, and what is left.

use super::rate::Left;
use super::*;

const STEP_NS: u64 = 200_000_000;

fn bytes_per_s(left: &Left) -> Option<u64> {
    left.rate().map(Rate::bytes_per_s)
}

#[test]
fn what_is_left_rises_while_there_is_room_and_falls_while_there_is_none() {
    let (mut left, mut now) = (Left::default(), 0);
    let mut step = |left: &mut Left, seen| {
        now += STEP_NS;
        left.step(now, seen);
    };
    step(&mut left, Seen::default());
    assert_eq!(bytes_per_s(&left), None, "nobody comes first");
    let moves = Seen { moves: true, ..Seen::default() };
    step(&mut left, moves);
    assert_eq!(bytes_per_s(&left), Some(65_536), "what comes first has everything");
    for _ in 0..20 {
        step(&mut left, moves);
    }
    let risen = bytes_per_s(&left).unwrap();
    assert!(risen > 50_000_000, "{risen}");
    step(&mut left, Seen { full: true, ..moves });
    assert!(bytes_per_s(&left).unwrap() <= risen / 2 + 1);
    for _ in 0..40 {
        step(&mut left, Seen { busy: true, ..moves });
    }
    assert_eq!(bytes_per_s(&left), Some(65_536), "never nothing");
    step(&mut left, Seen::default());
    assert_eq!(bytes_per_s(&left), None);
}

#[test]
fn looks_that_follow_fast_are_one_step() {
    let mut left = Left::default();
    let moves = Seen { moves: true, ..Seen::default() };
    for now in 0..100 {
        left.step(now, moves);
    }
    assert_eq!(bytes_per_s(&left), Some(65_536));
}

#[test]
fn processes_of_a_home_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Arc::new(Shares::open(dir.path()).unwrap());
    let (ours, theirs) = (open(), open());
    let job = |shares: &Arc<Shares>, priority| Share::new(Arc::clone(shares), priority, None);
    let bulk = job(&ours, Priority::Bulk);
    let mut look = bulk.look(Direction::Out);
    let pace = bulk.pace(Direction::Out).unwrap();
    look.again(1 << 20, Waits::Nothing);
    assert_eq!(pace.rate(), None);
    job(&theirs, Priority::Staging).moves(Direction::Out);
    look.again(2 << 20, Waits::Nothing);
    assert!(pace.rate().is_some(), "it yields to staging in another process");
    let staging = job(&ours, Priority::Staging);
    staging.look(Direction::Out).again(1 << 20, Waits::Nothing);
    assert_eq!(staging.pace(Direction::Out).unwrap().rate(), None, "which yields to nobody");
    assert!(job(&ours, Priority::Interactive).pace(Direction::Out).is_none());
}

#[test]
fn a_full_way_out_says_nothing_of_the_way_in() {
    let shares = Shares::default();
    shares.say(Priority::Interactive, Direction::Out, true);
    let now = now_ns();
    let seen = |direction| shares.seen(Priority::Bulk, direction, now);
    assert_eq!(seen(Direction::Out), Seen { moves: true, full: true, busy: false });
    assert_eq!(seen(Direction::In), Seen { moves: true, full: false, busy: false });
    let later = now + NOW_NS;
    assert_eq!(shares.seen(Priority::Bulk, Direction::Out, later), Seen::default());
    let boot = shares.seen(Priority::Bulk, Direction::Out, 1);
    assert_eq!(boot, Seen::default(), "a board of another boot");
}

#[test]
fn what_is_received_at_its_own_cap_leaves_the_rest() {
    let shares = Arc::new(Shares::default());
    let limit = Rate::from_bytes_per_s(1);
    let capped = Share::new(Arc::clone(&shares), Priority::Interactive, limit);
    capped.look(Direction::In).again(1 << 20, Waits::Nothing);
    assert!(!shares.seen(Priority::Bulk, Direction::In, now_ns()).full);
    let free = Share::new(Arc::clone(&shares), Priority::Interactive, None);
    free.look(Direction::In).again(1 << 20, Waits::Nothing);
    assert!(shares.seen(Priority::Bulk, Direction::In, now_ns()).full);
}

#[test]
fn what_is_sent_at_its_own_cap_leaves_the_rest_though_the_way_is_full_at_times() {
    let shares = Arc::new(Shares::default());
    let capped = Share::new(Arc::clone(&shares), Priority::Interactive, Rate::from_mbps(100));
    let mut look = capped.look(Direction::Out);
    let is_full = || shares.seen(Priority::Bulk, Direction::Out, now_ns()).full;
    let mut moved = 0;
    let mut looks = |waits: &[Waits]| {
        for waits in waits {
            moved += 1 << 20;
            look.again(moved, *waits);
        }
    };
    looks(&[Waits::OwnCap, Waits::OwnCap]);
    looks(&[Waits::Network; 2]);
    assert!(!is_full(), "it is what it was let");
    looks(&[Waits::Network; 20]);
    assert!(is_full(), "the link holds it back");
}

#[test]
fn that_there_was_no_room_is_forgotten_sooner_than_that_others_move() {
    let shares = Shares::default();
    shares.say(Priority::Interactive, Direction::Out, true);
    let later = now_ns() + FULL_NS;
    let seen = shares.seen(Priority::Bulk, Direction::Out, later);
    assert_eq!(seen, Seen { moves: true, full: false, busy: false });
}
