//! The web console of a real daemon in a real browser: what it shows is what runs, and its buttons
//! act.

#[path = "../../../console/tests/it/chromium.rs"]
mod chromium;

use crate::support::{Daemon, free_port, kill};
use chromium::{Browser, browser, shown};

struct Page {
    daemon: Daemon,
    browser: Browser,
    port: u16,
}

impl Page {
    fn open(path: &str) -> Option<Self> {
        let browser = browser()?;
        let port = free_port();
        let daemon = Daemon::start(&format!(
            "[console]\nlisten = \"127.0.0.1:{port}\"\nsample_interval = \"1s\"\n\
             [service.talker]\nshell = true\ndescription = \"It talks\"\n\
             command = \"echo the-first-line; echo the-second-line; exec sleep 1000\"\n\
             [service.broken]\nshell = true\nrestart = \"never\"\n\
             command = \"echo no-database >&2; exit 3\"\nready = {{ delay = \"5s\" }}\n"
        ));
        daemon.wait_state("talker", "running");
        daemon.wait_state("broken", "failed");
        let mut page = Self { daemon, browser, port };
        page.go(path);
        Some(page)
    }

    fn go(&mut self, path: &str) {
        self.browser.open(&format!("http://127.0.0.1:{}{path}", self.port));
    }

    fn shows(&mut self, text: &str) {
        self.browser.wait_for(&shown(text));
    }

    /// Clicks the first button that says this, and the dialog's if it asks.
    fn click(&mut self, within: &str, label: &str) {
        let button = format!(
            "[...document.querySelectorAll('{within} button')].find((b) => b.innerText.trim() === '{label}')"
        );
        self.browser.wait_for(&button);
        self.browser.evaluate(&format!("{button}.click()"));
    }
}

#[test]
fn the_overview_shows_the_services_and_follows_them() {
    let Some(mut page) = Page::open("/") else { return };
    let pid = page.daemon.instance("talker").pid.unwrap();
    page.shows("It talks");
    page.shows(&pid.to_string());
    page.shows("1 service needs attention");
    kill(pid, "KILL");
    let next = page.daemon.wait_replaced("talker", pid).pid.unwrap();
    page.shows(&next.to_string());
    page.shows("talker restarts now");
    page.browser.wait_for(&format!("!({})", shown(&format!("\n{pid}\n"))));
    assert!(page.browser.complaints.is_empty(), "{:?}", page.browser.complaints);
}

#[test]
fn the_page_of_a_service_shows_its_log_and_restarts_it() {
    let Some(mut page) = Page::open("/service/talker") else { return };
    let first = page.daemon.instance("talker");
    page.shows("the-second-line");
    page.shows(&first.pid.unwrap().to_string());
    page.shows("talker is ready");
    page.click(".page-buttons", "Restart");
    page.shows("Restart talker?");
    assert_eq!(page.daemon.instance("talker").run, first.run, "it asks before it acts");
    page.click("dialog", "Restart");
    let next = page.daemon.wait_replaced("talker", first.pid.unwrap());
    page.shows(&next.pid.unwrap().to_string());
    // Whoever clicked is on record.
    let event = page.daemon.wait_event("talker", "service.command");
    assert!(event.message.contains("uid 0") || event.message.contains("root"), "{event:?}");
    assert!(page.browser.complaints.is_empty(), "{:?}", page.browser.complaints);
}

#[test]
fn g13_the_page_of_a_failed_service_says_why() {
    let Some(mut page) = Page::open("/service/broken") else { return };
    page.shows("no-database");
    page.shows("exited with code 3");
    page.go("/events");
    page.shows("broken is given up");
    assert!(page.browser.complaints.is_empty(), "{:?}", page.browser.complaints);
}
