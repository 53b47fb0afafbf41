//! Feeds [`unlade_fuzz::layer`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| unlade_fuzz::layer(data));
