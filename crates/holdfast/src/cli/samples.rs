//! Made-up views for the tests of the command line.

use control::{
    DutyView, HealthView, InstanceView, Notice, QuarantineView, ReplacingView, ServiceView,
    Snapshot, VerdictView, WhyLink, WorkaroundView,
};

/// When the snapshot was taken.
pub(crate) const TAKEN_US: i64 = 1_700_000_000_000_000;

/// An instance about which there is nothing to say.
pub(crate) fn plain() -> InstanceView {
    InstanceView {
        name: "web".into(),
        state: "running".into(),
        wish: "up".into(),
        pid: Some(4711),
        run: Some(3),
        since_us: TAKEN_US - 192_000_000,
        uptime_ms: Some(192_000),
        ..InstanceView::default()
    }
}

/// One that a detector calls sick, and about which nothing is done.
pub(crate) fn sick() -> InstanceView {
    let verdict = VerdictView {
        detector: "answers".into(),
        kind: "http".into(),
        mode: "enforce".into(),
        state: "sick".into(),
        message: "no answer within 2s, 3 times".into(),
        ..VerdictView::default()
    };
    InstanceView {
        name: "search".into(),
        health: HealthView {
            state: "sick".into(),
            mode: "enforce".into(),
            verdicts: vec![verdict],
            suppressed: Some("the machine starves: 41 % of the last 10s all waited".into()),
            ..HealthView::default()
        },
        ..plain()
    }
}

/// One that leaks, and was replaced for it before.
pub(crate) fn leaking() -> InstanceView {
    let verdict = VerdictView {
        detector: "memory".into(),
        kind: "memory".into(),
        mode: "enforce".into(),
        state: "well".into(),
        message: "460 MiB of at most 512 MiB are used; it grows by 1.2 MiB a minute".into(),
        exhausted_in_ms: Some(2_580_000),
        ..VerdictView::default()
    };
    InstanceView {
        name: "zope:1".into(),
        health: HealthView {
            state: "up".into(),
            mode: "enforce".into(),
            verdicts: vec![verdict],
            workaround: Some(WorkaroundView {
                since_us: TAKEN_US - 530_000_000_000,
                saves: 14,
                last_us: TAKEN_US - 7_500_000_000,
                last_cause: "memory: 513 MiB are used".into(),
                ..WorkaroundView::default()
            }),
            ..HealthView::default()
        },
        ..plain()
    }
}

/// One that is being replaced.
pub(crate) fn replaced() -> InstanceView {
    let mut view = InstanceView { name: "zope:0".into(), ..leaking() };
    view.health.state = "draining".into();
    view.health.workaround = None;
    view.health.verdicts[0].state = "sick".into();
    view.health.verdicts[0].exhausted_in_ms = None;
    view.health.replacing = Some(ReplacingView {
        step: "warm_up".into(),
        beside: true,
        cause: "memory: 513 MiB are used, which is more than 512 MiB".into(),
        since_us: TAKEN_US - 1_000_000,
        bound_ms: Some(7000),
    });
    view.health.quarantined =
        vec![QuarantineView { run: 56, pid: Some(31_412), until_us: TAKEN_US + 1_380_000_000 }];
    view
}

fn down(name: &str, state: &str, wish: &str, because: &[(&str, &str)]) -> InstanceView {
    InstanceView {
        name: name.into(),
        state: state.into(),
        wish: wish.into(),
        pid: None,
        run: None,
        uptime_ms: None,
        restarts: 5,
        because: because
            .iter()
            .map(|(subject, message)| WhyLink {
                subject: (*subject).into(),
                message: (*message).into(),
            })
            .collect(),
        ..plain()
    }
}

fn service(name: &str, instances: Vec<InstanceView>) -> ServiceView {
    ServiceView { name: name.into(), instances, ..ServiceView::default() }
}

/// One of everything.
pub(crate) fn snapshot() -> Snapshot {
    let web = |n: u16| InstanceView {
        name: format!("web:{n}"),
        pid: Some(40_000 + u32::from(n)),
        ..plain()
    };
    let status = InstanceView {
        name: "a-very-long-service-name-of-some-forty-letters".into(),
        status_text: "serving\x1b[2J 12 clients, 0 waiting, cache 98 % full of things".into(),
        ..plain()
    };
    Snapshot {
        node: "node-1".into(),
        version: "0.1.0".into(),
        pid: 1234,
        boot_id: "b".into(),
        started_us: TAKEN_US - 7_500_000_000,
        taken_us: TAKEN_US,
        state_dir: "/var/lib/holdfast".into(),
        console: Some("http://127.0.0.1:7490".into()),
        services: vec![
            service("a-very-long-service-name-of-some-forty-letters", vec![status]),
            service(
                "backup",
                vec![InstanceView {
                    last_exit: Some("exit code 0".into()),
                    ..down("backup", "finished", "finished", &[])
                }],
            ),
            service(
                "fragile",
                vec![down(
                    "fragile",
                    "failed",
                    "failed",
                    &[("fragile", "gave up after 5 restarts in 60 s; it exited with code 3 each time")],
                )],
            ),
            service("old", vec![down("old", "stopped", "down", &[("old", "stopped by uid 0 (root)")])]),
            service("web", vec![web(0), web(1)]),
            service(
                "worker",
                vec![down("worker", "waiting", "up", &[("worker", "waits for fragile")])],
            ),
        ],
        duties: vec![
            DutyView { name: "logs".into(), state: "running".into(), ..DutyView::default() },
            DutyView {
                name: "console".into(),
                state: "backoff".into(),
                reason: "exited with code 1".into(),
                ..DutyView::default()
            },
        ],
        notices: vec![Notice {
            code: "cgroup-unavailable".into(),
            message: "no control group can be written here: limits of memory, CPU and processes have no effect".into(),
            help: "run holdfast as root, or have a group delegated to its user".into(),
        }],
        events_lost: 3,
        shutting_down: false,
    }
}
