//! Roots and proofs against the definition, written down as the RFC has it.

use crate::audit::merkle::*;
use crate::base::Digest;

fn leaf(n: u64) -> Digest {
    Digest::of(&[&[0], &n.to_le_bytes()[..]].concat())
}

fn leaves(count: u64) -> Vec<Digest> {
    (0..count).map(leaf).collect()
}

/// `MTH` of RFC 9162, 2.1.1, by its recursion.
fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::of(b""),
        [one] => *one,
        _ => {
            let k = leaves.len().next_power_of_two() / 2;
            let (left, right) = (root(&leaves[..k]), root(&leaves[k..]));
            Digest::of(&[&[1], &left.0[..], &right.0[..]].concat())
        }
    }
}

/// `PATH` of RFC 9162, 2.1.3.1, by its recursion.
fn path(m: usize, leaves: &[Digest]) -> Vec<Digest> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let k = leaves.len().next_power_of_two() / 2;
    let (mut proof, last) = if m < k {
        (path(m, &leaves[..k]), root(&leaves[k..]))
    } else {
        (path(m - k, &leaves[k..]), root(&leaves[..k]))
    };
    proof.push(last);
    proof
}

/// `SUBPROOF` of RFC 9162, 2.1.4.1, by its recursion.
fn subproof(m: usize, leaves: &[Digest], whole: bool) -> Vec<Digest> {
    if m == leaves.len() {
        return if whole { Vec::new() } else { vec![root(leaves)] };
    }
    let k = leaves.len().next_power_of_two() / 2;
    let (mut proof, last) = if m <= k {
        (subproof(m, &leaves[..k], whole), root(&leaves[k..]))
    } else {
        (subproof(m - k, &leaves[k..], false), root(&leaves[..k]))
    };
    proof.push(last);
    proof
}

fn finish(prover: Option<Prover>, leaves: &[Digest]) -> Option<Vec<Digest>> {
    let mut prover = prover?;
    for leaf in leaves {
        prover.push(*leaf);
    }
    prover.finish()
}

const SIZE_MAX: u64 = 40;

#[test]
fn the_root_of_a_growing_tree_is_that_of_the_definition() {
    let mut tree = Frontier::default();
    for size in 0..200 {
        assert_eq!(tree.size(), size);
        assert_eq!(tree.root(), root(&leaves(size)), "{size} leaves");
        let again = Frontier::from_peaks(size, tree.peaks().to_vec());
        assert_eq!(again.as_ref(), Some(&tree));
        tree.push(leaf(size));
    }
    assert_eq!(Frontier::from_peaks(3, vec![leaf(0)]), None);
}

#[test]
fn each_leaf_is_proven_in_each_tree_and_in_no_other_place() {
    for size in 1..=SIZE_MAX {
        let all = leaves(size);
        for index in 0..size {
            let proof = finish(Prover::inclusion(index, size), &all).unwrap();
            assert_eq!(proof, path(index as usize, &all), "{index} of {size}");
            let holds = |leaf, index, size| inclusion_holds(leaf, index, size, &proof, root(&all));
            assert!(holds(leaf(index), index, size), "{index} of {size}");
            assert!(!holds(leaf(index + 1), index, size));
            assert!((0..=size).all(|other| other == index || !holds(leaf(index), other, size)));
            for at in 0..proof.len() {
                let mut bad = proof.clone();
                bad[at].0[7] ^= 1;
                assert!(!inclusion_holds(leaf(index), index, size, &bad, root(&all)));
                bad.remove(at);
                assert!(!inclusion_holds(leaf(index), index, size, &bad, root(&all)));
            }
            let more = [&proof[..], &[leaf(0)]].concat();
            assert!(!inclusion_holds(leaf(index), index, size, &more, root(&all)));
        }
        assert!(Prover::inclusion(size, size).is_none());
    }
}

#[test]
fn each_tree_is_proven_to_begin_each_larger_one_and_no_other() {
    for size in 1..=SIZE_MAX {
        let all = leaves(size);
        for old in 1..=size {
            let proof = finish(Prover::consistency(old, size), &all).unwrap();
            assert_eq!(proof, subproof(old as usize, &all, true), "{old} of {size}");
            let old_root = root(&all[..old as usize]);
            let holds = |proof: &[Digest], old_root, root| {
                consistency_holds(old, old_root, size, root, proof)
            };
            assert!(holds(&proof, old_root, root(&all)), "{old} of {size}");
            assert!(!holds(&proof, leaf(99), root(&all)), "{old} of {size}");
            assert!(!holds(&proof, old_root, leaf(99)), "{old} of {size}");
            for at in 0..proof.len() {
                let mut bad = proof.clone();
                bad[at].0[7] ^= 1;
                assert!(!holds(&bad, old_root, root(&all)), "{old} of {size}, {at}");
                bad.remove(at);
                assert!(!holds(&bad, old_root, root(&all)), "{old} of {size}, {at}");
            }
            let more = [&proof[..], &[leaf(0)]].concat();
            assert!(!holds(&more, old_root, root(&all)));
        }
        assert!(Prover::consistency(0, size).is_none());
        assert!(Prover::consistency(size + 1, size).is_none());
        assert!(!consistency_holds(0, root(&[]), size, root(&all), &[]));
        assert!(!consistency_holds(size + 1, root(&all), size, root(&all), &[]));
    }
}

#[test]
fn a_proof_needs_all_leaves_of_its_tree() {
    assert!(finish(Prover::inclusion(2, 5), &leaves(4)).is_none());
    let proof = finish(Prover::inclusion(2, 5), &leaves(5)).unwrap();
    assert_eq!(finish(Prover::inclusion(2, 5), &leaves(9)), Some(proof));
}

#[test]
fn subtrees_are_added_whole_where_they_begin() {
    let all = leaves(40);
    for first in 0..20 {
        for level in 0..5 {
            let mut tree = Frontier::default();
            all[..first as usize].iter().for_each(|leaf| tree.push(*leaf));
            let count = 1 << level;
            let root = root(&all[first as usize..(first + count) as usize]);
            let before = tree.clone();
            if first % count == 0 {
                assert!(tree.push_subtree(level, root));
                assert_eq!(tree.root(), super::merkle::root(&all[..(first + count) as usize]));
            } else {
                assert!(!tree.push_subtree(level, root));
                assert_eq!(tree, before);
            }
            assert!(!tree.push_subtree(64, root) && !tree.push_subtree(255, root));
        }
    }
}
