//! What can be read about a run and about the machine at one moment.
//!
//! A number that could not be read is `None`, never 0: a detector that gets none says nothing (G3).

use std::time::Duration;

/// One look at a run: all processes of its tree together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sample {
    /// Processes alive, without zombies.
    pub processes: u32,
    /// Zombies among its children: ended, and not collected by their parent.
    pub zombies: u32,
    /// Threads of all processes.
    pub threads: u32,
    /// CPU time, user and system, used by the processes that are alive now since they began.
    pub cpu: Duration,
    /// Context switches, voluntary and not, of the same processes.
    pub switches: Option<u64>,
    /// Time that the same processes were ready to run and got no processor: `run_delay`, the
    /// second number of /proc/PID/schedstat. It tells a service that starves from one that hangs.
    pub run_delay: Option<Duration>,
    /// Memory, bytes: proportional share where the kernel tells it cheaply, else resident.
    pub memory: Option<u64>,
    /// Swapped memory, bytes.
    pub swap: Option<u64>,
    /// Open descriptors of the process that has most, and its `RLIMIT_NOFILE` (soft).
    pub descriptors: Option<(u64, u64)>,
    /// Threads that wait for a lock (futex), and threads in any sleep.
    pub lock_waits: Option<LockWaits>,
    /// Processes or threads in uninterruptible sleep: pid or thread id, and where in the kernel.
    pub uninterruptible: Vec<(u32, String)>,
    /// Its sockets.
    pub sockets: Option<SocketSample>,
    /// Memory limit of its control group, bytes, if it has one.
    pub memory_limit: Option<u64>,
    /// Limit of processes and threads of its control group, if it has one.
    pub threads_limit: Option<u64>,
    /// All processes of it are stopped (SIGSTOP, state `T`) or frozen.
    pub stopped: bool,
}

/// How the threads of a run sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LockWaits {
    /// Threads looked at; at most a bounded number a sample.
    pub looked_at: u32,
    /// Of these, asleep in a futex (or a lock of the kernel).
    pub on_locks: u32,
    /// Of these, running or ready to run.
    pub running: u32,
}

/// The sockets of a run, from the kernel's socket diagnostics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SocketSample {
    /// Connections that wait to be accepted, over all its listening sockets.
    pub queue: u32,
    /// The longest that these queues may become.
    pub queue_limit: u32,
    /// Established connections on its listening ports.
    pub established: u32,
    /// Connections in CLOSE_WAIT.
    pub close_wait: u32,
    /// Bytes that peers have acknowledged, over the established connections.
    pub bytes_acked: u64,
    /// Bytes received, over the same.
    pub bytes_received: u64,
    /// How long the connection that has waited longest has waited to be accepted; zero if none
    /// waits, `None` where the kernel does not tell. For TCP: a connection to a listening port
    /// without an inode was accepted by nobody yet, and has never sent anything, so that
    /// `tcpi_last_data_sent` is its age. One that its client has closed meanwhile (CLOSE_WAIT)
    /// counts too.
    pub queue_waiting: Option<Duration>,
    /// Connections that were accepted and wait for an answer; `None` where the kernel does not
    /// tell.
    pub unanswered: Option<Unanswered>,
}

/// Accepted connections whose peer waits for an answer: it has spoken since the program last sent
/// something (`tcpi_last_data_recv` is less than `tcpi_last_data_sent`), or nothing was ever
/// acknowledged on it. One that the peer has closed meanwhile (CLOSE_WAIT) counts too; an idle
/// keep-alive connection does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Unanswered {
    /// How many.
    pub connections: u32,
    /// How long the one that waits longest waits: the largest `tcpi_last_data_recv` of them; zero
    /// if there is none.
    pub longest: Duration,
}

/// One look at the machine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostSample {
    /// `MemTotal`, bytes.
    pub memory_total: u64,
    /// `MemAvailable`, bytes.
    pub memory_available: u64,
    /// `SwapTotal` and `SwapFree`, bytes.
    pub swap_total: u64,
    /// Free swap, bytes.
    pub swap_free: u64,
    /// Hundredths of the 1-minute load average.
    pub load_percent: u32,
    /// Processors that we may use.
    pub cores: u32,
    /// Largest number of threads the machine may have.
    pub threads_max: u64,
    /// Pressure stall information, where the kernel has it.
    pub pressure: Option<Pressure>,
    /// Time that had been stolen by the hypervisor since the boot.
    pub stolen: Duration,
    /// How late this look was taken, against its plan: a starving observer says so.
    pub late: Duration,
}

/// Share of the last ten seconds in which something waited, in hundredths of a percent.
/// Source: Documentation/accounting/psi.rst of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pressure {
    /// `cpu`, `some`.
    pub cpu_some: u32,
    /// `memory`, `some`.
    pub memory_some: u32,
    /// `memory`, `full`.
    pub memory_full: u32,
    /// `io`, `full`.
    pub io_full: u32,
}

/// Use of the file system below a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskSample {
    /// Bytes used.
    pub used: u64,
    /// Bytes in all that may be used by ordinary users.
    pub total: u64,
}
