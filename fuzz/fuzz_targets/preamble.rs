//! The first words on a QUIC connection.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::PREAMBLE.try_on(data);
});
