//! The same job under Holdfast, under supervisord with superlance, and under monit: twenty web
//! servers that are asked by HTTP and whose memory is watched; one of them hangs, another one leaks.
//!
//! Invariants: each is set as fast as it can be; what is measured is seen by the same client, which
//! asks until somebody else answers; the servers are the same program.

use super::Tools;
use crate::bench::process::{self, Handle, Use};
use crate::report::say;
use crate::tool;
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use trial::{At, ask, free_row, is_alive};

/// Servers.
const SERVERS: u16 = 20;

/// What the one that leaks may hold.
const LIMIT_MB: u32 = 100;

/// It takes this much a second.
const LEAK: u32 = 50_000_000;

/// The servers live for as long as this, at most.
const LIFETIME_S: u32 = 1_800;

/// Until all answer.
const READY_MAX: Duration = Duration::from_secs(40);

/// Until the one that is sick answers again.
const CURED_MAX: Duration = Duration::from_mins(1);

/// A client that waits for longer asks again.
const PATIENCE: Duration = Duration::from_millis(300);

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(10);

/// After a start, and after a cure.
const SETTLE: Duration = Duration::from_secs(6);

/// One way to do the job.
struct Rival {
    name: &'static str,
    /// Writes its configuration; the words of its command.
    prepare: fn(&Scene<'_>) -> Result<Vec<String>>,
}

/// Where it works.
struct Scene<'a> {
    tools: &'a Tools,
    python: &'a Path,
    folder: &'a Path,
    first: u16,
}

const RIVALS: &[Rival] = &[
    Rival { name: "holdfast", prepare: holdfast },
    Rival { name: "supervisord, httpok, memmon", prepare: |scene| supervisord(scene, "") },
    Rival {
        name: "the same, stopwaitsecs=1",
        prepare: |scene| supervisord(scene, "stopwaitsecs=1\n"),
    },
    Rival { name: "monit", prepare: monit },
];

#[derive(Default)]
struct Figures {
    cpu_share: f64,
    used: Use,
    /// From the hang to the end of the old process, and to the first answer of the new one.
    ended: Vec<Duration>,
    served: Vec<Duration>,
    /// From the beginning of the leak to the first answer of the new one.
    relieved: Vec<Duration>,
}

pub(super) fn measure(tools: &Tools) -> Result<String> {
    let python = tools.python.as_deref().context("there is no Python environment")?;
    let mut text = format!(
        "{SERVERS} web servers, each asked by HTTP and watched for more than {LIMIT_MB} MB of \
         memory, as often as each supervisor can; {} s at rest, {} rounds. A hang is SIGSTOP; the \
         leak takes {} MB a second, and so needs 2 s to its limit. Median (worst).\n\n\
         | supervisor | CPU at rest, of a core | RSS | own processes | hang to the end of the old \
         process | hang to served again | leak to served by a new process |\n|---|---|---|---|---|---|---|\n",
        tools.effort.rest_s,
        tools.effort.rounds,
        LEAK / 1_000_000,
    );
    for rival in RIVALS {
        let row = match figures(tools, python, rival) {
            Ok(it) => format!(
                "{:.3} % | {:.1} MiB | {} | {} | {} | {}",
                it.cpu_share * 100.0,
                it.used.rss_kib as f64 / 1024.0,
                it.used.processes,
                times(it.ended),
                times(it.served),
                times(it.relieved)
            ),
            Err(error) => format!("{error:#} | | | | | "),
        };
        let _ = writeln!(text, "| {} | {row} |", rival.name);
        say(text.lines().last().unwrap_or_default());
    }
    Ok(text)
}

fn times(mut times: Vec<Duration>) -> String {
    times.sort();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(worst)) => {
            format!("{:.2} s ({:.2})", median.as_secs_f64(), worst.as_secs_f64())
        }
        _ => "not seen".to_owned(),
    }
}

