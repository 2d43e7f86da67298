//! `rlimits` (per process, setrlimit(2)) and `limits` (per service, control groups).

use crate::diagnostic::{Fault, Faults, quoted};
use crate::suggest::did_you_mean;
use crate::table::{Node, Table, entries_of};
use crate::value::{integer, number, size, table, wrong_type};
use base::{ByteSize, parse_duration};
use std::collections::BTreeMap;
use supervisor::{CgroupLimits, Resource, RlimitPair};

/// What the numbers of a resource count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    Bytes,
    Seconds,
    Micros,
    Count,
}

/// The resources of setrlimit(2), by the names that configurations use.
pub(crate) const RESOURCES: [(&str, Resource, Unit); 14] = [
    ("as", Resource::As, Unit::Bytes),
    ("core", Resource::Core, Unit::Bytes),
    ("cpu", Resource::Cpu, Unit::Seconds),
    ("data", Resource::Data, Unit::Bytes),
    ("fsize", Resource::Fsize, Unit::Bytes),
    ("memlock", Resource::Memlock, Unit::Bytes),
    ("msgqueue", Resource::Msgqueue, Unit::Bytes),
    ("nice", Resource::Nice, Unit::Count),
    ("nofile", Resource::Nofile, Unit::Count),
    ("nproc", Resource::Nproc, Unit::Count),
    ("rtprio", Resource::Rtprio, Unit::Count),
    ("rttime", Resource::Rttime, Unit::Micros),
    ("sigpending", Resource::Sigpending, Unit::Count),
    ("stack", Resource::Stack, Unit::Bytes),
];

/// A smaller group can't even start a program: the kernel counts page tables and stacks too.
const MEMORY_MIN: ByteSize = ByteSize::mib(1);

/// 2^63 is what the kernel takes as "no limit" in a control group.
const MEMORY_MAX: ByteSize = ByteSize(1 << 62);

/// Ten thousand cores.
const CPU_PERCENT_MAX: u64 = 1_000_000;

/// The kernel's own limit (PID_MAX_LIMIT).
const PIDS_MAX: u32 = 4_194_304;

/// Reads `rlimits`.
pub(crate) fn rlimits(
    node: Node<'_>,
    faults: &mut Faults<'_>,
) -> Option<BTreeMap<Resource, RlimitPair>> {
    let Some(table) = node.value.as_table() else {
        wrong_type(node, "a table", "`rlimits = { nofile = 4096 }`", faults);
        return None;
    };
    let mut limits = BTreeMap::new();
    let mut whole = true;
    for (name, entry) in entries_of(node.spot.file, table) {
        let Some((_, resource, unit)) = RESOURCES.iter().find(|(known, ..)| *known == name) else {
            let names = || RESOURCES.iter().map(|(known, ..)| *known);
            let bare = name.to_ascii_lowercase();
            let bare = bare.strip_prefix("rlimit_").unwrap_or(&bare);
            let help = did_you_mean(bare, names())
                .unwrap_or_else(|| format!("known: {}", names().collect::<Vec<_>>().join(", ")));
            faults.push(
                Fault::error("unknown-rlimit", format!("{} is no resource limit", quoted(name)))
                    .at(entry.key, "unknown resource")
                    .help(help),
            );
            whole = false;
            continue;
        };
        match pair(entry.node, *unit, faults) {
            Some(pair) => _ = limits.insert(*resource, pair),
            None => whole = false,
        }
    }
    whole.then_some(limits)
}

fn pair(node: Node<'_>, unit: Unit, faults: &mut Faults<'_>) -> Option<RlimitPair> {
    if node.value.as_table().is_none() {
        let both = amount(node, unit, faults)?.limit();
        return Some(RlimitPair { soft: both, hard: both });
    }
    let example = "`nofile = { soft = 1024, hard = 4096 }`";
    let mut pair = table(node, format!("`{}`", node.name), example, faults)?;
    let soft = pair.read_option("soft", faults, |node, faults| amount(node, unit, faults));
    let hard = pair.read_option("hard", faults, |node, faults| amount(node, unit, faults));
    pair.finish(faults);
    for (key, there) in [("soft", soft.is_some()), ("hard", hard.is_some())] {
        if !there && pair.sound(&[key]) {
            faults.push(
                Fault::error("missing-key", format!("`{}` has no `{key}` limit", node.name))
                    .at(node.spot, format!("needs a `{key}` limit"))
                    .help(format!("write {example}, or one value for both")),
            );
        }
    }
    let (soft, hard) = (soft?.limit(), hard?.limit());
    if soft.unwrap_or(u64::MAX) <= hard.unwrap_or(u64::MAX) {
        return Some(RlimitPair { soft, hard });
    }
    faults.push(
        Fault::error(
            "soft-over-hard",
            format!("`{}` has a soft limit over its hard one", node.name),
        )
        .at(pair.value_spot("soft"), "more than the hard limit")
        .also(pair.value_spot("hard"), "the hard limit")
        .help("the soft limit is what is enforced: make it at most the hard one"),
    );
    None
}

