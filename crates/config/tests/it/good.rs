//! What is right is read as it was meant, and shown so that it reads back the same.

use crate::support::{codes, golden, good, parse};
use config::MailSecurity;
use std::time::Duration;
use supervisor::{
    HealthState, Kind, LeakResource, Mode, Probe, Readiness, Resource, RestartWhen, RlimitPair,
    Rule, Severity, SocketAddress, StackTool, StopAction, Successor, Trend,
};

const RICH: &str = include_str!("rich.toml");

#[test]
fn every_key_is_read_as_it_was_meant() {
    let config = good(RICH);
    assert_eq!(config.daemon.node, "alpha");
    assert_eq!(config.daemon.state_dir.to_str(), Some("/srv/holdfast"));
    assert_eq!(config.console.listen, None);
    assert_eq!(config.api.tokens.len(), 1);
    assert_eq!(config.api.operators.len(), 2);
    let web = &config.services[&"web".parse().unwrap()];
    assert_eq!(web.process.argv, ["/usr/sbin/nginx", "-g", "daemon off;"]);
    assert_eq!(web.instances, 3);
    assert_eq!(web.process.port, Some(8000));
    assert_eq!(web.process.env["PORT"], "{port}");
    assert_eq!(web.process.env_files[1], ("/etc/default/web-local".into(), true));
    assert_eq!(web.process.umask, 0o027);
    let stack = RlimitPair { soft: Some(8 << 20), hard: None };
    assert_eq!(web.process.rlimits[&Resource::Stack], stack);
    assert_eq!(web.process.limits.cpu_percent, Some(150));
    assert!(matches!(
        &web.ready,
        Readiness::Probe { probe: Probe::Http { status: Some(204), .. }, .. }
    ));
    assert_eq!(web.stop.len(), 3);
    assert_eq!(web.stop[0].action, StopAction::Signal(2));
    assert_eq!(web.stop[0].wait, Duration::from_secs(5));
    assert_eq!(web.reload, Some(StopAction::Signal(1)));
    assert_eq!(web.restart.when, RestartWhen::OnFailure);
    assert_eq!(web.restart.backoff.max, Duration::from_secs(30));
    assert!(web.restart.success_signals.contains(&15));
    assert_eq!(web.process.sockets.len(), 2);
    assert!(matches!(&web.process.sockets[1].address, SocketAddress::Unix { mode: 0o660, .. }));
    assert_eq!(web.log.age_max, Some(Duration::from_hours(24)));
    let told = web.output_events;
    assert_eq!((told.stdout, told.stdout_capture.0, told.stderr), (true, 0, false));
    assert_eq!(told.of(true), (false, base::ByteSize(64 << 10)));
    let setup = &config.services[&"setup".parse().unwrap()];
    assert_eq!(setup.kind, Kind::Oneshot);
    assert_eq!(setup.restart.when, RestartWhen::OnFailure);
    assert_eq!(setup.process.argv, ["/bin/sh", "-c", "test -d /srv || mkdir /srv"]);
    assert_eq!(setup.process.nice, 5, "from [defaults]");
    assert_eq!(web.process.nice, -5, "its own is stronger");
}

#[test]
fn hooks_are_read_as_they_were_meant() {
    let hooks = good(RICH).hooks;
    let pager = &hooks[&"pager".parse().unwrap()];
    assert_eq!(pager.argv, ["/usr/local/bin/page", "--json", "{}", "the ops"]);
    assert_eq!(pager.events, ["service.failed", "daemon.*"]);
    assert_eq!((pager.severity, pager.user.as_deref()), (Severity::Warning, Some("nobody")));
    assert_eq!(pager.timeout, Duration::from_secs(5));
    let chat = &hooks[&"chat.ops".parse().unwrap()];
    assert_eq!(
        (chat.argv.len(), chat.severity, chat.timeout),
        (2, Severity::Info, Duration::from_secs(30))
    );
}

