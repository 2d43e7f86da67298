//! A process in uninterruptible sleep, which not even SIGKILL ends: on a disk that is frozen.
//!
//! The disk is a file, mounted in a mount namespace of the daemon's own. Whatever happens, it is
//! thawed at the end: nothing that waits for it could ever end otherwise.

use crate::support::{Daemon, alive, kill, root_or_skip, wait_for};
use control::{Request, ServiceAction};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::process::Command;

/// A mounted disk.
struct Disk {
    /// Keeps it at hand where the namespace is out of reach.
    root: File,
}

impl Disk {
    fn set(&self, change: &str) {
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.root.as_raw_fd());
        let output = Command::new("fsfreeze").args([change, &path]).output().unwrap();
        assert!(output.status.success() || std::thread::panicking(), "{output:?}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // One that is not frozen says so, and that is all.
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.root.as_raw_fd());
        let _ = Command::new("fsfreeze").args(["--unfreeze", &path]).output();
    }
}

/// The disk first: it is thawed before the daemon is stopped.
struct Scene {
    disk: Disk,
    daemon: Daemon,
}

/// A daemon with a disk at `{dir}/disk`, where that can be had; otherwise says why not.
fn scene(services: &str) -> Option<Scene> {
    if !root_or_skip("mount a disk") {
        return None;
    }
    let mut daemon = Daemon::prepare(services);
    let (image, disk) = (daemon.path("image"), daemon.path("disk"));
    fs::create_dir(&disk).unwrap();
    File::create(&image).unwrap().set_len(8 * 1024 * 1024).unwrap();
    let formatted =
        Command::new("mkfs.ext4").args(["-q", "-O", "^has_journal"]).arg(&image).output();
    let mount = "mount -o loop,noatime \"$0\" \"$1\"";
    let (image, shown) = (image.display().to_string(), disk.display().to_string());
    let tried =
        Command::new("unshare").args(["--mount", "sh", "-c", mount, &image, &shown]).output();
    let fine = |tried: std::io::Result<std::process::Output>| {
        tried.is_ok_and(|output| output.status.success())
    };
    if !fine(formatted) || !fine(tried) {
        eprintln!(
            "skipped: no disk can be made and mounted here (mkfs.ext4, unshare, loop devices)"
        );
        return None;
    }
    let then = format!("{mount} && shift && exec \"$@\"");
    daemon.under =
        ["unshare", "--mount", "sh", "-c", &then, &image, &shown].map(ToOwned::to_owned).to_vec();
    daemon.run();
    let root = File::open(format!("/proc/{}/root{shown}", daemon.pid())).unwrap();
    Some(Scene { disk: Disk { root }, daemon })
}

fn state_of(pid: u32) -> char {
    sys::proc_fs::stat(pid).map_or('X', |stat| stat.state)
}

#[test]
fn h18_what_sleeps_uninterruptibly_is_reported_as_unkillable_and_nobody_else_suffers() {
    let services = "[service.writer]\nautostart = false\nshell = true\n\
                    command = \"echo x > {dir}/disk/file; exec sleep 1000\"\n\
                    stop = [\"TERM 100ms\"]\n\
                    [service.other]\ncommand = [\"sleep\", \"1000\"]\n\
                    restart = { delay = \"1ms\" }\n";
    let Some(Scene { disk, daemon }) = scene(services) else { return };
    disk.set("--freeze");
    daemon.act(ServiceAction::Start, "writer");
    let writer = daemon.wait_state("writer", "running").pid.unwrap();
    wait_for("it waits for the disk", || match state_of(writer) {
        'D' => Ok(()),
        other => Err(format!("its state is {other}")),
    });
    daemon.act(ServiceAction::Stop, "writer");
    let said = daemon.wait_event("writer", "service.unkillable");
    let expect = format!("pid {writer} is in uninterruptible sleep");
    assert!(said.message.contains(&expect), "{}", said.message);
    assert!(said.message.contains("it waits for a device or a file server"), "{}", said.message);
    // It is not waited for in silence: who asks is told what it waits for.
    let why = format!("{:?}", daemon.why("writer"));
    assert!(why.contains(&expect), "{why}");
    assert_eq!(daemon.instance("writer").state, "stopping");
    assert_eq!(state_of(writer), 'D');
    // Others are supervised as always.
    let other = daemon.wait_state("other", "running").pid.unwrap();
    kill(other, "KILL");
    daemon.wait_replaced("other", other);
    assert!(daemon.try_ask(Request::Ping).is_ok());

    disk.set("--unfreeze");
    daemon.wait_state("writer", "stopped");
    assert!(!alive(writer));
    drop((disk, daemon));
}
