//! Checkpoints and receipts, as peers send them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::AUDIT_SIGNED.try_on(data);
});
