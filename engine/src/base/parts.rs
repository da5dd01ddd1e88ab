//! Which part of a snapshot a writer brings.

use std::fmt;

/// A snapshot that several writers bring, a part each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    count: u32,
    attempt: String,
}

/// It is no number of parts, or no name of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a snapshot has 1 to {} parts, and its attempt a name of at most {} bytes",
    Parts::MAX,
    Parts::ATTEMPT_BYTES_MAX
)]
pub struct PartsError;

impl Parts {
    /// Most parts that a snapshot may have.
    pub const MAX: u32 = 1 << 16;
    /// Longest name of an attempt, in bytes.
    pub const ATTEMPT_BYTES_MAX: usize = 64;

    /// So many parts. Those of an attempt of another name do not count.
    ///
    /// # Errors
    /// It is 0 or more than [`Parts::MAX`], or the name is longer than [`Parts::ATTEMPT_BYTES_MAX`].
    pub fn new(count: u32, attempt: &str) -> Result<Self, PartsError> {
        if !(1..=Self::MAX).contains(&count) || attempt.len() > Self::ATTEMPT_BYTES_MAX {
            return Err(PartsError);
        }
        Ok(Self { count, attempt: attempt.to_owned() })
    }

    /// How many parts there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The name of the attempt to save it.
    pub fn attempt(&self) -> &str {
        &self.attempt
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.count, self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_at_least_one_part_and_not_too_many() {
        for count in [0, Parts::MAX + 1, u32::MAX] {
            assert_eq!(Parts::new(count, ""), Err(PartsError), "{count}");
        }
        assert_eq!(Parts::new(Parts::MAX, "a").unwrap().count(), Parts::MAX);
        assert_eq!(Parts::new(1, &"a".repeat(64)).unwrap().attempt().len(), 64);
        assert_eq!(Parts::new(1, &"a".repeat(65)), Err(PartsError));
    }
}
