//! What the figures were taken on: without it they mean nothing.

use std::fs;

/// One line: processor, cores, memory, kernel, distribution, load before the run.
pub(crate) fn describe() -> String {
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
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{} ({cores} cores), {} MiB, Linux {}, {}, load average at the end {}",
        field("/proc/cpuinfo", "model name", ':'),
        memory_kib / 1024,
        kernel.trim(),
        field("/etc/os-release", "PRETTY_NAME", '=').trim_matches('"'),
        load.split_whitespace().next().unwrap_or("unknown"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_the_kernel() {
        let line = describe();
        assert!(line.contains("Linux ") && line.contains("cores"), "{line}");
    }
}
