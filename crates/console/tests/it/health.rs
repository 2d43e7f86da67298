//! What balancers are told, by each way of asking.

use crate::house::{DEADLINE, House, STRANGER, closed, curl_as, read_answer};
use crate::root::health;
use control::Severity;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

/// Sets the state of the instance `web`, and says so by an event.
fn set(house: &House, state: &str) {
    house.root.snapshot.lock().unwrap().services[1].instances[0].health = health(state);
    house.root.event("web", "service.health", Severity::Info);
}

/// Waits until a condition is true: the event is on its way.
fn until(what: &str, is_true: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_true() {
        assert!(Instant::now() < deadline, "{what} never came true");
    }
}

#[test]
fn h13_the_status_is_the_configured_one_and_the_reasons_are_in_the_body() {
    let house = closed();
    let up = house.balancer("GET", "/health/web");
    assert_eq!((up.status, up.header("cache-control")), (200, Some("no-store")));
    let body = up.json();
    assert_eq!((&body["state"], &body["in_rotation"]), (&"up".into(), &1.into()));
    assert_eq!(body["instances"][0]["name"], "web");
    assert!(body["age_ms"].as_u64().is_some_and(|age| age < 10_000), "{body}");
    // Of two instances one is down: the service serves, and the instance does not.
    assert_eq!(house.balancer("GET", "/health/db").status, 200);
    assert_eq!(house.balancer("GET", "/health/db:0").status, 200);
    for path in ["/health/db:1", "/health/db/1"] {
        let down = house.balancer("GET", path);
        assert_eq!((down.status, &down.json()["state"]), (503, &"down".into()), "{path}");
    }
    let all = house.balancer("GET", "/health");
    assert_eq!((all.status, all.json().as_array().unwrap().len()), (200, 2));
}

#[test]
fn h13_balancers_ask_with_head_and_options_too() {
    let house = closed();
    for (path, expect) in [("/health/web", 200), ("/health/db:1", 503), ("/health/db/1", 503)] {
        let head = house.balancer("HEAD", path);
        assert_eq!((head.status, head.body.as_str()), (expect, ""), "{path}");
        assert_eq!(house.balancer("OPTIONS", path).status, expect, "{path}");
    }
    // As HAProxy's `option httpchk` does by itself: HTTP/1.0, no host.
    let mut stream = TcpStream::connect(house.health).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"OPTIONS /health/web HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(read_answer(stream).status, 200);
}

#[test]
fn h13_a_drain_is_told_as_soon_as_it_begins_and_its_end_too() {
    let house = closed();
    for (state, status, line) in
        [("draining", 503, "drain\n"), ("up", 200, "ready up\n"), ("stopped", 503, "maint\n")]
    {
        set(&house, state);
        until(state, || house.balancer("GET", "/health/web").status == status);
        until(line, || house.agent_check(b"web\n") == line);
    }
}

#[test]
fn the_listener_for_balancers_answers_nothing_else() {
    let house = closed();
    for path in ["/", "/metrics", "/api/v1/status", "/healthz", "/health/", "/health/web/0/x"] {
        let answer = house.balancer("GET", path);
        assert_eq!((answer.status, answer.code()), (404, "not_found".to_owned()), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    let unknown = house.balancer("GET", "/health/nobody");
    assert_eq!((unknown.status, unknown.code()), (404, "not_found".to_owned()));
    assert!(unknown.body.contains("nobody"), "{}", unknown.body);
    assert_eq!(house.balancer("POST", "/health/web").status, 405);
    assert_eq!(house.balancer("POST", "/api/v1/services/web/stop").status, 404);
    assert!(house.root.seen.all().iter().all(|one| *one == control::Request::Subscribe));
}

#[test]
fn at_the_other_doors_health_needs_the_right_to_look() {
    let house = closed();
    assert_eq!(house.get("/health/web").status, 200);
    assert_eq!(house.ask("OPTIONS", "/health/db/1", &[], "").status, 503);
    let host = house.web.to_string();
    assert_eq!(house.web("GET", "/health/web", &host, &[]).status, 200);
    assert_eq!(house.web("GET", "/health/web", "evil.example", &[]).status, 421);
    let url = format!("http://{host}/health/web");
    assert_eq!(curl_as(STRANGER, &[&url]).0, 403);
    let url = format!("http://{}/health/web", house.health);
    assert_eq!(curl_as(STRANGER, &[&url]).0, 200);
}

#[test]
fn h29_an_agent_check_names_what_it_means() {
    let house = closed();
    assert_eq!(house.agent_check(b"web\n"), "ready up\n");
    assert_eq!(house.agent_check(b"db\r\n"), "ready up\n");
    assert_eq!(house.agent_check(b"db:1\nand more\n"), "down #it is down\n");
    let unknown = "fail #holdfast has no service nobody\n";
    assert_eq!(house.agent_check(b"nobody\n"), unknown);
    // Without a line end, and without a name while there are two services.
    assert_eq!(house.agent_check(b"web"), "ready up\n");
    assert_eq!(house.agent_check(b""), "fail #no service was named: use agent-send\n");
    house.root.snapshot.lock().unwrap().services.truncate(1);
    house.root.event("web", "daemon.reloaded", Severity::Info);
    until("the only service is meant", || house.agent_check(b"") == "ready up\n");
}

#[test]
fn h29_nonsense_costs_an_agent_check_one_connection() {
    let house = closed();
    let long = vec![b'x'; 100_000];
    for bytes in [&b"\0\xFF\xFE\n"[..], b"\n\n\n", b"../../etc/passwd\n", &long] {
        let mut stream = TcpStream::connect(house.agent).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // It may be answered before all of it is read.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with("fail #"), "{answer}");
        assert!(answer.len() < 600 && answer.lines().count() <= 1, "{answer}");
    }
    assert_eq!(house.agent_check(b"web\n"), "ready up\n");
}

#[test]
fn where_nobody_can_tell_http_says_so_and_an_agent_says_nothing() {
    let house = closed();
    // From the first moment on: what it said before would still be told for a while.
    house.root.fall_silent();
    let silent = house.balancer("GET", "/health/web");
    assert_eq!((silent.status, silent.code()), (503, "cannot_tell".to_owned()));
    assert!(silent.body.contains("has not answered yet"), "{}", silent.body);
    assert_eq!(house.agent_check(b"web\n"), "");
}
