//! A file that is only read: everything is asked, and no answer is longer than the file can hold.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use tdb::Database;

/// Keys that are asked for, of those that are there.
const KEYS_MAX: usize = 8;
/// Records of a damaged file may lie over each other; so many times its size is handed on at most.
const OVERLAP_MAX: u64 = 4;

pub(crate) fn read(bytes: &[u8]) {
    if let Ok(database) = Database::from_bytes(bytes.to_vec()) {
        ask(&database);
    }
}

/// Asks everything there is to ask.
pub(crate) fn ask(database: &Database) {
    let size = database.to_bytes().unwrap().len() as u64;
    let (mut seen, mut handed_on, mut keys) = (0, 0, BTreeSet::new());
    let visited = database.traverse(|key, data| {
        seen += 1;
        handed_on += (key.len() + data.len()) as u64;
        keys.insert(key.to_vec());
        ControlFlow::Continue(())
    });
    let visited = visited.map(|visited| assert_eq!(visited, seen));
    assert!(handed_on <= OVERLAP_MAX * size, "{handed_on} bytes of a file of {size}");
    let report = database.check().unwrap();
    assert!(report.findings.len() <= tdb::FINDINGS_MAX);
    let stats = database.stats();
    for key in
        keys.iter().take(KEYS_MAX).map(Vec::as_slice).chain([&b"alpha"[..], b"", b"zzz-missing"])
    {
        let value = database.fetch(key);
        let exists = database.exists(key);
        if let (Ok(value), Ok(exists)) = (&value, &exists) {
            assert_eq!(value.is_some(), *exists);
        }
        assert!(!report.is_clean() || value.is_ok() && exists.is_ok());
    }
    let rescued = database.rescue().unwrap();
    let saved: usize = rescued.records.iter().map(|(key, data)| key.len() + data.len()).sum();
    assert!(saved as u64 <= 2 * OVERLAP_MAX * size, "{saved} bytes of a file of {size}");
    if report.is_clean() {
        database.header().unwrap();
        visited.unwrap();
        // A value that was replaced may still be there, but is not handed on.
        assert!(seen <= report.live && keys.len() as u64 == seen);
        let stats = stats.unwrap();
        assert_eq!((stats.keys.count, stats.free.count), (report.live, report.free));
    }
}
