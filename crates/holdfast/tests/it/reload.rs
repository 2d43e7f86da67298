//! Reload touches only what differs; a bad file changes nothing and says so.

use crate::support::{Daemon, kill, wait_for};
use control::{Reply, Request};

#[test]
fn a_reload_touches_only_what_differs() {
    let daemon = Daemon::start(
        "[service.same]\ncommand = [\"sleep\", \"1000\"]\n\
         [service.changed]\ncommand = [\"sleep\", \"1000\"]\n\
         [service.policy]\ncommand = [\"sleep\", \"1000\"]\n\
         [service.gone]\ncommand = [\"sleep\", \"1000\"]\n",
    );
    let names = ["same", "changed", "policy", "gone"];
    let [same, changed, policy, _] =
        names.map(|name| daemon.wait_state(name, "running").pid.unwrap());
    daemon.configure(
        "[service.same]\ncommand = [\"sleep\", \"1000\"]\n\
         [service.changed]\ncommand = [\"sleep\", \"2000\"]\n\
         [service.policy]\ncommand = [\"sleep\", \"1000\"]\nrestart = \"never\"\n\
         [service.new]\ncommand = [\"sleep\", \"1000\"]\n",
    );
    let reply = daemon.ask(Request::Reload);
    assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    daemon.wait_state("new", "running");
    daemon.wait_replaced("changed", changed);
    wait_for("the removed one is gone", || {
        let names: Vec<_> = daemon.snapshot().services.into_iter().map(|s| s.name).collect();
        if names == ["changed", "new", "policy", "same"] {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    });
    assert_eq!(daemon.instance("same").pid, Some(same));
    assert_eq!(daemon.instance("policy").pid, Some(policy));
    // The new policy is in force without a restart.
    kill(policy, "KILL");
    daemon.wait_state("policy", "failed");
}

#[test]
fn a_bad_file_changes_nothing_and_says_so() {
    let daemon = Daemon::start("[service.web]\ncommand = [\"sleep\", \"1000\"]\n");
    let web = daemon.wait_state("web", "running").pid;
    daemon.configure("[service.web]\ncommand = 7\n");
    let reply = daemon.ask(Request::Reload);
    let Reply::Failed(fault) = reply else { panic!("{reply:?}") };
    assert!(fault.message.contains("command") && fault.message.contains("nothing was changed"));
    assert_eq!(daemon.instance("web").pid, web);
    // By signal it says so in the log.
    kill(daemon.pid(), "HUP");
    wait_for("the signal is answered in the log", || {
        let log = daemon.log();
        let said = log.contains("signal HUP") && 2 <= log.matches("nothing was changed").count();
        if said { Ok(()) } else { Err(log) }
    });
    assert_eq!(daemon.instance("web").pid, web);
}
