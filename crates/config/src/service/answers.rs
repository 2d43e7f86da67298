//! `tolerance.answers`: what balancers are told about a service in each of its states.
//!
//! Source: HAProxy's configuration manual, `agent-check`.

use crate::diagnostic::{Fault, Faults, quoted};
use crate::suggest::did_you_mean;
use crate::table::Node;
use crate::value::{integer, line, nonempty, table};
use std::collections::BTreeMap;
use supervisor::{HealthAnswer, HealthState};

const EXAMPLE: &str = "`answers = { dependency_down = { status = 503, agent = \"down\" } }`";

/// What HAProxy understands besides `50%` and `maxconn:10`.
const WORDS: [&str; 8] = ["up", "down", "failed", "fail", "stopped", "ready", "drain", "maint"];

/// Reads `answers`.
pub(crate) fn read(
    node: Node<'_>,
    faults: &mut Faults<'_>,
) -> Option<BTreeMap<HealthState, HealthAnswer>> {
    let mut states = table(node, "`answers`", EXAMPLE, faults)?;
    let mut answers = BTreeMap::new();
    let mut whole = true;
    for state in HealthState::ALL {
        let answer = states
            .read_option(state.as_str(), faults, |node, faults| read_answer(state, node, faults));
        whole &= states.sound(&[state.as_str()]);
        answers.extend(answer.map(|answer| (state, answer)));
    }
    states.finish(faults);
    whole.then_some(answers)
}

fn read_answer(
    state: HealthState,
    node: Node<'_>,
    faults: &mut Faults<'_>,
) -> Option<HealthAnswer> {
    let mut answer = table(node, format!("`answers.{}`", state.as_str()), EXAMPLE, faults)?;
    let default = state.default_answer();
    let status = answer
        .read("status", default.status, faults, |node, faults| integer(node, 200..=599, faults));
    let agent = answer.read("agent", default.agent, faults, agent);
    answer.finish(faults);
    answer.sound(&["status", "agent"]).then_some(HealthAnswer { status, agent })
}

/// One line of words; what follows a `#` is for people.
fn agent(node: Node<'_>, faults: &mut Faults<'_>) -> Option<String> {
    nonempty(node, faults)?;
    let text = line(node, faults)?;
    let told = text.split('#').next().unwrap_or("");
    let mut words = told.split([' ', ',']).filter(|word| !word.is_empty()).peekable();
    let wrong = match words.peek() {
        None => Some(text),
        Some(_) => words.find(|word| !is_agent_word(word)),
    };
    let Some(word) = wrong else { return Some(text.to_owned()) };
    let hint = did_you_mean(word, WORDS).map_or(String::new(), |hint| hint + " ");
    faults.push(
        Fault::error("bad-agent-answer", format!("HAProxy does not understand {}", quoted(word)))
            .at(faults.sources.within(node.spot, word), "not a word of agent-check")
            .help(format!("{hint}known: {}, a weight like `50%`, `maxconn:10`", WORDS.join(", "))),
    );
    None
}

fn is_agent_word(word: &str) -> bool {
    let number = |digits: &str| digits.parse::<u32>().is_ok_and(|_| !digits.starts_with('+'));
    WORDS.contains(&word)
        || word.strip_suffix('%').is_some_and(number)
        || word.strip_prefix("maxconn:").is_some_and(number)
}
