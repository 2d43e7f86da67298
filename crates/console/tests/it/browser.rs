//! The pages in a real browser, under the policy they are served with.
//!
//! The browser is driven through its DevTools pipe: JSON messages that end in a zero byte, on the
//! descriptors 3 (to it) and 4 (from it).

use crate::house::{DEADLINE, House, closed};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

const BROWSER: &str = "/usr/bin/chromium";

struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    next: u64,
    session: Option<String>,
    complaints: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    fn start() -> Self {
        let profile = TempDir::new().unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh", BROWSER])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-sync", "--disable-background-networking"])
            .args(["--disable-component-update", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        let mut browser = Self {
            child,
            to,
            from,
            next: 0,
            session: None,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Calls a method and gives its result; notes what the page complains about meanwhile.
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        write!(self.to, "{message}\0").unwrap();
        loop {
            let mut bytes = Vec::new();
            assert!(0 < self.from.read_until(0, &mut bytes).unwrap(), "the browser has ended");
            bytes.pop();
            let got: Value = serde_json::from_slice(&bytes).unwrap();
            match got["method"].as_str() {
                Some("Runtime.exceptionThrown") => self.complaints.push(got.to_string()),
                Some("Log.entryAdded") if got["params"]["entry"]["level"] == "error" => {
                    self.complaints.push(got.to_string());
                }
                _ => {}
            }
            if got["id"] == self.next {
                assert!(got.get("error").is_none(), "{method}: {got}");
                return got["result"].clone();
            }
        }
    }

    fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
    }

    /// Waits, inside the page, until the expression is true; gives the page's text if it never is.
    fn wait_for(&mut self, condition: &str) {
        let script = format!(
            "new Promise((done) => {{
                const until = Date.now() + {};
                const look = () => {{
                    let found = false;
                    try {{ found = Boolean({condition}); }} catch {{ }}
                    if (found) return done(\"\");
                    if (until < Date.now()) return done(document.body.innerText || \"(empty)\");
                    setTimeout(look, 50);
                }};
                look();
            }})",
            DEADLINE.as_millis()
        );
        let evaluate = json!({ "expression": script, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", evaluate);
        let text = result["result"]["value"].as_str().unwrap_or("(no page)").to_owned();
        assert_eq!(text, "", "never true: {condition}; complaints: {:?}", self.complaints);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked first: it ends its own helpers, which a kill of the first process would leave.
        self.session = None;
        let _ = write!(self.to, "{{\"id\":0,\"method\":\"Browser.close\"}}\0");
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut self.from, &mut rest);
        let _ = self.child.wait();
    }
}

fn shown(text: &str) -> String {
    format!("document.body.innerText.includes({})", json!(text))
}

/// `None`, with a word about it, where there is no browser.
fn browser() -> Option<Browser> {
    if Path::new(BROWSER).exists() {
        return Some(Browser::start());
    }
    println!("skipped: {BROWSER} is not installed (Debian package `chromium`)");
    None
}

fn page(house: &House, path: &str) -> String {
    format!("http://{}{path}", house.web)
}

#[test]
fn every_page_is_drawn_and_nothing_is_refused_by_the_policy() {
    let Some(mut browser) = browser() else { return };
    let house = closed();
    house.root.event("web", "service.ready", control::Severity::Info);
    browser.open(&page(&house, "/"));
    browser.wait_for(&shown("testnode"));
    browser.wait_for(&shown("web: service.ready"));
    browser.wait_for("document.querySelector('a[href=\"/service/web\"]')");
    browser.open(&page(&house, "/service/web"));
    browser.wait_for(&shown("three"));
    browser.open(&page(&house, "/events"));
    browser.wait_for(&shown("web: service.ready"));
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

#[test]
fn what_happens_is_drawn_while_one_looks() {
    let Some(mut browser) = browser() else { return };
    let house = closed();
    browser.open(&page(&house, "/"));
    browser.wait_for(&shown("testnode"));
    house.root.snapshot.lock().unwrap().services[1].instances[0].state = "failed".into();
    house.root.event("web", "service.budget_spent", control::Severity::Error);
    browser.wait_for(&shown("2 services need attention"));
    browser.wait_for(&shown("web: service.budget_spent"));
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}
