//! The demo: a throw-away daemon, real services, faults on a schedule, and a table of recoveries.
//!
//! It needs no root, no configuration and no network, and leaves nothing behind: no process, no
//! directory, whether it ends by itself, by Ctrl-C or by an error. It drives the daemon as any
//! operator would, through the control socket; nothing in the daemon knows of it.

pub(crate) mod app;
mod cleanup;
mod faults;
mod flood;
mod interrupt;
mod narrator;
mod settings;
mod sick;
mod visitor;
mod world;

use crate::cli::args::DemoArgs;
use crate::cli::failure::{Code, Failure};
use crate::cli::output::Output;
use base::Rng;
use faults::{Fault, Recovery};
use interrupt::Interrupt;
use narrator::Narrator;
use std::fmt;
use std::time::{Duration, Instant};
use world::World;

/// Pause between two faults, so that a person can follow.
const PAUSE: Duration = Duration::from_millis(3_500);

/// The same with `--for`, where a whole round has to fit.
const PAUSE_SHORT: Duration = Duration::from_millis(1_200);

/// With less time than this left, `--for` begins no further fault.
const FAULT_TAKES_MAX: Duration = Duration::from_secs(5);

/// Why the demo does not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Somebody pressed Ctrl-C.
    Interrupted,
    /// Something does not work; the sentence says what.
    Broken(String),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Broken(failure.message)
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => f.write_str("interrupted"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

/// `holdfast demo`.
pub(crate) fn run(output: &Output, args: &DemoArgs) -> Result<Code, Failure> {
    let interrupt = Interrupt::listen()
        .map_err(|why| Failure::no(format!("cannot listen for signals: {why}")))?;
    let narrator = Narrator::new(output);
    let mut world = World::create(interrupt, args.keep)?;
    let mut recoveries = Vec::new();
    let ended = story(&mut world, &narrator, args, &mut recoveries);
    // Whatever happened, the world is taken down before anything else is said or returned.
    let left = world.clean_up(&narrator);
    if !recoveries.is_empty() {
        narrator.table(&recoveries, world.visitor_totals());
    }
    left?;
    match ended {
        Ok(()) | Err(Stop::Interrupted) => Ok(verdict(&recoveries)),
        Err(Stop::Broken(why)) => Err(Failure::no(why)),
    }
}

fn verdict(recoveries: &[Recovery]) -> Code {
    if recoveries.iter().all(Recovery::is_good) { Code::Done } else { Code::No }
}

/// Starts everything, then one fault after the other, until the time is over.
fn story(
    world: &mut World,
    narrator: &Narrator<'_>,
    args: &DemoArgs,
    recoveries: &mut Vec<Recovery>,
) -> Result<(), Stop> {
    let begun = Instant::now();
    world.start_daemon(narrator)?;
    let started = world.wait_until_all_ready()?;
    narrator.introduce(world, started);
    let mut rng = Rng::new(args.seed);
    let mut order = Fault::ALL.to_vec();
    for round in 0.. {
        for fault in &order {
            world.pause(if args.run_for.is_some() { PAUSE_SHORT } else { PAUSE })?;
            let left = args.run_for.map(|whole| whole.saturating_sub(begun.elapsed()));
            if 0 < round && left.is_some_and(|left| left < FAULT_TAKES_MAX) {
                return Ok(());
            }
            narrator.fault(*fault);
            let recovery = faults::carry_out(*fault, world, narrator)?;
            narrator.recovery(&recovery);
            recoveries.push(recovery);
        }
        shuffle(&mut order, &mut rng);
    }
    Ok(())
}

fn shuffle(order: &mut [Fault], rng: &mut Rng) {
    for last in (1..order.len()).rev() {
        let other = rng.below(last as u64 + 1) as usize;
        order.swap(last, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_order_with_every_fault_once() {
        let draw = |seed| {
            let mut order = Fault::ALL.to_vec();
            shuffle(&mut order, &mut Rng::new(seed));
            order
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), Fault::ALL.to_vec());
        for fault in Fault::ALL {
            assert_eq!(draw(7).iter().filter(|f| **f == fault).count(), 1);
        }
    }
}
