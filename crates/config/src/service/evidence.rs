//! `tolerance.evidence`: what is kept of a sick run before it is touched.

use super::{Scope, is_off};
use crate::diagnostic::{Fault, Faults};
use crate::table::Node;
use crate::template;
use crate::value::{
    boolean, duration, integer, list, size, table, text, unknown_value, wrong_type,
};
use base::ByteSize;
use std::time::Duration;
use supervisor::{EvidencePolicy, StackTool};

/// Bundles of one service.
const KEEP_MAX: u32 = 10_000;

/// The replacement waits for the evidence: more than this is no budget.
const BUDGET_MAX: Duration = Duration::from_mins(10);

const EXAMPLE: &str = "`evidence = { budget = \"3s\", keep = 20 }` or `evidence = \"off\"`";
const STACKS_EXAMPLE: &str = "`stacks = \"auto\"`, \"off\" or `[\"eu-stack\", \"-p\", \"{pid}\"]`";

/// Reads `evidence`.
pub(crate) fn read(
    node: Node<'_>,
    scope: Scope,
    faults: &mut Faults<'_>,
) -> Option<EvidencePolicy> {
    let default = EvidencePolicy::default();
    if is_off(node) {
        return Some(EvidencePolicy { budget: Duration::ZERO, ..default });
    }
    if node.value.as_table().is_none() {
        wrong_type(node, "a table or \"off\"", EXAMPLE, faults);
        return None;
    }
    let mut evidence = table(node, "`evidence`", EXAMPLE, faults)?;
    let policy = EvidencePolicy {
        budget: evidence.read("budget", default.budget, faults, |node, faults| {
            duration(node, Duration::ZERO..=BUDGET_MAX, faults)
        }),
        stacks: evidence
            .read("stacks", default.stacks, faults, |node, faults| stacks(node, scope, faults)),
        core: evidence.read("core", default.core, faults, boolean),
        size_max: evidence.read("size_max", default.size_max, faults, |node, faults| {
            size(node, ByteSize::mib(1)..=ByteSize::mib(1 << 20), faults)
        }),
        keep: evidence
            .read("keep", default.keep, faults, |node, faults| integer(node, 1..=KEEP_MAX, faults)),
    };
    evidence.finish(faults);
    evidence.sound(&["budget", "stacks", "core", "size_max", "keep"]).then_some(policy)
}

fn stacks(node: Node<'_>, scope: Scope, faults: &mut Faults<'_>) -> Option<StackTool> {
    match node.value.as_str() {
        Some("auto") => return Some(StackTool::Auto),
        Some("off") => return Some(StackTool::Off),
        Some(other) => {
            unknown_value(node, other, ["auto", "off"].into_iter(), faults);
            return None;
        }
        None if node.value.as_array().is_none() => {
            wrong_type(node, "a word or a command", STACKS_EXAMPLE, faults);
            return None;
        }
        None => {}
    }
    let scope = Scope { extra: Some("pid"), ..scope };
    let argv = list(node, "a command", STACKS_EXAMPLE, faults, |item, faults| {
        let argument = text(item, faults)?;
        template::check(argument, item.spot, scope, faults);
        Some(argument.to_owned())
    })?;
    let fault = match argv.first().map(String::as_str) {
        None | Some("") => Fault::error("empty-command", "`stacks` names no program")
            .at(node.spot, "nothing to run"),
        Some(_) if !argv.iter().any(|argument| argument.contains("{pid}")) => {
            Fault::error("stacks-without-pid", "`stacks` does not say of which process")
                .at(node.spot, "no `{pid}` in it")
        }
        Some(_) => return Some(StackTool::Command(argv)),
    };
    faults.push(fault.help(format!("write it like {STACKS_EXAMPLE}")));
    None
}
