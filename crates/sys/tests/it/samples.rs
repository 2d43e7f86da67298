//! H4: what is seen of real processes, from outside and without their help.

use crate::support::{
    HELPER, Output, be_subreaper, helper_plan, is_root, kill, plan, wait, wait_for,
};
use std::collections::BTreeSet;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use sys::cgroup::{Cgroups, Group, Limits};
use sys::child::Exit;
use sys::sample::{HostReader, RunSample, Sampler, Target, Unanswered, Wants};
use sys::spawn::{Spawned, spawn};

const PYTHON: &str = "/usr/bin/python3";

/// A program that is looked at, by descent.
struct Watched {
    spawned: Spawned,
    sampler: Sampler<u32>,
    output: Output,
    token: String,
    ended: bool,
}

impl Watched {
    /// Starts `script` and waits until it has printed its first line.
    fn start(argv: &[&str]) -> Option<(Self, String)> {
        if !Path::new(argv[0]).exists() {
            println!("{} is not there: skipped", argv[0]);
            return None;
        }
        be_subreaper();
        let output = Output::new();
        let mut plan = plan(argv, output.fd());
        let token = format!("sample-{}-{}", std::process::id(), output.path("x").display());
        plan.env.push(("HOLDFAST_RUN".into(), token.clone().into()));
        plan.env.push(("PYTHONUNBUFFERED".into(), "1".into()));
        let spawned = spawn(&plan).unwrap();
        let mut sampler = Sampler::new(std::process::id());
        let known = vec![spawned.pid];
        let target = Target { group: None, token: token.clone(), known, wants: Wants::ALL };
        sampler.watch(1, target);
        let line = output.line("its first line");
        Some((Self { spawned, sampler, output, token, ended: false }, line))
    }

    fn python(script: &str) -> Option<(Self, String)> {
        Self::start(&[PYTHON, "-c", script])
    }

    fn look(&mut self) -> RunSample {
        let mut samples = self.sampler.look(&BTreeSet::from([1]));
        samples.remove(0).1
    }

    /// The first sample that is as it should be.
    fn until(&mut self, what: &str, is_so: impl Fn(&RunSample) -> bool) -> RunSample {
        wait_for(what, || Some(self.look()).filter(|sample| is_so(sample)))
    }
}

