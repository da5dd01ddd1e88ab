//! Each limit is named by evidence of its shape.
