//! `stop`, `reload` and `upgrade`: commands to the daemon itself.

use super::args::{StopArgs, UpgradeArgs};
use super::client::{Client, unexpected};
use super::failure::{Code, Failure};
use super::output::Output;
use super::pause::pause;
use super::text;
use control::{Reply, Request};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a replaced daemon may take to answer again: it adopts within a second (D2).
const UPGRADE_MAX: Duration = Duration::from_secs(15);

/// Pause between two looks whether the daemon is there.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// `holdfast reload`.
pub(crate) fn reload(output: &Output, client: &mut Client) -> Result<Code, Failure> {
    let message = ask(client, Request::Reload)?;
    done(output, &message)
}

/// `holdfast stop`.
pub(crate) fn stop(output: &Output, client: &mut Client, args: &StopArgs) -> Result<Code, Failure> {
    let asked = Instant::now();
    let pid = client.status().ok().map(|snapshot| snapshot.pid);
    let message = ask(client, Request::Stop { keep_services: args.keep_services })?;
    if args.no_wait {
        return done(output, &message);
    }
    if !output.json {
        output.note(&text::clean(&message));
    }
    // The daemon closes the connection by ending; nothing else is said on it.
    let deadline = asked + args.timeout;
    loop {
        match client.receive(deadline) {
            Err(_) => break,
            Ok(Some(_)) => {}
            Ok(None) => {
                let waited = base::format_duration(args.timeout);
                return Err(Failure::no(format!("holdfast has not ended within {waited}"))
                    .help("`holdfast status` shows what it waits for"));
            }
        }
    }
    let who = pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
    done(output, &format!("holdfast{who} has ended after {}", text::took(asked.elapsed())))
}

/// `holdfast upgrade`.
pub(crate) fn upgrade(output: &Output, socket: &Path, args: &UpgradeArgs) -> Result<Code, Failure> {
    let binary = args.binary.as_deref().map(absolute).transpose()?;
    let mut client = Client::connect(socket)?;
    let before = client.status()?;
    let asked = Instant::now();
    let message = ask(&mut client, Request::Upgrade { binary })?;
    if !output.json {
        output.note(&text::clean(&message));
    }
    while asked.elapsed() < UPGRADE_MAX {
        let after = Client::connect(socket).and_then(|mut client| client.status());
        match after {
            Ok(after) if after.started_us != before.started_us => {
                return done(
                    output,
                    &format!(
                        "holdfast {} has become {} (pid {}) after {}",
                        before.version,
                        after.version,
                        after.pid,
                        text::took(asked.elapsed())
                    ),
                );
            }
            _ => pause(LOOK_EVERY),
        }
    }
    Err(Failure::cannot_tell("the new daemon does not answer")
        .help("see its own log; the services still run, and a new `holdfast run` adopts them"))
}

fn absolute(path: &Path) -> Result<String, Failure> {
    let path = path
        .canonicalize()
        .map_err(|why| Failure::usage(format!("cannot read {}: {why}", path.display())))?;
    path.into_os_string()
        .into_string()
        .map_err(|path| Failure::usage(format!("the path {} is not UTF-8", path.display())))
}

fn ask(client: &mut Client, request: Request) -> Result<String, Failure> {
    match client.ask(request)? {
        Reply::Done { message, .. } => Ok(message),
        other => Err(unexpected(&other)),
    }
}

fn done(output: &Output, message: &str) -> Result<Code, Failure> {
    if output.json {
        output.json(&serde_json::json!({ "message": message }))?;
    } else {
        output.line(&text::clean(message))?;
    }
    Ok(Code::Done)
}
