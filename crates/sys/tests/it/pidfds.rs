//! Pidfds: the end of processes that are not our children, and descriptors taken back.

use crate::support::{Output, kill, open_gate, plan, unreaped_child, wait, wait_for};
use std::os::fd::AsFd;
use sys::child::Exit;
use sys::pidfd;
use sys::spawn::spawn;

/// The shell reaps its child itself, so the child is never ours.
#[test]
fn the_end_of_a_process_that_is_not_our_child_is_known() {
    let output = Output::new();
    let gate = output.path("gate");
    let gate_text = gate.to_str().unwrap();
    let inner = format!("read x < {gate_text}; exit 42");
    let script = format!("mkfifo {gate_text}; sh -c '{inner}' & echo $!; wait $!; exec sleep 1000");
    let shell = spawn(&plan(&["sh", "-c", &script], output.fd())).unwrap();
    let pid: u32 = output.line("the pid").parse().unwrap();
    let grandchild = pidfd::open(pid).unwrap();
    assert_eq!(pidfd::exit_of(grandchild.as_fd()), None);
    assert!(!pidfd::has_ended(grandchild.as_fd()));
    wait_for("the gate", || gate.exists().then_some(()));
    std::fs::write(&gate, "go\n").unwrap();
    let exit = wait_for("its end", || pidfd::exit_of(grandchild.as_fd()));
    // Also once its parent has reaped it, which the next look at /proc shows.
    wait_for("the reaping", || sys::proc_fs::stat(pid).is_err().then_some(()));
    let later = pidfd::exit_of(grandchild.as_fd());
    pidfd::send_signal(grandchild.as_fd(), libc::SIGTERM).unwrap();
    kill(&shell);
    assert_eq!(exit, Exit::Code(42));
    assert_eq!(later, Some(Exit::Code(42)));
}

/// A zombie whose parent never reaps it.
#[test]
fn the_end_of_an_unreaped_process_is_known() {
    if !crate::support::is_root("the_end_of_an_unreaped_process_is_known") {
        return;
    }
    let output = Output::new();
    let gate = output.path("gate");
    let script = unreaped_child(&gate, "kill -TERM $$");
    let shell = spawn(&plan(&["sh", "-c", &script], output.fd())).unwrap();
    let pid: u32 = output.line("the pid").parse().unwrap();
    open_gate(&gate, shell.pid);
    let exit = wait_for("its end", || {
        let zombie = pidfd::open(pid).unwrap();
        pidfd::exit_of(zombie.as_fd())
    });
    kill(&shell);
    assert_eq!(exit, Exit::Signal(libc::SIGTERM));
}

#[test]
fn a_passed_socket_can_be_taken_back_from_the_service() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = sys::socket::Address::Tcp(listener.local_addr().unwrap());
    let output = Output::new();
    let mut plan = plan(&["sleep", "1000"], output.fd());
    plan.pass_fds = vec![listener.as_fd()];
    let spawned = spawn(&plan).unwrap();
    drop(plan);
    drop(listener);
    let taken = pidfd::take_fd(spawned.pidfd.as_fd(), 3);
    let other = pidfd::take_fd(spawned.pidfd.as_fd(), 1);
    let missing = pidfd::take_fd(spawned.pidfd.as_fd(), 4);
    kill(&spawned);
    assert!(sys::socket::is_bound_to(taken.unwrap().as_fd(), &address));
    assert!(!sys::socket::is_bound_to(other.unwrap().as_fd(), &address));
    assert_eq!(missing.unwrap_err().raw_os_error(), Some(libc::EBADF));
}

#[test]
fn signals_reach_the_living_and_spare_the_dead() {
    let output = Output::new();
    let spawned = spawn(&plan(&["sleep", "1000"], output.fd())).unwrap();
    pidfd::send_signal(spawned.pidfd.as_fd(), libc::SIGTERM).unwrap();
    assert_eq!(wait(spawned.pid), Exit::Signal(libc::SIGTERM));
    pidfd::send_signal(spawned.pidfd.as_fd(), libc::SIGTERM).unwrap();
    let own = pidfd::open(std::process::id()).unwrap();
    assert!(pidfd::send_signal(own.as_fd(), 4711).is_err());
    assert!(pidfd::open(0).is_err());
    assert_eq!(pidfd::exit_of(spawned.pidfd.as_fd()), Some(Exit::Signal(libc::SIGTERM)));
}
