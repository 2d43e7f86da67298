//! H11: one suspicious page is served by instances of its own, which are replaced often. The files
//! are those of the documentation, with other ports and a small server.

use crate::balancer::{Load, SERVER, free_block, get};
use crate::peers::peer;
use crate::support::{Daemon, free_port, wait_for};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn example(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples");
    fs::read_to_string(folder.join(name)).unwrap()
}

struct Balancer(Child);

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run_of(daemon: &Daemon, instance: &str) -> u64 {
    daemon.instance(instance).run.unwrap()
}

#[test]
fn h11_a_suspicious_page_is_served_by_instances_that_are_replaced_often() {
    let (Some(python), Some(haproxy)) = (peer("python3", &[]), peer("haproxy", &[])) else {
        return;
    };
    let first = free_block(5);
    let (front, agent) = (free_port(), free_port());
    let ports = |text: String| {
        let ours = [8000, 8001, 8002, 8100, 8101].into_iter().zip(first..);
        // By way of a word that is nobody's port.
        let text = ours.clone().fold(text, |text, (theirs, ours)| {
            text.replace(&format!("{theirs}"), &format!("<{ours}>"))
        });
        text.replace("7493", &agent.to_string()).replace(['<', '>'], "")
    };
    let command = format!("{} {{dir}}/server.py {{port}}", python.display());
    let services = ports(example("sacrificial.toml"))
        .replace("/srv/app/bin/serve --listen 127.0.0.1:{port}", &command)
        .replace("after = 200", "after = 20");
    let mut daemon = Daemon::prepare(&services);
    daemon.write("server.py", SERVER);
    daemon.run();
    let ordinary = ["app:0", "app:1", "app:2"];
    for instance in ordinary.iter().chain(&["app-report:0", "app-report:1"]) {
        daemon.wait_state(instance, "running");
    }
    let before = ordinary.map(|instance| run_of(&daemon, instance));
    let config = ports(example("sacrificial.cfg"))
        .replace("bind :80", &format!("bind 127.0.0.1:{front}"))
        .replace("  log /dev/log local0\n", "");
    let config = daemon.write("haproxy.cfg", &config);
    let log = fs::File::create(daemon.path("haproxy.log")).unwrap();
    let child = Command::new(haproxy)
        .args(["-db", "-f"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let _balancer = Balancer(child);
    wait_for("HAProxy serves", || match get(front, "/report") {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    });

    let port_of = |path: &str| get(front, path).unwrap().1.parse::<u16>().unwrap();
    for _ in 0..10 {
        assert!((first..first + 3).contains(&port_of("/")), "ordinary pages");
        assert!((first + 3..first + 5).contains(&port_of("/report/monthly")), "the suspicious one");
    }
    // Both are replaced after twenty requests each, one after the other, and nobody notices.
    let reports = ["app-report:0", "app-report:1"].map(|one| (one, run_of(&daemon, one)));
    let load = [Load::on(front, "/"), Load::on(front, "/report")];
    for (instance, run) in reports {
        wait_for(&format!("{instance} is replaced"), || match daemon.instance(instance) {
            seen if seen.state == "running" && seen.run != Some(run) => Ok(()),
            seen => Err(format!("{seen:?} {}", daemon.log())),
        });
    }
    for load in load {
        let failures = load.end();
        assert!(failures.is_empty(), "{failures:?}");
    }
    assert_eq!(ordinary.map(|instance| run_of(&daemon, instance)), before, "left in peace");
}
