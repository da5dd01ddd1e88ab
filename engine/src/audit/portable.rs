//! What nodes send to each other of their logs, as bytes.

use crate::manifest::DecodeError;
use crate::policy::fields::{Reader, Writer};

/// A value that is some fields one after the other, and nothing else.
pub(crate) trait Portable: Sized {
    /// Writes its fields.
    fn put(&self, out: &mut Writer);

    /// Reads its fields.
    fn take(fields: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Its bytes.
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(&[]);
        self.put(&mut out);
        out.finish()
    }

    /// Decodes it. Signatures are not looked at.
    ///
    /// # Errors
    /// The bytes are something else.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Reader::new(bytes);
        let value = Self::take(&mut fields)?;
        fields.end()?;
        Ok(value)
    }
}
