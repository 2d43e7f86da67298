//! The faults, each with the service that has it, how it is brought about, and what is expected.
//!
//! Source: requirement H25.

use std::time::Duration;

/// One fault.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Fault {
    /// Its name.
    pub name: &'static str,
    /// What goes wrong, for the documentation.
    pub about: &'static str,
    /// Arguments of the program with the faults.
    pub(crate) program: &'static str,
    /// The detectors, as TOML; `@BACKEND@` is something that the service depends on.
    pub(crate) detect: &'static str,
    /// More keys of the service, as TOML.
    pub(crate) more: &'static str,
    /// How it is brought about.
    pub(crate) strike: Strike,
    /// What is right.
    pub(crate) expect: Expect,
    /// Longest time until it is noticed.
    pub(crate) within: Duration,
    /// What can't be kept of it, by any tool: what its evidence says is missing begins so.
    pub(crate) unkept: &'static str,
}

/// How a fault is brought about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Strike {
    /// The program is told to have it.
    Told,
    /// The process is stopped by SIGSTOP.
    Stopped,
    /// What it depends on, another service of ours, answers nothing any more.
    BackendHangs,
    /// What it depends on, outside, is gone for a while.
    OutsideGone,
    /// What it depends on, outside, is slow for a while.
    OutsideSlow,
    /// The daemon, all of it, loses this much time, as on a machine that was suspended; and the
    /// service lives in a time namespace whose clocks are days ahead.
    TimeLost(Duration),
    /// Its next start does not come to an end.
    StartHangs,
}

/// What is right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expect {
    /// It is replaced, and requests that are begun meanwhile may fail only if it may answer them
    /// itself.
    Replaced(Loss),
    /// Nothing is done, for nothing has to be; nobody else suffers.
    Borne,
    /// Nothing is done to it: it is not to blame. Whoever is, if it is ours, is replaced.
    NotBlamed,
    /// It is started again by the limit of its start.
    StartedAgain,
}

/// Whether requests may fail while it is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Loss {
    /// It still answers: none is lost.
    None,
    /// It takes requests and does not answer them, until it is gone.
    OfTheSick,
}

const SOON: Duration = Duration::from_secs(20);

const fn fault(name: &'static str, about: &'static str, program: &'static str) -> Fault {
    Fault {
        name,
        about,
        program,
        detect: "",
        more: "",
        strike: Strike::Told,
        expect: Expect::Replaced(Loss::None),
        within: SOON,
        unkept: "",
    }
}

impl Fault {
    const fn seen_by(self, detect: &'static str) -> Self {
        Self { detect, ..self }
    }

    const fn with(self, more: &'static str) -> Self {
        Self { more, ..self }
    }

    const fn by(self, strike: Strike) -> Self {
        Self { strike, ..self }
    }

    const fn expect(self, expect: Expect) -> Self {
        Self { expect, ..self }
    }

    const fn without(self, unkept: &'static str) -> Self {
        Self { unkept, ..self }
    }

    /// It needs a file system of its own.
    pub(crate) fn wants_disk(&self) -> bool {
        self.detect.contains("disk")
    }
}

const HTTP: &str = "[service.victim.detect.http]\nurl = \"http://127.0.0.1:@PORT@/\"\n\
    interval = \"200ms\"\ntimeout = \"400ms\"\nfailures = 3\n";

const BACKLOG: &str =
    "[service.victim.detect.backlog]\nqueue = 2\nconnections = 4\nlasting = \"2s\"\n";