impl Watched {
    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            kill(&self.spawned);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn h4_leaking_descriptors_are_counted_against_their_limit() {
    let script = "
import resource, signal
resource.setrlimit(resource.RLIMIT_NOFILE, (333, 444))
kept = []
signal.signal(signal.SIGUSR1, lambda *_: kept.extend(open('/dev/null') for _ in range(10)))
print('ready')
while True: signal.pause()
";
    let Some((mut watched, _)) = Watched::python(script) else { return };
    let before = watched.look().descriptors.unwrap();
    assert_eq!(before.limit, 333);
    sys::process::kill(watched.spawned.pid, libc::SIGUSR1);
    watched.until("ten more", |sample| sample.descriptors.unwrap().open == before.open + 10);
}

#[test]
fn h4_threads_on_locks_are_told_from_those_that_wait_for_work() {
    let script = "
import threading, time, socket
lock = threading.Lock(); lock.acquire()
for _ in range(3): threading.Thread(target=lock.acquire, daemon=True).start()
print('ready'); lock.acquire()
";
    let Some((mut watched, _)) = Watched::python(script) else { return };
    let all = |sample: &RunSample| {
        sample.lock_waits.is_some_and(|waits| waits.looked_at == 4 && waits.on_locks == 4)
    };
    let sample = watched.until("all four on the lock", all);
    assert_eq!((sample.processes, sample.threads, sample.zombies), (1, 4, 0));
    assert_eq!(sample.lock_waits.unwrap().running, 0);
    let known = (sample.switches.unwrap(), sample.run_delay.unwrap());
    let later = watched.look();
    assert_eq!((later.switches, later.run_delay), (Some(known.0), Some(known.1)), "all sleep");

    let idle =
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print('ready'); s.accept()";
    let Some((mut watched, _)) = Watched::python(idle) else { return };
    let waits = watched.until("sleep", |sample| sample.lock_waits.is_some_and(|w| w.running == 0));
    assert_eq!(waits.lock_waits.unwrap().on_locks, 0);
}

#[test]
fn h4_a_busy_loop_uses_cpu_and_a_stopped_one_is_seen_to_be_stopped() {
    let Some((mut watched, _)) = Watched::python("print('ready')\nwhile True: pass") else {
        return;
    };
    let first =
        watched.until("running", |sample| sample.lock_waits.is_some_and(|w| w.running == 1));
    assert!(!first.stopped);
    watched.until("cpu time", |sample| first.cpu + Duration::from_millis(50) <= sample.cpu);
    sys::process::kill(watched.spawned.pid, libc::SIGSTOP);
    let stopped = watched.until("stop", |sample| sample.stopped);
    assert_eq!(watched.look().cpu, stopped.cpu);
    sys::process::kill(watched.spawned.pid, libc::SIGCONT);
    watched.until("going on", |sample| !sample.stopped);
}

#[test]
fn h2_connections_that_nobody_accepts_are_seen_to_queue_up() {
    // Accepts one connection for each signal, and never answers.
    let script = "
import signal, socket
kept = []
s = socket.create_server(('127.0.0.1', 0), backlog=7)
signal.signal(signal.SIGUSR1, lambda *_: kept.append(s.accept()))
signal.signal(signal.SIGUSR2, lambda *_: kept[0][0].sendall(b'x' * 1000))
print(s.getsockname()[1])
while True: signal.pause()
";
    let Some((mut watched, line)) = Watched::python(script) else { return };
    let at = SocketAddr::from(([127, 0, 0, 1], line.parse().unwrap()));
    let quiet = watched.look().sockets.unwrap();
    assert_eq!((quiet.queue, quiet.queue_limit, quiet.established), (0, 7, 0));
    let mut clients: Vec<_> = (0..3).map(|_| TcpStream::connect(at).unwrap()).collect();
    let sample = watched.until("a queue", |sample| sample.sockets.unwrap().queue == 3);
    assert_eq!(sample.sockets.unwrap().established, 0);
    assert_eq!(sample.sockets.unwrap().unanswered, Some(Unanswered::default()));
    let waited = Duration::from_millis(50);
    watched.until("a wait", |sample| Some(waited) <= sample.sockets.unwrap().queue_waiting);

    sys::process::kill(watched.spawned.pid, libc::SIGUSR1);
    let sample = watched.until("an accepted one", |sample| sample.sockets.unwrap().queue == 2);
    let sockets = sample.sockets.unwrap();
    assert_eq!((sockets.established, sockets.bytes_acked, sockets.close_wait), (1, 0, 0));
    watched.until("a wait for an answer", |sample| {
        let unanswered = sample.sockets.unwrap().unanswered.unwrap();
        unanswered.connections == 1 && waited <= unanswered.longest
    });
    sys::process::kill(watched.spawned.pid, libc::SIGUSR2);
    watched.until("progress", |sample| sample.sockets.unwrap().bytes_acked == 1000);
    let unanswered = watched.look().sockets.unwrap().unanswered.unwrap();
    assert_eq!(unanswered, Unanswered::default(), "it was answered");

    // The accepted client goes away; the program does not close. Those that still queue do not
    // count. What it has not read would make its end a reset.
    clients[0].read_exact(&mut [0; 1000]).unwrap();
    clients.clear();
    let sample = watched.until("CLOSE_WAIT", |sample| sample.sockets.unwrap().close_wait == 1);
    assert_eq!(sample.sockets.unwrap().established, 0);
}

/// The leak of a connection pool: sockets towards others, whose peers have closed.
#[test]
fn h25_outgoing_connections_that_are_forgotten_are_their_programs() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "
import signal, socket
kept = []
signal.signal(signal.SIGUSR1, lambda *_: kept.append(socket.create_connection(('127.0.0.1', {port}))))
print('ready')
while True: signal.pause()
"
    );
    let Some((mut watched, _)) = Watched::python(&script) else { return };
    for number in 1..=3 {
        sys::process::kill(watched.spawned.pid, libc::SIGUSR1);
        drop(listener.accept().unwrap());
        watched.until("one more", |sample| sample.sockets.unwrap().close_wait == number);
    }
    // Ours, of the same kind, are nobody's that is watched.
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    drop(listener.accept().unwrap());
    assert_eq!(watched.look().sockets.unwrap().close_wait, 3);
    drop(client);
}

