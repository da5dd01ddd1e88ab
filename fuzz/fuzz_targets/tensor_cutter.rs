//! The tensor cutter: headers of safetensors files.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::TENSOR_CUTTER.try_on(data);
});
