//! `config check|show|defaults`.

use super::args::{ConfigCommand, Global};
use super::client::{Client, unexpected};
use super::failure::{Code, Failure};
use super::locate;
use super::output::{Output, Tone};
use control::{Reply, Request};
use serde_json::json;
use std::path::PathBuf;

/// `holdfast config …`.
pub(crate) fn run(
    output: &Output,
    global: &Global,
    command: ConfigCommand,
) -> Result<Code, Failure> {
    match command {
        ConfigCommand::Check { path } => check(output, global, path),
        ConfigCommand::Show { running: true } => {
            let mut client = Client::connect(&locate::control_socket(global)?)?;
            match client.ask(Request::ConfigShow)? {
                Reply::Config { toml } => print(output, &toml),
                other => Err(unexpected(&other)),
            }
        }
        ConfigCommand::Show { running: false } => {
            let loaded = locate::load(global);
            if let Some(config) = loaded.config {
                return print(output, &config::show(&config));
            }
            output.note(&loaded.diagnostics.render(false));
            Err(Failure::usage("the configuration has faults")
                .help("`holdfast config check` shows them alone"))
        }
        ConfigCommand::Defaults => print(output, &config::defaults()),
    }
}

fn print(output: &Output, toml: &str) -> Result<Code, Failure> {
    if output.json {
        output.json(&json!({ "toml": toml }))?;
    } else {
        output.raw(toml.as_bytes())?;
    }
    Ok(Code::Done)
}

fn check(output: &Output, global: &Global, path: Option<PathBuf>) -> Result<Code, Failure> {
    let path = path.unwrap_or_else(|| locate::configuration(global));
    let loaded = config::load(&path, &locate::context());
    let diagnostics = &loaded.diagnostics;
    if output.json {
        output.json(&diagnostics.to_json())?;
    } else if !diagnostics.is_empty() {
        output.page(&diagnostics.render(output.paint.is_colored()))?;
    }
    if diagnostics.has_errors() {
        return Ok(Code::No);
    }
    if !output.json {
        let services = loaded.config.map_or(0, |config| config.services.len());
        let noun = if services == 1 { "service" } else { "services" };
        let sign = output.paint.tone(Tone::Good, "✓");
        output.line(&format!("{sign} {} is fine: {services} {noun}", path.display()))?;
    }
    Ok(Code::Done)
}
