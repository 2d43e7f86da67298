//! Does the machine starve? Then slowness proves nothing about a service (H26).
//!
//! What is believed, and what is not: on a machine that is merely busy, something waits for a
//! processor nearly all the time (PSI `cpu some` near 100 %) and the load is high, while everything
//! still answers. So neither counts alone. What counts is that **our own looks come late**: they
//! need next to nothing, and get less. Only a load that no machine serves in time, while the
//! processors are short, counts without it. Memory and disk are different: a share of time in which
//! *all* work stands still (PSI `full`) is starvation by definition.
//! Invariant: starvation is noticed at once, and is over only after [`CALM`] without a sign.
//! Source: Documentation/accounting/psi.rst of the kernel; proc(5) on loadavg, meminfo, stat.

use super::HostSample;
use super::finding::Patience;
use super::words::{bytes, time};
use base::Now;
use std::time::Duration;

/// From where on something is a sign.
struct Limits {
    /// How late our own looks come.
    late: Duration,
    /// Load for each processor, in hundredths; only together with [`CPU_SOME`].
    load_percent: u64,
    /// PSI `memory full`, hundredths of a percent.
    memory_full: u32,
    /// PSI `io full`, hundredths of a percent.
    io_full: u32,
    /// Hundredths of all processor time that the hypervisor gave to others.
    stolen_percent: f64,
    /// Memory left, in hundredths of what the machine has: less than this is a sign.
    left_percent: f64,
}

/// The machine is short of something: slowness proves little.
const SHORT: Limits = Limits {
    late: Duration::from_millis(150),
    load_percent: 800,
    memory_full: 500,
    io_full: 5_000,
    stolen_percent: 20.0,
    left_percent: 2.0,
};

/// It starves: slowness proves nothing.
const STARVES: Limits = Limits {
    late: Duration::from_millis(700),
    load_percent: 1_600,
    memory_full: 2_000,
    io_full: 8_000,
    stolen_percent: 50.0,
    left_percent: 1.0,
};

/// PSI `cpu some`, hundredths of a percent: the processors are short.
const CPU_SOME: u32 = 8_000;

/// So long without a sign until it is over: longer than PSI's average needs to fall.
const CALM: Duration = Duration::from_secs(15);

/// Follows the machine.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Host {
    last: Option<(Now, HostSample)>,
    short: Option<Sign>,
    starves: Option<Sign>,
}

/// Why, and when it was seen last.
#[derive(Clone, PartialEq, Debug)]
struct Sign {
    seen: Now,
    why: String,
}

impl Host {
    pub(super) fn sample(&self) -> Option<&HostSample> {
        self.last.as_ref().map(|(_, sample)| sample)
    }

    pub(super) fn patience(&self) -> Patience {
        match (&self.short, &self.starves) {
            (_, Some(_)) => Patience::Endless,
            (Some(_), None) => Patience::Long,
            (None, None) => Patience::Normal,
        }
    }

    /// Why it starves.
    pub(super) fn starves(&self) -> Option<&str> {
        self.starves.as_ref().map(|sign| sign.why.as_str())
    }

    /// A look at the machine.
    pub(super) fn sampled(&mut self, now: Now, sample: HostSample) {
        self.late(now, sample.late);
        let stolen = self.stolen_percent(now, &sample);
        for (sign, limits) in [(&mut self.short, SHORT), (&mut self.starves, STARVES)] {
            if let Some(why) = worst(&sample, stolen, &limits) {
                *sign = Some(Sign { seen: now, why });
            }
        }
        self.last = Some((now, sample));
        self.calm(now);
    }

    /// Something of ours came late.
    pub(super) fn late(&mut self, now: Now, late: Duration) {
        for (sign, limits) in [(&mut self.short, SHORT), (&mut self.starves, STARVES)] {
            if limits.late <= late {
                let why = format!("our own looks come {} late", time(late));
                *sign = Some(Sign { seen: now, why });
            }
        }
    }

    /// Forgets signs that are old enough.
    pub(super) fn calm(&mut self, now: Now) {
        for sign in [&mut self.short, &mut self.starves] {
            if sign.as_ref().is_some_and(|sign| sign.seen + CALM <= now) {
                *sign = None;
            }
        }
    }

    /// When starvation is over, unless there is another sign.
    pub(super) fn wake(&self) -> Option<Now> {
        self.starves.as_ref().map(|sign| sign.seen + CALM)
    }

    fn stolen_percent(&self, now: Now, sample: &HostSample) -> f64 {
        let Some((at, before)) = &self.last else { return 0.0 };
        let there_was = now.since(*at).as_secs_f64() * f64::from(sample.cores.max(1));
        let stolen = sample.stolen.saturating_sub(before.stolen).as_secs_f64();
        if there_was <= 0.0 { 0.0 } else { 100.0 * stolen / there_was }
    }
}

/// The first sign beyond these limits.
fn worst(sample: &HostSample, stolen: f64, limits: &Limits) -> Option<String> {
    let pressure = sample.pressure.unwrap_or_default();
    let percent = |hundredths: u32| f64::from(hundredths) / 100.0;
    if limits.memory_full <= pressure.memory_full {
        let full = percent(pressure.memory_full);
        return Some(format!("everything waited for memory in {full:.0}% of the last 10s"));
    }
    if limits.io_full <= pressure.io_full {
        let full = percent(pressure.io_full);
        return Some(format!("everything waited for the disk in {full:.0}% of the last 10s"));
    }
    let load = u64::from(sample.load_percent) / u64::from(sample.cores.max(1));
    if limits.load_percent <= load && CPU_SOME <= pressure.cpu_some {
        let (some, load) = (percent(pressure.cpu_some), load as f64 / 100.0);
        return Some(format!(
            "the load is {load:.1} for each processor, and something waited for one in {some:.0}% \
             of the last 10s"
        ));
    }
    if limits.stolen_percent <= stolen {
        return Some(format!("{stolen:.0}% of the processors' time goes to other machines"));
    }
    let left = 100.0 * sample.memory_available as f64 / (sample.memory_total.max(1)) as f64;
    if 0 < sample.memory_total && left < limits.left_percent {
        let available = bytes(sample.memory_available as f64);
        return Some(format!("only {available} of memory is available, {left:.1}%"));
    }
    None
}
