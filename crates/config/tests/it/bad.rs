//! What is wrong is reported completely, at its place, with what would be right.
//!
//! The texts are golden: a change of words shows up here, and is looked at.

use crate::support::{codes, golden, parse, parse_all, repeated};
use config::{Diagnostics, Severity};

fn rendered(text: &str) -> String {
    parse(text).diagnostics.render(false)
}

#[test]
fn twenty_faults_in_one_file_are_all_reported_at_once() {
    let text = include_str!("faults/twenty.toml");
    let loaded = parse(text);
    assert!(loaded.config.is_none());
    assert!(20 <= loaded.diagnostics.errors(), "{}", loaded.diagnostics.errors());
    golden("twenty_faults", &loaded.diagnostics.render(false));
}

#[test]
fn every_kind_of_faulty_value_has_its_own_words() {
    golden("values", &rendered(include_str!("faults/values.toml")));
}

#[test]
fn faults_of_the_daemon_and_the_api_are_reported() {
    golden("settings", &rendered(include_str!("faults/settings.toml")));
}

#[test]
fn faults_of_tolerance_are_reported() {
    golden("tolerance", &rendered(include_str!("faults/tolerance.toml")));
}

#[test]
fn faults_of_health_mail_and_supervisord_are_reported() {
    golden("faces", &rendered(include_str!("faults/faces.toml")));
    golden("hooks", &rendered(include_str!("faults/hooks.toml")));
    golden("faces_more", &rendered(include_str!("faults/faces_more.toml")));
}

#[test]
fn a_secret_is_never_repeated() {
    let json = parse(include_str!("faults/faces.toml")).diagnostics.to_json();
    for diagnostic in json["diagnostics"].as_array().unwrap() {
        for key in ["message", "help"] {
            assert!(!diagnostic[key].to_string().contains("geheim"), "{diagnostic}");
        }
    }
}

#[test]
fn contradictions_within_a_service_are_reported() {
    golden("contradictions", &rendered(include_str!("faults/contradictions.toml")));
}

#[test]
fn sockets_ports_and_files_that_two_services_want_are_reported() {
    golden("conflicts", &rendered(include_str!("faults/conflicts.toml")));
}

#[test]
fn cycles_and_dangling_references_are_reported() {
    golden("references", &rendered(include_str!("faults/references.toml")));
}

#[test]
fn syntax_errors_hide_no_fault_of_another_line() {
    golden("syntax", &rendered(include_str!("faults/syntax.toml")));
}

#[test]
fn doubtful_things_are_warned_of_but_accepted() {
    let loaded = parse(include_str!("faults/doubtful.toml"));
    assert!(loaded.config.is_some());
    golden("doubtful", &loaded.diagnostics.render(false));
    let loaded = parse(include_str!("faults/doubtful_tolerance.toml"));
    assert!(loaded.config.is_some());
    golden("doubtful_tolerance", &loaded.diagnostics.render(false));
}

#[test]
fn the_same_thing_in_two_files_is_shown_at_both_places() {
    let loaded = parse_all(&[
        ("holdfast.toml", "[daemon]\nnode = \"a\"\n[service.web]\ncommand = \"true\"\n"),
        ("conf.d/10-web.toml", "[service.web]\ncommand = \"false\"\n\n[daemon]\nnode = \"b\"\n"),
        (
            "conf.d/20-more.toml",
            "[daemon]\nstall_limit = \"1s\"\n\n[service.db]\nafter = [\"wbe\"]\n",
        ),
    ]);
    golden("two_files", &loaded.diagnostics.render(false));
}

#[test]
fn tokens_of_several_files_add_up() {
    let token = |name: &str, digit: &str| {
        format!("[[api.token]]\nname = \"{name}\"\nsha256 = \"{}\"\n", digit.repeat(64))
    };
    let service = "[service.x]\ncommand = \"x\"\n";
    let (a, b) = (token("a", "1"), token("b", "2"));
    let loaded = parse_all(&[("holdfast.toml", &a), ("conf.d/b.toml", &b)]);
    assert_eq!(loaded.config.map(|config| config.api.tokens.len()), Some(2));
    let loaded =
        parse_all(&[("holdfast.toml", &a), ("conf.d/b.toml", &a), ("conf.d/c.toml", service)]);
    let codes: Vec<_> = loaded.diagnostics.iter().map(|d| d.code).collect();
    assert_eq!(codes, ["duplicate-token", "duplicate-token"]);
}

#[test]
fn a_faulty_default_is_said_once_however_many_services_use_it() {
    let services = repeated(50, "[service.sN]\ncommand = \"true\"\n");
    let text = format!("[defaults]\nnice = 99\numask = \"9\"\nfoo = 1\n{services}");
    assert_eq!(codes(&text), ["out-of-range", "bad-mode", "unknown-key"]);
    assert_eq!(codes("[defaults]\nnice = 99\n"), ["no-services", "out-of-range"]);
    assert_eq!(
        codes("[defaults]\ncommand = \"x\"\n[service.a]\ncommand = \"y\"\n"),
        ["not-a-default"]
    );
}

