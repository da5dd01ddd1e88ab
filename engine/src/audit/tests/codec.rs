//! Records as bytes: golden vectors, limits, and that there is one form for each.

use proptest::prelude::*;

use super::*;
use crate::audit::codec::RECORD_BYTES_MAX;
use crate::audit::extents::{
    EXTENTS_PER_RECORD_MAX, OBJECTS_PER_RECORD_MAX, PATHS_PER_RECORD_BYTES_MAX,
};
use crate::audit::fuzz::{encoded, entries};
use crate::audit::portable::Portable;
use crate::base::{Digest, Extent};
use crate::manifest::DecodeError;
use crate::policy::{ParsePrincipalError, REASON_BYTES_MAX, WHO_BYTES_MAX};

/// The records of `fuzz::records`, encoded. A change here is a change of the format.
#[test]
fn the_bytes_of_each_kind_are_a_format() {
    let golden = [
        ("key", 180, "bd457fc93b120ba39081f08b34fb91806552d0c03a7420d8280b9f0938af2717"),
        ("seal", 154, "490a3697a37c7427cd18e0a6112c7b127cd130159bd1bbc03044f0826083a0a6"),
        ("witness", 255, "d845499324d168637ecfbf7a272079060dcc75b4a08f9c29c02ab51dda7eba68"),
        ("decision", 240, "c19be87a04edd897f29dfbf21956625e4fcae9b881abfae1fb00a0d891ccd05f"),
        ("start", 214, "92e342545be8feff0177fecc24846046d2b714755020eaa1b1f02a5fdca84981"),
        ("progress", 285, "65476017c91a574ddd33ef40624006f1ec75f5eca2c3aa4ed867149964bbf06f"),
        ("stop", 263, "cae54612df08d08229e94fba86715157bedfc0f35a0b2865cbfc43bd80616aef"),
        ("receipt", 549, "26ada0f6bb37bb8dbb2a614f8ed59419e2c9077c132dcd0348abcbbfae09b173"),
        ("dispute", 260, "866948829fb20f4dbe5bcefd3f0510af5f58c24f32a1e8b784893ee788a69948"),
        ("meter", 242, "ada527e1fb49cc78d82b25b199edb07943efffbdc90340901a03fa74f4e293b6"),
        ("meter", 231, "52f3cfb96326cf0c589a6f7f1de2d34a00b029d329b01da79affb6e055f0a2c8"),
    ];
    let found = entries().into_iter().map(|entry| {
        let bytes = encoded(&entry);
        assert_eq!(Entry::decode(&bytes).as_ref(), Ok(&entry));
        (entry.record.kind(), bytes.len(), Digest::of(&bytes).to_string())
    });
    let found: Vec<_> = found.collect();
    let golden = golden.map(|(kind, len, digest)| (kind, len, digest.to_owned()));
    assert_eq!(found, golden);
}

/// One record to the byte, as the document has it.
#[test]
fn a_start_is_laid_out_as_the_document_says() {
    let entry = Entry { seq: 4, at: TIME, record: Record::Start(crossing(7)) };
    let who = "spiffe://portway-0123456789abcdef/tier/private/site/onprem/node/gpu-1";
    let expected: Vec<u8> = [
        &[1, 5][..],
        &4_u64.to_le_bytes(),
        &1_780_272_000_i64.to_le_bytes(),
        &123_456_789_u32.to_le_bytes(),
        &7_u128.to_le_bytes(),
        &[69, 0],
        who.as_bytes(),
        &[14, 0],
        b"models/\xff\n=x,\"y",
        &[0],
        &[8],
        b"internal",
        &[6],
        b"onprem",
        &[5],
        b"gpu-1",
        &[5],
        b"cloud",
        &[5],
        b"gpu-7",
        &[12],
        b"onprem-cloud",
        &[1],
        &12_u64.to_le_bytes(),
        &Digest::of(b"policy").0,
    ]
    .concat();
    assert_eq!(encoded(&entry), expected);
}

