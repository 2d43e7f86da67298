//! D2: whatever a service forks stays ours, with and without a cgroup.

use crate::support::{Output, be_subreaper, open_gate, plan, unreaped_child, wait, wait_for};
use std::sync::atomic::{AtomicU32, Ordering};
use sys::cgroup::{Cgroups, Limits};
use sys::proc_fs;
use sys::spawn::{Spawned, spawn};
use sys::tree::{Tree, find_by_token_prefix};

/// A token that no other test and no other run of the tests has.
fn token(name: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("test-{name}-{}-{number}", std::process::id())
}

fn start(script: &str, token: &str, output: &Output, tree: &mut Tree) -> Spawned {
    let mut plan = plan(&["sh", "-c", script], output.fd());
    plan.env.push(("HOLDFAST_RUN".into(), token.into()));
    plan.cgroup = tree.group.as_ref().map(sys::cgroup::Group::entry);
    let spawned = spawn(&plan).unwrap();
    tree.known.push(spawned.pid);
    spawned
}

/// The first process ends, its grandchild in a session of its own goes on.
const DOUBLE_FORK: &str = "(setsid sh -c 'echo $$; exec sleep 1000' &) ; exit 0";

fn check_double_fork(mut tree: Tree) {
    be_subreaper();
    let output = Output::new();
    let token = tree.token.clone();
    let spawned = start(DOUBLE_FORK, &token, &output, &mut tree);
    let pid: u32 = output.line("the grandchild").parse().unwrap();
    wait(spawned.pid);
    let members = wait_for("it alone to be left", || {
        let members = tree.members();
        (members.len() == 1 && members[0].ppid == std::process::id()).then_some(members)
    });
    let by_token = find_by_token_prefix(&token);
    let signalled: Vec<u32> = tree.signal_all(libc::SIGCONT).iter().map(|m| m.pid).collect();
    let survivors = tree.kill_all();
    assert_eq!(members[0].pid, pid);
    assert_eq!(by_token, [(pid, token)]);
    assert_eq!(signalled, [pid]);
    assert_eq!(survivors, []);
    assert_eq!(wait(pid), sys::child::Exit::Signal(libc::SIGKILL));
    assert_eq!(tree.members(), []);
}

#[test]
fn d2_double_fork_is_found_without_a_cgroup() {
    check_double_fork(Tree { group: None, token: token("double"), known: Vec::new() });
}

#[test]
fn d2_double_fork_is_found_with_a_cgroup() {
    let Some((cgroups, group)) = group("double") else { return };
    check_double_fork(Tree {
        group: Some(group.clone()),
        token: token("double"),
        known: Vec::new(),
    });
    group.remove().unwrap();
    cgroups.remove_base_if_empty();
}

/// An emptied environment hides the token, but not the session; and nobody else is taken for ours.
#[test]
fn d2_an_emptied_environment_is_still_found_by_its_session() {
    be_subreaper();
    let output = Output::new();
    let mut tree = Tree { group: None, token: token("empty"), known: Vec::new() };
    let token = tree.token.clone();
    let script = "env -i /bin/sh -c '(exec sleep 1000) & echo $!; exit 0' & wait";
    let spawned = start(script, &token, &output, &mut tree);
    let pid: u32 = output.line("the grandchild").parse().unwrap();
    wait(spawned.pid);
    let found: Vec<u32> = tree.members().iter().map(|member| member.pid).collect();
    let survivors = tree.kill_all();
    wait(pid);
    assert_eq!(found, [pid]);
    assert_eq!(survivors, []);
}

/// A run that this process has not spawned is searched for in all of /proc.
#[test]
fn g7_a_run_of_an_earlier_daemon_is_found_by_its_token() {
    be_subreaper();
    let output = Output::new();
    let inner = token("earlier");
    let script = format!("HOLDFAST_RUN={inner} sh -c 'echo $$; exec sleep 1000'");
    // To the spawning side this is a run with another token.
    let mut outer = Tree { group: None, token: token("outer"), known: Vec::new() };
    let outer_token = outer.token.clone();
    let spawned = start(&script, &outer_token, &output, &mut outer);
    let pid: u32 = output.line("the inner one").parse().unwrap();
    let earlier = Tree { group: None, token: inner.clone(), known: Vec::new() };
    let found: Vec<u32> = earlier.members().iter().map(|member| member.pid).collect();
    let start_ticks = proc_fs::stat(pid).unwrap().start_ticks;
    let same = proc_fs::is_same_process(pid, start_ticks);
    assert_eq!(outer.kill_all(), []);
    wait(spawned.pid);
    assert_eq!(found, [pid]);
    assert!(same && !proc_fs::is_same_process(pid, start_ticks));
    assert_eq!(find_by_token_prefix(&inner), []);
}

/// Forks as fast as it can, and so does each child, also when it may not.
const BOMB: &str = "exec perl -e 'print \"lit\\n\"; $|=1; while (1) { fork }'";