#[test]
fn faults_of_one_value_do_not_cause_others() {
    // The port is faulty, not missing; the readiness is faulty, not "started".
    let text =
        "[service.a]\ncommand = \"x {port}\"\nport = 0\nready = \"notfy\"\nwatchdog = \"1s\"\n";
    assert_eq!(codes(text), ["out-of-range", "unknown-value"]);
    // A reference to a service whose own name is bad is not dangling too.
    let text = "[service.a]\ncommand = \"x\"\nafter = [\"b\"]\n[service]\nb = 3\n";
    assert_eq!(codes(text), ["wrong-type"]);
}

#[test]
fn too_much_of_anything_is_refused() {
    let services = repeated(config::SERVICES_MAX + 1, "[service.sN]\ncommand = \"true\"\n");
    assert_eq!(codes(&services), ["too-many-services"]);
    let many = repeated(3_000, "[service.sN]\ncommand = \"x\"\nnice = 99\n");
    let diagnostics = parse(&many).diagnostics;
    assert_eq!(diagnostics.iter().count(), config::DIAGNOSTICS_MAX);
    assert_eq!(diagnostics.left_out(), 2_000);
    assert!(diagnostics.summary().contains("2000 more"), "{}", diagnostics.summary());
}

#[test]
fn warnings_never_push_an_error_out() {
    let mut text = repeated(2_000, "[service.sN]\ncommand = \"x\"\nport = 80\n");
    text.push_str("[service.last]\n");
    let diagnostics = parse(&text).diagnostics;
    assert!(diagnostics.has_errors());
    assert!(parse(&text).config.is_none());
}

#[test]
fn a_cycle_of_thousands_is_one_fault_and_needs_no_deep_stack() {
    let link = |n: usize| {
        let next = (n + 1) % 5_000;
        format!("[service.s{n}]\ncommand = \"x\"\nafter = [\"s{next}\"]\n")
    };
    let text = (0..5_000).map(link).collect::<Vec<_>>().concat();
    let diagnostics = parse(&text).diagnostics;
    assert_eq!(diagnostics.errors(), 1);
    assert!(diagnostics.iter().all(|d| d.code == "dependency-cycle"));
}

#[test]
fn text_from_a_file_can_not_drive_the_terminal() {
    let text = "[service.\"\\u001b[31m\"]\ncommand = \"x\"\n";
    assert!(!rendered(text).contains('\u{1b}'));
    let raw = "[daemon]\nnode = \"a\u{9b}31mb\"\n# \u{1b}\n";
    assert!(!rendered(raw).contains(['\u{1b}', '\u{9b}']));
}

#[test]
fn colours_change_nothing_but_colours() {
    let diagnostics = parse(include_str!("faults/twenty.toml")).diagnostics;
    let colored = diagnostics.render(true);
    assert!(colored.contains("\u{1b}[1;31merror"));
    let mut plain = String::new();
    let mut rest = colored.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    assert_eq!(trimmed(&plain), trimmed(&diagnostics.render(false)));
}

#[test]
fn a_long_line_is_cut_around_its_fault() {
    let text =
        format!("[service.a]\ncommand = [\"x\", {}\"{{prt}}\", 7]\n", "\"yy\", ".repeat(200));
    let shown = rendered(&text);
    assert!(shown.lines().all(|line| line.chars().count() < 180), "{shown}");
    golden("long_line", &shown);
}

#[test]
fn diagnostics_as_json_have_places_and_help() {
    let json = parse("[service.a]\ncommand = \"x\"\nnice = 99\n").diagnostics.to_json();
    assert_eq!(json["errors"], 1);
    let first = &json["diagnostics"][0];
    assert_eq!(first["code"], "out-of-range");
    assert_eq!(first["severity"], Severity::Error.as_str());
    assert_eq!(
        (first["place"]["line"].as_u64(), first["place"]["column"].as_u64()),
        (Some(3), Some(8))
    );
    assert_eq!(first["help"], "choose a number from -20 to 19");
    assert_eq!(Diagnostics::default().render(true), "");
}

/// Every code is explained in the reference, and the reference explains no other.
#[test]
fn every_code_is_in_the_reference() {
    let mut in_source = std::collections::BTreeSet::new();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let compact: String = text.split_whitespace().collect();
            for start in ["Fault::error(\"", "Fault::warning(\""] {
                let codes = compact.split(start).skip(1);
                in_source
                    .extend(codes.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
            }
        }
    }
    let reference = root.join("../../docs/configuration.md");
    let reference = std::fs::read_to_string(reference).unwrap();
    let table = reference.split("## Faults and warnings").nth(1).unwrap();
    let explained: std::collections::BTreeSet<String> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned))
        .collect();
    assert_eq!(in_source, explained);
}
