//! The file of invitations.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::INVITES.try_on(data);
});
