//! supervisord.conf files as they are found, and what becomes of them.

use crate::support::{context, golden};
use config::{ImportWorld, Imported, NoteKind, import_supervisord, load_supervisord};
use proptest::prelude::*;
use proptest::sample::select;
use std::path::{Path, PathBuf};

const SAMPLES: [(&str, &str); 6] = [
    ("debian", include_str!("supervisord/debian.conf")),
    ("django", include_str!("supervisord/django.conf")),
    ("laravel", include_str!("supervisord/laravel.conf")),
    ("fcgi", include_str!("supervisord/fcgi.conf")),
    ("listeners", include_str!("supervisord/listeners.conf")),
    ("faulty", include_str!("supervisord/faulty.conf")),
];

/// A world that is always the same, with one variable. Its hash is none, but differs by text.
fn world() -> ImportWorld<'static> {
    ImportWorld {
        hostname: "node1",
        environment: &|name| (name == "PATH").then(|| "/usr/local/bin:/usr/bin:/bin".to_owned()),
        sha256: &|bytes| {
            let mut hash = [7; 32];
            hash[0] = bytes.iter().fold(0, |sum, byte| sum ^ byte);
            hash
        },
    }
}

fn import(text: &str) -> Imported {
    import_supervisord(&[("/etc/supervisor/supervisord.conf".into(), text.to_owned())], &world())
}

/// The faults of what came out.
fn faults(imported: &Imported) -> config::Diagnostics {
    let texts = vec![("imported.toml".into(), imported.toml.clone())];
    config::parse(texts, &context()).diagnostics
}

fn shown(imported: &Imported) -> String {
    let notes: Vec<String> = imported.notes.iter().map(ToString::to_string).collect();
    format!("{}\n---- notes\n{}\n", imported.toml, notes.join("\n"))
}

#[test]
fn samples_become_what_was_reviewed_and_have_no_fault() {
    for (name, text) in SAMPLES {
        let imported = import(text);
        let faults = faults(&imported);
        assert!(!faults.has_errors(), "{name}:\n{}\n{}", imported.toml, faults.render(false));
        let doubts: Vec<_> = faults.iter().map(|found| found.code).collect();
        let expect: &[&str] = match name {
            // As before: the interface is open to the network, with a password in clear text.
            "fcgi" => &["supervisord-in-clear"],
            "debian" => &["no-services"],
            _ => &[],
        };
        assert_eq!(doubts, expect, "{name}\n{}\n{}", imported.toml, faults.render(false));
        golden(&format!("import_{name}"), &shown(&imported));
    }
}

