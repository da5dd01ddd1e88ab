//! A BLAKE3-256 digest.

use std::fmt;
use std::str::FromStr;

/// A BLAKE3-256 digest: of a chunk's bytes, of an object's chunk list, of a snapshot's entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Bytes in a digest.
    pub const BYTES: usize = 32;

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The first sixteen bytes as a number: a compact key for tables that re-check the rest.
    pub fn short(&self) -> u128 {
        let mut head = [0; 16];
        head.copy_from_slice(&self.0[..16]);
        u128::from_be_bytes(head)
    }

    /// A digest from exactly 32 bytes, or `None`.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A BLAKE3 hasher of many short pieces. They are gathered first: the longer the input, the more of it
/// is hashed at once.
#[derive(Debug, Clone)]
pub(crate) struct PieceHasher {
    hasher: blake3::Hasher,
    /// What is not hashed yet.
    pieces: Vec<u8>,
}

impl PieceHasher {
    /// Bytes that are hashed at once: twice the sixteen KiB that BLAKE3 hashes side by side where vectors
    /// are widest.
    const HASHED_BYTES: usize = 32 << 10;

    pub(crate) fn new(hasher: blake3::Hasher) -> Self {
        Self { hasher, pieces: Vec::new() }
    }

    /// Adds what `write` appends.
    pub(crate) fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.pieces);
        if self.pieces.len() >= Self::HASHED_BYTES {
            self.hasher.update(&self.pieces);
            self.pieces.clear();
        }
    }

    /// The digest of all pieces and of `end` after them.
    pub(crate) fn finish(&self, end: &[u8]) -> Digest {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.pieces).update(end);
        Digest(*hasher.finalize().as_bytes())
    }
}

/// A digest is 64 hexadecimal digits; this text is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct ParseDigestError;

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(ParseDigestError);
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| ParseDigestError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ParseDigestError)?;
        }
        Ok(Self(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_hashed_as_if_they_were_one() {
        let mut pieces = PieceHasher::new(blake3::Hasher::new());
        let mut whole = Vec::new();
        for len in
            [0, 1, 7, PieceHasher::HASHED_BYTES - 9, 1, 1, 100, 3 * PieceHasher::HASHED_BYTES, 5]
        {
            let piece = vec![len as u8 ^ 0x5a; len];
            pieces.add(|to| to.extend_from_slice(&piece));
            whole.extend(piece);
            assert_eq!(pieces.finish(b""), Digest::of(&whole));
        }
        whole.extend(b"end");
        assert_eq!(pieces.finish(b"end"), Digest::of(&whole));
    }

    #[test]
    fn a_digest_survives_its_text_form() {
        let digest = Digest::of(b"portway");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!("zz".parse::<Digest>(), Err(ParseDigestError));
        assert_eq!("+".repeat(64).parse::<Digest>(), Err(ParseDigestError));
    }
}
