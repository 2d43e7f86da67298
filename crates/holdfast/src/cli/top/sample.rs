//! Memory and CPU of the main processes and of the machine, read from /proc.
//!
//! Why here: the root's snapshot has no samples, and `top` must work while the console is down. The
//! console counts whole process trees; these are the main processes alone.

use crate::cli::status;
use control::Snapshot;
use std::collections::BTreeMap;
use std::time::Instant;

/// The machine as a whole.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Machine {
    /// Of all cores together, 0 to 100.
    pub(super) cpu_percent: f32,
    /// In use, not to be had for others.
    pub(super) memory_used_bytes: u64,
    /// There is.
    pub(super) memory_bytes: u64,
}

/// One look.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Sample {
    /// The machine.
    pub(super) machine: Machine,
    /// CPU in percent of one core, and resident memory in bytes, by instance.
    pub(super) instances: BTreeMap<String, (f32, u64)>,
}

/// Remembers the last look, because CPU is a difference.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    looked: Option<Instant>,
    /// By process: start time and CPU ticks so far.
    ticks: BTreeMap<u32, (u64, u64)>,
    /// Busy and all jiffies of the machine.
    jiffies: (u64, u64),
}

impl Sampler {
    /// Looks at all processes of a snapshot.
    pub(super) fn sample(&mut self, snapshot: &Snapshot) -> Sample {
        let elapsed = self.looked.map(|looked| looked.elapsed().as_secs_f64());
        self.looked = Some(Instant::now());
        let per_second = sys::proc_fs::clock_ticks_per_second() as f64;
        let page = sys::proc_fs::page_size();
        let mut ticks = BTreeMap::new();
        let mut instances = BTreeMap::new();
        for instance in status::instances(snapshot) {
            let Some(stat) = instance.pid.and_then(|pid| sys::proc_fs::stat(pid).ok()) else {
                continue;
            };
            let now = stat.utime_ticks + stat.stime_ticks;
            let before = self.ticks.get(&stat.pid).filter(|(start, _)| *start == stat.start_ticks);
            let cpu = match (before, elapsed) {
                (Some((_, before)), Some(elapsed)) if 0.0 < elapsed => {
                    now.saturating_sub(*before) as f64 / per_second / elapsed * 100.0
                }
                _ => 0.0,
            };
            ticks.insert(stat.pid, (stat.start_ticks, now));
            instances.insert(instance.name.clone(), (cpu as f32, stat.rss_pages * page));
        }
        self.ticks = ticks;
        Sample { machine: self.machine(), instances }
    }

    fn machine(&mut self) -> Machine {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let now = jiffies(&read("/proc/stat"));
        let (busy, all) =
            (now.0.saturating_sub(self.jiffies.0), now.1.saturating_sub(self.jiffies.1));
        let is_first = self.jiffies == (0, 0);
        self.jiffies = now;
        let cpu_percent =
            if is_first || all == 0 { 0.0 } else { (busy as f64 / all as f64 * 100.0) as f32 };
        let meminfo = read("/proc/meminfo");
        let memory_bytes = kibibytes(&meminfo, "MemTotal:") * 1024;
        let free = kibibytes(&meminfo, "MemAvailable:") * 1024;
        let memory_used_bytes = memory_bytes.saturating_sub(free);
        Machine { cpu_percent, memory_used_bytes, memory_bytes }
    }
}

/// Busy and all time of the first line of /proc/stat (proc_stat(5)): user, nice, system, idle,
/// iowait, …
fn jiffies(stat: &str) -> (u64, u64) {
    let first = stat.lines().next().unwrap_or("");
    let numbers: Vec<u64> = first.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    // Guest time, from the ninth on, is in user time already.
    let all: u64 = numbers.iter().take(8).sum();
    let idle: u64 = numbers.iter().skip(3).take(2).sum();
    (all.saturating_sub(idle), all)
}

/// A line of /proc/meminfo (proc_meminfo(5)).
fn kibibytes(meminfo: &str, name: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read_and_nonsense_is_zero() {
        assert_eq!(jiffies("cpu  10 0 20 60 10 0 0 0 5 5\ncpu0 1 2"), (30, 100));
        assert_eq!(jiffies(""), (0, 0));
        assert_eq!(kibibytes("MemTotal:   16 kB\nMemAvailable: 4 kB\n", "MemAvailable:"), 4);
        assert_eq!(kibibytes("nonsense", "MemTotal:"), 0);
    }
}
