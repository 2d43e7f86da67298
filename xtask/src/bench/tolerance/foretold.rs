//! A leak of 1 MiB a minute, in real time: how long before its limit is it foretold (H3)?
//!
//! Takes half an hour: a prediction is worth what was really waited for.

use super::Tools;
use crate::report::say;
use anyhow::{Context, Result};
use control::EventRecord;
use rustix::process::Signal;
use std::time::Duration;
use trial::{At, House, Setting, ask, free_row};

/// A MiB a minute.
const RATE: u32 = 17_476;

/// It is reached after three quarters of an hour.
const LIMIT_MIB: u32 = 46;

/// Looks at it.
const DETECT: &str = "window = \"15m\", ahead = \"12m\"";

/// Longer than it takes to the limit.
const MOST: Duration = Duration::from_mins(50);

pub(super) fn measure(tools: &Tools) -> Result<String> {
    let address = free_row(1)?;
    let services = format!(
        "[service.web]\ncommand = \"{} leak-memory rate={RATE} life=3600\"\n\
         sockets = [{{ tcp = \"{address}\" }}]\nready = \"notify\"\n\
         tolerance = {{ mode = \"enforce\", successor = \"beside\" }}\n\
         detect.memory = {{ limit = \"{LIMIT_MIB}MiB\", trend = {{ {DETECT} }} }}\n",
        tools.programs.fault.display()
    );
    let setting = Setting { services, ..Setting::default() };
    let mut house = House::start(&tools.programs.holdfast, &setting)?;
    house.wait_for("it answers", Duration::from_secs(20), |_| {
        Ok(ask(address, Duration::from_secs(1)).is_ok())
    })?;
    let old = ask(address, Duration::from_secs(1)).map_err(anyhow::Error::msg)?;
    let begun = At::now();
    trial::signal(old, Signal::USR1);
    let sick = house.wait_event(begun, MOST, |it: &EventRecord| it.kind == "service.sick")?;
    let sick = sick.context("it was not foretold")?;
    let after = At::of(&sick).since(begun);
    let used = sick.data.get("used_bytes").and_then(serde_json::Value::as_f64).unwrap_or_default();
    let left = (f64::from(LIMIT_MIB) - used / (1024.0 * 1024.0)).max(0.0);
    house.wait_event(begun, MOST, |it| it.kind == "service.replaced")?.context("not replaced")?;
    let text = format!(
        "A leak of 1 MiB a minute, limit {LIMIT_MIB} MiB, `trend = {{ {DETECT} }}`: after {:.1} min, \
         {left:.1} min before the limit, it was said: “{}”; and it was replaced without its socket \
         being closed.\n",
        after.as_secs_f64() / 60.0,
        sick.message
    );
    say(&text);
    house.stop()?;
    Ok(text)
}
