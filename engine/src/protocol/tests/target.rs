//! The target against a hand-made source.