#[test]
fn a_listener_brings_the_interface_by_which_it_asks() {
    let listener = "[service.a]\ncommand = \"a\"\nevent_listener = { events = [\"TICK_5\"] }\n";
    assert_eq!(good("[service.a]\ncommand = \"a\"\n").supervisord_face(), None);
    let face = good(listener).supervisord_face().unwrap();
    let socket = Some(("/run/holdfast/supervisor.sock".into(), 0o600));
    assert_eq!((face.unix.clone(), face.tcp, face.login.clone()), (socket, None, None));
    // Over TCP with a login a listener could not ask: it has no password.
    let tcp = format!("[supervisord]\ntcp = \"127.0.0.1:9001\"\nidentifier = \"x\"\n{listener}");
    let both = good(&tcp).supervisord_face().unwrap();
    assert_eq!((both.unix, both.identifier.as_str()), (face.unix, "x"));
    let own = format!("[supervisord]\nunix = \"/run/s\"\n{listener}");
    let own = good(&own).supervisord_face().unwrap();
    assert_eq!(own.unix, Some(("/run/s".into(), 0o700)));
}

#[test]
fn tolerance_is_read_as_it_was_meant() {
    let config = good(RICH);
    let web = &config.services[&"web".parse().unwrap()];
    let tolerance = &web.tolerance;
    assert_eq!(tolerance.mode, Mode::Enforce);
    assert_eq!(tolerance.replace.successor, Successor::Beside);
    assert_eq!(tolerance.replace.warm_up.len(), 4);
    assert_eq!(tolerance.replace.group_max, 2);
    let seconds = Duration::from_secs;
    assert_eq!((tolerance.replace.settle, tolerance.replace.drain), (seconds(2), seconds(15)));
    assert_eq!(tolerance.quarantine.map(|q| (q.keep, q.max)), Some((seconds(1800), 2)));
    let pid = ["eu-stack", "-p", "{pid}"].map(str::to_owned).to_vec();
    assert_eq!(tolerance.evidence.stacks, StackTool::Command(pid));
    let answer = |state: HealthState| {
        tolerance.answers.get(&state).map(|answer| (answer.status, answer.agent.as_str()))
    };
    assert_eq!(answer(HealthState::Starting), Some((503, "drain")), "the status is the default");
    assert_eq!(answer(HealthState::Sick), Some((500, "down")), "the words are the default");
    assert_eq!(answer(HealthState::Up), None);
    assert_eq!(tolerance.remedies[0].action, StopAction::Signal(1));
    assert!(tolerance.remedies[0].detectors.contains("slow"));
    let kinds: Vec<&str> = tolerance.detectors.values().map(|d| d.rule.kind()).collect();
    assert_eq!(kinds.len(), 15, "one of each kind: {kinds:?}");
    let slow = &tolerance.detectors["slow"];
    assert_eq!((slow.mode, slow.rule.kind()), (Mode::Observe, "http"));
    let memory = Rule::Leak {
        resource: LeakResource::Memory,
        limit: Some(500 << 20),
        share_percent: Some(80),
        trend: Some(Trend { window: seconds(1800), ahead: seconds(1200) }),
    };
    assert_eq!(tolerance.detectors["memory"].rule, memory);
    assert_eq!(tolerance.detectors["requests"].mode, Mode::Enforce);
    assert_eq!(web.depends.len(), 5);
    assert_eq!(web.depends["cache"].slow, Some(Duration::from_millis(200)));
    let crashmail = &config.services[&"crashmail".parse().unwrap()];
    assert_eq!(crashmail.listener.as_ref().map(|l| (l.events.len(), l.buffer)), Some((2, 50)));
    assert_eq!(crashmail.tolerance.mode, Mode::Observe, "a bare word");
}

#[test]
fn health_mail_and_supervisord_are_read_as_they_were_meant() {
    let config = good(RICH);
    assert_eq!(config.health.agent.map(|at| at.port()), Some(7493));
    let mail = config.mail.unwrap();
    assert_eq!((mail.host.as_str(), mail.port), ("mail.example.org", 2525));
    assert_eq!(mail.severity, Severity::Warning);
    let face = config.supervisord.unwrap();
    assert_eq!(face.unix, Some(("/run/holdfast-alpha/supervisor.sock".into(), 0o770)));
    assert_eq!(face.login.map(|(user, _)| user).as_deref(), Some("admin"));
    let empty = good("");
    assert_eq!((empty.health.http, empty.mail, empty.supervisord), (None, None, None));
}

