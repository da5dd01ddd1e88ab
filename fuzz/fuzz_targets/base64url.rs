//! Base64url.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::BASE64URL.try_on(data);
});