#[test]
fn h2_a_unix_socket_has_a_queue_like_any_other() {
    let output = Output::new();
    let path = output.path("x.sock");
    let script = format!(
        "
import signal, socket
kept = []
s = socket.socket(socket.AF_UNIX); s.bind('{}'); s.listen(5)
signal.signal(signal.SIGUSR1, lambda *_: kept.append(s.accept()))
print('ready')
while True: signal.pause()
",
        path.display()
    );
    let Some((mut watched, _)) = Watched::python(&script) else { return };
    let clients = [UnixStream::connect(&path).unwrap(), UnixStream::connect(&path).unwrap()];
    let sample = watched.until("a queue", |sample| sample.sockets.unwrap().queue == 2);
    assert_eq!((sample.sockets.unwrap().queue_limit, sample.sockets.unwrap().established), (5, 0));
    sys::process::kill(watched.spawned.pid, libc::SIGUSR1);
    let sample = watched.until("an accepted one", |sample| {
        let sockets = sample.sockets.unwrap();
        (sockets.queue, sockets.established) == (1, 1)
    });
    let sockets = sample.sockets.unwrap();
    // How long they wait is not known, which is not the same as not at all.
    assert_eq!((sockets.queue_waiting, sockets.unanswered), (None, None));
    drop(clients);
}

#[test]
fn h4_zombies_and_memory_that_is_shared_are_counted_once() {
    let script = "
import os, signal
data = bytearray(os.urandom(1)) * (32 << 20)
def child():
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        while True: signal.pause()
    return pid
pids = [child() for _ in range(3)]
signal.signal(signal.SIGUSR1, lambda *_: os.kill(pids[0], 9))
print('ready')
while True: signal.pause()
";
    let Some((mut watched, _)) = Watched::python(script) else { return };
    let sample = watched.until("four processes", |sample| sample.processes == 4);
    let memory = sample.memory.unwrap();
    assert!((32 << 20) < memory && memory < (96 << 20), "{memory} for four times the same 32 MiB");
    sys::process::kill(watched.spawned.pid, libc::SIGUSR1);
    let sample = watched.until("a zombie", |sample| sample.zombies == 1);
    assert_eq!((sample.processes, sample.swap), (3, Some(0)));
    // Who only wants their number is not told where threads sleep, which costs most.
    let known = vec![watched.spawned.pid];
    let token = watched.token.clone();
    let wants = Wants { zombies: true, ..Wants::default() };
    watched.sampler.watch(1, Target { group: None, token, known, wants });
    let sample = watched.look();
    assert_eq!((sample.zombies, sample.processes), (1, 3));
    assert_eq!((sample.lock_waits, sample.switches, sample.memory), (None, None, None));
    let children = sys::proc_fs::children(watched.spawned.pid);
    for pid in children {
        sys::process::kill(pid, libc::SIGKILL);
    }
}

