//! `logs`: the output of a service, the last lines and new ones.
//!
//! Read from the files themselves where we may, because they are there whoever else is down; else
//! from the console's API.

use super::args::{Global, LogsArgs};
use super::client::Client;
use super::failure::{Code, Failure};
use super::http::{Api, Next, encode};
use super::output::{Output, Tone};
use super::pause::pause;
use super::{locate, text};
use journal::logfile::{self, Follow};
use serde::Deserialize;
use serde_json::json;
use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

/// Pause between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Lines of one instance before the others get their turn.
const LINES_PER_TURN: usize = 500;

/// The log of one instance.
#[derive(Debug)]
struct Source {
    instance: String,
    path: PathBuf,
    /// Printed before each line, where there are several.
    lead: String,
}

#[derive(Deserialize)]
struct Lines {
    lines: Vec<String>,
}

/// `holdfast logs SERVICE`.
pub(crate) fn run(output: &Output, global: &Global, args: &LogsArgs) -> Result<Code, Failure> {
    let sources = sources(output, global, &args.name)?;
    let denied = |source: &&Source| {
        File::open(&source.path).is_err_and(|why| why.kind() == ErrorKind::PermissionDenied)
    };
    match sources.iter().find(denied) {
        None => from_files(output, args, &sources)?,
        Some(_) => from_api(output, global, args, &sources)?,
    }
    Ok(Code::Done)
}

/// The instances meant, and where their output is.
fn sources(output: &Output, global: &Global, name: &str) -> Result<Vec<Source>, Failure> {
    let status = Client::connect(&locate::control_socket(global)?).and_then(|mut c| c.status());
    let found: Vec<(String, PathBuf)> = match status {
        Ok(snapshot) => {
            let service = snapshot.services.iter().find(|service| service.name == name);
            let all = snapshot.services.iter().flat_map(|service| &service.instances);
            let meant: Vec<_> = match service {
                Some(service) => service.instances.iter().collect(),
                None => all.filter(|instance| instance.name == name).collect(),
            };
            meant.iter().map(|i| (i.name.clone(), PathBuf::from(&i.log))).collect()
        }
        Err(failure) => {
            // A name with a slash would lead out of the directory.
            name.parse::<base::InstanceId>().map_err(Failure::usage)?;
            let path = locate::state_dir(global)?.join(format!("logs/{name}.log"));
            if !path.exists() {
                return Err(failure);
            }
            output.note(&format!("{}; reading the file", failure.message));
            vec![(name.to_owned(), path)]
        }
    };
    if found.is_empty() {
        return Err(Failure::no(format!("there is no service or instance called `{name}`"))
            .help("`holdfast status` lists them all"));
    }
    let several = 1 < found.len();
    let widest = found.iter().map(|(name, _)| text::width(name)).max().unwrap_or(0);
    let lead = |name: &str| {
        let lead = format!("{} │ ", text::fit(name, widest));
        if several { output.paint.tone(Tone::Accent, &lead) } else { String::new() }
    };
    let sources = found.into_iter();
    Ok(sources.map(|(name, path)| Source { lead: lead(&name), instance: name, path }).collect())
}

fn from_files(output: &Output, args: &LogsArgs, sources: &[Source]) -> Result<(), Failure> {
    let mut follows: Vec<(&Source, Follow)> = Vec::new();
    for source in sources {
        let cannot =
            |why| Failure::cannot_tell(format!("cannot read {}: {why}", source.path.display()));
        let read = logfile::tail_and_follow(&source.path, args.lines as usize);
        let (lines, follow) = read.map_err(cannot)?;
        show(output, source, &lines)?;
        follows.push((source, follow));
    }
    if !args.follow {
        return Ok(());
    }
    loop {
        let mut is_quiet = true;
        for (source, follow) in &mut follows {
            let lines = follow.poll(LINES_PER_TURN).map_err(|why| {
                Failure::cannot_tell(format!("cannot read {}: {why}", source.path.display()))
            })?;
            is_quiet &= lines.is_empty();
            show(output, source, &lines)?;
        }
        if is_quiet {
            pause(LOOK_EVERY);
        }
    }
}

fn from_api(
    output: &Output,
    global: &Global,
    args: &LogsArgs,
    sources: &[Source],
) -> Result<(), Failure> {
    let api = Api::beside(&locate::control_socket(global)?);
    let parse = |text: &[u8]| {
        serde_json::from_slice::<Lines>(text).map_err(|why| {
            Failure::cannot_tell(format!("the console's answer can't be read: {why}"))
        })
    };
    if let (true, [source]) = (args.follow, sources) {
        let instance = encode(&source.instance);
        let path = format!("/api/v1/logs/{instance}/stream?lines={}", args.lines);
        return api.stream(&path, None, |pushed| {
            show(output, source, &parse(pushed.data.as_bytes())?.lines)?;
            Ok(Next::More)
        });
    }
    if args.follow {
        return Err(Failure::usage(
            "the log files may not be read from here, so only one at a time can be followed",
        )
        .help("name one instance, such as `web:0`"));
    }
    for source in sources {
        let path = format!("/api/v1/logs/{}?lines={}", encode(&source.instance), args.lines);
        show(output, source, &parse(&api.get(&path)?)?.lines)?;
    }
    Ok(())
}

fn show(output: &Output, source: &Source, lines: &[String]) -> Result<(), Failure> {
    for line in lines {
        if output.json {
            output.json_line(&json!({ "instance": source.instance, "line": line }))?;
        } else {
            output.foreign(&source.lead, line)?;
        }
    }
    Ok(())
}
