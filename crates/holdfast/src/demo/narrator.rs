//! What the demo tells on the terminal.
//!
//! Invariant: a terminal that went away does not stop the demo from cleaning up; what can't be
//! printed is not printed.

use super::faults::{Fault, Recovery};
use super::visitor::Totals;
use super::world::World;
use crate::cli::output::{Output, Tone};
use crate::cli::text::{self, Page};
use std::path::Path;
use std::time::{Duration, Instant};

/// Tells the story, each line with the time since the beginning.
#[derive(Debug)]
pub(crate) struct Narrator<'a> {
    output: &'a Output,
    begun: Instant,
}

impl<'a> Narrator<'a> {
    /// The story begins now.
    pub(crate) fn new(output: &'a Output) -> Self {
        Self { output, begun: Instant::now() }
    }

    /// One line with the time; what does not fit goes on below its beginning.
    pub(crate) fn tell(&self, tone: Tone, what: &str) {
        self.tell_indented("", tone, what);
    }

    fn tell_indented(&self, indent: &str, tone: Tone, what: &str) {
        let lead = format!("{:>6.1} s  {indent}", self.begun.elapsed().as_secs_f64());
        let mut page = Page::default();
        page.message((&lead, Tone::Faint), (what, tone), self.output.look());
        self.print(page.text().trim_end());
    }

    /// Where to look, and what runs.
    pub(crate) fn introduce(&self, world: &World, started: Duration) {
        let paint = self.output.paint;
        let took = text::took(started);
        self.tell(Tone::Good, &format!("✓ all services are ready after {took}"));
        self.print("");
        self.print(&format!(
            "  {}  {}",
            paint.tone(Tone::Strong, "Console "),
            paint.tone(Tone::Accent, &world.console_url())
        ));
        self.print(&format!(
            "  {}  export HOLDFAST_SOCKET={}",
            paint.tone(Tone::Strong, "Terminal"),
            world.socket().display()
        ));
        let command = command_name(world.binary());
        self.print(&format!("            {command} status    (or: top, events -f)"));
        self.print(&format!(
            "  {}  Ctrl-C; nothing is left behind",
            paint.tone(Tone::Strong, "End     ")
        ));
        self.print("");
    }

    /// A fault is about to happen.
    pub(crate) fn fault(&self, fault: Fault) {
        self.tell(Tone::Strong, &format!("⚡ {}", fault.title()));
    }

    /// Something on the way.
    pub(crate) fn step(&self, what: &str) {
        self.tell_indented("  ", Tone::Faint, what);
    }

    /// How it ended.
    pub(crate) fn recovery(&self, recovery: &Recovery) {
        match &recovery.outcome {
            Ok((took, detail)) => {
                let took = text::took(*took);
                self.tell(Tone::Good, &format!("✓ recovered in {took}: {detail}"));
            }
            Err(why) => self.tell(Tone::Bad, &format!("✗ not recovered: {why}")),
        }
    }

    /// The end: all faults and their recoveries.
    pub(crate) fn table(&self, recoveries: &[Recovery], clients: Totals) {
        self.print("");
        for line in table(recoveries, clients) {
            let tone = match line.chars().next() {
                Some('✓') => Tone::Plain,
                Some('✗') => Tone::Bad,
                _ => Tone::Strong,
            };
            self.print(&self.output.paint.tone(tone, &line));
        }
    }

    fn print(&self, line: &str) {
        let _ = self.output.line(line);
    }
}

/// What to type for this very binary: its name where the shell finds it, else its path.
fn command_name(binary: &Path) -> String {
    let in_path = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path)
            .map(|dir| dir.join("holdfast"))
            .any(|found| std::fs::canonicalize(found).is_ok_and(|found| found == binary))
    });
    if in_path {
        return "holdfast".to_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    // Without a slash in it, a shell would look for the program in `PATH`.
    let near = binary.strip_prefix(here).ok().filter(|path| 1 < path.components().count());
    near.unwrap_or(binary).display().to_string()
}

/// One row a kind of fault: how often, how often recovered, the median and the longest time.
fn table(recoveries: &[Recovery], clients: Totals) -> Vec<String> {
    let title_columns =
        Fault::ALL.iter().map(|fault| text::width(fault.title())).max().unwrap_or(0);
    let heading = text::fit("FAULT", title_columns);
    let mut lines =
        vec![format!("  {heading}  {:>9}  {:>9}  {:>9}", "RECOVERED", "MEDIAN", "LONGEST")];
    for fault in Fault::ALL {
        let of: Vec<&Recovery> = recoveries.iter().filter(|r| r.fault == fault).collect();
        if of.is_empty() {
            continue;
        }
        let mut times: Vec<Duration> =
            of.iter().filter_map(|r| r.outcome.as_ref().ok()).map(|(took, _)| *took).collect();
        times.sort_unstable();
        let shown = |time: Option<&Duration>| time.map_or("-".to_owned(), |t| text::took(*t));
        lines.push(format!(
            "{} {}  {:>9}  {:>9}  {:>9}",
            if times.len() == of.len() { "✓" } else { "✗" },
            text::fit(fault.title(), title_columns),
            format!("{} of {}", times.len(), of.len()),
            shown(times.get(times.len().saturating_sub(1) / 2)),
            shown(times.last()),
        ));
    }
    let good = recoveries.iter().filter(|r| r.is_good()).count();
    lines.push(String::new());
    lines.push(format!(
        "  {good} of {} faults recovered; of the requests to web meanwhile:",
        recoveries.len()
    ));
    lines.push(format!(
        "  {} answered, {} refused, {} cut short by a crash",
        clients.answered, clients.refused, clients.cut_short
    ));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_a_fault_and_counts_what_did_not_recover() {
        let of = |fault, outcome| Recovery { fault, outcome };
        let good = |ms| Ok((Duration::from_millis(ms), "ready".to_owned()));
        let recoveries = [
            of(Fault::KillWeb, good(9)),
            of(Fault::KillWeb, good(3)),
            of(Fault::KillWeb, good(4)),
            of(Fault::Budget, Err("it is waiting".to_owned())),
        ];
        let clients = Totals { answered: 1000, refused: 0, cut_short: 2, slowest_us: 1 };
        insta::assert_snapshot!(table(&recoveries, clients).join("\n"));
    }
}
