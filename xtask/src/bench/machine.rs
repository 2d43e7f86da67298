//! What the figures were taken on: without it they mean nothing.

use std::fs;

/// The load average of the last minute.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// One line: processor, cores, memory, kernel, distribution, load before and after the run.
pub(crate) fn describe(load_before: &str) -> String {
    let field = |file: &str, name: &str, separator: char| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(separator)
            .map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = field("/proc/meminfo", "MemTotal", ':');
    let memory_kib: u64 =
        memory.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{} ({cores} cores), {} MiB, Linux {}, {}, load average {load_before} before and {} after",
        field("/proc/cpuinfo", "model name", ':'),
        memory_kib / 1024,
        kernel.trim(),
        field("/etc/os-release", "PRETTY_NAME", '=').trim_matches('"'),
        load(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_the_kernel() {
        let line = describe("0.1");
        assert!(line.contains("Linux ") && line.contains("cores"), "{line}");
    }
}
