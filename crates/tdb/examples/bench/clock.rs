//! For how long something goes on, and how long it took.

use rustix::time::{ClockId, clock_gettime};

/// Operations between two looks at the clock.
const LOOKS: u64 = 64;

/// Nanoseconds of a clock; the monotonic one is the same in all processes.
fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The monotonic clock.
pub(crate) fn now() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Work that goes on for some time.
pub(crate) struct Span {
    began: u64,
    began_cpu: u64,
    end: u64,
    operations: u64,
}

impl Span {
    pub(crate) fn begin(ms: u64) -> Self {
        let began_cpu = nanoseconds(ClockId::ProcessCPUTime);
        let began = now();
        Self { began, began_cpu, end: began + ms * 1_000_000, operations: 0 }
    }

    /// Asked before each operation.
    pub(crate) fn goes_on(&mut self) -> bool {
        let goes_on = !self.operations.is_multiple_of(LOOKS) || now() < self.end;
        self.operations += u64::from(goes_on);
        goes_on
    }

    /// As [`Span::goes_on`], for operations that are longer than a look at the clock.
    pub(crate) fn goes_on_now(&mut self) -> bool {
        let goes_on = now() < self.end;
        self.operations += u64::from(goes_on);
        goes_on
    }

    /// What was done, in JSON.
    pub(crate) fn told(&self) -> String {
        self.told_of(self.operations)
    }

    pub(crate) fn told_of(&self, operations: u64) -> String {
        let ns = now() - self.began;
        let cpu_ns = nanoseconds(ClockId::ProcessCPUTime) - self.began_cpu;
        format!("{{\"operations\":{operations},\"ns\":{ns},\"cpu_ns\":{cpu_ns}}}")
    }
}
