//! Looking: status, samples, logs, configuration, metrics, pages and the description of it all.

use crate::house::{closed, open};
use config::ApiSettings;
use control::Severity;
use std::io::Write;

#[test]
fn status_is_the_roots_snapshot_with_samples() {
    let house = closed();
    let mut stream = house.stream("/api/v1/status/stream", &[]);
    let mut status = stream.next_named("status").json();
    // This process stands for the service's: it has memory, and the next round sees it.
    while status["services"][1]["instances"][0]["sample"].is_null() {
        status = stream.next_named("status").json();
    }
    let sample = &status["services"][1]["instances"][0]["sample"];
    assert!(1_000_000 < sample["rss_bytes"].as_u64().unwrap(), "{sample}");
    assert!(0 < sample["threads"].as_u64().unwrap());
    assert!(0.0 <= sample["cpu_percent"].as_f64().unwrap());
    assert!(status["services"][0]["instances"][1]["sample"].is_null(), "it has no process");
    assert_eq!(house.get("/api/v1/status").json()["node"], "testnode");

    let ring = house.get("/api/v1/samples/web").json();
    assert!(!ring["samples"].as_array().unwrap().is_empty());
    let all = house.get("/api/v1/samples").json();
    assert_eq!(all["samples"]["web"][0].as_array().unwrap().len(), 3);
    assert_eq!(house.get("/api/v1/samples/db:1").json()["samples"].as_array().unwrap().len(), 0);
}

#[test]
fn a_change_is_pushed_to_those_who_watch() {
    let house = closed();
    let mut stream = house.stream("/api/v1/status/stream", &[]);
    assert_eq!(stream.next_named("status").json()["services"][1]["instances"][0]["restarts"], 2);
    house.root.snapshot.lock().unwrap().services[1].instances[0].restarts = 3;
    house.root.event("web", "service.ready", Severity::Info);
    while stream.next_named("status").json()["services"][1]["instances"][0]["restarts"] != 3 {}
}

#[test]
fn one_service_is_found_by_its_name_and_by_an_instances() {
    let house = closed();
    for name in ["db", "db:1"] {
        let service = house.get(&format!("/api/v1/services/{name}")).json();
        assert_eq!(
            (&service["name"], &service["instances"][1]["name"]),
            (&"db".into(), &"db:1".into())
        );
    }
    let why = house.get("/api/v1/why/web").json();
    assert_eq!(why["chain"][0]["message"], "it is ready");
}

#[test]
fn the_last_lines_of_a_log_come_first_and_new_ones_follow() {
    let house = closed();
    let tail = house.get("/api/v1/logs/web?lines=2").json();
    assert_eq!(tail["lines"], serde_json::json!(["two", "three"]));
    let mut stream = house.stream("/api/v1/logs/web/stream?lines=1", &[]);
    assert_eq!(stream.next_named("lines").json()["lines"], serde_json::json!(["three"]));
    let log = house.dir.path().join("web.log");
    let mut file = std::fs::OpenOptions::new().append(true).open(log).unwrap();
    file.write_all(b"four\rcarriage\nfive\n").unwrap();
    let next = stream.next_named("lines").json();
    assert_eq!(next["lines"], serde_json::json!(["four\rcarriage", "five"]));
}

#[test]
fn secrets_of_the_configuration_are_masked() {
    let house = closed();
    let shown = house.get("/api/v1/config");
    assert_eq!(shown.header("content-type"), Some("application/toml; charset=utf-8"));
    assert!(!shown.body.contains("hunter2") && shown.body.contains("LANG = \"C\""), "{shown:?}");
}

