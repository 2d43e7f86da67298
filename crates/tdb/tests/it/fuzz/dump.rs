//! The text of a dump: it is read or refused, and what was read can be written and read again.

use tdb::dump::{DumpError, Reader, escape, record, unescape};

type Records = Vec<(Vec<u8>, Vec<u8>)>;

pub(crate) fn dump(text: &[u8]) {
    if let Some(bytes) = unescape(text) {
        assert!(bytes.len() <= text.len());
        assert_eq!(unescape(escape(&bytes).as_bytes()), Some(bytes));
    }
    let mut records = Records::new();
    let mut faults = 0;
    for found in Reader::new(text) {
        match found {
            Ok(pair) => records.push(pair),
            Err(fault) => {
                assert!(!fault.to_string().is_empty());
                faults += 1;
            }
        }
    }
    assert!(faults <= 1, "nothing is read after a fault");
    let long: usize = records.iter().map(|(key, data)| key.len() + data.len()).sum();
    assert!(long <= text.len());
    let again: String = records.iter().map(|(key, data)| record(key, data)).collect();
    let read: Result<Records, DumpError> = Reader::new(again.as_bytes()).collect();
    assert_eq!(read.unwrap(), records);
}
