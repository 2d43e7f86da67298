//! A leak of 1 MiB a minute, in real time: how long before its limit is it foretold (H3)?
//!
//! Takes more than an hour: a prediction is worth what was really waited for, and a trend looks no
//! further ahead than a quarter of the span over which it saw steady growth, here two windows. With
//! `--quick` everything is ten times as fast, and the text says so.
//! Invariant: it fails if it was foretold less than ten minutes ahead.

use super::Tools;
use crate::report::say;
use anyhow::{Context, Result, bail};
use control::EventRecord;
use rustix::process::Signal;
use std::time::Duration;
use trial::{At, House, Setting, ask, free_row};

/// A MiB a minute, in bytes a second.
const RATE: u32 = 17_476;

/// It is reached sixteen minutes after two windows.
const LIMIT_MIB: u32 = 76;

/// How the trend is looked at, in seconds: as the documentation has it.
const WINDOW_S: u32 = 30 * 60;
const AHEAD_S: u32 = 20 * 60;

/// What is promised.
const AHEAD_MIN: f64 = 10.0;

/// Longer than it takes to the limit.
const MOST: Duration = Duration::from_mins(90);

pub(super) fn measure(tools: &Tools) -> Result<String> {
    let address = free_row(1)?;
    let fast = tools.effort.leak_speed;
    let (window, ahead) = (WINDOW_S / fast, AHEAD_S / fast);
    let detect = format!("window = \"{window}s\", ahead = \"{ahead}s\"");
    let services = format!(
        "[service.web]\ncommand = \"{} leak-memory rate={} life=7200\"\n\
         sockets = [{{ tcp = \"{address}\" }}]\nready = \"notify\"\n\
         tolerance = {{ mode = \"enforce\", successor = \"beside\" }}\n\
         detect.memory = {{ limit = \"{LIMIT_MIB}MiB\", trend = {{ {detect} }} }}\n",
        tools.programs.fault.display(),
        RATE * fast
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
    let after = At::of(&sick).since(begun).as_secs_f64() / 60.0;
    let used = sick.data.get("used_bytes").and_then(serde_json::Value::as_f64);
    let used = used.context("the verdict does not tell how much it used")? / (1024.0 * 1024.0);
    // The leak goes on as it did: what is left, at a MiB a minute.
    let left = (f64::from(LIMIT_MIB) - used) / f64::from(fast);
    house.wait_event(begun, MOST, |it| it.kind == "service.replaced")?.context("not replaced")?;
    let text = format!(
        "A leak of {fast} MiB a minute, limit {LIMIT_MIB} MiB, `trend = {{ {detect} }}`: after \
         {after:.1} min, {left:.1} min before the limit, it was said: “{}”; and it was replaced \
         without its socket being closed.\n",
        sick.message
    );
    if left * f64::from(fast) < AHEAD_MIN {
        bail!("it was foretold too late: {text}");
    }
    say(&text);
    house.stop()?;
    Ok(text)
}
