//! Feeds [`unlade_fuzz::reference`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| unlade_fuzz::reference(data));
