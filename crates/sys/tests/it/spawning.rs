//! Spawning: what works, and what each failure says.

use crate::support::{Output, helper_plan, is_root, kill, plan, run, wait, wait_for};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use sys::child::Exit;
use sys::spawn::{SpawnError, SpawnPlan, SpawnStage, Stdin, spawn};
use sys::users::Identity;

#[test]
fn arguments_environment_directory_and_exit_code_arrive() {
    let script = "pwd; echo \"$1|$A|$#\"; umask; exit 7";
    let (exit, text) = run(&["sh", "-c", script, "sh", "two words"], |plan| {
        plan.env.push(("A".into(), "a value".into()));
        plan.directory = "/usr".into();
        plan.umask = 0o027;
    });
    assert_eq!(exit, Exit::Code(7));
    assert_eq!(text, "/usr\ntwo words|a value|1\n0027\n");
    assert_eq!(run(&["sh", "-c", "kill -9 $$"], |_| {}).0, Exit::Signal(9));
}

#[test]
fn input_comes_from_nowhere_or_from_where_it_is_told() {
    assert_eq!(run(&["cat"], |_| {}), (Exit::Code(0), String::new()));
    let (mut writer, reader) = std::os::unix::net::UnixStream::pair().unwrap();
    writer.write_all(b"typed").unwrap();
    drop(writer);
    let (exit, text) = run(&["cat"], |plan| plan.stdin = Stdin::Fd(reader.into()));
    assert_eq!((exit, text.as_str()), (Exit::Code(0), "typed"));
}

#[test]
fn passed_descriptors_get_their_numbers_whatever_they_were() {
    let files: Vec<_> = (0..5).map(|_| Output::new()).collect();
    let output = Output::new();
    let script = "for n in 3 4 5 6 7; do echo to $n >&$n; done; ls /proc/self/fd | tr '\\n' ' '";
    let mut plan = plan(&["sh", "-c", script], output.fd());
    // In reverse: their own numbers may be among those that are to be filled.
    plan.pass_fds = files.iter().rev().map(Output::fd).collect();
    let spawned = spawn(&plan).unwrap();
    assert_eq!(wait(spawned.pid), Exit::Code(0));
    for (number, file) in (3..).zip(files.iter().rev()) {
        assert_eq!(file.text(), format!("to {number}\n"));
    }
    // 8 is the directory that `ls` itself reads.
    assert_eq!(output.text(), "0 1 2 3 4 5 6 7 8 ");
}

#[test]
fn sockets_are_announced_with_the_pid_of_the_service_itself() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let script = "test $LISTEN_PID = $$ && echo $LISTEN_FDS $LISTEN_FDNAMES";
    let (exit, text) = run(&["sh", "-c", script], |plan| {
        let fd = listener.as_fd().as_raw_fd();
        // SAFETY: the listener outlives the run.
        plan.pass_fds = vec![unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }];
        plan.listen = Some(vec!["http".into()]);
    });
    assert_eq!((exit, text.as_str()), (Exit::Code(0), "1 http\n"));
}

/// A program that we did not write takes a socket from us and answers on it.
#[test]
fn a_real_program_takes_over_a_passed_socket() {
    if !Path::new("/usr/bin/dbus-daemon").exists() {
        println!("dbus-daemon is not installed: skipped");
        return;
    }
    let output = Output::new();
    let path = output.path("bus");
    let address = sys::socket::Address::Unix { path: path.clone(), mode: 0o600 };
    let socket = sys::socket::listen(&address, 16).unwrap();
    // Connected before the program runs: nothing is refused meanwhile.
    let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
    let config = output.path("bus.conf");
    let text = "<busconfig><listen>systemd:</listen><auth>EXTERNAL</auth></busconfig>";
    fs::write(&config, text).unwrap();
    let config = format!("--config-file={}", config.display());
    let argv = ["dbus-daemon", &config, "--nofork", "--nopidfile", "--address=systemd:"];
    let mut plan = plan(&argv, output.fd());
    plan.pass_fds = vec![socket.as_fd()];
    plan.listen = Some(vec!["bus".into()]);
    let spawned = spawn(&plan).unwrap();
    // The digits of our user in hexadecimal: ASCII digits are 30 to 39.
    let uid = sys::users::effective_uid().to_string();
    let uid = uid.chars().map(|digit| format!("3{digit}")).collect::<Vec<_>>().concat();
    client.write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes()).unwrap();
    let mut answer = [0; 3];
    let read = client.read_exact(&mut answer);
    kill(&spawned);
    read.unwrap_or_else(|error| panic!("{error}: {}", output.text()));
    assert_eq!(&answer, b"OK ");
}

