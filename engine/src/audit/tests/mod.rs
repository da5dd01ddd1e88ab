//! Tests of the audit log.
mod merkle;
