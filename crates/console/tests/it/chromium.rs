//! A headless browser for tests, driven through its DevTools pipe: JSON messages that end in a zero
//! byte, on the descriptors 3 (to it) and 4 (from it).
//!
//! Also used by the tests of the daemon: it needs nothing of the tests beside it.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A condition in the page that has not come true by then never will.
const DEADLINE: Duration = Duration::from_secs(30);

const BROWSER: &str = "/usr/bin/chromium";

pub(crate) struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    next: u64,
    session: Option<String>,
    pub(crate) complaints: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    fn start() -> Self {
        let profile = TempDir::new().unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh", BROWSER])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--window-size=1440,900",
            ])
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
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
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

    pub(crate) fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
    }

    /// Evaluates an expression in the page and gives its value.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let evaluate = json!({ "expression": expression, "returnByValue": true });
        let result = self.call("Runtime.evaluate", evaluate);
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits, inside the page, until the expression is true; gives the page's text if it never is.
    pub(crate) fn wait_for(&mut self, condition: &str) {
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

/// A condition: the page shows this text.
pub(crate) fn shown(text: &str) -> String {
    format!("document.body.innerText.includes({})", json!(text))
}

/// `None`, with a word about it, where there is no browser and none is required.
pub(crate) fn browser() -> Option<Browser> {
    if Path::new(BROWSER).exists() {
        return Some(Browser::start());
    }
    let required = std::env::var("HOLDFAST_PEERS").is_ok_and(|value| value == "require");
    assert!(!required, "{BROWSER} is not installed; `cargo xtask test` names the package");
    println!("skipped: {BROWSER} is not installed (Debian package `chromium`)");
    None
}
