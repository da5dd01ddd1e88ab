//! What decoders of records with sums promise, and inputs that are made of such records.

/// What some bytes begin with.
pub(crate) enum Framed {
    /// A record; these are its bytes, made anew of what it holds.
    Whole(Vec<u8>),
    /// More bytes are needed, this many in all.
    Short(usize),
    /// No record.
    Damaged,
}

/// One record, its sum as it comes or, after a byte that is odd, as it should be: what is made is found,
/// and what is found is made again. A record has at most `longest` bytes.
pub(crate) fn framed(
    data: &[u8],
    make: impl Fn(&[u8]) -> Vec<u8>,
    parse: impl Fn(&[u8]) -> Framed,
    longest: usize,
) -> bool {
    let Some((mode, rest)) = data.split_first() else { return false };
    if mode % 2 == 1 {
        let made = make(rest);
        assert!(matches!(parse(&made), Framed::Whole(again) if again == made));
        return true;
    }
    match parse(rest) {
        Framed::Whole(again) => {
            assert_eq!(again, rest[..again.len()]);
            true
        }
        Framed::Short(want) => {
            assert!(want > rest.len() && want <= longest);
            false
        }
        Framed::Damaged => false,
    }
}

/// Payloads, each after its length u16 LE.
pub(crate) struct Payloads<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Payloads<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first_chunk()?;
        let (payload, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        self.0 = rest;
        Some(payload)
    }
}
