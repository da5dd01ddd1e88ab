//! Tests over made-up trees.
