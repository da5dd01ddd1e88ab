//! Sets of extents against the bytes that they stand for.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::base::limits::OBJECT_BYTES_MAX;
use crate::base::{Extent, RelPath};

fn object(n: usize) -> RelPath {
    RelPath::from_bytes(&[b'a' + n as u8]).unwrap()
}

fn set(of: &[(usize, u64, u64)]) -> (ExtentSet, BTreeSet<(usize, u64)>) {
    let (mut extents, mut bytes) = (ExtentSet::default(), BTreeSet::new());
    for &(n, offset, len) in of {
        assert_eq!(extents.insert(&object(n), Extent { offset, len }), len > 0);
        bytes.extend((offset..offset + len).map(|at| (n, at)));
    }
    (extents, bytes)
}

fn bytes_of(extents: &ExtentSet) -> BTreeSet<(usize, u64)> {
    let mut out = BTreeSet::new();
    for (path, extent) in extents.iter() {
        let n = usize::from(path.as_bytes()[0] - b'a');
        out.extend((extent.offset..extent.offset + extent.len).map(|at| (n, at)));
    }
    out
}

proptest! {
    #[test]
    fn a_set_holds_the_bytes_that_were_put_in_in_one_form(
        one in prop::collection::vec((0_usize..3, 0_u64..60, 0_u64..20), 0..20),
        other in prop::collection::vec((0_usize..3, 0_u64..60, 0_u64..20), 0..20),
    ) {
        let ((a, bytes), (b, other_bytes)) = (set(&one), set(&other));
        prop_assert_eq!(bytes_of(&a), bytes.clone());
        prop_assert_eq!(a.bytes(), bytes.len() as u64);
        // Neither the order nor the way it was cut matters.
        let mut turned = one.clone();
        turned.reverse();
        prop_assert_eq!(&set(&turned).0, &a);
        let extents: Vec<_> = a.iter().collect();
        let apart = |pair: &[(&RelPath, Extent)]| {
            let end = pair[0].1.offset + pair[0].1.len;
            pair[0].0 < pair[1].0 || end < pair[1].1.offset
        };
        prop_assert!(extents.windows(2).all(apart));
        prop_assert_eq!(a.extents(), extents.len());
        // What was taken out and what is left are all of it, apart.
        for n in 0..3 {
            let mut rest = a.clone();
            let taken = rest.take_through(&object(n));
            prop_assert_eq!(rest.extents(), rest.iter().count());
            prop_assert_eq!(taken.extents(), taken.iter().count());
            prop_assert!(taken.iter().all(|(path, _)| *path <= object(n)));
            prop_assert!(rest.first().is_none_or(|first| *first > object(n)));
            rest.extend(&taken);
            prop_assert_eq!(&rest, &a);
        }
        // What is in one and not in the other.
        let rest = a.without(&b);
        let expected: BTreeSet<_> = bytes.difference(&other_bytes).copied().collect();
        prop_assert_eq!(bytes_of(&rest), expected);
        let mut both = b.clone();
        both.extend(&rest);
        let mut all = a.clone();
        all.extend(&b);
        prop_assert_eq!(&both, &all);
        // The sum says whether two are the same.
        prop_assert_eq!(a.sum() == b.sum(), a == b);
        prop_assert_eq!(a.sum(), set(&turned).0.sum());
    }
}

#[test]
fn an_extent_that_no_object_has_is_refused() {
    let mut set = ExtentSet::default();
    assert!(!set.insert(&object(0), Extent { offset: OBJECT_BYTES_MAX, len: 1 }));
    assert!(!set.insert(&object(0), Extent { offset: u64::MAX, len: 1 }));
    assert!(set.is_empty());
    assert!(set.insert(&object(0), Extent { offset: OBJECT_BYTES_MAX - 1, len: 1 }));
}

#[test]
fn a_large_set_is_split_into_records_that_keep_to_the_limits() {
    let mut set = ExtentSet::default();
    for n in 0..3000_u32 {
        let path = RelPath::from_bytes(format!("{n:0200}").as_bytes()).unwrap();
        for extent in 0..u64::from(n % 4) {
            assert!(set.insert(&path, Extent { offset: extent * 10, len: 5 }));
        }
    }
    for extent in 0..10_000 {
        assert!(set.insert(&object(0), Extent { offset: extent * 10, len: 5 }));
    }
    let mut whole = ExtentSet::default();
    let parts = set.clone().split();
    for part in &parts {
        assert!(part.extents() <= EXTENTS_PER_RECORD_MAX);
        assert!(part.objects() <= OBJECTS_PER_RECORD_MAX);
        let crossing = crossing(1);
        let record = Record::Progress(Progress { crossing, bytes: 1, left: part.clone() });
        crate::audit::codec::check(&record).unwrap();
        whole.extend(part);
    }
    assert_eq!(whole, set);
    assert!(parts.len() < 10, "{} parts", parts.len());
    assert!(ExtentSet::default().split().is_empty());
}

#[test]
fn the_sum_of_extents_is_a_format() {
    let sum = left().sum();
    assert_eq!(sum.extents, 3);
    let mut bytes = Vec::new();
    for (path, extents) in [("a", &[(0_u64, 100_u64), (200, 100)][..]), ("b/\u{e4}", &[(7, 100)])] {
        bytes.extend_from_slice(&(path.len() as u32).to_le_bytes());
        bytes.extend_from_slice(path.as_bytes());
        bytes.extend_from_slice(&(extents.len() as u64).to_le_bytes());
        for (offset, len) in extents {
            bytes.extend_from_slice(&offset.to_le_bytes());
            bytes.extend_from_slice(&len.to_le_bytes());
        }
    }
    assert_eq!(sum.digest, crate::base::Digest::of(&bytes));
}
