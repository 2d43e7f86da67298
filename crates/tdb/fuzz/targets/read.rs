//! libFuzzer's way into: a file that is only read.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tdb_fuzz::read(bytes));
