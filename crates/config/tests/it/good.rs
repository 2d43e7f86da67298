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
    assert_eq!(web.log.age_max, Some(Duration::from_secs(86_400)));
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
