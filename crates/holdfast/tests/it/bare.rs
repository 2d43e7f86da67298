//! A machine without a network, whose temporary directory can't be written: nothing of ours needs
//! either, to start, to be asked, and to keep services alive.

use crate::support::{Daemon, free_port, kill, root_or_skip, wait_for};
use std::fs;
use std::process::Command;

#[test]
fn p6_g2_without_a_network_and_a_temporary_directory_all_works() {
    let tried = Command::new("unshare").args(["--mount", "--net", "true"]).output();
    if !root_or_skip("take the network away") || !tried.is_ok_and(|tried| tried.status.success()) {
        eprintln!("skipped: namespaces of one's own are not allowed here");
        return;
    }
    let mut daemon = Daemon::prepare(&format!(
        "[console]\nlisten = \"127.0.0.1:{}\"\n\
         [service.db]\nshell = true\nready = {{ file = \"{{dir}}/up\" }}\n\
         command = \"echo a line; touch /tmp/holdfast-test-x || echo refused; touch {{dir}}/up; exec sleep 1000\"\n\
         [service.web]\ncommand = [\"sleep\", \"1000\"]\nrequires = [\"db\"]\n",
        free_port()
    ));
    let dir = daemon.dir().display().to_string();
    // Its own directory, which lies below, stays as it is.
    let mounts = "mount --bind \"$0\" \"$0\" && mount --rbind /tmp /tmp && \
                  mount -o remount,bind,ro /tmp && cd \"$0\" && exec \"$@\"";
    daemon.under =
        ["unshare", "--mount", "--net", "sh", "-c", mounts, &dir].map(ToOwned::to_owned).to_vec();
    daemon.run();
    // In a new namespace even the loopback is down, and has no address.
    let addresses = fs::read_to_string(format!("/proc/{}/net/fib_trie", daemon.pid())).unwrap();
    assert!(!addresses.contains("127.0.0.1"), "{addresses}");

    let first = daemon.wait_state("web", "running").pid.unwrap();
    kill(first, "KILL");
    let second = daemon.wait_replaced("web", first).pid.unwrap();
    wait_for("its output is kept", || {
        let output = daemon.output("db");
        // If it had been allowed to write there, the second line would not be there.
        if output.ends_with("refused\n") { Ok(()) } else { Err(output) }
    });
    let status = daemon.cli(&["status"]);
    assert!(status.status.success(), "{status:?}");

    daemon.kill_root();
    daemon.run();
    let adopted = daemon.wait_state("web", "running").pid;
    assert_eq!(adopted, Some(second));
    assert_eq!(daemon.stop(), 0);
}
