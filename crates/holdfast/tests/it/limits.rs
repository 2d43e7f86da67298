//! Limits and identity: what a service may use, as whom it runs, and a daemon without privileges.

use crate::support::{Daemon, alive, kill, root_or_skip, wait_for};
use control::ServiceAction;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

/// The user `nobody`.
const NOBODY: u32 = 65_534;

/// A limit can be set here; otherwise says that a test is skipped.
fn limits_or_skip(daemon: &Daemon) -> bool {
    let notices = daemon.snapshot().notices;
    let missing: Vec<_> = notices.iter().filter(|n| n.message.contains("limit")).collect();
    if !missing.is_empty() {
        eprintln!("skipped: no limits here: {missing:?}");
    }
    missing.is_empty()
}

fn services(daemon: &Daemon) -> Vec<(u32, String)> {
    daemon.processes().into_iter().filter(|(_, command)| !command.contains(" duty ")).collect()
}

#[test]
fn h7_a_service_beyond_its_memory_limit_is_killed_and_the_event_says_so() {
    let mut daemon = Daemon::prepare(
        "[service.good]\ncommand = [\"sleep\", \"1000\"]\n\
         [service.hog]\ncommand = [\"python3\", \"{dir}/hog.py\"]\nrestart = \"never\"\n\
         limits = { memory = \"64MiB\" }\n",
    );
    daemon.write("hog.py", "held = []\nfor _ in range(64): held.append(b'x' * (8 << 20))\n");
    daemon.run();
    let good = daemon.wait_state("good", "running").pid;
    let seen = wait_for("the hog is gone", || {
        let seen = daemon.instance("hog");
        if seen.last_exit.is_some() { Ok(seen) } else { Err(format!("{seen:?}")) }
    });
    if !limits_or_skip(&daemon) {
        return;
    }
    assert_eq!(seen.last_exit.as_deref(), Some("signal 9 (KILL)"));
    let event = daemon.wait_event("hog", "service.out_of_memory");
    assert!(event.message.contains("64"), "{event:?}");
    assert_eq!(event.data["kills"], 1, "{event:?}");
    assert_eq!(daemon.instance("good").pid, good);
    // One that was killed by somebody else is not said to have used too much.
    kill(good.unwrap(), "KILL");
    daemon.wait_replaced("good", good.unwrap());
    let events = daemon.try_events(&[]).unwrap();
    let told = events.iter().filter(|event| event.kind == "service.out_of_memory").count();
    assert_eq!(told, 1, "{events:#?}");
}

#[test]
fn d2_a_fork_bomb_is_contained_and_nothing_of_it_is_left() {
    let limit = 40;
    let mut daemon = Daemon::prepare(&format!(
        "[service.good]\ncommand = [\"sleep\", \"1000\"]\n\
         [service.bomb]\ncommand = [\"python3\", \"{{dir}}/bomb.py\", \"{{dir}}/full\"]\n\
         limits = {{ pids = {limit} }}\nautostart = false\nstop = [\"TERM 200ms\"]\n"
    ));
    // Every process forks on, in sessions of their own, and none hears TERM.
    daemon.write(
        "bomb.py",
        "import os, signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
         while True:\n    try:\n        if os.fork() == 0: os.setsid()\n    except OSError:\n        \
         open(sys.argv[1], 'w').close()\n        time.sleep(0.1)\n",
    );
    daemon.run();
    let good = daemon.wait_state("good", "running").pid;
    if !root_or_skip("limit the number of processes") || !limits_or_skip(&daemon) {
        return;
    }
    daemon.act(ServiceAction::Start, "bomb");
    wait_for("the bomb has reached its limit", || {
        if daemon.path("full").exists() { Ok(()) } else { Err(daemon.log()) }
    });
    let all = services(&daemon).len();
    assert!(2 < all && all <= limit + 1, "{all} processes");
    daemon.act(ServiceAction::Stop, "bomb");
    daemon.wait_state("bomb", "stopped");
    let left: Vec<_> =
        services(&daemon).into_iter().filter(|(_, command)| command.contains("bomb")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(daemon.instance("good").pid, good);
}

#[test]
fn a_service_runs_as_whom_and_with_what_it_was_given() {
    if !root_or_skip("switch the user") {
        return;
    }
    let mut daemon = Daemon::prepare(
        "[service.other]\nshell = true\nuser = \"nobody\"\nsupplementary_groups = [\"daemon\", \"bin\"]\n\
         command = \"echo from-nobody > file; id -u; id -nG; pwd; umask; nice; ulimit -Sn; ulimit -Hn; \
         env; grep NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj; ionice -p $$; \
         echo told; exec sleep 1000\"\n\
         directory = \"{dir}/own\"\numask = \"027\"\nnice = 5\nio_priority = \"idle\"\n\
         oom_score_adjust = 123\nno_new_privileges = true\n\
         rlimits = { nofile = { soft = 99, hard = 111 }, core = 0 }\n\
         env_file = [\"{dir}/env\", \"-{dir}/none\"]\nenv = { OVER = \"from env\" }\n",
    );
    daemon.open_to_all();
    daemon.write("env", "# a comment\nFROM_FILE='some words'\nOVER=from file\n");
    fs::create_dir(daemon.path("own")).unwrap();
    std::os::unix::fs::chown(daemon.path("own"), Some(NOBODY), None).unwrap();
    daemon.run();
    daemon.wait_state("other", "running");
    let output = wait_for("it has told", || {
        let output = daemon.output("other");
        if output.contains("told\n") { Ok(output) } else { Err(output) }
    });
    let own = daemon.path("own");
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[0], NOBODY.to_string());
    assert_eq!(lines[1], "nogroup daemon bin");
    assert_eq!(&lines[2..7], [own.to_str().unwrap(), "0027", "5", "99", "111"]);
    for line in [
        "FROM_FILE=some words",
        "OVER=from env",
        "USER=nobody",
        "LOGNAME=nobody",
        "NoNewPrivs:\t1",
        "123",
        "idle",
    ] {
        assert!(lines.contains(&line), "{line} is missing:\n{output}");
    }
    let file = fs::metadata(own.join("file")).unwrap();
    assert_eq!((file.uid(), file.permissions().mode() & 0o777), (NOBODY, 0o640));
}

