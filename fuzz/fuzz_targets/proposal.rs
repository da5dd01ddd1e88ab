//! Proposals to lower a class.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::PROPOSAL.try_on(data);
});