#[test]
fn h4_a_process_that_ends_while_it_is_looked_at_is_a_normal_answer() {
    let script = "while :; do sh -c 'exit 0' & wait; echo x; done";
    let Some((mut watched, _)) = Watched::start(&["/bin/sh", "-c", script]) else { return };
    for _ in 0..200 {
        let sample = watched.look();
        assert!((1..=4).contains(&sample.processes), "{sample:?}");
        assert!(sample.memory.is_some() || sample.descriptors.is_none(), "{sample:?}");
    }
    watched.end();
    let nothing = wait_for("nothing to be left", || {
        Some(watched.look()).filter(|sample| sample.processes == 0)
    });
    // Nothing is known of nobody, which is not the same as zero.
    let known = (nothing.memory, nothing.descriptors, nothing.lock_waits, nothing.stopped);
    assert_eq!(known, (None, None, None, false));
    watched.sampler.unwatch(&1);
    assert_eq!(watched.sampler.look(&BTreeSet::from([1])), []);
}

/// D2 again, seen by somebody who is not the parent: orphans are found by their token.
#[test]
fn d2_orphans_of_a_run_are_looked_at_and_those_of_others_are_not() {
    let script = "(setsid sh -c 'exec sleep 1000' &); echo ready; exec sleep 1000";
    let Some((mut watched, _)) = Watched::start(&["/bin/sh", "-c", script]) else { return };
    let other = Watched::start(&["/bin/sh", "-c", script]);
    watched.until("both", |sample| sample.processes == 2);
    for of in [Some(watched), other.map(|other| other.0)].into_iter().flatten() {
        let orphans = sys::tree::find_by_token_prefix(&token_of(&of));
        for (pid, _) in orphans {
            sys::process::kill(pid, libc::SIGKILL);
        }
    }
}

fn token_of(watched: &Watched) -> String {
    format!("sample-{}-{}", std::process::id(), watched.output.path("x").display())
}

/// The same with a control group, which also tells limits.
#[test]
fn d2_the_members_of_a_control_group_are_looked_at() {
    be_subreaper();
    let cgroups = Cgroups::detect(&format!("holdfast-test-samples-{}", std::process::id()));
    if !cgroups.tracking() {
        println!("{:?}: skipped", cgroups.notices());
        return;
    }
    let limits = Limits { memory: Some(64 << 20), pids: Some(99), ..Limits::default() };
    let (group, missing) = cgroups.create("web:1", &limits).unwrap();
    let output = Output::new();
    let script = "(setsid sh -c 'sleep 1000 & exec sleep 1000' &); (exit 0) & exec sleep 1000";
    let mut plan = plan(&["/bin/sh", "-c", script], output.fd());
    plan.cgroup = Some(group.entry());
    let spawned = spawn(&plan).unwrap();
    let mut sampler = Sampler::new(std::process::id());
    let as_told = Group::of_directories(group.directories());
    assert_eq!(as_told.as_ref(), Some(&group));
    sampler.watch(1, Target { group: as_told, wants: Wants::ALL, ..Target::default() });
    let sample = wait_for("all four", || {
        let sample = sampler.look(&BTreeSet::from([1])).remove(0).1;
        ((sample.processes, sample.zombies) == (3, 1)).then_some(sample)
    });
    if missing.is_empty() {
        assert_eq!((sample.memory_limit, sample.threads_limit), (Some(64 << 20), Some(99)));
    }
    // What its files, which are kept open, say of it later: a group inside it, and that it is frozen.
    let inner = group.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("cgroup.procs"), spawned.pid.to_string()).unwrap();
    let mut look = || sampler.look(&BTreeSet::from([1])).remove(0).1;
    let moved = look();
    assert_eq!((moved.processes, moved.zombies, moved.stopped), (3, 1, false));
    if group.freeze().unwrap() {
        wait_for("the freeze", || look().stopped.then_some(()));
    }
    let tree = sys::tree::Tree { group: Some(group.clone()), token: "x".into(), known: Vec::new() };
    assert_eq!(tree.kill_all(), []);
    wait(spawned.pid);
    wait_for("the removal", || group.remove().ok());
    // A group that is gone has nobody in it, and is no error.
    assert_eq!(sampler.look(&BTreeSet::from([1])).remove(0).1.processes, 0);
    cgroups.remove_base_if_empty();
}

