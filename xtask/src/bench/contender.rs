//! The supervisors that are compared, and how each is told to keep N idle processes alive.
//!
//! Invariants: each gets the same program and is set so that a dead process is started again at
//! once, as fast as that supervisor can; nothing else of its defaults is changed without a reason
//! beside it. No contender is made to start a shell for each service.

use super::idle::Idle;
use crate::tool;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A supervisor under test.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// Whose presence shows that it is installed; `None` for the one that is built here.
    pub(crate) program: Option<&'static str>,
    /// The Debian package that it comes from.
    pub(crate) package: &'static str,
    /// Writes the configuration into a fresh folder; returns the words of the command that runs
    /// the supervisor in the foreground.
    pub(crate) prepare: fn(&Scene<'_>) -> Result<Vec<OsString>>,
}

/// Where a contender works, and on what.
pub(crate) struct Scene<'a> {
    /// A fresh folder of its own.
    pub(crate) folder: &'a Path,
    pub(crate) idle: &'a Idle,
    pub(crate) fifo: &'a Path,
    pub(crate) processes: usize,
    /// The program of ours.
    pub(crate) holdfast: &'a Path,
}

pub(crate) fn all() -> Vec<Contender> {
    vec![
        Contender { name: "holdfast", program: None, package: "", prepare: holdfast_services },
        Contender {
            name: "holdfast-instances",
            program: None,
            package: "",
            prepare: holdfast_instances,
        },
        Contender {
            name: "supervisord",
            program: Some("supervisord"),
            package: "supervisor",
            prepare: supervisord,
        },
        Contender { name: "monit", program: Some("monit"), package: "monit", prepare: monit },
        Contender { name: "runit", program: Some("runsvdir"), package: "runit", prepare: runit },
        Contender { name: "s6", program: Some("s6-svscan"), package: "s6", prepare: s6 },
    ]
}

impl Contender {
    /// Its version, or why it cannot take part.
    pub(crate) fn version(&self, holdfast: &Path) -> Result<String, String> {
        let Some(program) = self.program else {
            let version = tool::output(tool::command(holdfast).arg("--version"));
            let number = |text: String| text.split_whitespace().last().unwrap_or("?").to_owned();
            return version.map(number).map_err(|error| format!("{error:#}"));
        };
        if tool::find(program).is_none() {
            return Err(format!("not installed (Debian package `{}`)", self.package));
        }
        let asked = tool::output(tool::command("dpkg-query").args([
            "-W",
            "-f",
            "${Version}",
            self.package,
        ]));
        Ok(asked.map_or_else(|_| "version unknown".to_owned(), |text| text.trim().to_owned()))
    }
}

/// No pause, and a budget that these rounds cannot use up.
const RESTART: &str =
    "restart = { when = \"always\", delay = \"0s\", budget = 1000000, within = \"60s\" }";

fn holdfast_services(scene: &Scene<'_>) -> Result<Vec<OsString>> {
    let mut services = String::new();
    for index in 0..scene.processes {
        service(&mut services, &format!("s{index:04}"), scene, "")?;
    }
    holdfast(scene, &services)
}

fn holdfast_instances(scene: &Scene<'_>) -> Result<Vec<OsString>> {
    let mut services = String::new();
    service(&mut services, "s", scene, &format!("instances = {}\n", scene.processes))?;
    holdfast(scene, &services)
}

fn service(out: &mut String, name: &str, scene: &Scene<'_>, more: &str) -> Result<()> {
    let program = quoted(scene.idle.program());
    let fifo = quoted(scene.fifo);
    Ok(writeln!(out, "[service.{name}]\ncommand = [{program}, {fifo}]\n{more}{RESTART}\n")?)
}

fn holdfast(scene: &Scene<'_>, services: &str) -> Result<Vec<OsString>> {
    // A port that nobody listens on: the console is on, as it is by default.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let state = scene.folder.join("state");
    let run = scene.folder.join("run");
    for folder in [&state, &run] {
        fs::create_dir(folder)?;
    }
    let text = format!(
        "[daemon]\nstate_dir = {}\nrun_dir = {}\n\n[console]\nlisten = \"127.0.0.1:{port}\"\n\n\
         {services}",
        quoted(&state),
        quoted(&run)
    );
    let path = scene.folder.join("holdfast.toml");
    write(&path, &text, 0o600)?;
    Ok(vec![scene.holdfast.into(), "run".into(), "--config".into(), path.into()])
}

fn supervisord(scene: &Scene<'_>) -> Result<Vec<OsString>> {
    let folder = scene.folder.display();
    // It wants two pipes for each program, and refuses to start below `minfds` descriptors.
    let mut text = format!(
        "[supervisord]\nnodaemon=true\nuser=root\nlogfile={folder}/own.log\n\
         pidfile={folder}/own.pid\nchildlogdir={folder}\nminfds=8192\n\n"
    );
    let program = scene.idle.program().display();
    let fifo = scene.fifo.display();
    for index in 0..scene.processes {
        writeln!(text, "[program:s{index:04}]\ncommand={program} {fifo}\nautorestart=true\n")?;
    }
    let path = scene.folder.join("supervisord.conf");
    write(&path, &text, 0o600)?;
    Ok(vec!["supervisord".into(), "-c".into(), path.into()])
}

fn monit(scene: &Scene<'_>) -> Result<Vec<OsString>> {
    let folder = scene.folder.display();
    // One second is the shortest cycle it knows; it looks at pid files once a cycle.
    let mut text = format!(
        "set daemon 1\nset log {folder}/own.log\nset pidfile {folder}/own.pid\n\
         set idfile {folder}/own.id\nset statefile {folder}/own.state\n\n"
    );
    let program = scene.idle.program().display();
    let fifo = scene.fifo.display();
    for index in 0..scene.processes {
        let pidfile = format!("{folder}/s{index:04}.pid");
        writeln!(
            text,
            "check process s{index:04} with pidfile {pidfile}\n  \
             start program = \"{program} {fifo} --pidfile {pidfile}\"\n  \
             stop program = \"/bin/true\"\n"
        )?;
    }
    let path = scene.folder.join("monitrc");
    write(&path, &text, 0o600)?;
    Ok(vec!["monit".into(), "-I".into(), "-c".into(), path.into()])
}

fn runit(scene: &Scene<'_>) -> Result<Vec<OsString>> {
    let services = service_folders(scene)?;
    Ok(vec!["runsvdir".into(), services])
}

fn s6(scene: &Scene<'_>) -> Result<Vec<OsString>> {
    let services = service_folders(scene)?;
    // Its default limit is 500 services.
    let limit = (scene.processes + 1).to_string();
    Ok(vec!["s6-svscan".into(), "-c".into(), limit.into(), services])
}

/// A folder of service folders, as runit and s6 have them.
fn service_folders(scene: &Scene<'_>) -> Result<OsString> {
    let services = scene.folder.join("services");
    // The kernel runs the program by this line; a shell in between would cost them a second exec.
    let script = format!("#!{} {}\n", scene.idle.program().display(), scene.fifo.display());
    for index in 0..scene.processes {
        let service = services.join(format!("s{index:04}"));
        fs::create_dir_all(&service)?;
        write(&service.join("run"), &script, 0o755)?;
    }
    Ok(services.into())
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(())
}
