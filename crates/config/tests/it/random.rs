//! Properties: no text is too strange, and what is shown reads back the same.

use crate::support::{context, good, parse};
use proptest::prelude::*;
use proptest::sample::select;

const RICH: &str = include_str!("rich.toml");
const TWENTY: &str = include_str!("faults/twenty.toml");

/// Pieces of configurations, whole and broken.
fn pieces() -> impl Strategy<Value = String> {
    let words = RICH.lines().chain(TWENTY.lines()).collect::<Vec<_>>();
    let line = prop_oneof![
        6 => select(words).prop_map(str::to_owned),
        1 => ".{0,40}",
        1 => select(vec!["[", "]", "{", "}", "\"\"\"", "'", "=", ".", ",", "[[a]]", "[a.b]", "a.b.c = 1", "[[a.b]]", "\u{feff}"])
            .prop_map(str::to_owned),
    ];
    prop::collection::vec(line, 0..40).prop_map(|lines| lines.join("\n"))
}

/// Values of one key each, all of them right.
fn key() -> impl Strategy<Value = (&'static str, String)> {
    let time = || (1_u64..100_000).prop_map(|ms| format!("\"{ms}ms\""));
    let text = || "[a-zA-Z0-9 _./:\\-éß\t\"\\\\']{0,20}";
    let quoted = |s: String| toml::Value::from(s).to_string();
    prop_oneof![
        text().prop_map(move |s| ("description", quoted(s.replace('\t', " ")))),
        any::<bool>().prop_map(|b| ("autostart", b.to_string())),
        (-20..=19_i32).prop_map(|n| ("nice", n.to_string())),
        (0..=0o777_u32).prop_map(|n| ("umask", format!("\"{n:03o}\""))),
        (-1000..=1000_i32).prop_map(|n| ("oom_score_adjust", n.to_string())),
        prop::collection::btree_map("[A-Z_]{1,8}", text(), 0..4).prop_map(move |env| {
            let pairs: Vec<String> =
                env.into_iter().map(|(k, v)| format!("{k} = {}", quoted(v))).collect();
            ("env", format!("{{ {} }}", pairs.join(", ")))
        }),
        (1_u64..u64::MAX / 4).prop_map(|n| ("rlimits", format!("{{ as = \"{n}B\", nofile = 7 }}"))),
        (1_u64..1 << 40, 1..5000_u32, 1..4000_u32).prop_map(|(memory, cpu, pids)| {
            let memory = memory + (1 << 20);
            ("limits", format!("{{ memory = \"{memory}B\", cpu = \"{cpu}%\", pids = {pids} }}"))
        }),
        time().prop_map(|t| ("ready", format!("{{ file = \"/run/x\", interval = {t} }}"))),
        prop::collection::vec((1..=64_i32, time()), 1..4).prop_map(|steps| {
            let steps = steps.into_iter().map(|(n, t)| format!("{{ signal = {n}, wait = {t} }}"));
            ("stop", format!("[{}]", steps.collect::<Vec<_>>().join(", ")))
        }),
        (1..1000_u32, 0..=100_u32, select(vec!["always", "on-failure", "never"])).prop_map(
            |(budget, jitter, when)| {
                let text = format!(
                    "{{ when = \"{when}\", budget = {budget}, jitter = \"{jitter}%\", within = \"7d\" }}"
                );
                ("restart", text)
            }
        ),
        (4096_u64..1 << 40, 0..100_u32, any::<bool>()).prop_map(|(size, keep, split)| {
            ("log", format!("{{ size = \"{size}B\", keep = {keep}, split_stderr = {split} }}"))
        }),
        (1..=64_i32).prop_map(|n| ("reload", format!("{{ signal = {n} }}"))),
        (
            select(vec!["off", "observe", "enforce"]),
            (1_u32..3600, 0..=86_400_u32, 0..=86_400_u32),
            (1..=600_000_u32, 1..=10_000_u32, any::<bool>()),
            prop::option::of((1..2_592_000_u32, 1..=100_u16)),
            (200..=599_u16, select(vec!["ready up", "50%", "down # why", "drain maxconn:3"])),
        )
            .prop_map(|(mode, (interval, settle, drain), (budget, keep, core), frozen, answer)| {
                let quarantine = frozen.map_or("\"off\"".to_owned(), |(keep, max)| {
                    format!("{{ keep = \"{keep}s\", max = {max} }}")
                });
                let text = format!(
                    "{{ mode = \"{mode}\", interval = \"{interval}s\", settle = \"{settle}s\", \
                     drain = \"{drain}s\", quarantine = {quarantine}, \
                     evidence = {{ budget = \"{budget}ms\", keep = {keep}, core = {core} }}, \
                     answers = {{ sick = {{ status = {}, agent = \"{}\" }} }} }}",
                    answer.0, answer.1
                );
                ("tolerance", text)
            }),
        detectors().prop_map(|detectors| ("detect", format!("{{ {} }}", detectors.join(", ")))),
        (text(), time(), 100..=599_u16).prop_map(move |(contains, slow, status)| {
            let contains = quoted(format!("x{contains}"));
            let text = format!(
                "{{ a = {{ http = \"http://a:1/\", status = {status}, contains = {contains}, \
                 slow = {slow} }}, b = {{ mount = \"/x\" }} }}"
            );
            ("depends", text)
        }),
        prop::collection::vec(text(), 0..4).prop_map(move |arguments| {
            let arguments: Vec<String> = arguments.into_iter().map(quoted).collect();
            ("command", format!("[\"/bin/x\", {}]", arguments.join(", ")))
        }),
    ]
}

