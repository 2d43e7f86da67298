//! Many services that all speak: every line of each is kept, also over the death of the root.

use crate::support::{Daemon, wait_for};
use std::fs::File;
use std::process::Command;

/// As many as a test may start in a few seconds. Ten thousand lines in all.
const SPEAKERS: usize = 200;
const LINES: usize = 50;

fn lines(daemon: &Daemon, speaker: usize) -> usize {
    daemon.output(&format!("speaker:{speaker}")).lines().count()
}

fn wait_lines(daemon: &Daemon, what: &str, wanted: usize) {
    let mut first = 0;
    wait_for(what, || {
        // Those that were seen complete are not read again.
        while first < SPEAKERS && lines(daemon, first) == wanted {
            first += 1;
        }
        match first {
            SPEAKERS => Ok(()),
            _ => Err(format!("speaker {first} has {} lines", lines(daemon, first))),
        }
    });
}

#[test]
fn p8_ten_thousand_lines_of_two_hundred_services_are_kept_over_a_kill_of_the_root() {
    let half = LINES / 2;
    let mut daemon = Daemon::prepare(&format!(
        "[service.speaker]\nshell = true\ninstances = {SPEAKERS}\n\
         command = \"i=0; while [ $i -lt {half} ]; do i=$((i+1)); echo {{index}} says $i; done; \
         read x < {{dir}}/go; while [ $i -lt {LINES} ]; do i=$((i+1)); echo {{index}} says $i; done; \
         exec sleep 1000\"\n"
    ));
    let go = daemon.path("go");
    assert!(Command::new("mkfifo").arg(&go).status().unwrap().success());
    daemon.run();
    wait_lines(&daemon, "the first half is kept", half);
    let pids = |daemon: &Daemon| {
        let mut services = daemon.snapshot().services;
        let instances = services.remove(0).instances;
        instances.into_iter().map(|one| (one.name, one.state, one.pid)).collect::<Vec<_>>()
    };
    let before = wait_for("all run", || {
        let seen = pids(&daemon);
        let all = seen.iter().all(|(_, state, pid)| state == "running" && pid.is_some());
        if all && seen.len() == SPEAKERS { Ok(seen) } else { Err(format!("{seen:?}")) }
    });
    daemon.kill_root();
    // Each waits for somebody who opens the other end.
    drop(File::options().write(true).open(&go).unwrap());
    wait_lines(&daemon, "the second half is kept without a root", LINES);
    daemon.run();
    wait_for("all are adopted", || {
        let now = pids(&daemon);
        if now == before { Ok(()) } else { Err(format!("{now:?}")) }
    });
    assert_eq!(daemon.stop(), 0);
    for speaker in 0..SPEAKERS {
        let kept = daemon.output(&format!("speaker:{speaker}"));
        assert_eq!(kept.lines().count(), LINES);
        for (number, line) in (1..).zip(kept.lines()) {
            assert_eq!(line, format!("{speaker} says {number}"), "lost, doubled or torn");
        }
    }
}
