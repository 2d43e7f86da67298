//! A full disk: services go on, and what was lost is counted and told when there is space again.
//!
//! The state directory is a small tmpfs in a mount namespace of the daemon's own, so that the test
//! fills nothing but itself, and everything is gone when the daemon is.

use crate::mail::Post;
use crate::support::{Daemon, kill, root_or_skip, wait_for};
use control::{Request, ServiceAction};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::Command;

/// One reset of all of these makes this many events.
const CROWD: usize = 1000;

struct SmallDisk {
    daemon: Daemon,
    /// The state directory as the daemon sees it.
    state: PathBuf,
}

impl SmallDisk {
    fn start(size: &str, services: &str) -> Self {
        let mut daemon = Daemon::prepare(services);
        let state = daemon.path("state");
        fs::create_dir(&state).unwrap();
        let mount = format!("mount -t tmpfs -o size={size},mode=0755 tmpfs \"$0\" && exec \"$@\"");
        let shown = state.display().to_string();
        daemon.under =
            ["unshare", "--mount", "sh", "-c", &mount, &shown].map(ToOwned::to_owned).to_vec();
        daemon.run();
        let inside = PathBuf::from(format!("/proc/{}/root{shown}", daemon.pid()));
        assert!(inside.join("holdfast.lock").exists(), "no disk of its own");
        // The clean-up knows the processes of this daemon by this mark.
        fs::copy(inside.join("id"), state.join("id")).unwrap();
        Self { daemon, state: inside }
    }

    /// Takes every byte that is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.state.join("ballast")).unwrap();
        for size in [64 * 1024, 4096, 1] {
            let chunk = vec![b'x'; size];
            let full = loop {
                match file.write(&chunk) {
                    Ok(0) => panic!("neither written nor refused"),
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        }
    }

    fn make_space(&self) {
        fs::remove_file(self.state.join("ballast")).unwrap();
    }

    fn log_of(&self, service: &str) -> String {
        let bytes = fs::read(self.state.join(format!("logs/{service}.log"))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// True where a mount namespace can be had; otherwise says that a test is skipped. Root in a container
/// may lack it.
fn can_mount() -> bool {
    let tried = Command::new("unshare").args(["--mount", "true"]).output();
    let can = root_or_skip("mount a small disk") && tried.is_ok_and(|tried| tried.status.success());
    if !can {
        eprintln!("skipped: a mount namespace of one's own is not allowed here");
    }
    can
}

#[test]
fn services_go_on_while_the_disk_is_full_and_lost_events_are_told() {
    if !can_mount() {
        return;
    }
    let disk = SmallDisk::start(
        // Room for all that waited in memory, as events and in the journal.
        "64m",
        &format!(
            "[service.web]\ncommand = [\"sleep\", \"1000\"]\n\
         [service.crowd]\ncommand = [\"sleep\", \"1000\"]\ninstances = {CROWD}\nautostart = false\n"
        ),
    );
    let daemon = &disk.daemon;
    let first = daemon.wait_state("web", "running").pid.unwrap();
    disk.fill();

    kill(first, "KILL");
    let second = daemon.wait_replaced("web", first);
    // A command of an operator is carried out, too.
    daemon.act(ServiceAction::Restart, "web");
    daemon.wait_replaced("web", second.pid.unwrap());
    let status = daemon.cli(&["status"]);
    assert_eq!(status.status.code(), Some(0), "{status:?}");

    // More than the recorder keeps in memory: the oldest are lost, and counted.
    let lost = wait_for("events are lost", || {
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| daemon.act(ServiceAction::Reset, "crowd"));
            }
        });
        let lost = daemon.snapshot().events_lost;
        if 0 < lost { Ok(lost) } else { Err(daemon.log()) }
    });
    let status = daemon.cli(&["status"]);
    let shown = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(shown.contains("events could not be written"), "{shown}");

    disk.make_space();
    let told = daemon.wait_event("holdfast", "events.lost");
    assert_eq!(told.data["count"], lost, "{told:?}");
    assert!(told.message.contains("space"), "the cause is named: {}", told.message);
    // What waited in memory is there, and what happens from now on.
    daemon.act(ServiceAction::Restart, "web");
    wait_for("the restart is in the journal", || {
        let events = daemon.try_events(&["--subject", "web"])?;
        let newest = events.iter().rfind(|event| event.kind == "service.command");
        let newest = newest.ok_or_else(|| format!("{events:#?}"))?;
        if told.seq < newest.seq { Ok(()) } else { Err(format!("{newest:?}")) }
    });
}

#[test]
fn a_log_says_what_it_lost_while_the_disk_was_full() {
    if !can_mount() {
        return;
    }
    let disk = SmallDisk::start(
        "4m",
        "[service.talker]\nshell = true\n\
         command = \"i=0; while :; do i=$((i+1)); echo line $i of a hundred bytes, so that soon more than one page of a file is written, and a disk that is full shows; echo $i > {dir}/said; sleep 0.001; done\"\n",
    );
    let daemon = &disk.daemon;
    daemon.wait_state("talker", "running");
    let said = || {
        let text = fs::read_to_string(daemon.path("said")).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or(0)
    };
    wait_for("its output is kept", || {
        let log = disk.log_of("talker");
        if log.contains("line 10 ") { Ok(()) } else { Err(log) }
    });
    disk.fill();
    // It is not blocked: it goes on to speak, far beyond what one page of a file can take.
    let before = said();
    wait_for("it goes on", || {
        let now = said();
        if before + 200 < now { Ok(()) } else { Err(format!("{before}, then {now}")) }
    });
    disk.make_space();
    wait_for("the log tells", || {
        let log = disk.log_of("talker");
        let (_, after) = log.split_once("[holdfast: ").ok_or("nothing told")?;
        let (told, rest) = after.split_once("]\n").ok_or("torn")?;
        // And it goes on behind that.
        let goes_on = told.contains("bytes lost") && rest.contains("line ");
        if goes_on { Ok(()) } else { Err(format!("{told}: {rest}")) }
    });
    let event = daemon.wait_event("talker", "logs.lost");
    assert!(0 < event.data["lines"].as_u64().unwrap(), "{event:?}");
    // Every line is there, or was lost and is told; none is there twice or in another order.
    let log = disk.log_of("talker");
    let numbers = log
        .lines()
        .filter_map(|line| line.strip_prefix("line ")?.split_once(' ')?.0.parse::<u64>().ok());
    let numbers: Vec<u64> = numbers.collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{log}");
    assert!(matches!(daemon.ask(Request::Ping), control::Reply::Pong { .. }));
}

#[test]
fn h9_a_restart_while_the_disk_is_full_is_mailed_when_there_is_space() {
    let Some(post) = Post::new() else { return };
    if !can_mount() {
        return;
    }
    let _server = post.serve(&[]);
    let section = post.section("security = \"none\"\ndigest = \"0s\"");
    let web = "[service.web]\ncommand = [\"sleep\", \"1000\"]\n";
    let disk = SmallDisk::start("16m", &format!("{section}{web}"));
    let daemon = &disk.daemon;
    let first = daemon.wait_state("web", "running").pid.unwrap();
    kill(first, "KILL");
    let second = daemon.wait_replaced("web", first).pid.unwrap();
    post.wait_mails(daemon, 1);
    disk.fill();
    kill(second, "KILL");
    daemon.wait_replaced("web", second);
    disk.make_space();
    let mails = post.wait_mails(daemon, 2);
    assert!(mails[1]["body"].as_str().unwrap().contains("was killed by signal 9"), "{mails:#?}");
}
