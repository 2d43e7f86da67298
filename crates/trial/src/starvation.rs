//! Every core of the machine has a hundred times more to do than it can, for as long as wanted: is
//! a service replaced that is not sick, but only has no CPU?
//!
//! Why: whoever watches is starved together with those it watches, and late answers are what a
//! starved machine gives (H26); only hours show that nothing comes of that.
//! Invariant: who starves the machine are threads of this process, which end with it.

use crate::clock::At;
use crate::house::{House, LOOK_EVERY, Setting};
use crate::load::Load;
use crate::program::Programs;
use crate::soak::free_row;
use anyhow::Result;
use control::EventRecord;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Services that are looked after.
const SERVICES: u16 = 4;

/// Threads that want all of a core, for each core.
const HOGS: usize = 100;

/// Until all run, before anything is starved.
const READY_MAX: Duration = Duration::from_secs(30);

/// Between two requests of the one client that each service has.
const PAUSE: Duration = Duration::from_millis(100);

/// A server of the catalogue ends by itself at some time, so that none is ever left behind: this long
/// after the starving, and two hours at most.
const LIFE_MORE: Duration = Duration::from_mins(10);

/// Between two looks at the pressure.
const LOOK: Duration = Duration::from_secs(1);

/// What happens to a run that is touched.
const TOUCHED: &[&str] = &[
    "service.replacing",
    "service.replaced",
    "service.remedy",
    "service.stopping",
    "service.killing",
    "service.exited",
];

/// What came of it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Starvation {
    /// For how long.
    pub lasted: Duration,
    /// Threads that wanted a whole core each.
    pub hogs: usize,
    /// The share of time in which somebody waited for a processor, in percent: the highest mean of
    /// ten seconds that the kernel told of. `None`: it does not tell.
    pub pressure: Option<f64>,
    /// Requests of our own that were answered, and those that were not.
    pub answered: usize,
    /// See there.
    pub unanswered: usize,
    /// The slowest answer.
    pub slowest: Duration,
    /// How often a detector said that somebody was sick.
    pub sick: usize,
    /// How often it was said that nothing is done, because the host starves.
    pub suppressed: usize,
    /// What was done to services nevertheless: a sentence each.
    pub touched: Vec<String>,
}

/// Starves the machine for so long.
///
/// # Errors
/// The daemon does not start, is gone, or does not end well.
pub fn starve(programs: &Programs, lasting: Duration) -> Result<Starvation> {
    let first = free_row(SERVICES)?;
    let (mut services, mut addresses) = (String::new(), Vec::new());
    for number in 0..SERVICES {
        let mut address = first;
        address.set_port(first.port() + number);
        service(&mut services, programs, number, address, lasting + LIFE_MORE);
        addresses.push(address);
    }
    let setting = Setting { services, ..Setting::default() };
    let mut house = House::start(&programs.holdfast, &setting)?;
    house.wait_for("all services are looked at", READY_MAX, |house| {
        let snapshot = house.snapshot()?;
        let mut all = snapshot.services.iter().flat_map(|service| &service.instances);
        Ok(all.all(|it| {
            it.state == "running" && it.health.verdicts.len() as u32 == it.health.detectors
        }))
    })?;
    house.take_events()?;
    let loads: Result<Vec<Load>> =
        addresses.into_iter().map(|address| Load::start(address, 1, PAUSE)).collect();
    let (loads, begun) = (loads?, At::now());
    let cores = std::thread::available_parallelism()?.get();
    let hogs = Hogs::start(cores * HOGS)?;
    let mut outcome = Starvation { hogs: cores * HOGS, ..Starvation::default() };
    while At::now().since(begun) < lasting {
        let from = At::now();
        house.wait_event(from, LOOK, |_| false)?;
        outcome.pressure = [outcome.pressure, pressure()].into_iter().flatten().reduce(f64::max);
        outcome.count(&mut house.events);
    }
    drop(hogs);
    outcome.lasted = At::now().since(begun);
    house.wait_event(begun, LOOK_EVERY, |_| false)?;
    outcome.count(&mut house.events);
    for load in loads {
        for request in load.stop().0 {
            let answered = request.by.is_ok();
            outcome.answered += usize::from(answered);
            outcome.unanswered += usize::from(!answered);
            outcome.slowest = outcome.slowest.max(request.ended.since(request.begun));
        }
    }
    house.stop()?;
    Ok(outcome)
}

/// One that is given up as soon as any is that the documentation shows.
fn service(
    text: &mut String,
    programs: &Programs,
    number: u16,
    address: std::net::SocketAddr,
    life: Duration,
) {
    let _ = write!(
        text,
        "[service.s{number}]\ncommand = \"{} none life={}\"\n\
         sockets = [{{ name = \"http\", tcp = \"{address}\" }}]\nready = \"notify\"\n\
         [service.s{number}.tolerance]\nmode = \"enforce\"\ninterval = \"1s\"\n\
         successor = \"beside\"\n\
         [service.s{number}.detect.http]\nurl = \"http://{address}/\"\n\
         interval = \"500ms\"\ntimeout = \"500ms\"\nfailures = 2\n\
         [service.s{number}.detect.backlog]\nqueue = 2\nconnections = 2\nlasting = \"2s\"\n\
         [service.s{number}.detect.deadlock]\nlasting = \"2s\"\n\
         [service.s{number}.detect.livelock]\ncore_percent = 30\nlasting = \"3s\"\n",
        programs.fault.display(),
        life.as_secs(),
    );
}

impl Starvation {
    fn count(&mut self, events: &mut Vec<EventRecord>) {
        for event in events.drain(..) {
            match event.kind.as_str() {
                "service.sick" => self.sick += 1,
                "service.replacement_suppressed" => self.suppressed += 1,
                kind if TOUCHED.contains(&kind) => self.touched.push(event.message),
                _ => {}
            }
        }
    }

    /// One line, and one for each thing that was done.
    pub fn text(&self) -> String {
        let pressure = self.pressure.map_or_else(String::new, |it| {
            format!(", somebody waited for a processor for up to {it:.0} % of the time")
        });
        let mut text = format!(
            "{:.0} s with {} busy threads{pressure}: {} requests answered, the slowest within \
             {:.0} ms, {} not answered; called sick {} times, left alone because the host \
             starved {} times, touched {} times",
            self.lasted.as_secs_f64(),
            self.hogs,
            self.answered,
            self.slowest.as_secs_f64() * 1_000.0,
            self.unanswered,
            self.sick,
            self.suppressed,
            self.touched.len(),
        );
        self.touched.iter().for_each(|it| {
            let _ = write!(text, "\n{it}");
        });
        text
    }
}

/// `some avg10=12.34 …` of /proc/pressure/cpu.
fn pressure() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
    text.lines().next()?.split_once("avg10=")?.1.split(' ').next()?.parse().ok()
}

/// Threads that never rest.
struct Hogs {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Hogs {
    fn start(number: usize) -> Result<Self> {
        let mut hogs = Self { stop: Arc::default(), threads: Vec::new() };
        for _ in 0..number {
            let stop = Arc::clone(&hogs.stop);
            hogs.threads.push(std::thread::Builder::new().name("hog".to_owned()).spawn(
                move || {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                },
            )?);
        }
        Ok(hogs)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
