//! D1: the double fork, as a person at a terminal and the daemon itself see it.

use crate::support::{Output, helper_plan, wait, wait_for};
use std::fs;
use std::path::Path;
use sys::child::Exit;
use sys::daemon::{PidFile, Side, daemonize};
use sys::lock::LockError;
use sys::proc_fs;
use sys::spawn::spawn;

/// What the helper process does: `<how> <directory>`.
pub(crate) fn helper(argument: &str) -> i32 {
    let (how, directory) = argument.split_once(' ').unwrap();
    let directory = Path::new(directory);
    match daemonize(&directory.join("log")) {
        Err(error) => {
            println!("{error}");
            3
        }
        Ok(Side::Launcher(waiter)) => match waiter.wait() {
            Ok(()) => 0,
            Err(why) => {
                println!("{why}");
                1
            }
        },
        Ok(Side::Daemon(sender)) => {
            println!("to the log");
            let report = [
                fs::read_link("/proc/self/cwd").unwrap().display().to_string(),
                fs::read_link("/proc/self/fd/0").unwrap().display().to_string(),
                fs::read_to_string("/proc/self/stat").unwrap(),
                fs::read_to_string("/proc/self/status").unwrap(),
            ];
            fs::write(directory.join("report.new"), report.join("\n")).unwrap();
            fs::rename(directory.join("report.new"), directory.join("report")).unwrap();
            match how {
                "ready" => sender.ready(),
                "failed" => sender.failed("cannot listen on 127.0.0.1:80"),
                _ => return 9,
            }
            0
        }
    }
}

fn daemon(how: &str) -> (Exit, String, Output) {
    crate::support::be_subreaper();
    let output = Output::new();
    let argument = format!("{how} {}", output.path("").display());
    let spawned = spawn(&helper_plan("daemon", &argument, output.fd())).unwrap();
    let exit = wait(spawned.pid);
    (exit, output.text(), output)
}

#[test]
fn d1_the_launcher_returns_only_when_the_daemon_is_up() {
    let (exit, text, output) = daemon("ready");
    assert_eq!((exit, text.as_str()), (Exit::Code(0), ""));
    // The daemon had written this before it said that it was up.
    let report = fs::read_to_string(output.path("report")).unwrap();
    let lines: Vec<&str> = report.lines().collect();
    assert_eq!(&lines[..2], ["/", "/dev/null"]);
    let fields: Vec<&str> = lines[2].split_whitespace().collect();
    // In a session whose leader it is not: it can never get a terminal again.
    assert_ne!(fields[0], fields[5], "{report}");
    assert_eq!(fields[6], "0", "{report}");
    assert!(report.contains("Umask:\t0022"), "{report}");
    let log = wait_for("the log", || {
        let text = fs::read_to_string(output.path("log")).unwrap();
        text.contains('\n').then_some(text)
    });
    assert_eq!(log, "to the log\n");
    wait(fields[0].parse().unwrap());
}

#[test]
fn d1_the_launcher_tells_why_the_daemon_is_not_up() {
    let (exit, text, output) = daemon("failed");
    assert_eq!((exit, text.as_str()), (Exit::Code(1), "cannot listen on 127.0.0.1:80\n"));
    reap_daemon(&output);
    let (exit, text, output) = daemon("dies");
    assert_eq!(exit, Exit::Code(1));
    assert!(text.contains("ended before it was up; its last words are in /"), "{text}");
    reap_daemon(&output);
    let (exit, text, _) = {
        let output = Output::new();
        let spawned = spawn(&helper_plan("daemon", "ready /no/where", output.fd())).unwrap();
        (wait(spawned.pid), output.text(), output)
    };
    assert_eq!(exit, Exit::Code(3), "{text}");
}

fn reap_daemon(output: &Output) {
    let report = fs::read_to_string(output.path("report")).unwrap();
    let stat = report.lines().nth(2).unwrap();
    wait(stat.split_whitespace().next().unwrap().parse().unwrap());
}

#[test]
fn d1_a_process_with_threads_is_not_forked() {
    let error = daemonize(Path::new("/no/where/log")).unwrap_err();
    assert!(error.to_string().contains("threads running"), "{error}");
}

/// Holds the pid file until it is killed.
pub(crate) fn pid_file_helper(path: &str) -> i32 {
    let Ok(_held) = PidFile::create(Path::new(path)) else { return 1 };
    println!("held");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_pid_file_is_held_by_one_removed_at_the_end_and_taken_over_from_the_dead() {
    let output = Output::new();
    let path = output.path("holdfast.pid");
    let spawned = spawn(&helper_plan("pid-file", path.to_str().unwrap(), output.fd())).unwrap();
    output.line("the pid file");
    assert!(proc_fs::command_line(spawned.pid).is_some());
    let error = PidFile::create(&path).unwrap_err();
    crate::support::kill(&spawned);
    assert!(matches!(&error, LockError::Held { pid: Some(pid), .. } if *pid == spawned.pid));
    assert!(error.to_string().contains("another holdfast uses it; stop that one first"));

    let held = PidFile::create(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    drop(held);
    assert!(!path.exists());
}

/// Speaks to the service manager, and has nothing of it left for its children.
pub(crate) fn notify_helper() -> i32 {
    sys::notify::clear_environment();
    let left = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"].map(std::env::var_os);
    let told = sys::notify::send("READY=1").unwrap();
    println!("{told} {:?} {}", sys::notify::watchdog_interval(), left.iter().flatten().count());
    println!("{}", sys::notify::environment().len());
    0
}

#[test]
fn d1_the_service_manager_is_told_and_children_can_not_speak_for_us() {
    let output = Output::new();
    let path = output.path("manager.sock");
    let manager = sys::socket::notify_socket(&path, None).unwrap();
    let mut plan = helper_plan("notify", "", output.fd());
    plan.env.push(("NOTIFY_SOCKET".into(), path.into()));
    plan.env.push(("WATCHDOG_USEC".into(), "3000000".into()));
    let spawned = spawn(&plan).unwrap();
    assert_eq!(wait(spawned.pid), Exit::Code(0));
    assert_eq!(output.text(), "true Some(1.5s) 0\n2\n");
    let told = sys::socket::receive_notify(std::os::fd::AsFd::as_fd(&manager)).unwrap();
    assert_eq!(told, Some((b"READY=1".to_vec(), spawned.pid)));

    let output = Output::new();
    let mut plan = helper_plan("notify", "", output.fd());
    plan.env.push(("WATCHDOG_USEC".into(), "3000000".into()));
    plan.env.push(("WATCHDOG_PID".into(), "1".into()));
    let spawned = spawn(&plan).unwrap();
    assert_eq!(wait(spawned.pid), Exit::Code(0));
    assert_eq!(output.text(), "false None 0\n2\n");
}
