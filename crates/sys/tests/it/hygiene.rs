//! C5: nothing of holdfast's own reaches a child.

use crate::support::{Output, is_root, plan, wait};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use sys::child::Exit;
use sys::spawn::spawn;

/// What the parent makes of itself, on this thread where the kernel allows.
fn become_dirty(root: bool) {
    let file = File::open("/dev/null").unwrap();
    // SAFETY: plain numbers and pointers to live values; descriptor 77 is nobody's.
    unsafe {
        libc::dup2(file.as_raw_fd(), 77);
        libc::signal(libc::SIGUSR1, libc::SIG_IGN);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        libc::umask(0);
        if root {
            let parameter = libc::sched_param { sched_priority: 1 };
            assert_eq!(libc::sched_setscheduler(0, libc::SCHED_RR, &raw const parameter), 0);
            assert_eq!(libc::setpriority(libc::PRIO_PROCESS, 0, -5), 0);
        }
        // Class 3 (idle) of this thread.
        assert_eq!(libc::syscall(libc::SYS_ioprio_set, 1, 0, 3 << 13), 0);
    }
    fs::write("/proc/self/oom_score_adj", "300").unwrap();
}

fn become_clean() {
    // SAFETY: as above.
    unsafe {
        libc::close(77);
        libc::signal(libc::SIGUSR1, libc::SIG_DFL);
        libc::signal(libc::SIGHUP, libc::SIG_DFL);
        libc::umask(0o022);
    }
    fs::write("/proc/self/oom_score_adj", "0").unwrap();
}

#[test]
fn c5_a_child_sees_nothing_of_a_dirty_parent() {
    let root = is_root("the part about scheduling");
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap(), limit.maximum.unwrap());
    let lowered = rustix::process::Rlimit { current: Some(soft - 1), maximum: Some(hard) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, lowered).unwrap();
    assert_eq!(sys::process::raise_nofile_limit(), (hard, hard));

    become_dirty(root);
    let output = Output::new();
    // First without a shell in between, which could clean up by itself.
    let argv = ["cat", "/proc/self/status", "/proc/self/stat", "/proc/self/oom_score_adj"];
    let first = spawn(&plan(&argv, output.fd()));
    let rest = Output::new();
    let script = "tr '\\0' '\\n' < /proc/self/environ; ls /proc/self/fd | tr '\\n' ' '; ulimit -n; \
                  chrt -p $$; ionice -p $$";
    let second = spawn(&plan(&["sh", "-c", script], rest.fd()));
    become_clean();

    assert_eq!(wait(first.unwrap().pid), Exit::Code(0));
    assert_eq!(wait(second.unwrap().pid), Exit::Code(0));
    let text = output.text();
    for name in ["SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"] {
        assert!(text.contains(&format!("{name}:\t0000000000000000")), "{text}");
    }
    assert!(text.contains("Umask:\t0022"), "{text}");
    let stat = text.lines().rev().nth(1).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!((fields[15], fields[16]), ("20", "0"), "priority and nice: {stat}");
    assert_eq!(text.lines().last().unwrap(), "0", "oom score");

    let text = rest.text();
    assert!(text.starts_with("PATH="), "{text}");
    // `ls` itself opens 3. The shell adds PWD and the like to its children only.
    assert!(text.contains(&format!("0 1 2 3 {}\n", soft - 1)), "{text}");
    assert!(!text.contains("CARGO") && !text.contains("HOME="), "{text}");
    assert!(text.contains("SCHED_OTHER"), "{text}");
    assert!(text.contains("none: prio"), "{text}");
}
