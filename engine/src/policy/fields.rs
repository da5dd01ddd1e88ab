//! Fields of encodings, one after the other: numbers little-endian, texts after their lengths.

use std::str::{self, FromStr};

use super::words::{Principal, REASON_BYTES_MAX, Reason, WHO_BYTES_MAX};
use crate::base::{Digest, FileTime, RelPath};
use crate::manifest::DecodeError;

/// Writes fields. What is written was checked by its type, or by `check` of records.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(head: &[u8]) -> Self {
        Self(head.to_vec())
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn array(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u16(&mut self, value: usize) {
        debug_assert!(u16::try_from(value).is_ok(), "the limits keep lengths short");
        self.array(&(value as u16).to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.array(&value.to_le_bytes());
    }

    pub(crate) fn digest(&mut self, digest: &Digest) {
        self.array(&digest.0);
    }

    pub(crate) fn maybe_digest(&mut self, digest: Option<&Digest>) {
        self.u8(u8::from(digest.is_some()));
        if let Some(digest) = digest {
            self.digest(digest);
        }
    }

    pub(crate) fn time(&mut self, time: FileTime) {
        self.array(&time.secs.to_le_bytes());
        self.array(&time.nanos.to_le_bytes());
    }

    pub(crate) fn text8(&mut self, text: &str) {
        debug_assert!(text.len() <= 255, "names are short");
        self.u8(text.len() as u8);
        self.array(text.as_bytes());
    }

    pub(crate) fn bytes16(&mut self, bytes: &[u8]) {
        self.u16(bytes.len());
        self.array(bytes);
    }

    pub(crate) fn text16(&mut self, text: &str) {
        self.bytes16(text.as_bytes());
    }

    pub(crate) fn path(&mut self, path: &RelPath) {
        self.bytes16(path.as_bytes());
    }
}

/// Reads fields.
pub(crate) struct Reader<'a>(&'a [u8]);

pub(crate) fn wrong<T>(field: &'static str) -> Result<T, DecodeError> {
    Err(DecodeError::Field { field })
}

pub(crate) fn bounded(
    what: &'static str,
    value: usize,
    limit: usize,
) -> Result<usize, DecodeError> {
    let (wide, wide_limit) = (value as u64, limit as u64);
    if value > limit {
        return Err(DecodeError::Limit { what, value: wide, limit: wide_limit });
    }
    Ok(value)
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Everything was read.
    pub(crate) fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { wrong("end") }
    }

    pub(crate) fn slice(
        &mut self,
        field: &'static str,
        len: usize,
    ) -> Result<&'a [u8], DecodeError> {
        let Some((head, rest)) = self.0.split_at_checked(len) else { return wrong(field) };
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let Some((head, rest)) = self.0.split_first_chunk() else { return wrong(field) };
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn digest(&mut self, field: &'static str) -> Result<Digest, DecodeError> {
        Ok(Digest(self.array(field)?))
    }

    pub(crate) fn maybe_digest(
        &mut self,
        field: &'static str,
    ) -> Result<Option<Digest>, DecodeError> {
        match self.u8(field)? {
            0 => Ok(None),
            1 => self.digest(field).map(Some),
            _ => wrong(field),
        }
    }

    pub(crate) fn time(&mut self, field: &'static str) -> Result<FileTime, DecodeError> {
        let secs = i64::from_le_bytes(self.array(field)?);
        let nanos = u32::from_le_bytes(self.array(field)?);
        bounded("nanoseconds", nanos as usize, 999_999_999)?;
        Ok(FileTime { secs, nanos })
    }

    pub(crate) fn bytes16(
        &mut self,
        field: &'static str,
        limit: usize,
    ) -> Result<&'a [u8], DecodeError> {
        let len = bounded(field, self.u16(field)?.into(), limit)?;
        self.slice(field, len)
    }

    fn text16(&mut self, field: &'static str, limit: usize) -> Result<&'a str, DecodeError> {
        str::from_utf8(self.bytes16(field, limit)?).or(wrong(field))
    }

    fn text8(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let len = self.u8(field)?;
        str::from_utf8(self.slice(field, len.into())?).or(wrong(field))
    }

    pub(crate) fn principal(&mut self, field: &'static str) -> Result<Principal, DecodeError> {
        self.text16(field, WHO_BYTES_MAX)?.parse().or(wrong(field))
    }

    /// A name of any kind.
    pub(crate) fn name<T: FromStr>(&mut self, field: &'static str) -> Result<T, DecodeError> {
        self.text8(field)?.parse().or(wrong(field))
    }

    pub(crate) fn path(&mut self) -> Result<RelPath, DecodeError> {
        Ok(RelPath::from_bytes(self.bytes16("path", usize::from(u16::MAX))?)?)
    }

    pub(crate) fn code<T>(
        &mut self,
        field: &'static str,
        of: impl Fn(u8) -> Option<T>,
    ) -> Result<T, DecodeError> {
        of(self.u8(field)?).ok_or(DecodeError::Field { field })
    }

    pub(crate) fn reason(&mut self) -> Result<Reason, DecodeError> {
        self.text16("reason", REASON_BYTES_MAX).map(Reason::new)
    }
}
