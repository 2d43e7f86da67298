//! Who may do what, by which door.

use crate::house::{House, STRANGER, closed, curl_as, open, token};
use config::{ApiSettings, Principal, TlsFiles};
use control::{Request, Role};

/// What a stranger is answered: on the Unix socket and on the web console's door alike.
fn check(house: &House, arguments: &[&str], path: &str, expect: u16) {
    let socket = house.socket().display().to_string();
    let url = format!("http://localhost{path}");
    let mut unix = vec!["--unix-socket", &socket, &url];
    unix.extend(arguments);
    assert_eq!(curl_as(STRANGER, &unix).0, expect, "unix {path} {arguments:?}");
    let url = format!("http://{}{path}", house.web);
    let mut web = vec![url.as_str()];
    web.extend(arguments);
    assert_eq!(curl_as(STRANGER, &web).0, expect, "web {path} {arguments:?}");
}

#[test]
fn root_may_act_by_either_door_and_a_stranger_may_not_even_look() {
    let house = closed();
    let me = house.get("/api/v1/whoami");
    assert_eq!((me.status, me.json()["role"].as_str()), (200, Some("act")), "{me:?}");
    let host = house.web.to_string();
    assert_eq!(house.web("POST", "/api/v1/services/web/stop", &host, &[]).status, 200);

    check(&house, &[], "/api/v1/status", 403);
    check(&house, &[], "/metrics", 403);
    check(&house, &[], "/", 403);
    check(&house, &["-X", "POST"], "/api/v1/services/web/stop", 403);
    // What shows nothing needs nothing.
    check(&house, &[], "/healthz", 200);
}

#[test]
fn a_refusal_says_who_was_seen_and_what_would_help() {
    let house = closed();
    let (status, page) = curl_as(STRANGER, &[&format!("http://{}/", house.web)]);
    assert_eq!(status, 403);
    assert!(page.contains("uid 65534") && page.contains("viewers"), "{page}");
}

#[test]
fn viewers_look_and_operators_act() {
    let viewers = ApiSettings { viewers: vec![Principal::Everyone], ..ApiSettings::default() };
    let house = open(viewers, None);
    check(&house, &[], "/api/v1/status", 200);
    check(&house, &[], "/", 200);
    check(&house, &["-X", "POST"], "/api/v1/services/web/stop", 403);
    check(&house, &["-X", "POST"], "/api/v1/reload", 403);
    check(&house, &[], "/api/v1/config", 403);

    let operators =
        ApiSettings { operators: vec![Principal::User("65534".into())], ..ApiSettings::default() };
    let house = open(operators, None);
    check(&house, &["-X", "POST"], "/api/v1/services/web/stop", 200);
    check(&house, &[], "/api/v1/config", 200);
    let asked = house.root.seen.wait_for(|request| matches!(request, Request::OnBehalf { .. }));
    let Request::OnBehalf { caller, .. } = asked else { unreachable!() };
    assert!(caller.name.starts_with("uid 65534"), "{caller:?}");
    assert_eq!(caller.role, Role::Act);
}

#[test]
fn a_group_counts_by_the_kernels_word_and_by_the_group_database() {
    let operators =
        ApiSettings { operators: vec![Principal::Group("65534".into())], ..ApiSettings::default() };
    let house = open(operators, None);
    check(&house, &["-X", "POST"], "/api/v1/services/web/stop", 200);
}

#[test]
fn a_token_decides_wherever_it_is_sent() {
    let tokens = vec![token("deploy", "act-token", true), token("look", "read-token", false)];
    let house = open(ApiSettings { tokens, ..ApiSettings::default() }, None);
    check(&house, &["-H", "Authorization: Bearer read-token"], "/api/v1/status", 200);
    check(&house, &["-H", "Authorization: bearer act-token", "-X", "POST"], "/api/v1/reload", 200);
    check(&house, &["-H", "Authorization: Bearer read-token", "-X", "POST"], "/api/v1/reload", 403);
    for wrong in ["Bearer nonsense", "Bearer", "Basic cm9vdDo=", "act-token"] {
        let header = format!("Authorization: {wrong}");
        check(&house, &["-H", &header], "/api/v1/status", 401);
        // Also where its bearer would need none: a wrong token is a mistake to be told of.
        assert_eq!(house.ask("GET", "/api/v1/status", &[&header], "").status, 401, "{wrong}");
    }
    let asked = house.root.seen.wait_for(|request| matches!(request, Request::OnBehalf { .. }));
    let Request::OnBehalf { caller, .. } = asked else { unreachable!() };
    assert_eq!(caller.name, "token deploy");
}

#[test]
fn over_tcp_there_is_nothing_without_a_token_and_nothing_in_the_clear() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let keep = tempfile::TempDir::new().unwrap();
    let files = TlsFiles {
        certificate: keep.path().join("certificate.pem"),
        key: keep.path().join("key.pem"),
    };
    std::fs::write(&files.certificate, certified.cert.pem()).unwrap();
    std::fs::write(&files.key, certified.signing_key.serialize_pem()).unwrap();
    let authority = files.certificate.display().to_string();
    let tokens = vec![token("deploy", "act-token", true)];
    let house = open(ApiSettings { tokens, ..ApiSettings::default() }, Some(files));
    let url = format!("https://localhost:{}/api/v1/status", house.remote.port());

    let bare = curl_as(0, &["--cacert", &authority, &url]);
    assert_eq!(bare.0, 401, "{bare:?}");
    assert!(bare.1.contains("Authorization: Bearer"), "{bare:?}");
    let good = ["--cacert", &authority, "-H", "Authorization: Bearer act-token", &url];
    let good = curl_as(0, &good);
    assert_eq!(good.0, 200, "{good:?}");
    // Not in the clear, and not with a certificate that nobody trusts.
    assert_eq!(curl_as(0, &[&url.replace("https", "http")]).0, 0);
    assert_eq!(curl_as(0, &[&url]).0, 0);
}

#[test]
fn a_certificate_that_can_not_be_read_is_named_at_start() {
    let files = TlsFiles { certificate: "/nonexistent.pem".into(), key: "/nonexistent.pem".into() };
    let house = open(ApiSettings::default(), Some(files));
    assert_eq!(house.ended(), Err("cannot offer TLS on the remote API".to_owned()));
}

#[test]
fn a_page_of_another_site_and_a_rebound_name_get_nothing() {
    let house = closed();
    let host = house.web.to_string();
    let stop = "/api/v1/services/web/stop";
    let wrong_host = house.web("GET", "/api/v1/status", "evil.example", &[]);
    assert_eq!((wrong_host.status, wrong_host.code()), (421, "wrong_host".to_owned()));
    for header in [
        "Origin: http://evil.example",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        let answer = house.web("POST", stop, &host, &[header]);
        assert_eq!((answer.status, answer.code()), (403, "foreign_page".to_owned()), "{header}");
        assert_eq!(house.web("GET", "/api/v1/status", &host, &[header]).status, 403, "{header}");
    }
    assert!(house.root.seen.all().is_empty());
    let own = format!("Origin: http://{host}");
    assert_eq!(house.web("POST", stop, &host, &[&own, "Sec-Fetch-Site: same-origin"]).status, 200);
    let localhost = format!("localhost:{}", house.web.port());
    assert_eq!(house.web("GET", "/api/v1/status", &localhost, &[]).status, 200);
}
