//! What the pages show of a node on which much is going on; and their pictures.
//!
//! With `HOLDFAST_PICTURES=DIRECTORY` the pictures are written there, to be looked at: a page can
//! be right in every word and still be a mess.

use crate::chromium::{Browser, browser, shown};
use crate::house::{House, closed};
use crate::rich;
use control::{Request, Severity};
use journal::evidence::{BundleId, Evidence};
use serde_json::json;
use std::path::PathBuf;

/// Looks that are taken before a picture is made: a line needs points.
const STEPS: u32 = 24;

fn directory() -> Option<PathBuf> {
    std::env::var_os("HOLDFAST_PICTURES").map(PathBuf::from)
}

struct Page {
    house: House,
    browser: Browser,
}

impl Page {
    fn open(path: &str) -> Option<Self> {
        Self::open_at(path, STEPS - 1)
    }

    fn open_at(path: &str, step: u32) -> Option<Self> {
        let browser = browser()?;
        let house = closed();
        let mut page = Self { house, browser };
        page.lay_evidence();
        page.step(step);
        page.browser.open(&format!("http://{}{path}", page.house.web));
        page.shows("app-1");
        Some(page)
    }

    /// Sets what the root shows, and has the page hear of it.
    fn step(&self, step: u32) {
        let now_us = sys::clock::wall().as_micros();
        let taken_us = now_us - i64::from(STEPS - step) * 10_000_000;
        *self.house.root.snapshot.lock().unwrap() = rich::snapshot(taken_us, step, STEPS);
        self.house.root.event("zope:1", "service.verdict", Severity::Info);
    }

    /// Lays evidence of the run that is being replaced where the console looks for it.
    fn lay_evidence(&self) {
        let bundle = BundleId::parse(rich::EVIDENCE).unwrap();
        let place = Evidence::of_state(self.house.dir.path()).directory(&bundle);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("threads.txt"), "a thread waits for ever").unwrap();
        let index = serde_json::to_vec(&rich::evidence()).unwrap();
        std::fs::write(place.join("index.json"), index).unwrap();
    }

    fn shows(&mut self, text: &str) {
        self.browser.wait_for(&shown(text));
    }

    fn picture(&mut self, name: &str, width: u32, height: u32, scheme: &str) {
        let Some(directory) = directory() else { return };
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.browser.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.browser.call("Emulation.setEmulatedMedia", json!({ "features": features }));
        // Drawn anew for this size: twice, since the first frame may be of before.
        let frames = "new Promise((done) => requestAnimationFrame(() => setTimeout(done, 400)))";
        let wait = json!({ "expression": frames, "awaitPromise": true });
        self.browser.call("Runtime.evaluate", wait);
        let shot = self.browser.call("Page.captureScreenshot", json!({ "format": "png" }));
        std::fs::create_dir_all(&directory).unwrap();
        let bytes = from_base64(shot["data"].as_str().unwrap());
        std::fs::write(directory.join(format!("{name}.png")), bytes).unwrap();
    }

    /// Lets the page see how things went, from the step after `first` to the last.
    fn go_on(&mut self, first: u32, instance: &str) {
        for step in first + 1..STEPS {
            self.step(step);
            let points = format!(
                "(window.known?.store.trends.get('{instance}')?.rings.get('memory')?.length ?? 0)"
            );
            self.browser.evaluate(
                "import('/assets/store.js').then((module) => { window.known = module; })",
            );
            self.browser.wait_for(&format!("{} < {points}", step - first));
        }
    }
}

/// Clicks the first button that says this.
fn click(within: &str, label: &str) -> String {
    let all = format!("[...document.querySelectorAll('{within} button')]");
    format!("{all}.find((one) => one.innerText.trim() === '{label}').click()")
}

fn from_base64(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let value = digits.iter().position(|digit| *digit == byte).unwrap();
        (bits, held) = ((bits << 6) | u32::try_from(value).unwrap(), held + 6);
        if 8 <= held {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xFF).unwrap());
        }
    }
    bytes
}

#[test]
fn h28_the_overview_says_what_is_sick_and_which_workarounds_are_in_force() {
    let Some(mut page) = Page::open("/") else { return };
    page.shows("A workaround is in force: zope saved 14 times in 6 days.");
    page.shows("Observed: erp-api would have been replaced 3 times in 30 h.");
    page.shows("the machine starves");
    page.shows("Dependency");
    page.shows("Replacing");
    page.shows("2 services need attention");
    assert!(page.browser.complaints.is_empty(), "{:?}", page.browser.complaints);
    for (name, width, height, scheme) in [
        ("overview", 1440, 900, "light"),
        ("overview-dark", 1440, 900, "dark"),
        ("overview-phone", 390, 844, "light"),
    ] {
        page.picture(name, width, height, scheme);
    }
}

