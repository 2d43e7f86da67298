//! One trial: the scene, the fault, what is waited for, what is left.
//!
//! The scene: a *victim* that has the fault and clients that ask it all the time; a *bystander*
//! that has none, of which no request may fail whatever happens next to it; what the victim depends
//! on, if it does.

use crate::catalogue::{Expect, Fault, Strike};
use crate::clock::At;
use crate::house::{House, Setting, signal};
use crate::judge;
use crate::load::Load;
use crate::outside::Outside;
use crate::program::Programs;
use crate::row::{Mode, Row};
use crate::soak::free_row;
use anyhow::{Context, Result, bail};
use control::{EventRecord, InstanceView};
use rustix::process::Signal;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

pub(crate) const VICTIM: &str = "victim";
const BYSTANDER: &str = "bystander";
const BACKEND: &str = "backend";

/// From the start of the daemon until all are ready.
const READY_MAX: Duration = Duration::from_secs(30);

/// Clients of the victim; more than it has threads.
const CLIENTS: usize = 8;

/// Pause of a client between an answer and its next request.
const PAUSE: Duration = Duration::from_millis(20);

/// Requests that are answered before anything goes wrong.
const ANSWERED_BEFORE: usize = 20;

/// Everything of one trial, while it lasts.
pub(crate) struct Scene {
    pub(crate) house: House,
    pub(crate) fault: &'static Fault,
    pub(crate) load: Load,
    pub(crate) mode: Mode,
    /// The victim before the fault.
    pub(crate) before: InstanceView,
    /// The backend before the fault, if there is one.
    pub(crate) backend: Option<InstanceView>,
    pub(crate) struck: At,
    outside: Option<Outside>,
    outside_at: SocketAddr,
    bystanders: Load,
}

/// Runs one fault in one mode. What goes wrong with the trial itself is a problem of the row, too.
pub fn run(programs: &Programs, fault: &'static Fault, mode: Mode) -> Row {
    let mut row = Row::new(fault.name, mode);
    match Scene::set(programs, fault, mode) {
        Ok(scene) => scene.play(&mut row),
        Err(error) => row.problems.push(format!("the scene could not be set: {error:#}")),
    }
    row
}

/// Why a fault can't be tried here, if it can't.
pub fn missing(fault: &Fault) -> Option<&'static str> {
    let special = fault.wants_disk() || matches!(fault.strike, Strike::TimeLost(_));
    let root = rustix::process::geteuid().is_root();
    (special && !root).then_some("it needs a namespace of its own, which only root can make")
}

impl Scene {
    fn set(programs: &Programs, fault: &'static Fault, mode: Mode) -> Result<Self> {
        if let Some(why) = missing(fault) {
            bail!("{why}");
        }
        let (victim, bystander) = (free_row(1)?, free_row(1)?);
        let outside = match fault.strike {
            Strike::OutsideGone | Strike::OutsideSlow => Some(Outside::start(None)?),
            _ => None,
        };
        let backend = match &outside {
            Some(outside) => outside.address(),
            None => free_row(1)?,
        };
        let services = services(programs, fault, mode, [victim, bystander, backend]);
        let mut house = House::start(&programs.holdfast, &setting(fault, services))?;
        for name in ["own", "disk"] {
            fs::create_dir_all(house.path(name))?;
        }
        house.wait_for("all services are ready", READY_MAX, |house| {
            let snapshot = house.snapshot()?;
            let mut all = snapshot.services.iter().flat_map(|service| &service.instances);
            Ok(all.all(|instance| instance.state == "running"))
        })?;
        let load = Load::start(victim, CLIENTS, PAUSE)?;
        let bystanders = Load::start(bystander, 1, PAUSE)?;
        let before = settled(&mut house, &load)?;
        let backend_view = house.instance(BACKEND).ok();
        Ok(Self {
            house,
            fault,
            load,
            mode,
            before,
            backend: backend_view,
            struck: At::now(),
            outside,
            outside_at: backend,
            bystanders,
        })
    }

    fn play(mut self, row: &mut Row) {
        let judged = self.strike().and_then(|()| match self.fault.expect {
            Expect::Replaced(loss) => judge::replaced(&mut self, row, loss),
            Expect::Borne => judge::borne(&mut self, row),
            Expect::NotBlamed => judge::not_blamed(&mut self, row),
            Expect::StartedAgain => judge::started_again(&mut self, row),
        });
        if let Err(error) = judged {
            row.problems.push(format!("{error:#}; {}", self.last_words()));
        }
        drop(self.load);
        let bystanders = self.bystanders.stop();
        let end = At::now();
        let failed = bystanders.failed(At::BOOT, end);
        row.expect(failed == 0, || {
            format!("{failed} requests of a bystander failed: {:?}", bystanders.reasons())
        });
        if let Err(error) = self.house.stop() {
            row.problems.push(format!("the daemon did not end well: {error:#}"));
        }
    }

    /// What was said last of the victim, for whoever looks for what went wrong.
    fn last_words(&mut self) -> String {
        let _ = self.house.take_events();
        let about = |it: &&EventRecord| it.subject == VICTIM && self.struck <= At::of(it);
        let events: Vec<&str> =
            self.house.events.iter().filter(about).map(|it| it.message.as_str()).collect();
        format!("said since: {events:?}")
    }

