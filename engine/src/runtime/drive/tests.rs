//! Whole transfers over the in-memory link.
