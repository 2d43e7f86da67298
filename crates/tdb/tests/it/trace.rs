//! Operations that were recorded with libtdb leave the same bytes behind, step by step.
//!
//! Source: the section "Operation traces" of the README beside the golden files.

use super::golden_folder;
use serde_json::Value;
use std::fmt::Write as _;
use tdb::{Database, Error, Fault, HashKind, Store};

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// libtdb's number of an outcome.
fn code(outcome: Result<(), Error>) -> u64 {
    match outcome.as_ref().map_err(Error::fault) {
        Ok(()) => 0,
        Err(Fault::Exists) => 5,
        Err(Fault::NotFound) => 8,
        Err(other) => panic!("{other}"),
    }
}

fn apply(database: &mut Database, op: &[Value]) -> Result<(), Error> {
    let text = |at: usize| op[at].as_str().unwrap();
    let number = |at: usize| op[at].as_u64().unwrap();
    let bytes = || vec![u8::try_from(number(3)).unwrap(); usize::try_from(number(2)).unwrap()];
    match text(0) {
        "store" => {
            let how = match number(4) {
                1 => Store::Replace,
                2 => Store::Insert,
                3 => Store::Modify,
                other => panic!("store flag {other}"),
            };
            database.store(text(1).as_bytes(), &bytes(), how)
        }
        "append" => database.append(text(1).as_bytes(), &bytes()),
        "delete" => database.delete(text(1).as_bytes()),
        "wipe" => database.wipe(),
        other => panic!("operation {other}"),
    }
}

fn replay(name: &str) {
    let Some(folder) = golden_folder() else { return };
    let text = std::fs::read_to_string(folder.join(format!("trace-{name}.json"))).unwrap();
    let trace: Value = serde_json::from_str(&text).unwrap();
    let hash = match trace["hash"].as_str().unwrap() {
        "default" => HashKind::Default,
        _ => HashKind::Jenkins,
    };
    let hash_size = u32::try_from(trace["hash_size"].as_u64().unwrap()).unwrap();
    let mut database = Database::in_memory(hash_size, hash).unwrap();
    database.set_max_dead(u32::try_from(trace["max_dead"].as_u64().unwrap()).unwrap());
    if trace["seqnum"].as_bool().unwrap() {
        database.count_changes();
    }
    let steps = trace["steps"].as_array().unwrap();
    assert!(100 < steps.len());
    for (index, step) in steps.iter().enumerate() {
        let op = step["op"].as_array().unwrap();
        assert_eq!(code(apply(&mut database, op)), step["err"], "{name} step {index}: {op:?}");
        let bytes = database.to_bytes().unwrap();
        assert_eq!(bytes.len() as u64, step["size"], "{name} step {index}: {op:?}");
        assert_eq!(sha256(&bytes), step["sha256"], "{name} step {index}: {op:?}");
        let report = database.check().unwrap();
        assert!(report.is_clean(), "{name} step {index}: {:?}", report.findings);
    }
}

#[test]
fn the_default_hash_leaves_the_bytes_of_libtdb() {
    replay("default-h7");
}

#[test]
fn counted_changes_leave_the_bytes_of_libtdb() {
    replay("jenkins-h2-seqnum");
}

#[test]
fn deleted_records_that_are_used_again_leave_the_bytes_of_libtdb() {
    replay("jenkins-h3-maxdead5");
}