#[test]
fn sockets_of_another_network_namespace_are_not_taken_for_none() {
    if !is_root("another network namespace") || !Path::new("/usr/bin/unshare").exists() {
        return;
    }
    let argv = ["/usr/bin/unshare", "-n", "sh", "-c", "echo ready; exec sleep 1000"];
    let Some((mut watched, _)) = Watched::start(&argv) else { return };
    let sample = watched.look();
    assert_eq!(sample.sockets, None);
    assert!(sample.cannot_tell[0].contains("another network namespace"), "{sample:?}");
    assert!(sample.descriptors.is_some());
}

/// Samples everything under a filter that kills whoever forks or executes anything.
#[test]
fn h4_no_process_is_started_for_a_sample() {
    let helper = |argument: &str| {
        let output = Output::new();
        let spawned = spawn(&helper_plan("sample", argument, output.fd())).unwrap();
        wait(spawned.pid)
    };
    assert_eq!(helper("sample"), Exit::Code(0));
    assert_eq!(helper("fork"), Exit::Signal(libc::SIGSYS), "the filter works");
}

pub(crate) fn sample_helper(argument: &str) -> i32 {
    forbid_processes();
    if argument == "fork" {
        // SAFETY: the child ends at once, if there ever is one.
        let pid = unsafe { libc::fork() };
        return if pid == 0 { 98 } else { 97 };
    }
    let own = std::process::id();
    let mut sampler = Sampler::new(own);
    let known = vec![own];
    sampler.watch(1, Target { group: None, token: String::new(), known, wants: Wants::ALL });
    let mut host = HostReader::open().unwrap();
    for _ in 0..20 {
        let samples = sampler.look(&BTreeSet::from([1]));
        let seen = &samples[0].1;
        let all = seen.memory.is_some() && seen.sockets.is_some() && seen.descriptors.is_some();
        if !all || seen.processes != 1 || host.look().is_err() {
            return 96;
        }
    }
    sys::sample::disk(Path::new("/")).map_or(95, |_| 0)
}

fn forbid_processes() {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let forbidden = [
        libc::SYS_clone,
        libc::SYS_clone3,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_fork,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_vfork,
        libc::SYS_execve,
        libc::SYS_execveat,
    ];
    let step = |code, k, jt| libc::sock_filter { code, jt, jf: 0, k };
    // The number of the system call is the first word of what the filter sees.
    let mut program = vec![step(LOAD, 0, 0)];
    for (place, number) in forbidden.iter().enumerate() {
        let to_the_end = u8::try_from(forbidden.len() - place).unwrap();
        program.push(step(EQUAL, u32::try_from(*number).unwrap(), to_the_end));
    }
    program.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0));
    program.push(step(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0));
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap(),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the filter and its program outlive the call, which copies them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter), 0);
    }
    assert!(std::env::var(HELPER).is_ok());
}

/// Prints what a look costs; a number for people, nothing is claimed about it here.
#[test]
fn h24_what_a_look_costs_is_told() {
    be_subreaper();
    let output = Output::new();
    let spawned: Vec<_> =
        (0..50).map(|_| spawn(&plan(&["sleep", "1000"], output.fd())).unwrap()).collect();
    let mut sampler = Sampler::new(std::process::id());
    for child in &spawned {
        let target = Target { known: vec![child.pid], wants: Wants::ALL, ..Target::default() };
        sampler.watch(child.pid, target);
    }
    let all: BTreeSet<u32> = spawned.iter().map(|child| child.pid).collect();
    let first = sampler.look(&all);
    assert_eq!(first.len(), 50);
    assert!(first.iter().all(|(_, sample)| sample.processes == 1), "{first:?}");
    let began = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(sampler.look(&all).len(), 50);
    }
    println!("a look at one of 50 processes takes {:?}", began.elapsed() / 1000);
    for child in &spawned {
        kill(child);
    }
}
