//! Acting: what reaches the root, in whose name, and what comes back.

use crate::house::closed;
use control::{Request, ServiceAction};

fn asked(request: &Request) -> Option<&Request> {
    match request {
        Request::OnBehalf { request, .. } => Some(request),
        _ => None,
    }
}

#[test]
fn every_action_reaches_the_root_in_the_callers_name() {
    let house = closed();
    for (action, expect) in [
        ("start", ServiceAction::Start),
        ("stop", ServiceAction::Stop),
        ("restart", ServiceAction::Restart),
        ("reload", ServiceAction::Reload),
        ("reset", ServiceAction::Reset),
        ("replace", ServiceAction::Replace),
    ] {
        let answer = house.ask("POST", &format!("/api/v1/services/db:1/{action}"), &[], "");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["instances"][0], "web");
        let request = Request::Service { action: expect, targets: vec!["db:1".into()] };
        house.root.seen.wait_for(|seen| asked(seen) == Some(&request));
    }
    assert_eq!(house.ask("POST", "/api/v1/services/db:1/cured", &[], "").status, 200);
    let cured = Request::Cured { targets: vec!["db:1".into()] };
    house.root.seen.wait_for(|seen| asked(seen) == Some(&cured));
    assert_eq!(house.ask("POST", "/api/v1/reload", &[], "").status, 200);
    house.root.seen.wait_for(|seen| asked(seen) == Some(&Request::Reload));
}

#[test]
fn a_signal_is_named_or_numbered_and_nothing_else() {
    let house = closed();
    let send = |body: &str| {
        let json = "Content-Type: application/json";
        house.ask("POST", "/api/v1/services/web/signal", &[json], body)
    };
    for good in [r#"{"signal":"HUP"}"#, r#"{"signal":"SIGHUP"}"#, r#"{"signal":"1"}"#] {
        assert_eq!(send(good).status, 200, "{good}");
    }
    let hup = ServiceAction::Signal(1);
    let all = house.root.seen.all();
    let sent = all.iter().filter(
        |seen| matches!(asked(seen), Some(Request::Service { action, .. }) if *action == hup),
    );
    assert_eq!(sent.count(), 3);
    for bad in
        ["", "{}", r#"{"signal":"NOPE"}"#, r#"{"signal":1}"#, "[", r#"{"signal":"HUP","x":1}"#]
    {
        let answer = send(bad);
        assert_eq!((answer.status, answer.code()), (400, "invalid".to_owned()), "{bad}");
    }
    assert_eq!(house.root.seen.all().len(), 3);
}

#[test]
fn h12_a_mode_is_set_in_the_callers_name_or_refused_as_nonsense() {
    let house = closed();
    let send = |body: &str| {
        let json = "Content-Type: application/json";
        house.ask("POST", "/api/v1/services/web/mode", &[json], body)
    };
    for (body, expect) in [
        (r#"{"mode":"observe"}"#, Some("observe")),
        (r#"{"mode":"enforce"}"#, Some("enforce")),
        (r#"{"mode":"off"}"#, Some("off")),
        (r#"{"mode":"default"}"#, None),
    ] {
        assert_eq!(send(body).status, 200, "{body}");
        let mode = expect.map(str::to_owned);
        let request = Request::Mode { targets: vec!["web".into()], mode };
        house.root.seen.wait_for(|seen| asked(seen) == Some(&request));
    }
    for bad in ["", "{}", r#"{"mode":"kill"}"#, r#"{"mode":null}"#] {
        let answer = send(bad);
        assert_eq!((answer.status, answer.code()), (400, "invalid".to_owned()), "{bad}");
    }
    assert_eq!(house.root.seen.all().len(), 4);
}

#[test]
fn what_the_root_refuses_keeps_its_words() {
    let house = closed();
    let busy = house.ask("POST", "/api/v1/services/busy/stop", &[], "");
    assert_eq!((busy.status, busy.code()), (409, "conflict".to_owned()));
    assert_eq!(busy.json()["message"], "busy is stopping");
    let unknown = house.get("/api/v1/why/ghost");
    assert_eq!((unknown.status, unknown.code()), (404, "not_found".to_owned()));
    assert_eq!(unknown.json()["help"], "holdfast status lists all");
}

#[test]
fn what_does_not_exist_or_does_not_fit_is_said_as_json() {
    let house = closed();
    for (method, path, status, code) in [
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("POST", "/api/v1/services/web/explode", 404, "not_found"),
        ("GET", "/api/v1/services/ghost", 404, "not_found"),
        ("GET", "/api/v1/logs/ghost", 404, "not_found"),
        ("GET", "/api/v1/samples/ghost", 404, "not_found"),
        ("DELETE", "/api/v1/status", 405, "wrong_method"),
        ("GET", "/api/v1/events?limit=0", 400, "invalid"),
        ("GET", "/api/v1/events?limit=x", 400, "invalid"),
        ("GET", "/api/v1/events?colour=red", 400, "invalid"),
        ("GET", "/api/v1/events?since=yesterday", 400, "invalid"),
        ("GET", "/api/v1/logs/web?lines=99999", 400, "invalid"),
    ] {
        let answer = house.ask(method, path, &[], "");
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path}");
        assert!(!answer.json()["message"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_whether_it_says_so_or_not() {
    let house = closed();
    let json = "Content-Type: application/json";
    let large = format!("{{\"signal\":\"{}\"}}", "x".repeat(70_000));
    let said = house.ask("POST", "/api/v1/services/web/signal", &[json], &large);
    assert_eq!((said.status, said.code()), (413, "too_large".to_owned()));
    let chunk = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    let headers = [json, "Transfer-Encoding: chunked"];
    let unsaid = house.ask_raw("POST", "/api/v1/services/web/signal", &headers, &chunk);
    assert_eq!((unsaid.status, unsaid.code()), (413, "too_large".to_owned()));
    let long = house.get(&format!("/api/v1/events?kind={}", "x".repeat(5000)));
    assert_eq!((long.status, long.code()), (414, "too_long".to_owned()));
}
