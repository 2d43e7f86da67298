//! Limits that are really enforced, in whichever generation of cgroups this machine has.

use crate::support::{Output, be_subreaper, plan, wait, wait_for};
use sys::cgroup::{CgroupError, Cgroups, Entry, Group, Limits};
use sys::child::Exit;
use sys::spawn::{Spawned, spawn};

fn detect(name: &str) -> Option<Cgroups> {
    be_subreaper();
    let cgroups = Cgroups::detect(&format!("holdfast-test-{name}-{}", std::process::id()));
    if cgroups.tracking() {
        return Some(cgroups);
    }
    println!("{:?}: skipped", cgroups.notices());
    None
}

fn start(script: &str, group: &Group, output: &Output) -> Spawned {
    let mut plan = plan(&["sh", "-c", script], output.fd());
    plan.cgroup = Some(group.entry());
    spawn(&plan).unwrap()
}

/// Gives back the group, unless this machine can't enforce the limit.
fn create(cgroups: &Cgroups, limits: Limits) -> Option<Group> {
    let (group, notices) = cgroups.create("web:1", &limits).unwrap();
    if notices.is_empty() {
        return Some(group);
    }
    println!("{notices:?}: skipped");
    group.remove().unwrap();
    cgroups.remove_base_if_empty();
    None
}

/// Ends whoever is in it.
fn end(group: &Group) {
    let tree = sys::tree::Tree { group: Some(group.clone()), token: "x".into(), known: Vec::new() };
    assert_eq!(tree.kill_all(), []);
}

fn clean_up(cgroups: &Cgroups, group: &Group) {
    wait_for("the removal", || group.remove().ok());
    assert!(!group.path().exists());
    assert_eq!(cgroups.list(), Vec::<String>::new());
    let base = group.path().parent().unwrap().to_owned();
    cgroups.remove_base_if_empty();
    assert!(!base.exists());
}

#[test]
fn d2_members_are_listed_killed_and_the_group_removed() {
    let Some(cgroups) = detect("members") else { return };
    let (group, notices) = cgroups.create("web:1", &Limits::default()).unwrap();
    assert_eq!(notices, Vec::<String>::new());
    assert_eq!(cgroups.list(), ["web:1"]);
    assert_eq!(cgroups.open("web:1").unwrap().path(), group.path());
    assert!(cgroups.open("web:2").is_none() && cgroups.open("../x").is_none());
    assert_eq!(group.members().unwrap(), []);

    let output = Output::new();
    let spawned = start("sleep 1000 & echo $!; wait", &group, &output);
    let child: u32 = output.line("the child").parse().unwrap();
    assert_eq!(cgroups.open_of_process("web:1", child).as_ref(), Some(&group));
    assert_eq!(cgroups.open_of_process("web:1", std::process::id()), None);
    let mut members = group.members().unwrap();
    members.sort_unstable();
    let mut expect = [spawned.pid, child];
    expect.sort_unstable();
    assert_eq!(members, expect);
    assert!(group.remove().is_err(), "somebody is in it");
    if !group.kill_all().unwrap() {
        for pid in expect {
            sys::process::kill(pid, libc::SIGKILL);
        }
    }
    assert_eq!(wait(spawned.pid), Exit::Signal(libc::SIGKILL));
    clean_up(&cgroups, &group);
}

#[test]
fn d2_a_process_is_born_in_its_group_or_enters_it_where_it_cannot_be() {
    let Some(cgroups) = detect("births") else { return };
    let (group, _) = cgroups.create("web:1.1", &Limits::default()).unwrap();
    let nowhere = std::path::PathBuf::from("/no/cgroup.procs");
    let entry = |change: fn(&mut Entry, std::path::PathBuf), to| {
        let mut entry = group.entry();
        change(&mut entry, to);
        entry
    };
    let start = |entry| {
        let output = Output::new();
        let mut plan = plan(&["sleep", "1000"], output.fd());
        plan.cgroup = Some(entry);
        spawn(&plan)
    };
    let ends = |spawned: Spawned| {
        assert_eq!(group.members().unwrap(), [spawned.pid]);
        sys::process::kill(spawned.pid, libc::SIGKILL);
        assert_eq!(wait(spawned.pid), Exit::Signal(libc::SIGKILL));
    };
    match group.entry().birthplace {
        // Nobody writes into the file of the group: it would fail.
        Some(_) => ends(start(entry(|entry, to| entry.files[0] = to, nowhere)).unwrap()),
        None => println!("no hierarchy of version 2: skipped"),
    }
    // Some directory that is no group: it enters by the file.
    let no_group = |entry: &mut Entry, path| {
        entry.birthplace = Some(std::fs::File::open(path).unwrap().into());
    };
    ends(start(entry(no_group, "/".into())).unwrap());

    // Where the kernel kills who is born in a group that was killed, it is made anew and enters.
    if group.kill_all().unwrap() {
        ends(start(group.entry()).unwrap());
    }
    clean_up(&cgroups, &group);
}