#[test]
fn the_way_to_the_mail_server_is_protected_unless_it_is_on_this_machine() {
    for (server, port, security) in [
        ("mail.example.org", 587, MailSecurity::StartTls),
        ("mail.example.org:25", 25, MailSecurity::StartTls),
        ("mail.example.org:465", 465, MailSecurity::Tls),
        ("127.0.0.1", 25, MailSecurity::None),
        ("[::1]:2525", 2525, MailSecurity::None),
        ("localhost", 25, MailSecurity::None),
        ("2001:db8::25", 587, MailSecurity::StartTls),
    ] {
        let text = format!("[mail]\nto = [\"a@b\"]\nserver = \"{server}\"\n");
        let mail = good(&text).mail.unwrap();
        assert_eq!((mail.port, mail.security), (port, security), "{server}");
        assert_eq!(mail.from, "holdfast@node1");
    }
}

/// One file is the same on every node; what differs is in a file of the node's own.
#[test]
fn h10_each_node_has_its_own_limits_beside_what_all_share() {
    let shared = "[service.app]\ncommand = \"app\"\n[service.web]\ncommand = \"web\"\n";
    let node = |mode: &str, limit: &str| {
        let own = format!(
            "[defaults]\ntolerance = \"{mode}\"\n[defaults.detect.memory]\nlimit = \"{limit}\"\n"
        );
        let texts = [("holdfast.toml", shared), ("conf.d/node.toml", own.as_str())];
        let loaded = crate::support::parse_all(&texts);
        let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
        let app = &config.services[&"app".parse().unwrap()].tolerance;
        let limit = match &app.detectors["memory"].rule {
            Rule::Leak { limit, .. } => *limit,
            other => panic!("{other:?}"),
        };
        (app.mode, limit)
    };
    assert_eq!(node("enforce", "1GiB"), (Mode::Enforce, Some(1 << 30)));
    assert_eq!(node("observe", "200MiB"), (Mode::Observe, Some(200 << 20)));
}

#[test]
fn tolerance_of_the_defaults_holds_where_a_service_has_none() {
    let config = good(
        "[defaults]\ntolerance = { mode = \"observe\", interval = \"10s\" }\n\
         [defaults.detect.memory]\nshare_percent = 80\n\
         [service.a]\ncommand = \"x\"\n\
         [service.b]\ncommand = \"x\"\ntolerance = \"off\"\ndetect = {}\n",
    );
    let tolerance =
        |name: &str| config.services[&name.parse::<base::ServiceName>().unwrap()].tolerance.clone();
    let a = tolerance("a");
    assert_eq!((a.mode, a.interval), (Mode::Observe, Duration::from_secs(10)));
    assert_eq!(a.detectors.len(), 1);
    assert_eq!(tolerance("b"), supervisor::Tolerance::default());
}

#[test]
fn what_is_shown_reads_back_as_the_same_configuration() {
    let example = include_str!("../../../../docs/examples/tolerance.toml");
    for text in [RICH, "", "[service.a]\ncommand = \"true\"\n", example] {
        let config = good(text);
        let shown = config::show(&config);
        let again = good(&shown);
        assert_eq!(again, config, "{shown}");
        assert_eq!(config::show(&again), shown);
    }
}

#[test]
fn a_small_service_gets_every_default() {
    let config = good("[service.a]\ncommand = \"sleep 60\"\n");
    golden("a_small_service", &config::show(&config));
}

#[test]
fn an_empty_configuration_is_valid_with_a_warning() {
    let loaded = parse("");
    assert!(loaded.config.is_some());
    assert_eq!(codes("# nothing\n"), ["no-services"]);
}

/// The template's lines that are keys, made active.
fn active(template: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    template.lines().map(line).collect::<Vec<_>>().concat()
}

#[test]
fn the_template_of_all_defaults_is_true() {
    let template = config::defaults();
    let silent = good(&template);
    let spoken = good(&active(&template));
    assert_eq!(silent, spoken, "a key of the template differs from the default");
    let empty = good("");
    assert_eq!((&silent.daemon, &silent.api), (&empty.daemon, &empty.api));
    assert_eq!((&silent.console, &silent.journal), (&empty.console, &empty.journal));
}

