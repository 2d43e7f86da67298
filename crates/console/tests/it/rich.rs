//! A node on which much is going on at once: what the pages must be able to show.

use control::{
    DependencyView, DutyView, EvidenceFile, EvidenceIndex, EvidenceMissing, HealthView,
    InstanceView, QuarantineView, ReplacingView, ServiceView, Snapshot, VerdictView, WhyLink,
    WorkaroundView,
};

/// The bundle of the run that is being replaced.
pub(crate) const EVIDENCE: &str = "zope:0/20261124T101500.123Z-57";

const SECOND_US: i64 = 1_000_000;
const HOUR_US: i64 = 3600 * SECOND_US;
const MIB: f64 = 1_048_576.0;

/// The node at one moment; `step` counts the looks, ten seconds apart, up to `steps`.
pub(crate) fn snapshot(taken_us: i64, step: u32, steps: u32) -> Snapshot {
    let me = std::process::id();
    let age = f64::from(steps - step) / 6.0;
    Snapshot {
        node: "app-1".into(),
        version: "0.1.0".into(),
        pid: me,
        started_us: taken_us - 200 * HOUR_US,
        taken_us,
        console: Some("http://127.0.0.1:7490".into()),
        services: vec![
            service("erp-api", "Orders and invoices", vec![observed(taken_us)]),
            service("nginx", "The front door", vec![plain("nginx", taken_us)]),
            service("notifier", "Tells customers by mail", vec![stranded(taken_us)]),
            service("postgresql", "The database", vec![plain("postgresql", taken_us)]),
            service("report-worker", "Monthly reports", vec![failed(taken_us)]),
            service("search", "Full text search", vec![starved(taken_us)]),
            service("zope", "The content", vec![replaced(taken_us), leaking(taken_us, age)]),
        ],
        duties: vec![DutyView {
            name: "console".into(),
            state: "running".into(),
            pid: Some(me),
            ..DutyView::default()
        }],
        ..Snapshot::default()
    }
}

fn service(name: &str, description: &str, instances: Vec<InstanceView>) -> ServiceView {
    ServiceView {
        name: name.into(),
        description: description.into(),
        command: vec![format!("/usr/bin/{name}"), "--foreground".into()],
        requires: if name == "zope" { vec!["postgresql".into()] } else { Vec::new() },
        instances,
        ..ServiceView::default()
    }
}

fn plain(name: &str, taken_us: i64) -> InstanceView {
    InstanceView {
        name: name.into(),
        state: "running".into(),
        wish: "up".into(),
        pid: Some(std::process::id()),
        run: Some(42),
        since_us: taken_us - 29 * HOUR_US,
        uptime_ms: Some(29 * 3_600_000),
        health: health("up", "off"),
        ..InstanceView::default()
    }
}

fn health(state: &str, mode: &str) -> HealthView {
    HealthView {
        mode: mode.into(),
        detectors: if mode == "off" { 0 } else { 3 },
        ..crate::root::health(state)
    }
}

fn verdict(detector: &str, kind: &str, state: &str, message: &str) -> VerdictView {
    VerdictView {
        detector: detector.into(),
        kind: kind.into(),
        mode: "enforce".into(),
        state: state.into(),
        message: message.into(),
        ..VerdictView::default()
    }
}

fn answers(taken_us: i64) -> VerdictView {
    VerdictView {
        since_us: taken_us - 28 * HOUR_US,
        ..verdict("answers", "http", "well", "http://127.0.0.1:8081/ok answered 200 in 12 ms")
    }
}

fn replaced(taken_us: i64) -> InstanceView {
    let memory = VerdictView {
        since_us: taken_us - 4 * SECOND_US,
        ..verdict(
            "memory",
            "memory",
            "sick",
            "513 MiB are used, which is more than 512 MiB; it grew by 1.2 MiB a minute over 30 min",
        )
    };
    InstanceView {
        name: "zope:0".into(),
        port: Some(8080),
        run: Some(57),
        restarts: 14,
        health: HealthView {
            verdicts: vec![memory, answers(taken_us)],
            workaround: Some(WorkaroundView {
                since_us: taken_us - 147 * HOUR_US,
                saves: 14,
                would_have: 0,
                last_us: taken_us - 4 * SECOND_US,
                last_cause: "memory: 513 MiB are used, which is more than 512 MiB".into(),
                evidence: Some(EVIDENCE.into()),
            }),
            replacing: Some(ReplacingView {
                step: "drain".into(),
                beside: false,
                cause: "memory: 513 MiB are used, which is more than 512 MiB".into(),
                since_us: taken_us - 3 * SECOND_US,
                bound_ms: Some(7000),
            }),
            quarantined: vec![QuarantineView {
                run: 56,
                pid: Some(31_412),
                until_us: taken_us + 23 * 60 * SECOND_US,
            }],
            dependencies: database(),
            ..health("draining", "enforce")
        },
        ..plain("zope:0", taken_us)
    }
}

fn database() -> Vec<DependencyView> {
    vec![
        DependencyView {
            name: "postgresql".into(),
            state: "up".into(),
            message: "it answered in 3 ms".into(),
        },
        DependencyView {
            name: "media".into(),
            state: "slow".into(),
            message: "/srv/media answered in 2.4 s, which is more than 1 s".into(),
        },
    ]
}