    fn strike(&mut self) -> Result<()> {
        let pid = self.before.pid.context("the victim has no process")?;
        self.struck = At::now();
        match self.fault.strike {
            Strike::Told => signal(pid, Signal::USR1),
            Strike::Stopped => signal(pid, Signal::STOP),
            Strike::BackendHangs => {
                let backend = self.backend.as_ref().and_then(|backend| backend.pid);
                signal(backend.context("there is no backend")?, Signal::USR1);
            }
            Strike::OutsideGone => self.outside = None,
            Strike::OutsideSlow => {
                if let Some(outside) = &self.outside {
                    outside.slow(Duration::from_secs(2));
                }
            }
            Strike::TimeLost(lost) => self.lose_time(lost),
            Strike::StartHangs => {
                fs::write(self.house.path("own/hang"), "")?;
                signal(pid, Signal::KILL);
            }
        }
        Ok(())
    }

    /// What the victim depends on is as it was.
    pub(crate) fn mend(&mut self) -> Result<()> {
        match self.fault.strike {
            Strike::OutsideGone => self.outside = Some(Outside::start(Some(self.outside_at))?),
            Strike::OutsideSlow => {
                if let Some(outside) = &self.outside {
                    outside.slow(Duration::ZERO);
                }
            }
            Strike::StartHangs => fs::remove_file(self.house.path("own/hang"))?,
            _ => {}
        }
        Ok(())
    }

    /// Nothing of the daemon runs for a while, as if the machine had been suspended: its clock
    /// has jumped when it looks again. Its services go on.
    fn lose_time(&self, lost: Duration) {
        let duties = self.house.processes().into_iter().filter(|it| it.command.contains(" duty "));
        let mut own: Vec<u32> = duties.map(|duty| duty.pid).collect();
        own.push(self.house.pid());
        for pid in &own {
            signal(*pid, Signal::STOP);
        }
        std::thread::park_timeout(lost);
        for pid in &own {
            signal(*pid, Signal::CONT);
        }
    }
}

/// Waits until the victim answers, and is looked at; as it is then.
fn settled(house: &mut House, load: &Load) -> Result<InstanceView> {
    let mut seen = None;
    house.wait_for("the victim answers, and is looked at", READY_MAX, |house| {
        let victim = house.instance(VICTIM)?;
        let looked_at = victim.health.verdicts.len() as u32 == victim.health.detectors;
        let settled = looked_at && ANSWERED_BEFORE <= load.tally().0.len();
        seen = Some(victim);
        Ok(settled)
    })?;
    house.take_events()?;
    seen.context("the victim was not seen")
}

fn setting(fault: &Fault, services: String) -> Setting {
    let disk = "mkdir {dir}/disk && mount -t tmpfs -o size=64m tmpfs {dir}/disk && exec \"$@\"";
    let words: &[&str] =
        if fault.wants_disk() { &["unshare", "--mount", "sh", "-c", disk, "sh"] } else { &[] };
    Setting { services, under: words.iter().map(|word| (*word).to_owned()).collect() }
}

fn services(
    programs: &Programs,
    fault: &Fault,
    mode: Mode,
    [victim, bystander, backend]: [SocketAddr; 3],
) -> String {
    let (program, mode) = (programs.fault.display(), mode.as_str());
    let days_ahead = match fault.strike {
        Strike::TimeLost(_) => "unshare --time --boottime 864000 --monotonic 864000 ",
        _ => "",
    };
    let files = if fault.wants_disk() { "disk" } else { "own" };
    let start = if fault.more.contains("start_timeout") { "" } else { "start_timeout = \"20s\"\n" };
    let tolerance = format!(
        "mode = \"{mode}\"\ninterval = \"1s\"\nsuccessor = \"beside\"\ndrain = \"2s\"\n\
         evidence = {{ budget = \"2s\" }}\n"
    );
    let mut text = format!(
        "[service.{VICTIM}]\ncommand = \"{days_ahead}{program} {} dir={{dir}}/{files}\"\n\
         sockets = [{{ name = \"http\", tcp = \"{victim}\" }}]\nready = \"notify\"\n\
         stop = [\"TERM 1s\"]\n{start}{}[service.{VICTIM}.tolerance]\n{tolerance}{}\n\
         [service.{BYSTANDER}]\ncommand = \"{program} none\"\n\
         sockets = [{{ name = \"http\", tcp = \"{bystander}\" }}]\nready = \"notify\"\n\
         [service.{BYSTANDER}.tolerance]\n{tolerance}\
         [service.{BYSTANDER}.detect.http]\nurl = \"http://{bystander}/\"\n",
        fault.program, fault.more, fault.detect,
    );
    if fault.strike == Strike::BackendHangs {
        // What waits for its answer is to be let go at once, and not when its connections end.
        let tolerance = tolerance.replace("drain = \"2s\"", "drain = \"0s\"");
        let _ = write!(
            text,
            "[service.{BACKEND}]\ncommand = \"{program} mute\"\n\
             sockets = [{{ name = \"http\", tcp = \"{backend}\" }}]\nready = \"notify\"\n\
             [service.{BACKEND}.tolerance]\n{tolerance}\
             [service.{BACKEND}.detect.http]\nurl = \"http://{backend}/\"\n\
             interval = \"200ms\"\ntimeout = \"400ms\"\nfailures = 5\n"
        );
    }
    text.replace("@PORT@", &victim.port().to_string())
        .replace("@BACKEND@", &backend.port().to_string())
}