fn figures(tools: &Tools, python: &Path, rival: &Rival) -> Result<Figures> {
    let folder = tools.folder.join(rival.name.split([' ', ',']).next().unwrap_or("rival"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder)?;
    let first = free_row(SERVERS)?.port();
    let scene = Scene { tools, python, folder: &folder, first };
    let words = (rival.prepare)(&scene)?;
    let mut running = Running::start(&words, &scene)?;
    let outcome = running.measure(tools, first);
    let ended = running.end();
    outcome.and_then(|figures| ended.map(|()| figures))
}

/// A supervisor at work. Dropping it ends it and everything that it supervises.
struct Running {
    child: Child,
    fault: PathBuf,
    folder: PathBuf,
    ended: bool,
}

impl Running {
    fn start(words: &[String], scene: &Scene<'_>) -> Result<Self> {
        let log = fs::File::create(scene.folder.join("output.log"))?;
        let (program, arguments) = words.split_first().context("no words")?;
        let child = tool::command(program)
            .args(arguments)
            .current_dir(scene.folder)
            .env("PYTHONWARNINGS", "ignore")
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let (fault, folder) = (scene.tools.programs.fault.clone(), scene.folder.to_owned());
        Ok(Self { child, fault, folder, ended: false })
    }

    fn root(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    fn measure(&mut self, tools: &Tools, first: u16) -> Result<Figures> {
        for port in first..first + SERVERS {
            self.answer(port, None, READY_MAX)?;
        }
        std::thread::park_timeout(SETTLE);
        let own = process::own(self.root(), &self.fault)?;
        let (before, begun) = (process::used(&own), Instant::now());
        std::thread::park_timeout(Duration::from_secs(tools.effort.rest_s));
        let used = process::used(&own);
        let cpu = used.cpu_ns.saturating_sub(before.cpu_ns) as f64;
        let cpu_share = cpu / begun.elapsed().as_nanos() as f64;
        let mut figures = Figures { cpu_share, used, ..Figures::default() };
        for _ in 0..tools.effort.rounds {
            let (ended, served) = self.sick(first, Signal::STOP)?;
            figures.ended.extend(ended);
            figures.served.push(served);
            let (_, relieved) = self.sick(first + 1, Signal::USR1)?;
            figures.relieved.push(relieved);
        }
        Ok(figures)
    }

    /// Makes the one at a port sick; until its process had ended, and until another one answered.
    fn sick(&mut self, port: u16, signal: Signal) -> Result<(Option<Duration>, Duration)> {
        let old = self.answer(port, None, READY_MAX)?;
        let begun = At::now();
        trial::signal(old, signal);
        let mut ended = None;
        let deadline = Instant::now() + CURED_MAX;
        while Instant::now() < deadline {
            if ended.is_none() && !is_alive(old) {
                ended = Some(At::now().since(begun));
            }
            if ask(address(port), PATIENCE).is_ok_and(|by| by != old) {
                let served = At::now().since(begun);
                // Who looks once in a while is to have looked again before the next round; and a
                // successor may serve while the old process is still there.
                let settled = Instant::now() + SETTLE;
                while Instant::now() < settled {
                    if ended.is_none() && !is_alive(old) {
                        ended = Some(At::now().since(begun));
                    }
                    std::thread::park_timeout(PAUSE);
                }
                return Ok((ended, served));
            }
            std::thread::park_timeout(PAUSE);
        }
        bail!("not served again within {} s: {}", CURED_MAX.as_secs(), self.last_words())
    }

    /// Who answers at a port, other than `not`.
    fn answer(&mut self, port: u16, not: Option<u32>, most: Duration) -> Result<u32> {
        let deadline = Instant::now() + most;
        loop {
            match ask(address(port), PATIENCE) {
                Ok(by) if Some(by) != not => return Ok(by),
                Ok(_) | Err(_) if Instant::now() < deadline => std::thread::park_timeout(PAUSE),
                other => bail!("port {port} does not answer ({other:?}): {}", self.last_words()),
            }
        }
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.join("output.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" / ")
    }

    fn end(&mut self) -> Result<()> {
        self.ended = true;
        let own = process::own(self.root(), &self.fault)?;
        let own: Vec<Handle> = own.into_iter().filter_map(Handle::open).collect();
        Handle::open(self.root()).iter().for_each(process::ask);
        let mut deadline = Instant::now() + READY_MAX;
        while self.child.try_wait()?.is_none() && Instant::now() < deadline {
            std::thread::park_timeout(PAUSE);
        }
        deadline = Instant::now() + READY_MAX;
        while !process::end(&own, &self.fault)? {
            let _ = self.child.try_wait()?;
            if deadline < Instant::now() {
                bail!("processes of it cannot be killed");
            }
            std::thread::park_timeout(PAUSE);
        }
        self.child.wait()?;
        trial::remove_cgroups(&self.folder.join("state"));
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended
            && let Err(error) = self.end()
        {
            say(&format!("cannot clean up: {error:#}"));
        }
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The servers: a name, the port, and the words of the command.
fn servers(scene: &Scene<'_>) -> Vec<(String, u16, String)> {
    let program = scene.tools.programs.fault.display();
    let words = |number| match number {
        1 => format!("leak-memory rate={LEAK}"),
        _ => "none".to_owned(),
    };
    let server = |number: u16| {
        let port = scene.first + number;
        let command = format!("{program} {} life={LIFETIME_S}", words(number));
        (format!("s{number:02}"), port, command)
    };
    (0..SERVERS).map(server).collect()
}

fn holdfast(scene: &Scene<'_>) -> Result<Vec<String>> {
    let folder = scene.folder.display();
    let mut text = format!(
        "[daemon]\nstate_dir = \"{folder}/state\"\nrun_dir = \"{folder}/run\"\n\
         [console]\nlisten = \"off\"\n\
         [defaults]\nready = \"notify\"\nstop = [\"TERM 1s\"]\n\
         restart = {{ when = \"always\", budget = 1000 }}\n\
         tolerance = {{ mode = \"enforce\", interval = \"1s\", successor = \"beside\", drain = \"1s\", \
         evidence = {{ budget = \"500ms\" }} }}\n"
    );
    for (name, port, command) in servers(scene) {
        let _ = write!(
            text,
            "[service.{name}]\ncommand = \"{command}\"\n\
             sockets = [{{ tcp = \"127.0.0.1:{port}\" }}]\n[service.{name}.detect]\n\
             http = {{ url = \"http://127.0.0.1:{port}/\", interval = \"500ms\", timeout = \"500ms\", \
             failures = 2 }}\nmemory = {{ limit = \"{LIMIT_MB}MB\" }}\n"
        );
    }
    let path = scene.folder.join("holdfast.toml");
    fs::write(&path, text)?;
    let program = scene.tools.programs.holdfast.display().to_string();
    Ok(vec![program, "run".to_owned(), "--config".to_owned(), path.display().to_string()])
}

fn supervisord(scene: &Scene<'_>, more: &str) -> Result<Vec<String>> {
    let (folder, bin) = (scene.folder.display(), scene.python.display());
    let mut text = format!(
        "[supervisord]\nnodaemon=true\nuser=root\nlogfile={folder}/own.log\n\
         pidfile={folder}/own.pid\nchildlogdir={folder}\n\
         [unix_http_server]\nfile={folder}/sock\n\
         [rpcinterface:supervisor]\n\
         supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
    );
    let mut limits = String::new();
    for (name, port, command) in servers(scene) {
        let _ = write!(
            text,
            "[program:{name}]\ncommand={command} port={port}\nautorestart=true\n{more}\
             [eventlistener:ok_{name}]\n\
             command={bin}/httpok -p {name} -t 1 http://127.0.0.1:{port}/\nevents=TICK_5\n"
        );
        let _ = write!(limits, " -p {name}={LIMIT_MB}MB");
    }
    let _ = write!(text, "[eventlistener:memmon]\ncommand={bin}/memmon{limits}\nevents=TICK_5\n");
    let path = scene.folder.join("supervisord.conf");
    fs::write(&path, text)?;
    let program = format!("{bin}/supervisord");
    Ok(vec![program, "-c".to_owned(), path.display().to_string()])
}

fn monit(scene: &Scene<'_>) -> Result<Vec<String>> {
    let folder = scene.folder.display();
    let mut text = format!(
        "set daemon 1\nset log {folder}/own.log\nset pidfile {folder}/own.pid\n\
         set idfile {folder}/own.id\nset statefile {folder}/own.state\n"
    );
    for (name, port, command) in servers(scene) {
        let pid = format!("{folder}/{name}.pid");
        // It needs programs that go to the background, and a command that stops them.
        let _ = write!(
            text,
            "check process {name} with pidfile {pid}\n  \
             start program = \"/bin/sh -c '{command} port={port} >/dev/null 2>&1 & echo $! > {pid}'\"\n  \
             stop program = \"/bin/sh -c 'kill -KILL `cat {pid}`'\"\n  \
             if failed host 127.0.0.1 port {port} protocol http with timeout 1 seconds then restart\n  \
             if totalmem > {LIMIT_MB} MB then restart\n"
        );
    }
    let path = scene.folder.join("monitrc");
    fs::write(&path, text)?;
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(["monit", "-I", "-c"]
        .map(str::to_owned)
        .into_iter()
        .chain([path.display().to_string()])
        .collect())
}
