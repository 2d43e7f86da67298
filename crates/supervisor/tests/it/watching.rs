//! What a service says of itself while it runs: its watchdog, its reloads, its status.

use crate::bench::{Bench, deeds};
use crate::specs::{But, SECOND, service};
use std::time::Duration;
use supervisor::{Exit, NotifyMessage, Phase, RestartWhen};

#[test]
fn h18_a_service_that_does_not_feed_its_watchdog_is_stopped_and_restarted() {
    let mut it = Bench::running(service("web").watchdog(10 * SECOND));
    it.after(9 * SECOND);
    it.says("web", NotifyMessage::Watchdog);
    assert_eq!(it.after_ms(9_999), [""; 0]);
    assert_eq!(
        it.after_ms(1),
        [
            "service.watchdog_timeout: web hangs: it did not say WATCHDOG=1 within 10s",
            "service.stopping: web is asked to stop",
            "signal 15 to pid 10 of web",
        ]
    );
    let lines = it.ends("web", 10, Exit::Code(0));
    assert_eq!(deeds(&lines).last(), Some(&"spawn web as run 2"), "however well it ended then");
}

#[test]
fn a_watchdog_watches_only_what_is_ready() {
    let mut it = Bench::of([service("web").says_ready().watchdog(2 * SECOND)]);
    it.spawned("web", 10);
    assert_eq!(it.after(30 * SECOND), [""; 0]);
    it.says("web", NotifyMessage::Ready);
    assert_eq!(deeds(&it.after(2 * SECOND)), ["signal 15 to pid 10 of web"]);
}

#[test]
fn a_service_may_say_that_it_is_sick() {
    let mut it = Bench::running(service("web").watchdog(60 * SECOND));
    assert_eq!(
        it.says("web", NotifyMessage::WatchdogTrigger)[0],
        "service.watchdog_timeout: web hangs: it said of itself that it is sick"
    );
    assert_eq!(it.phase("web"), Phase::Stopping);
}

#[test]
fn a_service_may_change_the_period_of_its_watchdog_or_turn_it_off() {
    let mut it = Bench::running(service("web").watchdog(10 * SECOND));
    it.says("web", NotifyMessage::WatchdogPeriod(30 * SECOND));
    assert_eq!(it.after(29 * SECOND), [""; 0]);
    it.says("web", NotifyMessage::WatchdogPeriod(Duration::ZERO));
    assert_eq!(it.after(3_600 * SECOND), [""; 0]);
}

#[test]
fn h26_a_hang_is_not_restarted_where_nothing_is() {
    let spec = service("web").watchdog(SECOND).restarts(RestartWhen::Never);
    let mut it = Bench::running(spec);
    it.after(SECOND);
    it.ends("web", 10, Exit::Signal(15));
    assert_eq!(it.phase("web"), Phase::Failed);
}

#[test]
fn a_reload_is_told_from_its_beginning_to_its_end() {
    let mut it = Bench::running(service("web"));
    assert_eq!(
        it.says("web", NotifyMessage::Reloading),
        ["service.reloading: web reads its configuration again"]
    );
    assert_eq!(it.because("web"), ["web reads its configuration again"]);
    assert_eq!(it.says("web", NotifyMessage::Ready), ["service.ready: web has reloaded"]);
    assert_eq!(it.because("web"), [""; 0]);
}

#[test]
fn reloading_said_before_it_was_ever_ready_does_not_hide_its_ready() {
    let mut it = Bench::of([service("web").says_ready()]);
    it.spawned("web", 10);
    it.says("web", NotifyMessage::Reloading);
    assert_eq!(
        it.says("web", NotifyMessage::Ready),
        ["service.ready: web is ready after less than 1ms"]
    );
}

#[test]
fn what_it_says_of_itself_is_shown_until_its_end() {
    let mut it = Bench::running(service("web"));
    it.says("web", NotifyMessage::Status("3 clients".into()));
    assert_eq!(it.seen("web").status_text, "3 clients");
    it.ends("web", 10, Exit::Code(1));
    assert_eq!(it.seen("web").status_text, "");
}

#[test]
fn h26_a_watchdog_that_is_looked_at_too_late_blames_nobody() {
    let mut it = Bench::running(service("web").watchdog(10 * SECOND));
    // The machine slept.
    it.now = it.now + 3600 * SECOND;
    assert_eq!(it.after_ms(9_999), [""; 0]);
    let lines = it.after_ms(1);
    assert_eq!(deeds(&lines), ["signal 15 to pid 10 of web"], "and now it had its time");
}
