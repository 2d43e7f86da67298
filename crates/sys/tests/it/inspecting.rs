//! H15: what is written about a sick process, bounded and without its secrets.

use crate::support::{Output, is_root, kill, plan, wait_for};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;
use sys::inspect::{self, Page, Room};
use sys::spawn::{Spawned, spawn};

const SICK: &str = "
import socket, threading
lock = threading.Lock(); lock.acquire()
for _ in range(5): threading.Thread(target=lock.acquire, daemon=True).start()
s = socket.create_server(('127.0.0.1', 0), backlog=9)
kept = [open('/dev/null') for _ in range(30)]
print(s.getsockname()[1], flush=True)
lock.acquire()
";

fn room() -> Room {
    Room { bytes_max: 256 * 1024, until: sys::clock::now() + Duration::from_mins(1) }
}

/// Starts the sick program; its environment and its arguments have secrets.
fn sick(output: &Output) -> Option<(Spawned, u16)> {
    let python = "/usr/bin/python3";
    if !Path::new(python).exists() {
        println!("{python} is not there: skipped");
        return None;
    }
    let argv = [python, "-c", SICK, "--password", "hunter2", "--db=postgres://app:s3cret@db/x"];
    let mut plan = plan(&argv, output.fd());
    let variables =
        [("APP_SECRET", "opensesame"), ("DATABASE_URL", "redis://:topsecret@r"), ("COLOUR", "red")];
    plan.env.extend(variables.iter().map(|(key, value)| (key.into(), value.into())));
    let spawned = spawn(&plan).unwrap();
    let port = output.line("its port").parse().unwrap();
    Some((spawned, port))
}

#[test]
fn h15_what_a_sick_process_does_is_written_down_without_its_secrets() {
    let output = Output::new();
    let Some((spawned, port)) = sick(&output) else { return };
    let clients: Vec<_> =
        (0..2).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let pids = [spawned.pid];
    let threads = wait_for("all threads on the lock", || {
        let page = inspect::threads(&pids, &room());
        (page.text.matches(" futex_").count() == 6).then_some(page)
    });
    assert_eq!(threads.text.lines().count(), 7, "{}", threads.text);

    let sockets = inspect::sockets(&pids, &room());
    let holder = format!("127.0.0.1:{port} <- 0.0.0.0:0 {}/3", spawned.pid);
    let listens =
        |line: &&str| line.starts_with("tcp  LISTEN          2      9") && line.contains(&holder);
    assert!(sockets.text.lines().any(|line| listens(&line)), "{}", sockets.text);
    assert!(sockets.text.contains(&format!("not accepted on port {port}: 2 ESTAB")));

    let descriptors = inspect::descriptors(&pids, &room());
    assert!(descriptors.text.contains(" 31 device"), "{}", descriptors.text);
    let maps = inspect::maps(&pids, &room());
    assert!(maps.text.contains("[heap]") && maps.text.contains("Pss:"), "{}", maps.text);
    assert!(inspect::limits(&pids, &room()).text.contains("Max open files"));

    let (environment, processes) =
        (inspect::environment(&pids, &room()), inspect::processes(&pids, &room()));
    assert!(environment.text.contains("APP_SECRET=***(10 bytes)\n"), "{}", environment.text);
    assert!(environment.text.contains("DATABASE_URL=redis://:***(9 bytes)@r\n"));
    assert!(environment.text.contains("COLOUR=red\n"));
    assert!(processes.text.contains("Threads:\t6"), "{}", processes.text);
    assert!(
        processes.text.contains("--password ***(7 bytes) --db=postgres://app:***(6 bytes)@db/x")
    );
    let all = [&environment, &processes, &sockets, &descriptors, &maps, &threads];
    for secret in ["hunter2", "s3cret", "opensesame", "topsecret"] {
        assert!(all.iter().all(|page| !page.text.contains(secret)), "{secret}");
    }
    assert!(all.iter().all(|page| page.missing.is_empty()), "{all:?}");
    kernel_stacks(&pids);
    drop(clients);
    kill(&spawned);
}

fn kernel_stacks(pids: &[u32]) {
    let stacks = inspect::kernel_stacks(pids, &room());
    if is_root("kernel stacks") && stacks.missing.is_empty() {
        assert!(stacks.text.contains("6 threads: "), "{}", stacks.text);
        assert!(stacks.text.contains("futex"), "{}", stacks.text);
    } else {
        assert!(stacks.missing[0].contains("run holdfast as root"), "{stacks:?}");
    }
}

#[test]
fn h15_every_page_is_bounded_in_bytes_and_in_time() {
    let output = Output::new();
    let Some((spawned, _)) = sick(&output) else { return };
    let pids = [spawned.pid];
    let pages: [fn(&[u32], &Room) -> Page; 8] = [
        inspect::threads,
        inspect::kernel_stacks,
        inspect::sockets,
        inspect::descriptors,
        inspect::maps,
        inspect::limits,
        inspect::environment,
        inspect::processes,
    ];
    for (number, page) in pages.iter().enumerate() {
        let small = page(&pids, &Room { bytes_max: 20, ..room() });
        assert!(small.text.len() < 200, "{number}: {}", small.text);
        assert!(!small.missing.is_empty(), "{number}");
        let late = page(&pids, &Room { until: base::Now::ZERO, ..room() });
        assert!(late.missing.iter().any(|why| why.contains("no time")), "{number}: {late:?}");
    }
    kill(&spawned);
    // And of nobody there is nothing to tell, which is said.
    for (number, page) in pages.iter().enumerate() {
        let nothing = page(&pids, &room());
        assert!(
            !nothing.missing.is_empty() || nothing.text.lines().count() <= 1,
            "{number}: {nothing:?}"
        );
    }
    // Who ended while the others of its run go on leaves no gap; if it was the main one, that is said.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let (own, ended) = (std::process::id(), child.id());
    for page in [inspect::threads, inspect::limits, inspect::environment, inspect::processes] {
        let both = page(&[own, ended], &room());
        assert_eq!(both.missing, [""; 0], "{both:?}");
        let main = page(&[ended, own], &room());
        assert!(main.missing[0].contains("No such "), "{main:?}");
    }
}