/// All of them, in the order of the documentation.
pub const CATALOGUE: &[Fault] = &[
    fault("leak-fast", "leaks 20 MB of memory a second", "leak-memory rate=20000000")
        .seen_by("[service.victim.detect.memory]\nlimit = \"64MiB\"\n"),
    Fault { within: Duration::from_mins(1), ..SLOW_LEAK },
    fault("fd-leak", "opens 100 files a second, and closes none", "leak-descriptors rate=100")
        .seen_by("[service.victim.detect.descriptors]\nlimit = 200\n"),
    fault(
        "connection-leak",
        "its connection pool forgets 50 connections a second that the other side has closed",
        "leak-connections rate=50",
    )
    .seen_by("[service.victim.detect.close_wait]\nlimit = 100\n"),
    fault("thread-leak", "starts 50 threads a second that never end", "leak-threads rate=50")
        .seen_by("[service.victim.detect.threads]\nlimit = 100\n"),
    fault("deadlock", "two threads wait for each other's lock, all others for them", "deadlock")
        .seen_by("[service.victim.detect.deadlock]\nlasting = \"2s\"\n")
        .expect(Expect::Replaced(Loss::OfTheSick)),
    fault("livelock", "one thread tries again without end, under a lock", "livelock")
        .seen_by("[service.victim.detect.livelock]\ncore_percent = 30\nlasting = \"3s\"\n")
        .expect(Expect::Replaced(Loss::OfTheSick)),
    fault("no-answer", "accepts every connection, and answers none", "mute")
        .seen_by(BACKLOG)
        .expect(Expect::Replaced(Loss::OfTheSick)),
    fault("stopped", "all its threads are stopped (SIGSTOP)", "none")
        .seen_by(HTTP)
        .by(Strike::Stopped)
        .expect(Expect::Replaced(Loss::OfTheSick)),
    fault("uninterruptible", "a thread is in uninterruptible sleep (state D)", "uninterruptible")
        .seen_by("[service.victim.detect.uninterruptible]\nlasting = \"2s\"\n")
        // No tool can stop a thread in that state.
        .without("stacks-user.txt: the stacks of process"),
    fault("fork-bomb", "forks as fast as it can; its control group allows 64 processes", "bomb")
        .seen_by("[service.victim.detect.threads]\nshare_percent = 80\n")
        .with("limits = { pids = 64 }\n")
        // The rest are the same sixty times.
        .without("stacks-user.txt: stacks of 8 of its"),
    fault("zombies", "never collects its children, 50 a second", "zombies rate=50")
        .seen_by("[service.victim.detect.threads]\nlimit = 100\n"),
    fault(
        "disk-filler",
        "fills its file system of 64 MiB, 10 MB a second",
        "fill-disk rate=10000000",
    )
    .seen_by("[service.victim.detect.disk]\npath = \"{dir}/disk\"\nlimit = \"32MiB\"\n"),
    fault("output-flood", "writes 50 MB of output a second", "flood rate=50000000")
        .seen_by(HTTP)
        .with("log = { size = \"8MiB\", keep = 2 }\n")
        .expect(Expect::Borne),
    fault("ignores-term", "answers nothing, and ignores SIGTERM", "stubborn")
        .seen_by(BACKLOG)
        .expect(Expect::Replaced(Loss::OfTheSick)),
    fault(
        "escape",
        "answers nothing, and has a child in a session of its own, whose parent is gone",
        "escape",
    )
    .seen_by(BACKLOG)
    .expect(Expect::Replaced(Loss::OfTheSick)),
    fault("dependency-down", "what it asks for each answer is gone", "none backend=@BACKEND@")
        .seen_by(HTTP)
        .with("depends = { store = { tcp = \"127.0.0.1:@BACKEND@\" } }\n")
        .by(Strike::OutsideGone)
        .expect(Expect::NotBlamed),
    fault("dependency-slow", "what it asks for each answer takes 2 s", "none backend=@BACKEND@")
        .seen_by(HTTP)
        .with(
            "depends = { store = { http = \"http://127.0.0.1:@BACKEND@/\", slow = \"300ms\" } }\n",
        )
        .by(Strike::OutsideSlow)
        .expect(Expect::NotBlamed),
    fault(
        "dependency-hangs",
        "what it asks for each answer, another service of ours, accepts and does not answer",
        "none backend=@BACKEND@",
    )
    .seen_by(HTTP)
    .with("depends = { store = { service = \"backend\" } }\n")
    .by(Strike::BackendHangs)
    .expect(Expect::NotBlamed),
    fault(
        "clock-jump",
        "the daemon loses 6 s, as on a suspended machine; the service's clocks are days ahead",
        "none",
    )
    .seen_by(HTTP)
    .by(Strike::TimeLost(Duration::from_secs(6)))
    .expect(Expect::Borne),
    fault("start-hangs", "its start does not come to an end", "none")
        .seen_by(HTTP)
        .with("start_timeout = \"2s\"\n")
        .by(Strike::StartHangs)
        .expect(Expect::StartedAgain),
];

const SLOW_LEAK: Fault =
    fault("leak-slow", "leaks 3 MB of memory a second", "leak-memory rate=3000000").seen_by(
        "[service.victim.detect.memory]\nlimit = \"128MiB\"\n\
         trend = { window = \"20s\", ahead = \"10s\" }\n",
    );

/// The fault of that name.
pub fn find(name: &str) -> Option<&'static Fault> {
    CATALOGUE.iter().find(|fault| fault.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_found() {
        let names: BTreeSet<&str> = CATALOGUE.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
        assert!(names.iter().all(|name| find(name).is_some()));
        assert!(find("none").is_none());
    }

    #[test]
    fn each_fault_is_looked_for_by_a_detector() {
        assert!(CATALOGUE.iter().all(|fault| fault.detect.contains("[service.victim.detect.")));
    }
}
