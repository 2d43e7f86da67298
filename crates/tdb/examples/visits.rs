//! Several processes that share one file: each counts its visit, and the last ones are remembered
//! together with the number, or not at all.
//!
//! ```text
//! cargo run -p tdb --example visits -- /tmp/visits.tdb anna
//! cargo run -p tdb --example visits -- /tmp/visits.tdb bert
//! tdbdump /tmp/visits.tdb
//! ```

use std::error::Error;
use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;
use tdb::{Create, Options, Store};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(name)) = (arguments.next(), arguments.next()) else {
        return Err("usage: visits FILE NAME".into());
    };
    let mut database =
        Options::new().create(Create::Missing).wait(Duration::from_secs(5)).open(path)?;

    // The chain of the key is locked, so nobody counts between the reading and the writing.
    let mut counter = database.lock(b"visits")?;
    let before = counter.fetch(b"visits")?.unwrap_or_default();
    let visits = std::str::from_utf8(&before)?.parse::<u64>().unwrap_or(0) + 1;
    counter.store(b"visits", visits.to_string().as_bytes(), Store::Replace)?;
    drop(counter);

    // Both records or none, also if this process is killed in the middle.
    let mut transaction = database.transaction()?;
    transaction.store(b"last", name.as_bytes(), Store::Replace)?;
    transaction.append(b"all", format!("{visits} {name}\n").as_bytes())?;
    transaction.commit()?;

    let mut out = std::io::stdout().lock();
    database.traverse(|key, data| {
        let (key, data) = (String::from_utf8_lossy(key), String::from_utf8_lossy(data));
        match writeln!(out, "{key}: {data}") {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    Ok(())
}