#[test]
fn a_record_cut_short_or_with_more_behind_it_is_none() {
    for entry in entries() {
        let bytes = encoded(&entry);
        for cut in 0..bytes.len() {
            assert!(Entry::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        assert!(Entry::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}

#[test]
fn a_checkpoint_is_its_fields_and_nothing_more() {
    let Record::Seal(checkpoint) = &entries()[1].record else { panic!("a seal") };
    let bytes = checkpoint.encode();
    assert_eq!(Checkpoint::decode(&bytes).as_ref(), Ok(checkpoint));
    assert!(Checkpoint::decode(&bytes[1..]).is_err());
    assert!(Checkpoint::decode(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let field = |bytes: &[u8]| match Entry::decode(bytes) {
        Err(DecodeError::Field { field }) => field,
        other => panic!("{other:?}"),
    };
    let mut bytes = encoded(&entries()[4]);
    bytes[0] = 2;
    assert_eq!(field(&bytes), "version");
    bytes[0] = 1;
    for kind in [0, 11, 255] {
        bytes[1] = kind;
        assert_eq!(field(&bytes), "kind");
    }
}

#[test]
fn what_has_no_place_in_a_record_is_refused() {
    for bad in ["", "spiffe://", "https://x", "spiffe://a b", "spiffe://a\nb", "spiffe://\u{e4}"] {
        assert_eq!(bad.parse::<Principal>(), Err(ParsePrincipalError), "{bad:?}");
    }
    let long = format!("spiffe://{}", "a".repeat(WHO_BYTES_MAX - 9));
    assert!(long.parse::<Principal>().is_ok());
    assert!(format!("{long}a").parse::<Principal>().is_err());
    for bad in ["", "A", "a b", "a/b", "-a"] {
        assert!(bad.parse::<Word>().is_err(), "{bad:?}");
    }
    // A reason is cut at a character.
    let text = "\u{e4}".repeat(REASON_BYTES_MAX);
    assert_eq!(Reason::new(&text).as_str().len(), REASON_BYTES_MAX);
    assert_eq!(Reason::new(&format!("a{text}")).as_str().len(), REASON_BYTES_MAX - 1);
}

#[test]
fn extents_have_one_form() {
    // Of the progress record: bytes u64, then objects.
    let entry = Entry { seq: 5, at: TIME, record: progress(7) };
    let bytes = encoded(&entry);
    let objects = bytes.len() - (2 + 2 + 1 + 2 + 2 * 16 + 2 + 4 + 2 + 16);
    assert_eq!(bytes[objects..objects + 7], [2, 0, 1, 0, b'a', 2, 0]);
    let extent = |n: usize| objects + 7 + n * 16;
    let with = |at: usize, value: u64| {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        Entry::decode(&bytes).is_ok()
    };
    assert!(with(extent(0), 1), "another offset");
    assert!(!with(extent(0) + 8, 0), "an empty extent");
    assert!(!with(extent(1), 100), "one that touches the one before");
    assert!(!with(extent(1), 50), "one that overlaps it");
    assert!(!with(extent(1), 0), "one that is before it");
    assert!(!with(extent(1) + 8, u64::MAX), "one that ends nowhere");
    let mut twice = bytes.clone();
    twice[extent(2) + 2..extent(2) + 3].copy_from_slice(b"a");
    assert!(Entry::decode(&twice).is_ok(), "a path behind the first");
    twice[extent(2) + 2..extent(2) + 3].copy_from_slice(b"A");
    assert!(Entry::decode(&twice).is_err(), "a path before the first");
}

/// A progress record of `objects` with names of `path_bytes`, each with `extents`.
fn decoded(objects: usize, path_bytes: usize, extents: u64) -> Result<Entry, DecodeError> {
    let mut left = ExtentSet::default();
    for object in 0..objects {
        let mut name = format!("{object:06}");
        name.extend((name.len()..path_bytes).map(|at| if at % 200 == 199 { '/' } else { 'a' }));
        let path = RelPath::from_typed(name.as_bytes()).unwrap();
        for at in 0..extents {
            assert!(left.insert(&path, Extent { offset: at * 10, len: 5 }));
        }
    }
    let record = Record::Progress(Progress { crossing: crossing(7), bytes: 300, left });
    let kept = crate::audit::codec::check(&record);
    let found = Entry::decode(&encoded(&Entry { seq: 5, at: TIME, record }));
    assert_eq!(kept.err(), found.as_ref().err().cloned(), "what is not read is not written");
    found
}

#[test]
fn what_one_record_has_of_extents_is_bounded() {
    let refused = |found: Result<Entry, DecodeError>| {
        assert!(matches!(found, Err(DecodeError::Limit { .. })), "{found:?}");
    };
    decoded(OBJECTS_PER_RECORD_MAX, 6, 1).expect("as many as there may be");
    refused(decoded(OBJECTS_PER_RECORD_MAX + 1, 6, 1));
    decoded(4, 6, EXTENTS_PER_RECORD_MAX as u64 / 4).expect("as many as there may be");
    refused(decoded(4, 6, EXTENTS_PER_RECORD_MAX as u64 / 4 + 1));
    let long = Entry::decode(&vec![1; RECORD_BYTES_MAX + 1]);
    assert!(matches!(long, Err(DecodeError::Limit { what: "record", .. })), "{long:?}");
    decoded(64, PATHS_PER_RECORD_BYTES_MAX / 64, 1).expect("as long as they may be");
    refused(decoded(64, PATHS_PER_RECORD_BYTES_MAX / 64 + 1, 1));
}

proptest! {
    #[test]
    fn whatever_is_accepted_has_these_bytes(kind in 0_usize..10, at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = encoded(&entries()[kind]);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(entry) = Entry::decode(&bytes) {
            prop_assert_eq!(encoded(&entry), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0_u8..11) {
        let head = [1, kind];
        if let Ok(entry) = Entry::decode(&[&head[..], &bytes].concat()) {
            prop_assert_eq!(encoded(&entry), [&head[..], &bytes].concat());
        }
    }
}
