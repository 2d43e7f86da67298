//! The doors: slow clients, too many clients, and the end.

use crate::house::{DEADLINE, closed, read_answer};
use control::Severity;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

#[test]
fn one_client_too_many_is_told_so_and_the_other_door_stays_open() {
    let house = closed();
    let open = |_| {
        let stream = TcpStream::connect(house.web).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    };
    let mut idle: Vec<TcpStream> = (0..256).map(open).collect();
    // Accepted in order: by the time this one is refused, all others are inside.
    let refused = read_answer(open(0));
    assert_eq!((refused.status, refused.code()), (503, "too_many_connections".to_owned()));
    assert_eq!(house.get("/api/v1/whoami").status, 200);
    let metrics = house.get("/metrics").body;
    assert!(metrics.contains("holdfast_http_connections_refused_total 1"));
    // A place that is given back is taken again.
    let mut first = idle.remove(0);
    write!(first, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(read_answer(first).status, 200);
    assert_eq!(house.web("GET", "/healthz", "localhost", &[]).status, 200);
}

#[test]
fn streams_are_counted_apart_and_given_back() {
    let house = closed();
    let mut open: Vec<_> = (0..64).map(|_| house.stream("/api/v1/events/stream", &[])).collect();
    let refused = house.get("/api/v1/status/stream");
    assert_eq!((refused.status, refused.code()), (503, "too_many_streams".to_owned()));
    assert_eq!(house.get("/api/v1/status").status, 200);
    open.pop();
    // The console sees the closed end on its own; until then the place is taken.
    let until = std::time::Instant::now() + DEADLINE;
    while house.get("/metrics").body.contains("holdfast_queue_depth{queue=\"streams\"} 64") {
        assert!(std::time::Instant::now() < until, "the place was not given back");
    }
}

#[test]
fn a_client_that_sends_its_header_drop_by_drop_is_cut_off() {
    let house = closed();
    let mut slow = UnixStream::connect(house.socket()).unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: local").unwrap();
    slow.set_read_timeout(Some(2 * DEADLINE)).unwrap();
    let mut rest = Vec::new();
    // Ends by the console's deadline, not by ours.
    slow.read_to_end(&mut rest).unwrap();
    assert_eq!(house.get("/healthz").status, 200);
}

#[test]
fn bytes_that_are_no_http_cost_one_connection() {
    let house = closed();
    let long = vec![0xFF; 70_000];
    for bytes in [&b"\x16\x03\x01\x02\x00"[..], b"\r\n\r\n\r\nXX\r\n", &long] {
        let mut stream = UnixStream::connect(house.socket()).unwrap();
        stream.set_read_timeout(Some(2 * DEADLINE)).unwrap();
        // The console may close before it has read all.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(house.get("/healthz").status, 200);
}

#[test]
fn the_end_of_the_root_is_the_end_of_the_console_and_of_its_streams() {
    let house = closed();
    let mut stream = house.stream("/api/v1/events/stream", &[]);
    house.root.event("web", "service.ready", Severity::Info);
    assert!(stream.next().is_some());
    house.root.die();
    assert_eq!(house.ended(), Ok(()));
    assert_eq!(stream.next(), None);
}