/// One limit in its resource's unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Amount {
    Of(u64),
    Unlimited,
}

impl Amount {
    /// As specs have it: `None` = unlimited.
    fn limit(self) -> Option<u64> {
        match self {
            Self::Of(amount) => Some(amount),
            Self::Unlimited => None,
        }
    }
}

fn amount(node: Node<'_>, unit: Unit, faults: &mut Faults<'_>) -> Option<Amount> {
    let (takes, example) = match unit {
        Unit::Bytes => ("a size", "\"64MiB\""),
        Unit::Seconds => ("a time in whole seconds", "\"60s\""),
        Unit::Micros => ("a time", "\"200ms\""),
        Unit::Count => ("a number", "4096"),
    };
    let found = match (node.value.as_str(), node.value.as_integer(), unit) {
        (Some("unlimited"), _, _) => return Some(Amount::Unlimited),
        (Some(text), _, Unit::Bytes) => text.parse::<ByteSize>().ok().map(|size| size.0),
        (Some(text), _, Unit::Seconds) => parse_duration(text)
            .ok()
            .filter(|time| time.subsec_nanos() == 0)
            .map(|time| time.as_secs()),
        (Some(text), _, Unit::Micros) => {
            parse_duration(text).ok().and_then(|time| u64::try_from(time.as_micros()).ok())
        }
        (None, Some(written), _) => number(written).and_then(|n| u64::try_from(n).ok()),
        _ => None,
    };
    // The highest number is the kernel's own word for "unlimited" (RLIM_INFINITY).
    let found = found.filter(|amount| *amount < u64::MAX);
    if found.is_none() {
        faults.push(
            Fault::error("bad-limit", format!("`{}` takes {takes} or \"unlimited\"", node.name))
                .at(node.spot, format!("not {takes}"))
                .help(format!("write it like `{} = {example}`", node.name)),
        );
    }
    found.map(Amount::Of)
}

/// Reads `limits`.
pub(crate) fn limits(node: Node<'_>, faults: &mut Faults<'_>) -> Option<CgroupLimits> {
    let example = "`limits = { memory = \"512MiB\", cpu = \"150%\", pids = 100 }`";
    let mut limits: Table<'_> = table(node, "`limits`", example, faults)?;
    let found = CgroupLimits {
        memory: limits.read_option("memory", faults, |node, faults| {
            size(node, MEMORY_MIN..=MEMORY_MAX, faults)
        }),
        cpu_percent: limits.read_option("cpu", faults, percent_of_a_core),
        pids: limits
            .read_option("pids", faults, |node, faults| integer(node, 1..=PIDS_MAX, faults)),
    };
    limits.finish(faults);
    limits.sound(&["memory", "cpu", "pids"]).then_some(found)
}

fn percent_of_a_core(node: Node<'_>, faults: &mut Faults<'_>) -> Option<u32> {
    let Some(written) = node.value.as_str() else {
        let bare = node.value.as_integer().map_or("150", toml::de::DeInteger::as_str);
        wrong_type(node, "a percentage of one core", &format!("`cpu = \"{bare}%\"`"), faults);
        return None;
    };
    let percent = written.strip_suffix('%').and_then(|digits| digits.trim().parse::<u64>().ok());
    match percent {
        Some(percent @ 1..=CPU_PERCENT_MAX) => u32::try_from(percent).ok(),
        Some(_) => {
            faults.push(
                Fault::error("out-of-range", format!("`cpu` can't be {}", quoted(written)))
                    .at(node.spot, format!("not within 1% to {CPU_PERCENT_MAX}%"))
                    .help("\"100%\" is one whole core"),
            );
            None
        }
        None => {
            faults.push(
                Fault::error("bad-percentage", format!("{} is no percentage", quoted(written)))
                    .at(node.spot, "not a whole number and `%`")
                    .help("write it like `cpu = \"150%\"`: one and a half cores"),
            );
            None
        }
    }
}
