//! The pages in a real browser, under the policy they are served with.

use crate::chromium::{browser, shown};
use crate::house::{House, closed};

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
    let title = browser.evaluate("document.title");
    assert!(title.as_str().unwrap().contains("Holdfast"), "{title}");
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