/// The remarks that say how holdfast does the same can be taken as they stand.
#[test]
fn what_is_advised_instead_of_superlance_has_no_fault() {
    let imported = import(include_str!("supervisord/listeners.conf"));
    let mut seen = 0;
    for advice in imported.toml.split("# Without ").skip(1) {
        let lines = advice.lines().skip(1).map_while(|line| line.strip_prefix("# "));
        let advice: Vec<&str> = lines.collect();
        let services = "[service.\"zope.app\"]\ncommand = \"x\"\n[service.db]\ncommand = \"x\"\n";
        let text = format!("{services}{}\n", advice.join("\n"));
        let loaded = config::parse(vec![("advice.toml".into(), text)], &context());
        assert!(loaded.diagnostics.is_empty(), "{}", loaded.diagnostics.render(false));
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn a_password_stands_nowhere_but_as_a_hash() {
    for (name, text) in SAMPLES {
        let imported = import(text);
        let shown = shown(&imported);
        let json: Vec<_> = imported.notes.iter().map(config::Note::to_json).collect();
        assert!(!shown.contains("geheim") && !format!("{json:?}").contains("geheim"), "{name}");
    }
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = std::fs::canonicalize(folder.path()).unwrap();
    (folder, path)
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn included_files_are_read_in_order_and_later_ones_are_stronger() {
    let (_guard, folder) = place();
    let main = folder.join("supervisord.conf");
    write(
        &main,
        "[supervisord]\n[program:a]\ncommand=/bin/first\nuser=me\n[include]\nfiles = conf.d/*.ini none/*.conf\n    more/[ab].conf\n",
    );
    write(&folder.join("conf.d/20.ini"), "[program:a]\ncommand=/bin/third %(here)s\n");
    write(
        &folder.join("conf.d/10.ini"),
        "[program:a]\ncommand=/bin/second\n[program:b]\ncommand=/b\n",
    );
    write(&folder.join("conf.d/.hidden.ini"), "[program:hidden]\ncommand=/b\n");
    write(&folder.join("conf.d/x.conf"), "[program:x]\ncommand=/b\n");
    write(&folder.join("more/b.conf"), b"[program:c]\ncommand=/bin/\xff\n[include]\nfiles=*.no\n");
    std::fs::create_dir(folder.join("more/a.conf")).unwrap();
    let imported = load_supervisord(&main, &world()).unwrap();
    let conf_d = folder.join("conf.d");
    assert!(imported.toml.contains(&format!("\"/bin/third {}\"", conf_d.display())));
    assert!(imported.toml.contains("[service.b]") && imported.toml.contains("[service.c]"));
    assert!(!imported.toml.contains("hidden") && !imported.toml.contains("[service.x]"));
    assert_eq!(imported.services, 3);
    let told: Vec<(NoteKind, &str)> =
        imported.notes.iter().map(|note| (note.kind, note.why.as_str())).collect();
    assert_eq!(told.iter().filter(|(_, why)| *why == "nothing matches none/*.conf").count(), 1);
    let unread =
        told.iter().filter(|(kind, why)| *kind == NoteKind::Lost && why.contains("a.conf"));
    assert_eq!(unread.count(), 1, "{told:?}");
    assert!(!faults(&imported).has_errors());
    assert!(load_supervisord(&folder.join("missing"), &world()).is_err());
    assert!(load_supervisord(&folder, &world()).is_err());
}

/// Pieces of supervisord.conf files, whole and broken.
fn pieces() -> impl Strategy<Value = String> {
    let words: Vec<&str> = SAMPLES.iter().flat_map(|(_, text)| text.lines()).collect();
    let odd = vec![
        "[program:é é]",
        "[group:g]",
        "programs=a,b,a",
        "[program:a]",
        "[fcgi-program:a]",
        "[]",
        "]",
        "command=%(process_num)02d %(process_num)s",
        "numprocs=3",
        "numprocs_start=4294967295",
        "environment=A=\"%(process_num)03d\",B={x}",
        "command={index} {{port}} }",
        "  continued",
        "process_name=%(process_num)",
        "stdout_logfile=/{port}/%(process_num)d",
        "priority=-7",
        "[eventlistener:a]",
        "events=TICK_5",
        "socket=unix:///x",
        "user=\u{1b}[31m",
        "=",
        "startsecs=0",
        "directory={a}",
        "serverurl={prt}",
        "identifier=\u{7}",
        "file=/a{b}",
        "port=:1",
    ];
    let line = prop_oneof![
        5 => select(words).prop_map(str::to_owned),
        3 => select(odd).prop_map(str::to_owned),
        1 => ".{0,40}",
    ];
    prop::collection::vec(line, 0..40).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_imported_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let imported = import(&String::from_utf8_lossy(&bytes));
        prop_assert!(!faults(&imported).has_errors());
    }

    #[test]
    fn whatever_is_imported_has_no_fault(text in pieces()) {
        let imported = import(&text);
        let faults = faults(&imported);
        prop_assert!(!faults.has_errors(), "{}\n{}", imported.toml, faults.render(false));
        prop_assert_eq!(&import(&text), &imported);
        let shown = shown(&imported);
        prop_assert!(!shown.contains(['\u{1b}', '\u{7}']), "{}", shown);
    }
}

#[test]
fn processes_that_share_a_socket_stay_one_service() {
    let imported = import(
        "[fcgi-program:py]\nsocket=tcp://localhost:9002\nnumprocs=3\n\
         command=/py %(process_num)02d %(process_num)s\n",
    );
    assert_eq!(imported.services, 1);
    assert!(imported.toml.contains("\"/py\", \"{index}\", \"{index}\""), "{}", imported.toml);
    assert!(faults(&imported).is_empty());
}

#[test]
fn of_two_that_want_one_address_the_second_is_left_out_and_told() {
    let imported = import(
        "[inet_http_server]\nport=127.0.0.1:9002\n\
         [fcgi-program:a]\ncommand=/a\nsocket=tcp://127.0.0.1:9003\n\
         [fcgi-program:b]\ncommand=/b\nsocket=tcp://127.0.0.1:9003\n\
         [fcgi-program:c]\ncommand=/c\nsocket=tcp://127.0.0.1:9002\n",
    );
    let told: Vec<&str> = imported
        .notes
        .iter()
        .filter(|note| note.kind == NoteKind::Lost)
        .map(|note| note.why.as_str())
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("both want port 9003"), "{told:?}");
    assert!(told[1].contains("both want port 9002"), "{told:?}");
    assert_eq!(imported.services, 1, "{}", imported.toml);
    assert!(!faults(&imported).has_errors());
}

/// What each service starts after, as it was imported.
fn order(text: &str) -> Vec<(String, Vec<String>)> {
    let texts = vec![("imported.toml".into(), import(text).toml)];
    let config = config::parse(texts, &context()).config.unwrap();
    let names =
        |spec: &supervisor::ServiceSpec| spec.after.iter().map(ToString::to_string).collect();
    config.services.values().map(|spec| (spec.name.to_string(), names(spec))).collect()
}

#[test]
fn priorities_of_programs_and_groups_become_an_order_without_circles() {
    let text = "[program:c]\ncommand=/c\npriority=30\n[program:a]\ncommand=/a\npriority=10\n\
                [program:b]\ncommand=/b\npriority=20\nautostart=false\n\
                [eventlistener:l]\ncommand=/l\nevents=TICK_5\n[program:d]\ncommand=/d\n";
    let found = order(text);
    let after = |name: &str| found.iter().find(|(n, _)| n == name).unwrap().1.join(" ");
    assert_eq!((after("a"), after("b")), (String::new(), "a".to_owned()));
    assert_eq!(after("c"), "a", "whoever does not start by itself orders nobody");
    assert_eq!((after("d"), after("l")), ("c".to_owned(), String::new()));

    // A program alone may be called like the group of others, with another priority.
    let text = "[group:w]\nprograms=x,y\n[program:x]\ncommand=/x\npriority=1\n\
                [program:y]\ncommand=/y\npriority=2\n[program:w]\ncommand=/w\npriority=5\n";
    let found = order(text);
    let after = |name: &str| found.iter().find(|(n, _)| n == name).unwrap().1.join(" ");
    assert_eq!((after("w"), after("x"), after("y")), (String::new(), "w".into(), "w x".into()));
}
