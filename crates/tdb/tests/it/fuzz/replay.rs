//! The corpus is done again: what libFuzzer found to lead somewhere new, and whatever was a fault once.

use std::panic::catch_unwind;
use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "nothing in {}", folder.display());
    let failed: Vec<_> = files
        .iter()
        .filter(|file| {
            let bytes = std::fs::read(file).unwrap();
            catch_unwind(|| run(&bytes)).is_err()
        })
        .collect();
    assert!(failed.is_empty(), "{failed:?}; what went wrong is told above");
}

#[test]
fn the_corpus_of_files_that_are_read_is_done_again() {
    replay("read", super::read);
}

#[test]
fn the_corpus_of_files_that_are_changed_is_done_again() {
    replay("write", super::write);
}

#[test]
fn the_corpus_of_interrupted_transactions_is_done_again() {
    replay("recovery", super::recovery);
}

#[test]
fn the_corpus_of_dumps_is_done_again() {
    replay("dump", super::dump);
}
