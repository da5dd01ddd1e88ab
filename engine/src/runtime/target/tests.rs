//! The store against the cruel tree.
