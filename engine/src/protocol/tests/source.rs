//! The source against a hand-made target.
