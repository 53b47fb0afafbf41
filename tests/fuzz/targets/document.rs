//! Feeds [`unlade_fuzz::document`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| unlade_fuzz::document(data));
