//! libFuzzer's way into: the text of a dump.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tdb_fuzz::dump(bytes));
