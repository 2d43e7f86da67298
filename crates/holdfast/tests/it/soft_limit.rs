//! A soft limit that the program itself may act on, before a hard one is met; and detectors of what
//! does not exist.

use crate::support::{Daemon, wait_for};
use std::fs;

/// Takes memory once there is a file `leak`, and ends in order when it is told to by a signal.
const PROGRAM: &str = "import os, signal, sys, time\n\
    here = sys.argv[1]\n\
    def finish(number, frame):\n    \
    open(here + '/finished', 'w').write(str(os.getpid()))\n    \
    sys.exit(0)\n\
    signal.signal(signal.SIGUSR1, finish)\n\
    kept = []\n\
    open(here + '/up', 'w').close()\n\
    while True:\n    \
    time.sleep(0.02)\n    \
    if os.path.exists(here + '/leak') and len(kept) < 12:\n        \
    kept.append(bytearray(os.urandom(1024) * 8192))\n";

#[test]
fn h8_at_the_soft_limit_the_program_is_told_and_ends_in_order_before_the_hard_one_is_met() {
    let mut daemon = Daemon::prepare(
        "[service.web]\ncommand = [\"/usr/bin/python3\", \"{dir}/program.py\", \"{dir}\"]\n\
         rlimits = { as = \"1GiB\" }\n\
         [service.web.tolerance]\nmode = \"enforce\"\ninterval = \"1s\"\n\
         remedies = [{ name = \"finish and end\", signal = \"USR1\", wait = \"30s\", \
         detectors = [\"memory\"] }]\n\
         [service.web.detect.memory]\nlimit = \"64MiB\"\n",
    );
    daemon.write("program.py", PROGRAM);
    daemon.run();
    let old = daemon.wait_state("web", "running").pid.unwrap();
    wait_for("it can be told", || match daemon.path("up").exists() {
        true => Ok(()),
        false => Err(daemon.log()),
    });
    fs::write(daemon.path("leak"), "").unwrap();
    wait_for("it has ended in order", || match fs::read_to_string(daemon.path("finished")) {
        Ok(pid) if pid == old.to_string() => Ok(()),
        other => Err(format!("{other:?}\n{}", daemon.log())),
    });
    fs::remove_file(daemon.path("leak")).unwrap();
    daemon.wait_replaced("web", old);
    let sick = daemon.wait_event("web", "service.sick").message;
    assert!(sick.contains("at least 64.0 MiB (its limit)"), "{sick}");
    // By itself, with its own exit code: nobody asked it to stop, and nobody killed it.
    let exited = daemon.wait_event("web", "service.exited").message;
    assert!(
        exited.contains("exited with code 0") && exited.contains(&format!("{old}")),
        "{exited}"
    );
    let events = daemon.try_events(&["--subject", "web"]).unwrap();
    let stopped = events.iter().filter(|event| event.kind == "service.stopping").count();
    assert_eq!(stopped, 0, "{events:#?}");
}

/// Each says that it can't tell, and why; in `enforce`, nothing is replaced for it.
#[test]
fn h12_detectors_of_what_does_not_exist_say_so_and_nothing_is_replaced_for_them() {
    let daemon = Daemon::start(
        "[service.web]\ncommand = [\"sleep\", \"1000\"]\n\
         [service.web.tolerance]\nmode = \"enforce\"\ninterval = \"1s\"\n\
         [service.web.detect.requests]\nafter = 10\n\
         source = { access_log = \"{dir}/no/such.log\" }\n\
         [service.web.detect.space]\nkind = \"disk\"\npath = \"{dir}/no/such/place\"\nlimit = \"1MiB\"\n\
         [service.web.detect.ask]\nkind = \"command\"\ncommand = [\"{dir}/no-such-program\"]\n\
         interval = \"1s\"\ntimeout = \"1s\"\nfailures = 1\n\
         [service.web.detect.backlog]\nqueue = 1\nlasting = \"2s\"\n",
    );
    let pid = daemon.wait_state("web", "running").pid.unwrap();
    let verdicts = wait_for("each says that it can't tell", || {
        let verdicts = daemon.instance("web").health.verdicts;
        let cannot = verdicts.iter().filter(|it| it.state == "cannot_tell").count();
        if cannot == 4 { Ok(verdicts) } else { Err(format!("{verdicts:#?}\n{}", daemon.log())) }
    });
    let why = |detector: &str| {
        let found = verdicts.iter().find(|verdict| verdict.detector == detector);
        found.map(|verdict| verdict.message.clone()).unwrap_or_default()
    };
    for detector in ["requests", "space", "ask"] {
        let why = why(detector).to_lowercase();
        assert!(why.contains("no such file"), "{detector}: {why}");
    }
    assert_eq!(daemon.instance("web").pid, Some(pid));
    assert_eq!(daemon.instance("web").health.status, 200, "nothing speaks against it");
}
