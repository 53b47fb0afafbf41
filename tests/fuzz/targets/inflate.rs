//! Feeds [`unlade_fuzz::inflate`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| unlade_fuzz::inflate(data));