/// What is in that bundle.
pub(crate) fn evidence() -> EvidenceIndex {
    let file = |name: &str, bytes, about: &str| EvidenceFile {
        name: name.into(),
        bytes,
        about: about.into(),
    };
    EvidenceIndex {
        id: EVIDENCE.split_once('/').map_or("", |(_, id)| id).into(),
        instance: "zope:0".into(),
        run: 57,
        pid: Some(31_412),
        cause: "memory: 513 MiB are used, which is more than 512 MiB".into(),
        begun_us: sys::clock::wall().as_micros() - 4 * SECOND_US,
        took_ms: 412,
        budget_ms: 3000,
        uptime_ms: 29 * 3_600_000,
        files: vec![
            file("threads.txt", 23, "its threads: state, where they wait, CPU time"),
            file("stacks-kernel.txt", 2_210, "where its threads are in the kernel"),
            file("sockets.txt", 5_811, "its sockets with their queues"),
            file("samples.json", 40_112, "what was seen of the run until then"),
        ],
        missing: vec![EvidenceMissing {
            name: "stacks-user.txt".into(),
            why: "no tool that fits is installed".into(),
            help: "install py-spy".into(),
        }],
        ..EvidenceIndex::default()
    }
}

/// Something that leaks, `age` minutes ago.
fn leaking(taken_us: i64, age: f64) -> InstanceView {
    let used = (460.0 - 1.2 * age) * MIB;
    let memory = VerdictView {
        since_us: taken_us - 3 * HOUR_US,
        measured: [
            ("used_bytes".to_owned(), used),
            ("bound_bytes".to_owned(), 512.0 * MIB),
            ("growth_per_minute_bytes".to_owned(), 1.2 * MIB),
        ]
        .into(),
        exhausted_in_ms: Some(((43.0 + age) * 60_000.0) as u64),
        ..verdict(
            "memory",
            "memory",
            "well",
            &format!(
                "{:.0} MiB of at most 512 MiB are used; it grows by 1.2 MiB a minute",
                used / MIB
            ),
        )
    };
    let backlog = VerdictView {
        since_us: taken_us - 3 * HOUR_US,
        mode: "observe".into(),
        ..verdict("backlog", "backlog", "cannot_tell", "the kernel does not show its sockets")
    };
    InstanceView {
        name: "zope:1".into(),
        port: Some(8081),
        run: Some(55),
        restarts: 11,
        since_us: taken_us - 3 * HOUR_US,
        uptime_ms: Some(3 * 3_600_000),
        health: HealthView {
            verdicts: vec![answers(taken_us), memory, backlog],
            dependencies: database(),
            mode_by: "uid 1000 (alice)".into(),
            ..health("up", "enforce")
        },
        ..plain("zope:1", taken_us)
    }
}

fn observed(taken_us: i64) -> InstanceView {
    let backlog = VerdictView {
        mode: "observe".into(),
        since_us: taken_us - 90 * SECOND_US,
        ..verdict(
            "backlog",
            "backlog",
            "sick",
            "128 connections wait to be accepted (oldest 1m30s), and nothing advances",
        )
    };
    InstanceView {
        port: Some(9000),
        health: HealthView {
            verdicts: vec![backlog],
            workaround: Some(WorkaroundView {
                since_us: taken_us - 30 * HOUR_US,
                saves: 0,
                would_have: 3,
                last_us: taken_us - 90 * SECOND_US,
                last_cause: "backlog: 128 connections wait to be accepted".into(),
                evidence: None,
            }),
            ..health("up", "observe")
        },
        ..plain("erp-api", taken_us)
    }
}

fn stranded(taken_us: i64) -> InstanceView {
    let dependency = DependencyView {
        name: "smtp".into(),
        state: "slow".into(),
        message: "mail.example:25 answered in 31 s, which is more than 5 s".into(),
    };
    InstanceView {
        health: HealthView {
            dependencies: vec![dependency],
            verdicts: vec![verdict("answers", "http", "sick", "no answer within 5 s, 3 times")],
            suppressed: Some("smtp is slow; that is not its own fault".into()),
            ..health("dependency_down", "enforce")
        },
        ..plain("notifier", taken_us)
    }
}

fn starved(taken_us: i64) -> InstanceView {
    InstanceView {
        health: HealthView {
            verdicts: vec![verdict("answers", "http", "sick", "no answer within 2 s, 3 times")],
            suppressed: Some(
                "the machine starves: 41 % of the last 10 s all tasks waited for memory".into(),
            ),
            ..health("sick", "enforce")
        },
        ..plain("search", taken_us)
    }
}

fn failed(taken_us: i64) -> InstanceView {
    InstanceView {
        state: "failed".into(),
        wish: "failed".into(),
        pid: None,
        uptime_ms: None,
        restarts: 5,
        since_us: taken_us - 2 * HOUR_US,
        last_exit: Some("exit code 3".into()),
        because: vec![WhyLink {
            subject: "report-worker".into(),
            message: "gave up after 5 restarts in 1m; it exited with code 3 each time".into(),
        }],
        health: health("down", "off"),
        ..plain("report-worker", taken_us)
    }
}