#[test]
fn d2_a_fork_bomb_within_its_limit_is_killed_to_the_last() {
    let Some(cgroups) = cgroups() else { return };
    be_subreaper();
    let limits = Limits { pids: Some(40), ..Limits::default() };
    let (group, notices) = cgroups.create("bomb", &limits).unwrap();
    if !notices.is_empty() {
        println!("{notices:?}: skipped");
        group.remove().unwrap();
        return;
    }
    let output = Output::new();
    let mut tree = Tree { group: Some(group.clone()), token: token("bomb"), known: Vec::new() };
    let run_token = tree.token.clone();
    let spawned = start(BOMB, &run_token, &output, &mut tree);
    wait_for("the explosion", || (20 <= tree.members().len()).then_some(()));
    let (most, survivors) = (tree.members().len(), tree.kill_all());
    wait(spawned.pid);
    assert!(most <= 40, "{most}");
    assert_eq!(survivors, []);
    wait_for("the removal", || group.remove().ok());
    cgroups.remove_base_if_empty();
}

/// The same way of killing, by rounds of looks and signals, where there is no cgroup. The limit of
/// processes is that of a user that nobody else is.
#[test]
fn d2_a_fork_bomb_is_killed_without_a_cgroup() {
    if !crate::support::is_root("d2_a_fork_bomb_is_killed_without_a_cgroup") {
        return;
    }
    be_subreaper();
    let output = Output::new();
    let mut tree = Tree { group: None, token: token("storm"), known: Vec::new() };
    let mut plan = plan(&["sh", "-c", BOMB], output.fd());
    plan.env.push(("HOLDFAST_RUN".into(), tree.token.clone().into()));
    plan.identity = Some(sys::users::Identity { uid: 43_210, gid: 43_210, groups: Vec::new() });
    plan.rlimits = vec![(6, 60, 60)];
    let spawned = spawn(&plan).unwrap();
    tree.known.push(spawned.pid);
    wait_for("the explosion", || (40 <= tree.members().len()).then_some(()));
    let survivors = tree.kill_all();
    wait(spawned.pid);
    assert_eq!(survivors, []);
    assert_eq!(tree.members(), []);
}

/// Zombies are no members.
#[test]
fn an_ended_process_that_nobody_reaps_does_not_count() {
    be_subreaper();
    let output = Output::new();
    let mut tree = Tree { group: None, token: token("zombie"), known: Vec::new() };
    let run_token = tree.token.clone();
    let gate = output.path("gate");
    let script = unreaped_child(&gate, "exit 0");
    let spawned = start(&script, &run_token, &output, &mut tree);
    let zombie: u32 = output.line("the child").parse().unwrap();
    open_gate(&gate, spawned.pid);
    wait_for("its end", || proc_fs::stat(zombie).is_ok_and(|s| !s.is_alive()).then_some(()));
    let found: Vec<u32> = tree.members().iter().map(|member| member.pid).collect();
    assert_eq!(tree.kill_all(), []);
    wait(spawned.pid);
    assert_eq!(found, [spawned.pid]);
}

fn cgroups() -> Option<Cgroups> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let cgroups = Cgroups::detect(&format!("holdfast-test-tree-{}-{number}", std::process::id()));
    if !cgroups.tracking() {
        println!("{:?}: skipped", cgroups.notices());
        return None;
    }
    Some(cgroups)
}

fn group(name: &str) -> Option<(Cgroups, sys::cgroup::Group)> {
    let cgroups = cgroups()?;
    let (group, _) = cgroups.create(name, &Limits::default()).unwrap();
    Some((cgroups, group))
}

/// Its first thread ends, another one goes on.
pub(crate) fn headless_helper() -> i32 {
    std::thread::spawn(|| {
        loop {
            std::thread::park();
        }
    });
    println!("ready");
    // SAFETY: ends this thread alone; nothing that it owns is used by the other one.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    1
}

/// It looks like a zombie and is none.
#[test]
fn d2_a_process_without_its_first_thread_is_alive_and_can_be_killed() {
    be_subreaper();
    let output = Output::new();
    let mut tree = Tree { group: None, token: token("headless"), known: Vec::new() };
    let mut plan = crate::support::helper_plan("headless", "", output.fd());
    plan.env.push(("HOLDFAST_RUN".into(), tree.token.clone().into()));
    let spawned = spawn(&plan).unwrap();
    tree.known.push(spawned.pid);
    wait_for("the end of its first thread", || {
        proc_fs::stat(spawned.pid).is_ok_and(|stat| stat.state == 'Z').then_some(())
    });
    let found: Vec<u32> = tree.members().iter().map(|member| member.pid).collect();
    let survivors = tree.kill_all();
    assert_eq!(wait(spawned.pid), sys::child::Exit::Signal(libc::SIGKILL));
    assert_eq!((found, survivors), (vec![spawned.pid], Vec::new()));
}
