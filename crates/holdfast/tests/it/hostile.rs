//! Services and visitors that ask for more than is good: each is bounded, and nobody else suffers.

use crate::support::{BINARY, Daemon, wait_for};
use control::{Reply, Request, ServiceAction};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// The daemon itself raises its limit on descriptors; its helper processes must, too.
#[test]
fn more_services_than_the_usual_limit_on_descriptors_keep_their_output() {
    const SERVICES: usize = 40;
    let service =
        |n| format!("[service.s{n}]\nshell = true\ncommand = \"echo here; exec sleep 1000\"\n");
    let services = (0..SERVICES).map(service).collect::<Vec<_>>().concat();
    let mut daemon = Daemon::prepare(&services);
    let log = fs::File::create(daemon.path("daemon.log")).unwrap();
    let script = "ulimit -Sn 64 && exec \"$0\" run --config \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, BINARY]).arg(daemon.path("holdfast.toml"));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    daemon.child = Some(command.spawn().unwrap());
    wait_for("the daemon answers", || daemon.try_ask(Request::Ping).map(|_| ()));
    for n in 0..SERVICES {
        wait_for("its output is kept", || match daemon.output(&format!("s{n}")).as_str() {
            "here\n" => Ok(()),
            other => Err(format!("s{n}: {other:?}\n{}", daemon.log())),
        });
    }
}

/// Each such message is a look at a process tree: without a bound they fill the hands and the
/// memory, and `stop` comes too late.
#[test]
fn d3_a_flood_of_notify_messages_costs_only_the_one_who_sends_it() {
    let flood = "import os, socket\n\
                 s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
                 s.connect(os.environ['NOTIFY_SOCKET'])\n\
                 s.send(b'READY=1')\n\
                 child = os.fork()\n\
                 n = 0\n\
                 while True:\n\
                 \x20   n += 1\n\
                 \x20   s.send(b'MAINPID=%d' % (os.getpid() if n % 2 or not child else child))\n\
                 \x20   if n == 600: open(os.environ['SAID'], 'w')\n";
    let mut daemon = Daemon::prepare(
        "[service.loud]\ncommand = [\"python3\", \"{dir}/flood.py\"]\nready = \"notify\"\n\
         env = { SAID = \"{dir}/said\" }\nstop = [\"KILL 5s\"]\n",
    );
    fs::write(daemon.path("flood.py"), flood).unwrap();
    daemon.run();
    daemon.wait_state("loud", "running");
    let said = daemon.path("said");
    wait_for("it has said a lot", || if said.exists() { Ok(()) } else { Err(daemon.log()) });
    let held = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    assert!(held < 200, "{held} descriptors");
    daemon.act(ServiceAction::Stop, "loud");
    daemon.wait_state("loud", "stopped");
}

/// Whoever may do nothing may not keep the others out either.
#[test]
fn many_idle_connections_of_strangers_do_not_shut_out_the_owner() {
    let daemon = Daemon::start("[service.a]\ncommand = [\"sleep\", \"1000\"]\n");
    fs::set_permissions(daemon.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let crowd = "import os, socket, sys\n\
                 os.setgroups([]); os.setgid(65534); os.setuid(65534)\n\
                 held = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(200)]\n\
                 for one in held: one.connect(sys.argv[1])\n\
                 print('connected', flush=True)\n\
                 sys.stdin.read()\n";
    let mut command = Command::new("python3");
    command.args(["-c", crowd]).arg(daemon.path("run/control.sock"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut crowd = command.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(crowd.stdout.take().unwrap()).read_line(&mut said).unwrap();
    // Without the rights to become somebody else there are no strangers.
    if said == "connected\n" {
        for _ in 0..3 {
            assert!(matches!(daemon.ask(Request::Ping), Reply::Pong { .. }));
        }
    }
    drop(crowd.stdin.take());
    crowd.wait().unwrap();
}

/// A pid file lies where the service may write.
#[test]
fn a_pid_file_that_never_ends_is_refused_and_not_read() {
    let mut daemon = Daemon::prepare(
        "[service.trap]\nshell = true\nkind = \"forking\"\npid_file = \"{dir}/trap.pid\"\n\
         command = \"ln -sf /dev/zero {dir}/trap.pid; (exec setsid sleep 1002) & exit 0\"\n\
         start_timeout = \"1s\"\nrestart = { when = \"never\" }\n",
    );
    daemon.run();
    daemon.wait_state("trap", "failed");
    assert!(daemon.log().contains("no regular file"), "{}", daemon.log());
}
