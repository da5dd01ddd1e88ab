//! Words of frames as they travel: operations, classes, what is encoded, priorities.

use super::DecodeError;
use super::frame::Operation;
use super::messages::OpenMsg;
use crate::base::{Class, Parts, Priority};
use crate::encode::Compress;

/// A push of a part is an operation of its own, so that a peer that knows no parts refuses it.
const PUSH_PART: u32 = 3;

/// As it travels.
pub(super) fn operation_number(operation: Operation, parts: Option<&Parts>) -> u32 {
    match (operation, parts) {
        (Operation::Push, Some(_)) => PUSH_PART,
        (Operation::Push, None) => 0,
        (Operation::Pull, _) => 1,
        (Operation::Plan, _) => 2,
    }
}

/// What a session is for, and of how many parts what it brings is one.
pub(super) fn operation(msg: &OpenMsg) -> Result<(Operation, Option<Parts>), DecodeError> {
    match msg.operation {
        0 => Ok((Operation::Push, None)),
        1 => Ok((Operation::Pull, None)),
        2 => Ok((Operation::Plan, None)),
        PUSH_PART => {
            let parts = Parts::new(msg.parts, &msg.attempt);
            let parts = parts.map_err(|_| DecodeError::Field { field: "parts" })?;
            Ok((Operation::Push, Some(parts)))
        }
        _ => Err(DecodeError::Field { field: "operation" }),
    }
}

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