#[test]
fn d2_a_daemon_without_privileges_or_cgroups_leaves_nothing_behind() {
    if !root_or_skip("become somebody without privileges") {
        return;
    }
    let mut daemon = Daemon::prepare(
        "[service.web]\nshell = true\n\
         command = \"(setsid sleep 1005 &); setsid sh -c 'sleep 1006 & exit' ; exec sleep 1007\"\n\
         [service.forker]\nkind = \"forking\"\nshell = true\n\
         command = \"setsid sh -c 'exec sleep 1008' & exit 0\"\n\
         [service.bounded]\ncommand = [\"sleep\", \"1009\"]\nlimits = { pids = 10 }\n",
    );
    // The binary may lie where only root can go.
    let binary = daemon.path("holdfast");
    if fs::hard_link(crate::support::BINARY, &binary).is_err() {
        fs::copy(crate::support::BINARY, &binary).unwrap();
    }
    let user = NOBODY.to_string();
    let shown = binary.display().to_string();
    let switch = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    let execute = ["sh", "-c", "shift; exec \"$0\" \"$@\"", &shown];
    daemon.under = switch.into_iter().chain(execute).map(ToOwned::to_owned).collect();
    let owned = Command::new("chown").arg("-R").arg(&user).arg(daemon.dir()).status().unwrap();
    assert!(owned.success());
    daemon.run();
    assert_eq!(fs::metadata(format!("/proc/{}", daemon.pid())).unwrap().uid(), NOBODY);
    let first = daemon.wait_state("web", "running").pid.unwrap();
    let count = |sleep: &str| {
        services(&daemon).iter().filter(|(_, command)| command.starts_with(sleep)).count()
    };
    let all = ["sleep 1005", "sleep 1006", "sleep 1007"];
    let one_of_each = || {
        let counts = all.map(count);
        if counts == [1; 3] { Ok(()) } else { Err(format!("{counts:?}: {}", daemon.log())) }
    };
    wait_for("all have forked", one_of_each);
    kill(first, "KILL");
    daemon.wait_replaced("web", first);
    // What the first one had forked was killed before the second one was started.
    wait_for("one of each again", one_of_each);

    let forked = daemon.wait_state("forker", "running").pid.unwrap();
    let command = fs::read_to_string(format!("/proc/{forked}/cmdline")).unwrap();
    assert!(command.contains("1008"), "{command}");
    kill(forked, "KILL");
    daemon.wait_replaced("forker", forked);

    // A limit that can't be had is said, and no obstacle.
    daemon.wait_state("bounded", "running");
    let notices = daemon.snapshot().notices;
    assert!(notices.iter().any(|notice| notice.message.contains("cgroup")), "{notices:?}");

    daemon.act(ServiceAction::Stop, "*");
    for name in ["web", "forker", "bounded"] {
        daemon.wait_state(name, "stopped");
    }
    assert!(services(&daemon).is_empty(), "{:?}", services(&daemon));
    assert!(!alive(forked));
}
