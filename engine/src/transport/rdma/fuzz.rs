//! What the decoders of this module promise; `crate::fuzzing` lists them.

use bytes::Bytes;

use super::message::{Grant, Message, Note, RANGES_MAX, Range, encode_notes};
use super::port::QpAddress;
use crate::base::limits::LEASE_BYTES;

pub(crate) fn message(data: &[u8]) -> bool {
    let Ok(message) = Message::decode(data) else { return false };
    match message {
        Message::Content(skipped) => assert!(skipped <= data.len()),
        Message::Grant(grant) => {
            assert!(grant.bytes() <= LEASE_BYTES && grant.ranges.len() <= RANGES_MAX);
            assert_eq!(grant.encode(), data);
        }
        Message::Notes(notes) => {
            // What a peer gives as a reason is escaped, and may be cut by that.
            let mut rest = notes.clone();
            let again = encode_notes(&mut rest, usize::MAX);
            let again = match Message::decode(&again) {
                Ok(Message::Notes(again)) => again,
                other => unreachable!("notes that were accepted come back as {other:?}"),
            };
            assert_eq!(again.len(), notes.len());
            for pair in notes.iter().zip(&again) {
                assert!(matches!(pair, (Note::Down { .. }, Note::Down { .. })) || pair.0 == pair.1);
            }
        }
    }
    true
}

pub(crate) fn message_seeds() -> Vec<Vec<u8>> {
    let queue_pairs = vec![QpAddress { number: 17, psn: 3 }; 2];
    let mut notes = vec![
        Note::Setup { rail: 0, epoch: 1, mine: 0, yours: 1, queue_pairs: queue_pairs.clone() },
        Note::Answer { rail: 0, epoch: 1, queue_pairs },
        Note::Up { rail: 0, epoch: 1 },
        Note::Down { rail: 0, epoch: 1, why: "a reason".to_owned() },
        Note::Done { grant: 1, again: false },
    ];
    let grant = Grant {
        id: 1,
        rail: 0,
        epoch: 1,
        queue_pair: 0,
        rkey: 5,
        base: 1 << 40,
        ranges: vec![Range { offset: 0, len: 4096 }],
        header: Bytes::from_static(b"header"),
    };
    vec![encode_notes(&mut notes, usize::MAX).to_vec(), grant.encode().to_vec(), vec![0, 1, 2]]
}
