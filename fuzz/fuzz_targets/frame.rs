//! Frames of the control channel.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::FRAME.try_on(data);
});
