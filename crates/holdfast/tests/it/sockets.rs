//! Listening sockets outlive the services they are passed to: a restart refuses no connection.

use crate::support::{Daemon, free_port, kill, wait_for};
use control::{Request, ServiceAction};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A server that takes its socket by the LISTEN_FDS protocol and answers with its pid.
const SERVER: &str = "import os, socket\n\
    assert os.environ['LISTEN_PID'] == str(os.getpid()), os.environ['LISTEN_PID']\n\
    assert os.environ['LISTEN_FDS'] == '1' and os.environ['LISTEN_FDNAMES'] == 'main'\n\
    listener = socket.socket(fileno=3)\n\
    while True:\n    stream, _ = listener.accept()\n    stream.recv(100)\n    \
    stream.sendall(str(os.getpid()).encode())\n    stream.close()\n";

fn start() -> (Daemon, SocketAddr) {
    let address: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let mut daemon = Daemon::prepare(&format!(
        "[service.web]\ncommand = [\"python3\", \"{{dir}}/server.py\"]\n\
         sockets = [{{ name = \"main\", tcp = \"{address}\" }}]\n\
         restart = {{ when = \"always\", delay = \"1ms\", budget = 1000, within = \"60s\" }}\n"
    ));
    fs::write(daemon.path("server.py"), SERVER).unwrap();
    daemon.run();
    daemon.wait_state("web", "running");
    (daemon, address)
}

fn ask(address: SocketAddr) -> Result<u32, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
    stream.write_all(b"?").map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    answer.parse().map_err(|_| format!("an empty answer {answer:?}"))
}

#[test]
fn h20_a_restart_refuses_no_connection() {
    let (daemon, address) = start();
    let (stop, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut refused = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                // A connection that was being served when its server ended may break; none is
                // ever refused.
                if let Err(why) = ask(address)
                    && why.contains("refused")
                {
                    refused.push(why);
                }
                asked.fetch_add(1, Ordering::Relaxed);
            }
            refused
        });
        for _ in 0..5 {
            let old = daemon.wait_state("web", "running").pid.unwrap();
            daemon.act(ServiceAction::Restart, "web");
            daemon.wait_replaced("web", old);
            let seen = asked.load(Ordering::Relaxed);
            wait_for("the new one answers", || {
                if seen < asked.load(Ordering::Relaxed) { Ok(()) } else { Err("silent".into()) }
            });
        }
        stop.store(true, Ordering::Relaxed);
        let refused = client.join().unwrap();
        assert!(refused.is_empty(), "{refused:?}");
    });
}

#[test]
fn the_socket_survives_the_daemon_and_closes_with_the_service() {
    let (mut daemon, address) = start();
    let before = ask(address).unwrap();
    daemon.kill_root();
    assert_eq!(ask(address).unwrap(), before);
    daemon.run();
    // The new daemon has the socket too: the service's end refuses no connection.
    kill(before, "KILL");
    let answers = |old: u32| {
        wait_for("a successor answers, and nobody is refused", || match ask(address) {
            Ok(pid) if pid != old => Ok(pid),
            Err(why) if why.contains("refused") => panic!("{why}"),
            // The connection that the old one had accepted ends with it.
            other => Err(format!("{other:?}")),
        })
    };
    answers(before);
    let reply = daemon.ask(Request::Upgrade { binary: None });
    assert!(matches!(reply, control::Reply::Done { .. }), "{reply:?}");
    wait_for("the new program is up", || {
        let ups = daemon.log().matches("is up").count();
        if ups == 3 { Ok(()) } else { Err(daemon.log()) }
    });
    let now = ask(address).unwrap();
    kill(now, "KILL");
    answers(now);
    daemon.act(ServiceAction::Stop, "web");
    daemon.wait_state("web", "stopped");
    wait_for("the socket is closed", || match ask(address) {
        Err(why) if why.contains("refused") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}
