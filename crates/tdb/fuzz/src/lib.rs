//! What is done with the bytes that libFuzzer makes up.
//!
//! Why the code lies among the tests of `tdb`: whatever a run has found is done again by those tests,
//! on every machine and without a fuzzer (`tests/it/fuzz`, `tests/corpus`).
//!
//! **Never**: is built as a part of the product, or by its tests.
//!
//! **Stands on**: `tdb`, and libFuzzer.

#[path = "../../tests/it/fuzz/mod.rs"]
mod fuzz;

/// A file that is only read.
pub fn read(bytes: &[u8]) {
    fuzz::read(bytes);
}

/// A file that is opened and changed.
pub fn write(bytes: &[u8]) {
    fuzz::write(bytes);
}

/// A file with an interrupted transaction.
pub fn recovery(bytes: &[u8]) {
    fuzz::recovery(bytes);
}

/// The text of a dump.
pub fn dump(bytes: &[u8]) {
    fuzz::dump(bytes);
}
