//! One look at the machine, and at a file system.
//!
//! Source: proc_meminfo(5), proc_loadavg(5), proc_stat(5), proc_sys_kernel(5), statvfs(3), the
//! kernel's Documentation/accounting/psi.rst.

use super::files::{self, keyed, number, read_again};
use crate::proc_fs;
use rustix::fs::{Mode, OFlags, open};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Longest of the files below that we need to the end: /proc/stat has a line for each processor,
/// and only its first one is of interest.
const BUFFER_BYTES: usize = 8 * 1024;

/// One look at the machine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostSample {
    /// `MemTotal`, bytes.
    pub memory_total: u64,
    /// `MemAvailable`, bytes.
    pub memory_available: u64,
    /// `SwapTotal`, bytes.
    pub swap_total: u64,
    /// `SwapFree`, bytes.
    pub swap_free: u64,
    /// Hundredths of the 1-minute load average.
    pub load_percent: u32,
    /// Processors that we may use.
    pub cores: u32,
    /// The largest number of threads that the machine may have.
    pub threads_max: u64,
    /// Pressure stall information, where the kernel has it.
    pub pressure: Option<Pressure>,
    /// Time that the hypervisor has stolen since the boot.
    pub stolen: Duration,
}

/// Shares of the last ten seconds in which something waited, in hundredths of a percent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pressure {
    /// Of `cpu`, `some`.
    pub cpu_some: u32,
    /// Of `memory`, `some`.
    pub memory_some: u32,
    /// Of `memory`, `full`.
    pub memory_full: u32,
    /// Of `io`, `full`.
    pub io_full: u32,
}

/// Use of a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskSample {
    /// Bytes used.
    pub used: u64,
    /// Bytes in all that ordinary users may use.
    pub total: u64,
}

/// Looks at the machine, with its files kept open.
#[derive(Debug)]
pub struct HostReader {
    meminfo: OwnedFd,
    load: OwnedFd,
    stat: OwnedFd,
    pressure: Option<[OwnedFd; 3]>,
    buffer: Vec<u8>,
}