#[test]
fn h3_the_page_of_a_leak_foretells_its_end() {
    // A picture wants a line; the words need only the end of it.
    let first = if directory().is_some() { 0 } else { STEPS - 3 };
    let Some(mut page) = Page::open_at("/service/zope:1", first) else { return };
    page.go_on(first, "zope:1");
    page.shows("limit in 43 min");
    page.shows("+1.2 MiB/min");
    page.shows("set by uid 1000 (alice)");
    page.shows("the kernel does not show its sockets");
    assert!(page.browser.complaints.is_empty(), "{:?}", page.browser.complaints);
    for (name, width, height, scheme) in [
        ("leak", 1440, 900, "light"),
        ("leak-dark", 1440, 900, "dark"),
        ("leak-phone", 390, 1200, "dark"),
    ] {
        page.picture(name, width, height, scheme);
    }
}

#[test]
fn h15_the_page_of_a_replacement_says_what_goes_on_and_what_is_kept() {
    let Some(mut page) = Page::open("/service/zope") else { return };
    page.shows("Workaround in force for 6 days: saved the service 14 times.");
    page.shows("Being replaced:");
    page.shows("at most 7 s more");
    page.shows("Run 56, pid 31412");
    page.shows("/srv/media answered in 2.4 s");
    page.browser.evaluate(&click(".health-strip", "Evidence"));
    page.shows("Gathered within 412 ms of 3 s");
    page.shows("its threads: state, where they wait, CPU time");
    page.shows("install py-spy");
    let file = "document.querySelector('.bundle-file').href";
    let path = page.browser.evaluate(file).as_str().unwrap().replace("http://", "");
    let (host, path) = path.split_once('/').unwrap();
    let text = page.house.web("GET", &format!("/{path}"), host, &[]);
    assert_eq!((text.status, text.body.as_str()), (200, "a thread waits for ever"));
    let current = "document.querySelector('[aria-current=\"step\"]').innerText";
    assert_eq!(page.browser.evaluate(current), "Drain");
    // Its successor comes after its end.
    let order = "[...document.querySelectorAll('.step')].map((one) => one.innerText).join(' ')";
    let after = "Blame Evidence Remedy Drain Stop Successor Warm-up";
    assert_eq!(page.browser.evaluate(order), after);
    assert!(page.browser.complaints.is_empty(), "{:?}", page.browser.complaints);
    for (name, width, height, scheme) in [
        ("replacing", 1440, 900, "light"),
        ("replacing-dark", 1440, 900, "dark"),
        ("replacing-phone", 390, 1200, "light"),
    ] {
        page.picture(name, width, height, scheme);
    }
}

#[test]
fn h12_an_operator_sets_the_mode_by_a_click_and_enforcing_asks_first() {
    let Some(mut page) = Page::open("/service/erp-api") else { return };
    page.shows("Observed for 30 h: would have been replaced 3 times.");
    let asked = |mode: Option<&str>| {
        let wanted =
            Request::Mode { targets: vec!["erp-api".into()], mode: mode.map(str::to_owned) };
        move |seen: &Request| matches!(seen, Request::OnBehalf { request, .. } if **request == wanted)
    };
    page.browser.evaluate(&click(".health-strip", "Mended …"));
    page.shows("Is the fault of erp-api mended?");
    page.browser.evaluate(&click("dialog", "It is mended"));
    page.house.root.seen.wait_for(|seen| {
        let cured = Request::Cured { targets: vec!["erp-api".into()] };
        matches!(seen, Request::OnBehalf { request, .. } if **request == cured)
    });
    page.browser.evaluate(&click(".segments", "Off"));
    page.house.root.seen.wait_for(asked(Some("off")));
    page.browser.evaluate(&click(".segments", "Enforce"));
    page.shows("Enforce on erp-api?");
    page.picture("enforce", 1440, 900, "light");
    let before =
        page.house.root.seen.all().iter().filter(|one| asked(Some("enforce"))(one)).count();
    assert_eq!(before, 0, "it asks first");
    page.browser.evaluate(&click("dialog", "Enforce"));
    page.house.root.seen.wait_for(asked(Some("enforce")));
    assert!(page.browser.complaints.is_empty(), "{:?}", page.browser.complaints);
}
