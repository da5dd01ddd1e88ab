//! The `portway` command.

fn main() {}
