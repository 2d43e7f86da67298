//! What it costs to look at a thousand processes (H4, H24).
//!
//! Whether anything is forked for it: whoever collects a child has its page faults added to
//! `cminflt` of /proc/PID/stat, and no program is executed without any.
//! Source: proc(5).

use super::Tools;
use crate::bench::idle::{Idle, Reports};
use crate::bench::process::{self, Use};
use crate::report::say;
use anyhow::Result;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::time::{Duration, Instant};
use trial::{House, Setting};

/// Until all of them run.
const START_MAX: Duration = Duration::from_mins(2);

/// What happens once, after a start, has happened by then; two looks at each among it.
const SETTLE: Duration = Duration::from_secs(12);

const MODES: [&str; 3] = ["off", "observe", "enforce"];

struct Cost {
    cpu_share: f64,
    watch_share: f64,
    used: Use,
    children_faults: u64,
}

pub(super) fn measure(tools: &Tools) -> Result<String> {
    let mut text = format!(
        "{} idle processes, one service each, looked at every 5 s for memory, descriptors and \
         threads, over {} s.\n\n\
         | mode | CPU of all of holdfast, of a core | of its watch duty | RSS | PSS | page faults of \
         children |\n|---|---|---|---|---|---|\n",
        tools.effort.processes, tools.effort.rest_s
    );
    let idle = Idle::build(&tools.folder)?;
    for mode in MODES {
        let cost = cost(tools, &idle, mode)?;
        let _ = writeln!(
            text,
            "| {mode} | {:.3} % | {:.3} % | {:.1} MiB | {:.1} MiB | {} |",
            cost.cpu_share * 100.0,
            cost.watch_share * 100.0,
            cost.used.rss_kib as f64 / 1024.0,
            cost.used.pss_kib as f64 / 1024.0,
            cost.children_faults,
        );
        say(text.lines().last().unwrap_or_default());
    }
    Ok(text)
}

fn cost(tools: &Tools, idle: &Idle, mode: &str) -> Result<Cost> {
    let fifo = tools.folder.join(format!("fifo-{mode}"));
    let reports = Reports::open(&fifo)?;
    let mut services = format!(
        "[defaults]\ntolerance = {{ mode = \"{mode}\", interval = \"5s\" }}\n\
         [defaults.detect]\nmemory = {{ limit = \"1GiB\" }}\ndescriptors = {{ limit = 1000 }}\n\
         threads = {{ limit = 1000 }}\n"
    );
    for number in 0..tools.effort.processes {
        let (program, fifo) = (idle.program().display(), fifo.display());
        let _ = write!(services, "[service.s{number:04}]\ncommand = [\"{program}\", \"{fifo}\"]\n");
    }
    let house =
        House::start(&tools.programs.holdfast, &Setting { services, ..Setting::default() })?;
    let deadline = Instant::now() + START_MAX;
    let mut started = 0;
    while started < tools.effort.processes && reports.next(deadline)?.is_some() {
        started += 1;
    }
    reports.count_for(SETTLE)?;
    let root = i32::try_from(house.pid())?;
    let own = process::own(root, idle.program())?;
    let watch: BTreeSet<i32> =
        own.iter().copied().filter(|pid| process::role(*pid) == "duty watch").collect();
    let (before, watch_before) = (process::used(&own), process::used(&watch));
    let (faults, begun) = (children_faults(&own), Instant::now());
    reports.count_for(Duration::from_secs(tools.effort.rest_s))?;
    let took = begun.elapsed().as_nanos() as f64;
    let (used, watch_used) = (process::used(&own), process::used(&watch));
    let cost = Cost {
        cpu_share: used.cpu_ns.saturating_sub(before.cpu_ns) as f64 / took,
        watch_share: watch_used.cpu_ns.saturating_sub(watch_before.cpu_ns) as f64 / took,
        used,
        children_faults: children_faults(&own).saturating_sub(faults),
    };
    house.stop()?;
    Ok(cost)
}

/// Minor and major page faults of all children that these processes have collected.
fn children_faults(pids: &BTreeSet<i32>) -> u64 {
    let stats = pids.iter().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    stats.map(|stat| faults_in(&stat)).sum()
}

fn faults_in(stat: &str) -> u64 {
    // After the name in parentheses the state is field 3; `cminflt` is 11, `cmajflt` 13.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = rest.split_whitespace().collect();
    [11, 13].iter().filter_map(|field| fields.get(field - 3)?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faults_of_children_are_fields_11_and_13() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 10 20 30 40 1 2 3 4 20 0 1 0 100 0 0";
        assert_eq!(faults_in(stat), 20 + 40);
    }
}