#[test]
fn h7_the_memory_limit_kills_and_the_kill_is_counted() {
    let Some(cgroups) = detect("memory") else { return };
    let limits = Limits { memory: Some(24 * 1024 * 1024), ..Limits::default() };
    let Some(group) = create(&cgroups, limits) else { return };
    let output = Output::new();
    // `tail` keeps all of an endless line in memory.
    let spawned = start("exec tail /dev/zero", &group, &output);
    assert_eq!(wait(spawned.pid), Exit::Signal(libc::SIGKILL));
    assert!(Some(1) <= group.oom_kills());
    assert!(group.memory_current().is_some());
    clean_up(&cgroups, &group);
}

#[test]
fn the_pids_limit_stops_forks_and_can_be_lifted() {
    let Some(cgroups) = detect("pids") else { return };
    let limits = Limits { pids: Some(3), ..Limits::default() };
    let Some(group) = create(&cgroups, limits) else { return };
    let script = "for i in 1 2 3 4 5; do sleep 1000 & done; echo all; wait";
    let output = Output::new();
    let spawned = start(script, &group, &output);
    assert!(matches!(wait(spawned.pid), Exit::Code(1..)));
    let text = output.text();
    assert!(text.contains("Cannot fork") && !text.contains("all"), "{text}");
    end(&group);

    // The next run has a group of its own, and no limit any more.
    wait_for("the removal", || group.remove().ok());
    let (group, _) = cgroups.create("web:1", &Limits::default()).unwrap();
    let output = Output::new();
    let spawned = start(script, &group, &output);
    assert_eq!(output.line("five children"), "all");
    assert_eq!(group.members().unwrap().len(), 6);
    end(&group);
    wait(spawned.pid);
    let whole = cgroups.open("web:1").unwrap();
    clean_up(&cgroups, &whole);
}

#[test]
fn the_cpu_limit_is_written_and_used_time_is_counted() {
    let Some(cgroups) = detect("cpu") else { return };
    let limits = Limits { cpu_percent: Some(50), ..Limits::default() };
    let Some(group) = create(&cgroups, limits) else { return };
    let throttled = group.entry().files.iter().any(|file| {
        let directory = file.parent().unwrap();
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap_or_default();
        read("cpu.max").trim() == "50000 100000" || read("cpu.cfs_quota_us").trim() == "50000"
    });
    let output = Output::new();
    let spawned = start("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done", &group, &output);
    assert_eq!(wait(spawned.pid), Exit::Code(0));
    let used = group.cpu_usage_usec();
    clean_up(&cgroups, &group);
    assert!(throttled);
    assert!(Some(1) <= used, "{used:?}");
}

#[test]
fn groups_that_a_service_made_inside_its_own_are_seen_and_removed() {
    let Some(cgroups) = detect("nested") else { return };
    let (group, _) = cgroups.create("web:1", &Limits::default()).unwrap();
    let inner = group.path().join("inner/most");
    std::fs::create_dir_all(&inner).unwrap();
    let output = Output::new();
    let script = format!("echo 0 > {}/cgroup.procs; echo in; exec sleep 1000", inner.display());
    let spawned = start(&script, &group, &output);
    assert_eq!(output.line("the move"), "in");
    assert_eq!(group.members().unwrap(), [spawned.pid]);
    crate::support::kill(&spawned);
    clean_up(&cgroups, &group);
}

#[test]
fn a_group_can_not_be_named_out_of_its_place() {
    let Some(cgroups) = detect("names") else { return };
    for bad in ["", ".", "..", "a/b", "a\nb"] {
        let error = cgroups.create(bad, &Limits::default()).unwrap_err();
        assert!(matches!(error, CgroupError::Name(_)), "{bad}: {error}");
    }
    cgroups.remove_base_if_empty();
}
