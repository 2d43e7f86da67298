//! libFuzzer's way into: a file that is opened and changed.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tdb_fuzz::write(bytes));