/// Detectors, all of them right, by names that differ.
fn detectors() -> impl Strategy<Value = Vec<String>> {
    let time = |from: u64| (from..86_400_000).prop_map(|ms| format!("\"{ms}ms\""));
    let leak = (
        select(vec!["memory", "swap", "disk"]),
        1_u64 << 20..1 << 50,
        1..=100_u32,
        (57_600_000_u64..604_800_000, 10_000_u64..604_800_000),
    );
    let one = prop_oneof![
        (100_u64..86_400_000, 1..=1000_u32).prop_map(|(ms, failures)| format!(
            "kind = \"tcp\", address = \"a:1\", interval = \"{ms}ms\", timeout = \"{ms}ms\", \
             failures = {failures}"
        )),
        (1..1_u32 << 30, time(1)).prop_map(|(n, lasting)| format!(
            "kind = \"backlog\", queue = {n}, connections = {n}, lasting = {lasting}"
        )),
        (1..=100_u32, time(1)).prop_map(|(n, lasting)| format!(
            "kind = \"livelock\", core_percent = {n}, lasting = {lasting}, progress = {{ notify = true }}"
        )),
        leak.prop_map(|(kind, limit, share, (window, ahead))| {
            let path = if kind == "disk" { "path = \"/x\", " } else { "" };
            format!(
                "kind = \"{kind}\", {path}limit = \"{limit}B\", share_percent = {share}, \
                 trend = {{ window = \"{window}ms\", ahead = \"{ahead}ms\" }}"
            )
        }),
        (60_000_u64..86_400_000, 0..=50_u32).prop_map(|(ms, jitter)| format!(
            "kind = \"age\", every = \"{ms}ms\", jitter_percent = {jitter}"
        )),
        (1..=i64::MAX).prop_map(|n| format!(
            "kind = \"requests\", after = {n}, source = {{ http = \"http://a/\", field = \"a.b\" }}"
        )),
    ];
    let named = prop::collection::btree_map("[a-z][a-z0-9._-]{0,6}", one, 0..4);
    named.prop_map(|all| {
        all.into_iter().map(|(name, keys)| format!("\"{name}\" = {{ {keys} }}")).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let loaded = parse(&text);
        prop_assert_eq!(loaded.config.is_none(), loaded.diagnostics.has_errors());
        let _ = (loaded.diagnostics.render(true), loaded.diagnostics.to_json());
    }

    #[test]
    fn any_mixture_of_pieces_is_answered_without_a_panic(text in pieces()) {
        let loaded = parse(&text);
        prop_assert_eq!(loaded.config.is_none(), loaded.diagnostics.has_errors());
        let again = parse(&text);
        prop_assert_eq!(loaded.diagnostics.render(false), again.diagnostics.render(false));
        if let Some(config) = loaded.config {
            prop_assert_eq!(good(&config::show(&config)), config);
        }
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same(
        services in prop::collection::btree_map(
            "[a-z][a-z0-9._-]{0,10}",
            prop::collection::btree_map(0..17_usize, key(), 0..9),
            0..4,
        ),
    ) {
        let mut text = String::new();
        for (name, keys) in services {
            let mut keys: std::collections::BTreeMap<_, _> = keys.into_values().collect();
            keys.entry("command").or_insert_with(|| "\"true\"".to_owned());
            let lines = keys.iter().map(|(key, value)| format!("{key} = {value}\n"));
            let header = format!("[service.\"{name}\"]\n");
            text.extend(std::iter::once(header).chain(lines));
        }
        let loaded = parse(&text);
        prop_assert!(!loaded.diagnostics.has_errors(), "{}", loaded.diagnostics.render(false));
        let config = loaded.config.unwrap();
        let shown = config::show(&config);
        let again = config::parse(vec![("again".into(), shown.clone())], &context());
        prop_assert_eq!(again.config.as_ref(), Some(&config), "{}", shown);
    }

    #[test]
    fn one_broken_character_never_panics(at in 0..RICH.len(), with in any::<char>()) {
        let mut text = RICH.to_owned();
        if text.is_char_boundary(at) {
            text.remove(at);
            text.insert(at, with);
        }
        let _ = parse(&text).diagnostics.render(false);
    }
}
