//! What a running `serve` leaves for other commands.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::SERVE_RECORD.try_on(data);
});
