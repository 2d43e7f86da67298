//! What is right is read as it was meant, and shown so that it reads back the same.

use crate::support::{codes, golden, good, parse};
use std::time::Duration;
use supervisor::{
    Kind, Probe, Readiness, Resource, RestartWhen, RlimitPair, SocketAddress, StopAction,
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
    let setup = &config.services[&"setup".parse().unwrap()];
    assert_eq!(setup.kind, Kind::Oneshot);
    assert_eq!(setup.restart.when, RestartWhen::OnFailure);
    assert_eq!(setup.process.argv, ["/bin/sh", "-c", "test -d /srv || mkdir /srv"]);
    assert_eq!(setup.process.nice, 5, "from [defaults]");
    assert_eq!(web.process.nice, -5, "its own is stronger");
}

#[test]
fn what_is_shown_reads_back_as_the_same_configuration() {
    for text in [RICH, "", "[service.a]\ncommand = \"true\"\n"] {
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