#[test]
fn another_user_is_switched_to_completely() {
    if !is_root("another_user_is_switched_to_completely") {
        return;
    }
    let (exit, text) = run(&["sh", "-c", "id -u; id -g; id -G; cat /proc/self/status"], |plan| {
        plan.identity = Some(Identity { uid: 4321, gid: 4322, groups: vec![4322, 4323] });
        plan.no_new_privileges = true;
    });
    assert_eq!(exit, Exit::Code(0));
    assert!(text.starts_with("4321\n4322\n4322 4323\n"), "{text}");
    for line in [
        "Uid:\t4321\t4321\t4321\t4321",
        "Gid:\t4322\t4322\t4322\t4322",
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn priorities_and_limits_are_what_was_asked_for() {
    let script = "ulimit -n; ulimit -Hc; nice; cat /proc/self/oom_score_adj; ionice -p $$";
    let (exit, text) = run(&["sh", "-c", script], |plan| {
        plan.rlimits = vec![(7, 123, 456), (4, 0, 0)];
        plan.nice = 7;
        plan.oom_score_adjust = Some(250);
        plan.io_priority = Some((2, 6));
    });
    assert_eq!(exit, Exit::Code(0), "{text}");
    assert_eq!(text, "123\n0\n7\n250\nbest-effort: prio 6\n");
}

#[test]
fn d1_a_service_has_a_session_of_its_own_without_a_terminal() {
    let (_, text) = run(&["sh", "-c", "cut -d' ' -f1,5,6,7 /proc/$$/stat"], |_| {});
    let numbers: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(numbers[0], numbers[1]);
    assert_eq!(numbers[0], numbers[2]);
    assert_eq!(numbers[3], "0");
}

/// A file that was just written may still be open for writing in a child that another test is about
/// to execute: such an answer is not the one that is asked for.
fn fails(argv: &[&str], change: impl Fn(&mut SpawnPlan<'_>)) -> SpawnError {
    wait_for("an answer about the file itself", || {
        Some(fails_once(argv, &change)).filter(|error| error.errno != libc::ETXTBSY)
    })
}

fn fails_once(argv: &[&str], change: impl Fn(&mut SpawnPlan<'_>)) -> SpawnError {
    let output = Output::new();
    let mut plan = plan(&["true"], output.fd());
    plan.argv = argv.iter().map(Into::into).collect();
    plan.program = PathBuf::from(argv[0]);
    change(&mut plan);
    spawn(&plan).unwrap_err()
}

#[test]
fn each_failure_names_its_cause_and_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str, mode| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let check = |argv: &str, words: &str, stage: SpawnStage| {
        let error = fails(&[argv], |_| {});
        let message = error.to_string();
        assert!(message.contains(words), "{message}");
        assert!(error.permanent(), "{message}");
        assert_eq!(error.stage, stage, "{message}");
    };
    let exec = SpawnStage::Exec;
    check("/no/such/file", "cannot execute /no/such/file: no such file (check `command`)", exec);
    let lost = script("lost", "#!/no/interpreter -x\n", 0o755);
    check(&lost, "a script whose interpreter `/no/interpreter` does not exist", exec);
    let windows = script("windows", "#!/bin/sh\r\nexit 0\r\n", 0o755);
    check(&windows, "interpreter `/bin/sh\\r` does not exist", exec);
    let text = script("text", "exit 0\n", 0o755);
    check(&text, "not a program for this machine", exec);
    check(directory.path().to_str().unwrap(), "permission denied", exec);
    let plain = script("plain", "#!/bin/sh\n", 0o644);
    check(&plain, "permission denied", exec);
    check("a\0b", "zero byte", SpawnStage::Prepare);

    let error = fails(&["/bin/true"], |plan| plan.directory = "/no/where".into());
    assert!(error.to_string().contains("cannot enter directory /no/where: no such file"));
    assert_eq!((error.stage, error.permanent()), (SpawnStage::Directory, true));
    let error = fails(&["/bin/true"], |plan| {
        let files = vec!["/no/cgroup.procs".into()];
        plan.cgroup = Some(sys::cgroup::Entry { birthplace: None, files });
    });
    assert!(error.to_string().contains("cannot enter the cgroup /no:"), "{error}");
    assert!(!error.permanent());
    let error = fails(&["/bin/true"], |plan| plan.rlimits = vec![(7, u64::MAX, u64::MAX)]);
    assert_eq!(error.stage, SpawnStage::Rlimit(7));
    assert!(error.to_string().contains("the limit `nofile`"), "{error}");
}

#[test]
fn a_user_who_may_not_enter_or_execute_is_named() {
    if !is_root("a_user_who_may_not_enter_or_execute_is_named") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let someone = || Some(Identity { uid: 65_534, gid: 65_534, groups: Vec::new() });
    let error = fails(&["/bin/true"], |plan| {
        plan.identity = someone();
        plan.directory = directory.path().into();
    });
    assert!(error.to_string().contains("by user nobody"), "{error}");
    let program = directory.path().join("x");
    fs::copy("/bin/true", &program).unwrap();
    let error = fails(&[program.to_str().unwrap()], |plan| plan.identity = someone());
    assert!(error.to_string().contains("may not be executed by user nobody"), "{error}");
}

/// A failed spawn leaves neither a process nor a zombie, and nobody else ever hears of it.
#[test]
fn a_failed_spawn_leaves_nothing() {
    for _ in 0..50 {
        fails(&["/no/such/file"], |_| {});
    }
    let own = std::process::id();
    let thread_name = "a_failed_spawn_";
    let left = sys::proc_fs::children(own)
        .into_iter()
        .filter_map(|pid| sys::proc_fs::stat(pid).ok())
        .filter(|stat| stat.comm.starts_with(thread_name))
        .count();
    assert_eq!(left, 0);
}

/// C7: by construction no page table is copied; so a daemon with much memory in use gets the same
/// child as a small one, while other threads allocate, handle signals and spawn, too.
#[test]
fn c7_many_threads_spawn_at_once_in_a_large_and_busy_process() {
    extern "C" fn handler(_: i32) {}
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(libc::SIGURG, handler as *const () as libc::sighandler_t) };
    let memory = vec![1_u8; 256 * 1024 * 1024];
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let disturber = scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                sys::process::kill(std::process::id(), libc::SIGURG);
                std::hint::black_box(vec![0_u8; 100_000]);
                std::thread::yield_now();
            }
        });
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                scope.spawn(move || {
                    for turn in 0..40 {
                        let code = (worker * 40 + turn) % 100;
                        let (exit, _) = run(&["sh", "-c", &format!("exit {code}")], |_| {});
                        assert_eq!(exit, Exit::Code(code));
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        disturber.join().unwrap();
    });
    assert_eq!(memory.iter().step_by(4096).filter(|byte| **byte != 1).count(), 0);
}

