//! The control channel, cut into frames.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::FRAME_STREAM.try_on(data);
});
