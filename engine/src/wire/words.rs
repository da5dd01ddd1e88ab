//! Words of frames as they travel: classes, what is encoded, priorities.

use super::DecodeError;
use crate::base::{Class, Priority};
use crate::encode::Compress;

/// As it travels: nothing is the empty text.
pub(super) fn class_text(class: Option<Class>) -> String {
    class.map_or_else(String::new, |class| class.to_string())
}

pub(super) fn class(text: &str) -> Result<Option<Class>, DecodeError> {
    let wrong = |_| DecodeError::Field { field: "class" };
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(wrong) }
}

/// As it travels: one that knows no encodings sends nothing, which is zero.
pub(super) fn compress_number(compress: Compress) -> u32 {
    match compress {
        Compress::Never => 0,
        Compress::Auto => 1,
        Compress::Always => 2,
    }
}

pub(super) fn compress(number: u32) -> Result<Compress, DecodeError> {
    match number {
        0 => Ok(Compress::Never),
        1 => Ok(Compress::Auto),
        2 => Ok(Compress::Always),
        _ => Err(DecodeError::Field { field: "compress" }),
    }
}

/// As it travels: one that a later build knows is the lowest here.
pub(super) fn priority(number: u32) -> Priority {
    u8::try_from(number).ok().and_then(Priority::from_code).unwrap_or(Priority::Bulk)
}
