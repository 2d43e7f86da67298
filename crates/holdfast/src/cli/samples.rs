//! Made-up views for the tests of the command line.

use control::{DutyView, InstanceView, Notice, ServiceView, Snapshot, WhyLink};

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
