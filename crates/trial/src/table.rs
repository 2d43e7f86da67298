//! The rows as a table: for a terminal, and for docs/faults.md.

use crate::catalogue::{CATALOGUE, Fault};
use crate::row::{Evidence, Mode, Row};
use std::fmt::Write;
use std::time::Duration;

/// A line for a terminal.
pub fn text(row: &Row) -> String {
    let mut line = format!(
        "{:<16} {:<8} {:<9} {:<20} {}",
        row.fault,
        row.mode.as_str(),
        time(row.detected),
        row.outcome,
        facts(row),
    );
    for problem in &row.problems {
        let _ = write!(line, "\n    NOT AS EXPECTED: {problem}");
    }
    line
}

fn facts(row: &Row) -> String {
    let mut facts = vec![
        format!("failed {}+{}", row.failed_before, row.failed_during),
        format!("evidence {}", evidence(&row.evidence)),
    ];
    facts.extend(row.recovered.map(|took| format!("recovered in {}", time(Some(took)))));
    facts.push(row.sentence.clone());
    facts.join("; ")
}

/// The tables of the page.
pub fn page(rows: &[Row]) -> String {
    let mut text = String::from("| fault | what goes wrong |\n|---|---|\n");
    for Fault { name, about, .. } in CATALOGUE {
        let _ = writeln!(text, "| {name} | {about} |");
    }
    for mode in Mode::ALL {
        let _ = write!(text, "\n### {}\n\n{}", heading(mode), head(mode));
        for row in rows.iter().filter(|row| row.mode == mode) {
            let _ = writeln!(text, "| {} |", cells(row).join(" | "));
        }
    }
    text
}

fn heading(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "Observe",
        Mode::Enforce => "Enforce",
    }
}

fn head(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => {
            "| fault | detected in | outcome | what was said | as expected |\n|---|---|---|---|---|\n"
        }
        Mode::Enforce => {
            "| fault | detected in | outcome | recovered in | failed requests: by the fault | … during the \
             replacement | evidence | what was said | as expected |\n\
             |---|---|---|---|---|---|---|---|---|\n"
        }
    }
}

fn cells(row: &Row) -> Vec<String> {
    let expected = if row.is_as_expected() { "yes".to_owned() } else { row.problems.join("; ") };
    let mut cells = vec![row.fault.to_owned(), time(row.detected), row.outcome.clone()];
    if row.mode == Mode::Enforce {
        cells.extend([
            time(row.recovered),
            row.failed_before.to_string(),
            row.failed_during.to_string(),
            evidence(&row.evidence),
        ]);
    }
    cells.extend([row.sentence.clone(), expected]);
    cells.into_iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect()
}

fn evidence(evidence: &Evidence) -> String {
    match evidence {
        Evidence::NotWanted => "–".to_owned(),
        Evidence::Complete { files } => format!("complete, {files} files"),
        Evidence::Partial(missing) => format!("not complete: {}", missing.join(", ")),
        Evidence::Lacking(why) => format!("none: {why}"),
    }
}

fn time(time: Option<Duration>) -> String {
    match time {
        None => "–".to_owned(),
        Some(time) => format!("{:.1} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_not_as_expected_says_so_everywhere() {
        let mut row = Row::new("deadlock", Mode::Enforce);
        row.detected = Some(Duration::from_millis(2_340));
        row.expect(false, || "it was not replaced".to_owned());
        assert!(text(&row).contains("NOT AS EXPECTED: it was not replaced"));
        let page = page(&[row]);
        assert!(page.contains("| deadlock | 2.3 s |") && page.contains("| it was not replaced |"));
    }
}
