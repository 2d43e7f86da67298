//! `tdb dump`, `check`, `get` and `stat`: looks into a file.
//!
//! Invariant: nothing here writes to the file or locks it; keys and data go out escaped, unless raw
//! bytes were asked for, so that no record can play tricks on a terminal.
//! Source: the TDB specification, section 20.3, for the form of a dump.

use super::{File, bytes_of, failure, no_such_key, open, plural};
use crate::cli::failure::{Code, Failure};
use crate::cli::output::{Closed, Output, Tone};
use crate::cli::text;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use tdb::{ByteOrder, Database, HashKind, Stats, Tally};

/// Text that is gathered before it is written.
const WRITE_BYTES: usize = 64 * 1024;

/// Writes records as they come, in pieces of a size that costs few calls.
struct Printer<'a> {
    output: &'a Output,
    pending: String,
}

impl Printer<'_> {
    fn record(&mut self, key: &[u8], data: &[u8]) -> Result<(), Closed> {
        if self.output.json {
            let line = json!({ "key": tdb::dump::escape(key), "data": tdb::dump::escape(data) });
            self.pending.push_str(&line.to_string());
            self.pending.push('\n');
        } else {
            self.pending.push_str(&tdb::dump::record(key, data));
        }
        if WRITE_BYTES <= self.pending.len() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Closed> {
        self.output.raw(std::mem::take(&mut self.pending).as_bytes())
    }
}

pub(super) fn dump(output: &Output, database: &Database) -> Result<Code, Failure> {
    let mut printer = Printer { output, pending: String::new() };
    let mut closed = Ok(());
    let outcome = database.traverse(|key, data| {
        closed = printer.record(key, data);
        if closed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    closed?;
    // What was read before a fault is worth having.
    printer.flush()?;
    outcome.map_err(failure)?;
    Ok(Code::Done)
}

pub(super) fn rescue(output: &Output, database: &Database) -> Result<Code, Failure> {
    let rescued = database.rescue().map_err(failure)?;
    let mut printer = Printer { output, pending: String::new() };
    for (key, data) in &rescued.records {
        printer.record(key, data)?;
    }
    printer.flush()?;
    if 0 < rescued.skipped {
        let skipped = rescued.skipped;
        output.note(&format!("{skipped} more that overlap others were left out"));
    }
    Ok(Code::Done)
}

pub(super) fn get(
    output: &Output,
    database: &Database,
    key: &str,
    raw: bool,
) -> Result<Code, Failure> {
    let bytes = bytes_of("key", key)?;
    let Some(value) = database.fetch(&bytes).map_err(failure)? else {
        return Err(no_such_key(key));
    };
    if raw {
        output.raw(&value)?;
    } else if output.json {
        output.json(&json!({ "key": key, "data": tdb::dump::escape(&value) }))?;
    } else {
        output.line(&tdb::dump::escape(&value))?;
    }
    Ok(Code::Done)
}

pub(super) fn check(output: &Output, file: &File) -> Result<Code, Failure> {
    let report = open(file)?.check().map_err(failure)?;
    let code = if report.is_clean() { Code::Done } else { Code::No };
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    if output.json {
        let dead_space: Vec<Value> = report
            .dead_space
            .iter()
            .map(|(offset, length)| json!({ "offset": offset, "length": length }))
            .collect();
        output.json(&json!({
            "clean": report.is_clean(),
            "live": report.live,
            "dead": report.dead,
            "free": report.free,
            "dead_space": dead_space,
            "findings": findings,
            "findings_dropped": report.findings_dropped,
        }))?;
        return Ok(code);
    }
    for finding in &findings {
        output.line(&format!("{} {finding}", output.paint.tone(Tone::Bad, "✗")))?;
    }
    if 0 < report.findings_dropped {
        output.line(&format!("… and {} more", report.findings_dropped))?;
    }
    for (offset, length) in &report.dead_space {
        let what = format!(
            "{length} bytes at {offset:#x} that nothing refers to; `tdb repack` frees them"
        );
        output.line(&format!("{} {what}", output.paint.tone(Tone::Busy, "!")))?;
    }
    let path = text::clean(&file.path.display().to_string());
    if report.is_clean() {
        let what = format!("{path} is sound and has {}", plural(report.live));
        output.line(&format!("{} {what}", output.paint.tone(Tone::Good, "✓")))?;
        return Ok(code);
    }
    Err(Failure::no(format!("{path} is damaged"))
        .help("save what can be saved with `holdfast tdb dump --rescue FILE`"))
}

pub(super) fn stat(output: &Output, database: &Database) -> Result<Code, Failure> {
    let stats = database.stats().map_err(failure)?;
    if output.json {
        output.json(&as_json(&stats))?;
    } else {
        output.page(&page(&stats))?;
    }
    Ok(Code::Done)
}

fn words(stats: &Stats) -> (&'static str, &'static str) {
    let hash = match stats.hash {
        HashKind::Default => "default",
        HashKind::Jenkins => "jenkins",
    };
    let order = match stats.order {
        ByteOrder::Little => "little-endian",
        ByteOrder::Big => "big-endian",
    };
    (hash, order)
}

fn as_json(stats: &Stats) -> Value {
    let (hash, order) = words(stats);
    let tally = |tally: &Tally| {
        json!({
            "count": tally.count, "min": tally.min, "mean": tally.mean(), "max": tally.max,
            "sum": tally.sum,
        })
    };
    json!({
        "size": stats.size, "hash": hash, "order": order, "mutex_size": stats.mutex_size,
        "sequence": stats.sequence, "keys": tally(&stats.keys), "data": tally(&stats.data),
        "padding": tally(&stats.padding), "dead": tally(&stats.dead), "free": tally(&stats.free),
        "chains": tally(&stats.chains), "recovery": stats.recovery,
        "dead_space": stats.dead_space,
    })
}

fn page(stats: &Stats) -> String {
    let (hash, order) = words(stats);
    let head = [
        ("size", stats.size.to_string()),
        ("hash", hash.to_owned()),
        ("byte order", order.to_owned()),
        ("mutex area", stats.mutex_size.to_string()),
        ("sequence", stats.sequence.to_string()),
        ("recovery area", stats.recovery.to_string()),
        ("dead space", stats.dead_space.to_string()),
    ];
    let tallies = [
        ("keys", &stats.keys),
        ("data", &stats.data),
        ("padding", &stats.padding),
        ("dead records", &stats.dead),
        ("free records", &stats.free),
        ("chains", &stats.chains),
    ];
    let mut page = String::new();
    page.extend(head.iter().map(|(name, value)| format!("{name:<14}{value:>12}\n")));
    page.push_str("\n                     count         min        mean         max         sum\n");
    for (name, tally) in tallies {
        let Tally { count, min, max, sum } = tally;
        let mean = tally.mean();
        let numbers = format!("{count:>12}{min:>12}{mean:>12}{max:>12}{sum:>12}");
        page.extend([format!("{name:<14}"), numbers, "\n".to_owned()]);
    }
    page
}