#[test]
fn b15_a_child_dies_with_the_thread_that_spawned_it_if_asked() {
    let output = Output::new();
    let fd = output.fd();
    let spawned = std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let mut plan = plan(&["sleep", "1000"], fd);
            plan.parent_death_signal = Some(libc::SIGTERM);
            spawn(&plan).unwrap()
        });
        thread.join().unwrap()
    });
    assert_eq!(wait(spawned.pid), Exit::Signal(libc::SIGTERM));
}

/// The new program has our pid, the descriptor we kept, and what we say is its environment.
#[test]
fn exec_in_place_keeps_the_pid_and_the_kept_descriptors() {
    let output = Output::new();
    let kept = output.path("kept");
    let spawned = spawn(&helper_plan("exec", kept.to_str().unwrap(), output.fd())).unwrap();
    assert_eq!(wait(spawned.pid), Exit::Code(0), "{}", output.text());
    assert_eq!(output.text(), format!("{} only this\n", spawned.pid));
    assert_eq!(fs::read_to_string(kept).unwrap(), "still open\n");
}

pub(crate) fn exec_helper(kept: &str) -> i32 {
    let file = fs::File::create(kept).unwrap();
    let number = file.as_raw_fd();
    let script = format!("echo $$ $A; echo still open >&{number}");
    let args = ["sh".into(), "-c".into(), script.into()];
    let env = [("A".into(), "only this".into())];
    let error = sys::process::exec_in_place(Path::new("/bin/sh"), &args, &[file.as_fd()], &env);
    println!("{error}");
    1
}

#[test]
fn a_fifo_is_a_services_output() {
    let output = Output::new();
    let path = output.path("web:1.out");
    sys::fifo::ensure(&path).unwrap();
    let service = sys::fifo::open_for_service(&path).unwrap();
    let spawned = spawn(&plan(&["echo", "hello"], service.as_fd())).unwrap();
    assert_eq!(wait(spawned.pid), Exit::Code(0));
    let mut reader = fs::File::from(sys::fifo::open_for_reading(&path).unwrap());
    let mut text = [0; 16];
    let length = wait_for("the output", || reader.read(&mut text).ok());
    assert_eq!(&text[..length], b"hello\n");
}
