//! Replay, torn tails, damage.
