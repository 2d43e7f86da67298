//! A chain lock that another process has: how long it takes to get it without stopping the one who
//! wants it. ctdbd executes a helper, which waits by libtdb; ours is a thread with a handle of its own.

use super::figures::{Pair, spread, time, times};
use super::programs::{Bench, Locks, Side, Work, turns};
use crate::report::say;
use anyhow::Result;
use std::fmt::Write;

/// For how long the other process has the lock, in microseconds.
const HOLDS_US: [u64; 4] = [50, 1_000, 10_000, 100_000];
/// Waits for a lock that is held for as long as this are made in a tenth of the number.
const LONG_US: u64 = 100_000;

pub(super) fn measure(bench: &Bench) -> Result<String> {
    let mut text = format!(
        "A process of libtdb has the lock for the time in the second column; {} waits each (a tenth \
         of it for the longest). Median (range), from the wish to the lock.\n\n\
         | locks | held for | helper process, libtdb | thread, ours | ours is as fast: times \
         | after it was free: helper | thread |\n|---|---|---|---|---|---|---|\n",
        bench.effort.waits
    );
    for locks in [Locks::Bytes, Locks::Mutexes] {
        let file = locks.name();
        bench.make(file, locks, &[])?;
        for hold_us in HOLDS_US {
            let waits =
                if hold_us < LONG_US { bench.effort.waits } else { bench.effort.waits / 10 };
            let (took, late) = one(bench, file, locks, hold_us, waits.max(1))?;
            let line = format!(
                "| {} | {} | {} | {} | {} | {} | {} |",
                locks.name(),
                time(hold_us as f64 * 1e3),
                spread(&took.libtdb, time),
                spread(&took.ours, time),
                times(super::figures::median(&took.libtdb) / super::figures::median(&took.ours)),
                spread(&late.libtdb, time),
                spread(&late.ours, time),
            );
            say(&line);
            let _ = writeln!(text, "{line}");
        }
    }
    Ok(text)
}

/// From the wish to the lock, and from when the lock was free.
fn one(bench: &Bench, file: &str, locks: Locks, hold_us: u64, waits: u64) -> Result<(Pair, Pair)> {
    let (mut took, mut late) = (Pair::default(), Pair::default());
    let options = [format!("hold_ns={}", hold_us * 1_000), format!("rounds={waits}")];
    let options = [&*options[0], &*options[1]];
    for side in turns(0) {
        let told = bench.run(side, file, &Work::new("contend", locks, &options))?;
        let (took, late) = match side {
            Side::Ours => (&mut took.ours, &mut late.ours),
            Side::Libtdb => (&mut took.libtdb, &mut late.libtdb),
        };
        took.extend(told.samples.iter().map(|(whole, _)| *whole as f64));
        late.extend(told.samples.iter().map(|(_, late)| *late as f64));
    }
    Ok((took, late))
}
