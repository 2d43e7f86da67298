//! `mode`: how much is done about sick services, set at run time (H1, H12).

use super::args::{ModeArg, ModeArgs};
use super::client::{Client, unexpected};
use super::failure::{Code, Failure};
use super::output::Output;
use super::text;
use control::{Reply, Request};

/// `holdfast mode NAME… MODE`.
pub(crate) fn run(output: &Output, client: &mut Client, args: ModeArgs) -> Result<Code, Failure> {
    let mode = match args.mode {
        ModeArg::Off => Some("off"),
        ModeArg::Observe => Some("observe"),
        ModeArg::Enforce => Some("enforce"),
        ModeArg::Default => None,
    };
    let request = Request::Mode { targets: args.names, mode: mode.map(str::to_owned) };
    let (message, instances) = match client.ask(request)? {
        Reply::Done { message, instances } => (message, instances),
        other => return Err(unexpected(&other)),
    };
    if output.json {
        output.json(&serde_json::json!({ "message": message, "instances": instances }))?;
    } else {
        output.line(&text::clean(&message))?;
    }
    Ok(Code::Done)
}