impl HostReader {
    /// Opens what there is. Fails without /proc.
    pub fn open() -> io::Result<Self> {
        let file = |path: &str| open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let pressure = |name: &str| file(&format!("/proc/pressure/{name}")).ok();
        let pressure = [pressure("cpu"), pressure("memory"), pressure("io")];
        let pressure = match pressure {
            [Some(cpu), Some(memory), Some(io)] => Some([cpu, memory, io]),
            _ => None,
        };
        Ok(Self {
            meminfo: file("/proc/meminfo")?,
            load: file("/proc/loadavg")?,
            stat: file("/proc/stat")?,
            pressure,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// One look.
    pub fn look(&mut self) -> io::Result<HostSample> {
        let mut sample =
            HostSample { cores: cores(), threads_max: threads_max(), ..HostSample::default() };
        let text = read_again(self.meminfo.as_fd(), &mut self.buffer)?;
        let bytes = |key| keyed(text, key).unwrap_or(0).saturating_mul(1024);
        sample.memory_total = bytes("MemTotal:");
        sample.memory_available = bytes("MemAvailable:");
        sample.swap_total = bytes("SwapTotal:");
        sample.swap_free = bytes("SwapFree:");
        let text = read_again(self.load.as_fd(), &mut self.buffer)?;
        sample.load_percent = hundredths(text).unwrap_or(0);
        let text = read_again(self.stat.as_fd(), &mut self.buffer)?;
        sample.stolen = stolen(text).unwrap_or_default();
        sample.pressure = self.pressure();
        Ok(sample)
    }

    /// Reading fails with EOPNOTSUPP where the kernel was started with `psi=0`.
    fn pressure(&mut self) -> Option<Pressure> {
        let [cpu, memory, io] = self.pressure.as_ref()?;
        let text = read_again(cpu.as_fd(), &mut self.buffer).ok()?;
        let cpu_some = average(text, "some")?;
        let text = read_again(memory.as_fd(), &mut self.buffer).ok()?;
        let (memory_some, memory_full) = (average(text, "some")?, average(text, "full")?);
        let text = read_again(io.as_fd(), &mut self.buffer).ok()?;
        let io_full = average(text, "full")?;
        Some(Pressure { cpu_some, memory_some, memory_full, io_full })
    }
}

/// Looks at the file system that holds a path. May block for as long as that file system does: a
/// network file system whose server is gone blocks for ever.
pub fn disk(path: &Path) -> io::Result<DiskSample> {
    let found = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    let used = bytes(found.f_blocks.saturating_sub(found.f_bfree));
    Ok(DiskSample { used, total: used.saturating_add(bytes(found.f_bavail)) })
}

/// Processors that this process may run on.
fn cores() -> u32 {
    match rustix::thread::sched_getaffinity(None) {
        Ok(allowed) => allowed.count().max(1),
        Err(_) => 1,
    }
}

fn threads_max() -> u64 {
    let read = |path: &str| number(&std::fs::read(path).ok()?);
    let limits = ["/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max"];
    limits.into_iter().filter_map(read).min().unwrap_or(u64::MAX)
}

/// `some avg10=2.12 avg60=…` of /proc/pressure.
fn average(text: &[u8], line: &str) -> Option<u32> {
    let line =
        text.split(|byte| *byte == b'\n').find(|found| found.starts_with(line.as_bytes()))?;
    hundredths(line.split(|byte| *byte == b' ').find_map(|word| word.strip_prefix(b"avg10="))?)
}

/// The hundredths of a number with two decimal places at the beginning of a text.
fn hundredths(text: &[u8]) -> Option<u32> {
    let text = text.split(u8::is_ascii_whitespace).next()?;
    let point = text.iter().position(|byte| *byte == b'.')?;
    let (whole, rest) = text.split_at(point);
    let whole = u32::try_from(number(whole)?).ok()?;
    let part = u32::try_from(number(rest.get(1..3)?)?).ok()?;
    whole.checked_mul(100)?.checked_add(part)
}

/// The eighth number behind `cpu`, in clock ticks.
fn stolen(text: &[u8]) -> Option<Duration> {
    let line = text.split(|byte| *byte == b'\n').next()?.strip_prefix(b"cpu ")?;
    let ticks =
        files::number(line.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).nth(7)?)?;
    let per_second = proc_fs::clock_ticks_per_second();
    let millis = ticks.saturating_mul(1000) / per_second;
    Some(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formats_of_the_kernel_are_read() {
        let text =
            b"some avg10=2.12 avg60=1.28 avg300=2.51 total=45475536\nfull avg10=0.05 avg60=0.00";
        assert_eq!(average(text, "some"), Some(212));
        assert_eq!(average(text, "full"), Some(5));
        assert_eq!(hundredths(b"10.03 0.01 0.05 1/234 5678\n"), Some(1003));
        for bad in ["", ".", "1", "1.", "1.2", "-1.00", "99999999999.00"] {
            assert_eq!(hundredths(bad.as_bytes()), None, "{bad}");
        }
        let ticks = proc_fs::clock_ticks_per_second();
        let line = format!("cpu  1 2 3 4 5 6 7 {} 0 0\ncpu0 1", 3 * ticks);
        assert_eq!(stolen(line.as_bytes()), Some(Duration::from_secs(3)));
        assert_eq!(stolen(b"cpu  1 2"), None);
    }

    #[test]
    fn h4_this_machine_is_read_from_the_kernel_itself() {
        let mut reader = HostReader::open().unwrap();
        let (first, second) = (reader.look().unwrap(), reader.look().unwrap());
        assert!(0 < first.memory_available && first.memory_available <= first.memory_total);
        assert!(first.swap_free <= first.swap_total);
        assert!(1 <= first.cores && 100 < first.threads_max);
        assert!(first.stolen <= second.stolen);
        assert_eq!(first.pressure.is_some(), std::fs::read("/proc/pressure/cpu").is_ok());
        let disk = disk(Path::new("/")).unwrap();
        assert!(0 < disk.used && disk.used <= disk.total);
        assert!(super::disk(Path::new("/no/such/path")).is_err());
    }
}
