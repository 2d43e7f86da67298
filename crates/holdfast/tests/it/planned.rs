//! Planned replacements under a load: no request fails, and there is always somebody to answer.
//!
//! The long version is `cargo xtask soak replacements`.

use crate::peers::peer;
use crate::support::BINARY;
use control::ServiceAction;
use std::path::Path;
use std::time::Duration;
use trial::{At, House, Outside, Overlap, Programs, Setting, Soak, ask};

/// Longer than any client here waits.
const LONG: Duration = Duration::from_mins(1);

fn lost_nothing(soak: &Soak) {
    assert_eq!(soak.report.failed(), 0, "{}", soak.text());
    assert!(0 < soak.report.requests, "{}", soak.text());
}

#[test]
fn h20_h22_planned_replacements_behind_a_passed_socket_lose_no_request() {
    let Some(_) = peer("wrk", &[]) else { return };
    let soak = trial::behind_a_socket(Path::new(BINARY), 20).unwrap();
    lost_nothing(&soak);
    assert_eq!(soak.fewest, 1, "{}", soak.text());
}

#[test]
fn h20_h22_beside_haproxy_has_as_many_servers_as_ever_and_loses_no_request() {
    let (Some(_), Some(_)) = (peer("wrk", &[]), peer("haproxy", &[])) else { return };
    let soak = trial::behind_haproxy(Path::new(BINARY), 4, Overlap::Beside).unwrap();
    lost_nothing(&soak);
    assert_eq!((soak.fewest, soak.fewest_balanced), (2, Some(2)), "{}", soak.text());
}

#[test]
fn h5_h20_h22_after_one_of_the_group_is_missing_at_most_and_no_request_is_lost() {
    let (Some(_), Some(_)) = (peer("wrk", &[]), peer("haproxy", &[])) else { return };
    let soak = trial::behind_haproxy(Path::new(BINARY), 4, Overlap::After).unwrap();
    lost_nothing(&soak);
    assert_eq!((soak.fewest, soak.fewest_balanced), (1, Some(1)), "{}", soak.text());
}

#[test]
fn h21_a_request_in_flight_finishes_or_has_the_time_that_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let programs = Programs::build(Path::new(BINARY), folder.path()).unwrap();
    let outside = Outside::start(None).unwrap();
    let address = trial::free_row(1).unwrap();
    let services = format!(
        "[service.web]\ncommand = \"{} none backend={}\"\nready = \"notify\"\n\
         sockets = [{{ name = \"http\", tcp = \"{address}\" }}]\nstop = [\"TERM 2s\"]\n\
         [service.web.tolerance]\ndrain = \"1s\"\n",
        programs.fault.display(),
        outside.address().port(),
    );
    let setting = Setting { services, ..Setting::default() };
    let mut house = House::start(&programs.holdfast, &setting).unwrap();
    let running = |house: &House| Ok(house.instance("web")?.state == "running");
    house.wait_for("the service is running", LONG, running).unwrap();
    let old = ask(address, LONG).unwrap();
    // It takes as long as what it asks in its turn.
    let in_flight = |house: &mut House, takes: Duration| {
        let before = outside.asked();
        outside.slow(takes);
        let client = std::thread::spawn(move || ask(address, LONG));
        let taken = |_: &House| Ok(before < outside.asked());
        house.wait_for("the request is being answered", LONG, taken).unwrap();
        outside.slow(Duration::ZERO);
        let begun = At::now();
        house.act(ServiceAction::Replace, "web").unwrap();
        let done = house.wait_event(begun, LONG, |event| event.kind == "service.replaced");
        (client.join().unwrap(), At::of(&done.unwrap().unwrap()).since(begun))
    };
    let (answer, _) = in_flight(&mut house, Duration::from_millis(1_500));
    assert_eq!(answer, Ok(old), "asked to end, it finishes what it has begun");
    assert_ne!(ask(address, LONG), Ok(old));
    let (answer, took) = in_flight(&mut house, LONG);
    assert!(answer.is_err(), "{answer:?}: a minute is more than it is given");
    assert!(took < LONG, "{took:?}");
    house.stop().unwrap();
}