/// Every key that is shown (so every key there is) stands in the template and in the reference.
#[test]
fn the_template_and_the_reference_name_every_key() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let reference = std::fs::read_to_string(path).unwrap();
    let template = config::defaults();
    let rich = config::show(&good(RICH));
    let keys = rich.lines().filter_map(|line| line.split_once(" = ").map(|(key, _)| key));
    for key in keys {
        let in_template = [format!("{key} = "), format!("{key}.")];
        assert!(in_template.iter().any(|text| template.contains(text)), "template: {key}");
        assert!(reference.contains(&format!("`{key}`")), "reference: {key}");
    }
}

#[test]
fn defaults_that_depend_on_the_machine_come_from_the_context() {
    use crate::support::context;
    let daemon = |context: &config::Context| {
        let loaded = config::parse(vec![("a".into(), String::new())], context);
        let daemon = loaded.config.unwrap().daemon;
        (daemon.state_dir.display().to_string(), daemon.run_dir.display().to_string())
    };
    let root = context();
    assert_eq!(daemon(&root), ("/var/lib/holdfast".into(), "/run/holdfast".into()));
    let user = config::Context { is_root: false, home: "/users/me".into(), ..root.clone() };
    let state = "/users/me/.local/state/holdfast";
    assert_eq!(daemon(&user), (state.into(), format!("{state}/run")));
    let session = config::Context {
        xdg_state_home: Some("/s".into()),
        xdg_runtime_dir: Some("/run/user/1".into()),
        ..user.clone()
    };
    assert_eq!(daemon(&session), ("/s/holdfast".into(), "/run/user/1/holdfast".into()));
    let told = config::Context { state_dir_override: Some("/x".into()), ..root.clone() };
    assert_eq!(daemon(&told), ("/x".into(), "/x/run".into()));
    assert_eq!(config::default_path(&root).to_str(), Some("/etc/holdfast/holdfast.toml"));
}

#[test]
fn commands_are_split_as_a_shell_would() {
    for (written, argv) in [
        ("'a b c'", vec!["a", "b", "c"]),
        ("'''a 'b c' \"d e\"f \\  g'''", vec!["a", "b c", "d ef", " ", "g"]),
        ("'a $HOME *'", vec!["a", "$HOME", "*"]),
        ("['a b', '']", vec!["a b", ""]),
    ] {
        let config = good(&format!("[service.x]\ncommand = {written}\n"));
        assert_eq!(config.services[&"x".parse().unwrap()].process.argv, argv, "{written}");
    }
}

#[test]
fn off_is_stronger_than_a_default() {
    let config = good(
        "[defaults]\nready = \"notify\"\nwatchdog = \"5s\"\nreload = \"HUP\"\n\
         [service.a]\ncommand = \"x\"\n\
         [service.b]\ncommand = \"x\"\nready = \"started\"\nwatchdog = \"off\"\nreload = \"off\"\n",
    );
    let (a, b) = (&config.services[&"a".parse().unwrap()], &config.services[&"b".parse().unwrap()]);
    assert_eq!(
        (a.watchdog, a.reload.clone()),
        (Some(Duration::from_secs(5)), Some(StopAction::Signal(1)))
    );
    assert_eq!((b.watchdog, b.reload.clone()), (None, None));
}

#[test]
fn output_that_listeners_are_told_of_has_to_be_told_apart() {
    let service = |keys: &str| format!("[service.a]\ncommand = \"a\"\n{keys}\n");
    assert_eq!(codes(&service("output_events = { stderr = true }")), ["output-not-apart"]);
    assert_eq!(
        codes(&service("output_events = { stderr_capture = \"1KiB\" }")),
        ["output-not-apart"]
    );
    assert_eq!(codes(&service("output_events = { stdout_capture = \"5MiB\" }")).len(), 1);
    let listener = "event_listener = { events = [\"TICK_5\"] }\noutput_events = { stdout = true }";
    assert_eq!(codes(&service(listener)), ["listener-contradiction"]);
    let off = good(&service("output_events = \"off\""));
    assert_eq!(
        off.services[&"a".parse().unwrap()].output_events,
        supervisor::OutputEvents::default()
    );
    good(&service(
        "log = { split_stderr = true }\noutput_events = { stderr = true, stdout_capture = \"off\" }",
    ));
}