#[test]
fn pages_are_served_with_a_strict_policy_and_asked_again_for_nothing() {
    let house = open(ApiSettings::default(), None);
    let host = house.web.to_string();
    for path in ["/", "/service/web", "/service/db:1", "/events"] {
        let page = house.web("GET", path, &host, &[]);
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'self';"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    }
    let script = house.web("GET", "/assets/app.js", &host, &[]);
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    let tag = format!("If-None-Match: {}", script.header("etag").unwrap());
    let again = house.web("GET", "/assets/app.js", &host, &[&tag]);
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(house.web("GET", "/assets/../Cargo.toml", &host, &[]).status, 404);
}

#[test]
fn everything_the_pages_refer_to_is_served() {
    let house = closed();
    let host = house.web.to_string();
    let index = house.web("GET", "/", &host, &[]).body;
    let named = index.split('"').filter(|text| text.starts_with("/assets/"));
    let mut count = 0;
    for path in named {
        assert_eq!(house.web("GET", path, &host, &[]).status, 200, "{path}");
        count += 1;
    }
    assert!(3 < count);
}

#[test]
fn h9_metrics_tell_how_the_mail_queue_stands() {
    let house = closed();
    assert!(!house.get("/metrics").body.contains("holdfast_mail"), "mail has not begun");
    let view = control::MailView {
        waiting: 3,
        waiting_max: 1_000,
        oldest_us: Some(0),
        server_failures: 7,
        delivered: 2,
        ..control::MailView::default()
    };
    let path = house.dir.path().join("mail-view.json");
    std::fs::write(&path, serde_json::to_vec(&view).unwrap()).unwrap();
    let text = house.get("/metrics").body;
    check_exposition(&text);
    for line in [
        "holdfast_mail_waiting 3",
        "holdfast_mail_waiting_limit 1000",
        "holdfast_mail_server_failures 7",
        "holdfast_mail_delivered_total 2",
        "holdfast_mail_refused_total 0",
        "holdfast_mail_merged_total 0",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
    let age = text.lines().find_map(|line| line.strip_prefix("holdfast_mail_oldest_seconds "));
    assert!(1_000_000_000 < age.unwrap().parse::<u64>().unwrap());
}

#[test]
fn metrics_obey_the_format_and_have_the_promised_names() {
    let house = closed();
    house.root.event("web", "service.ready", Severity::Info);
    let mut stream = house.stream("/api/v1/events/stream?after=0", &[]);
    assert_eq!(stream.next().unwrap().id, "1");
    assert_eq!(house.balancer("GET", "/health/web").status, 200);
    assert!(house.agent_check(b"nobody\n").starts_with("fail "));
    let answer = house.get("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.body;
    check_exposition(&text);
    for line in [
        "holdfast_root_up 1",
        "holdfast_build_info{version=\"0.1.0\",node=\"testnode\"} 1",
        "holdfast_service_up{service=\"db\",instance=\"db:0\"} 1",
        "holdfast_service_up{service=\"db\",instance=\"db:1\"} 0",
        "holdfast_service_state{service=\"web\",instance=\"web\",state=\"running\"} 1",
        "holdfast_service_restarts_total{service=\"web\",instance=\"web\"} 2",
        "holdfast_events_total{severity=\"info\"} 1",
        "holdfast_events_lost_total 0",
        "holdfast_queue_limit{queue=\"root_requests\"} 64",
        "holdfast_health_answers_total{face=\"http\",answer=\"in_rotation\"} 1",
        "holdfast_health_answers_total{face=\"agent\",answer=\"unknown\"} 1",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
    for name in [
        "process_resident_memory_bytes{process=\"root\"} ",
        "process_cpu_seconds_total{process=\"console\"} ",
        "process_open_fds{process=\"console\"} ",
        "process_start_time_seconds{process=\"console\"} ",
        "holdfast_service_start_time_seconds{service=\"web\",instance=\"web\"} ",
    ] {
        assert!(text.lines().any(|one| one.starts_with(name)), "{name} is not in\n{text}");
    }
}

#[test]
fn h12_metrics_tell_of_verdicts_and_of_what_would_have_been_done() {
    let house = closed();
    let taken_us = sys::clock::wall().as_micros();
    *house.root.snapshot.lock().unwrap() = crate::rich::snapshot(taken_us, 24, 24);
    for kind in ["service.replaced", "service.replaced", "service.would_replace", "service.ready"] {
        house.root.event("erp-api", kind, Severity::Warning);
    }
    let mut stream = house.stream("/api/v1/events/stream?after=0", &[]);
    while stream.next().unwrap().id != "4" {}
    let text = house.get("/metrics").body;
    check_exposition(&text);
    let zope = "service=\"zope\",instance=\"zope:1\"";
    let erp = "service=\"erp-api\",instance=\"erp-api\"";
    for line in [
        "holdfast_health_state{service=\"search\",instance=\"search\",state=\"sick\"} 1".to_owned(),
        "holdfast_health_state{service=\"search\",instance=\"search\",state=\"up\"} 0".to_owned(),
        format!("holdfast_tolerance_mode{{{erp},mode=\"observe\"}} 1"),
        format!("holdfast_detector_sick{{{erp},detector=\"backlog\"}} 1"),
        format!("holdfast_detector_cannot_tell{{{zope},detector=\"backlog\"}} 1"),
        format!("holdfast_exhaustion_predicted_seconds{{{zope},detector=\"memory\"}} 2580"),
        format!(
            "holdfast_detector_measured{{{zope},detector=\"memory\",measure=\"used_bytes\"}} 482344960"
        ),
        format!("holdfast_dependency_up{{{zope},dependency=\"media\"}} 0"),
        format!("holdfast_replacements_total{{{erp},outcome=\"replaced\"}} 2"),
        format!("holdfast_would_replace_total{{{erp}}} 1"),
        format!("holdfast_workaround_would_replace{{{erp}}} 3"),
        "holdfast_workaround_saves{service=\"zope\",instance=\"zope:0\"} 14".to_owned(),
        "holdfast_replacing{service=\"zope\",instance=\"zope:0\"} 1".to_owned(),
        "holdfast_quarantined_runs{service=\"zope\",instance=\"zope:0\"} 1".to_owned(),
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
}

#[test]
fn h3_where_a_number_went_is_known_to_who_looks_later() {
    let house = closed();
    let taken_us = sys::clock::wall().as_micros();
    *house.root.snapshot.lock().unwrap() = crate::rich::snapshot(taken_us, 24, 24);
    house.root.event("zope:1", "service.sick", Severity::Warning);
    let until = std::time::Instant::now() + crate::house::DEADLINE;
    let seen = loop {
        let seen = house.get("/api/v1/trends/zope:1").json();
        if !seen["trends"]["memory"].is_null() {
            break seen;
        }
        assert!(std::time::Instant::now() < until, "{seen}");
    };
    let point = serde_json::json!([taken_us, 482_344_960.0]);
    assert_eq!((&seen["run"], &seen["trends"]["memory"][0]), (&55.into(), &point));
    assert_eq!(house.get("/api/v1/trends/nginx").json()["trends"], serde_json::json!({}));
    assert_eq!(house.get("/api/v1/trends/nobody").status, 404);
}

/// The text format, strictly: a family's HELP and TYPE come once and first, counters end in
/// `_total`, no sample comes twice, each value is a number.
fn check_exposition(text: &str) {
    let (mut families, mut samples) = (std::collections::BTreeMap::new(), Vec::new());
    let mut current = "";
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            current = help.split_once(' ').expect("a help text").0;
            assert!(families.insert(current, "").is_none(), "{current} comes twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, current);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            families.insert(name, kind);
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let bare = name.split('{').next().unwrap();
            assert_eq!(bare, current, "a sample outside its family");
            assert!(bare.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{bare}");
            assert!(name == bare || name.ends_with("\"}"), "{name}");
            value.parse::<f64>().unwrap();
            samples.push(name);
        }
    }
    let count = samples.len();
    samples.sort_unstable();
    samples.dedup();
    assert_eq!(samples.len(), count, "a sample comes twice");
}

#[test]
fn the_description_is_the_one_that_was_agreed() {
    let house = closed();
    let answer = house.get("/api/v1/openapi.json");
    assert_eq!(answer.body, console::openapi());
    let paths = answer.json()["paths"].as_object().unwrap().clone();
    assert_eq!(paths.len(), 25);
    insta::with_settings!({ snapshot_path => "../golden", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("openapi", answer.body);
    });
}
