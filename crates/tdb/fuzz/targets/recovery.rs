//! libFuzzer's way into: a file with an interrupted transaction.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tdb_fuzz::recovery(bytes));
