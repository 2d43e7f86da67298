//! What is told of a service or of one of its instances: made from the root's snapshot.
//!
//! Why a service has an answer of its own: behind one address it serves as long as one of its
//! instances does.
//! Invariants: pure; the status is one that HTTP knows; an agent's line is one line, of words that
//! HAProxy understands.
//! Source: HAProxy 2.6 configuration manual, `agent-check`; what HAProxy 2.6.12 was seen to do.

use control::{
    DependencyView, HealthView, InstanceView, ReplacingView, RunView, Snapshot, VerdictView,
};
use serde::Serialize;

/// A balancer takes answers below this for a yes (HAProxy, `option httpchk`: 2xx and 3xx).
const REFUSING: u16 = 400;

/// What is answered where the root gave nothing that makes sense.
const NO_STATUS: u16 = 503;

/// The longest reason in an agent's line: HAProxy shows it in one cell of a table.
const REASON_CHARS_MAX: usize = 120;

/// Words of the agent check after which HAProxy takes a reason.
const DOWN_WORDS: [&str; 3] = ["down", "fail", "stopped"];

/// The health of a service, or of one of its instances.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Health {
    /// `web`, or `web:1`.
    pub(crate) name: String,
    /// `up`, `starting`, `draining`, `sick`, `dependency_down`, `stopped`, `down`; of the best
    /// instance.
    pub(crate) state: String,
    /// The HTTP status of this answer, as configured for the state.
    pub(crate) status: u16,
    /// What HAProxy's agent check is told.
    pub(crate) agent: String,
    /// One sentence.
    pub(crate) message: String,
    /// How many instances may be given work: those with a status below 400.
    pub(crate) in_rotation: usize,
    /// How old this knowledge is, milliseconds.
    pub(crate) age_ms: u64,
    /// Each instance.
    pub(crate) instances: Vec<InstanceHealth>,
}

/// The health of one instance.
#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct InstanceHealth {
    /// `web:1`.
    pub(crate) name: String,
    /// As above.
    pub(crate) state: String,
    /// HTTP status for the state.
    pub(crate) status: u16,
    /// Words for HAProxy's agent check.
    pub(crate) agent: String,
    /// One sentence.
    pub(crate) message: String,
    /// How much is done about a sickness: `off`, `observe`, `enforce`.
    pub(crate) mode: String,
    /// What each detector says.
    pub(crate) verdicts: Vec<VerdictView>,
    /// What it depends on.
    pub(crate) dependencies: Vec<DependencyView>,
    /// A replacement that is under way.
    pub(crate) replacing: Option<ReplacingView>,
    /// Why nothing is done although it is sick.
    pub(crate) suppressed: Option<String>,
}

/// What is known of a service or an instance, or (`web@8002`) of the run that has a port; `None` if
/// nobody has this name.
pub(super) fn about(snapshot: &Snapshot, name: &str, age_ms: u64) -> Option<Health> {
    // No name has this sign in it.
    let (bare, port) = match name.split_once('@') {
        Some((bare, port)) => (bare, Some(port.parse::<u16>().ok()?)),
        None => (name, None),
    };
    let service = snapshot.services.iter().find(|service| {
        service.name == bare || service.instances.iter().any(|one| one.name == bare)
    })?;
    let meant = service.instances.iter().filter(|one| service.name == bare || one.name == bare);
    let instances: Vec<InstanceHealth> = match port {
        None => meant.map(of_instance).collect(),
        Some(port) => vec![at_port(meant, name, port)],
    };
    let best = instances.iter().min_by_key(|one| (REFUSING <= one.status, rank(&one.state)))?;
    let in_rotation = instances.iter().filter(|one| one.status < REFUSING).count();
    Some(Health {
        name: name.to_owned(),
        state: best.state.clone(),
        status: best.status,
        agent: best.agent.clone(),
        message: sentence(&instances, in_rotation),
        in_rotation,
        age_ms,
        instances,
    })
}

/// Everything, service by service.
pub(super) fn about_all(snapshot: &Snapshot, age_ms: u64) -> Vec<Health> {
    snapshot.services.iter().filter_map(|one| about(snapshot, &one.name, age_ms)).collect()
}

/// The one service that an asker who gives no name can mean.
pub(super) fn only_service(snapshot: &Snapshot) -> Option<&str> {
    match snapshot.services.as_slice() {
        [only] => Some(&only.name),
        _ => None,
    }
}

/// A balancer that has a server for each port asks for the run there: a successor that is started
/// beside its predecessor has another port.
fn at_port<'a>(
    instances: impl Iterator<Item = &'a InstanceView>,
    name: &str,
    port: u16,
) -> InstanceHealth {
    let order = ["present", "successor", "leaving", "quarantined"];
    let place = |run: &RunView| order.iter().position(|role| *role == run.role);
    let runs = instances.flat_map(|one| one.runs.iter().map(move |run| (one, run)));
    let here = runs.filter(|(_, run)| run.port == Some(port));
    match here.min_by_key(|(_, run)| place(run).unwrap_or(order.len())) {
        Some((one, run)) => of_run(one, run),
        None => InstanceHealth {
            name: name.to_owned(),
            state: "stopped".to_owned(),
            status: NO_STATUS,
            agent: "maint".to_owned(),
            message: format!("no run has the port {port} now"),
            mode: String::new(),
            verdicts: Vec::new(),
            dependencies: Vec::new(),
            replacing: None,
            suppressed: None,
        },
    }
}

fn of_run(one: &InstanceView, run: &RunView) -> InstanceHealth {
    if run.role == "present" {
        return of_instance(one);
    }
    let message = match run.role.as_str() {
        "successor" => "it is the successor, and not in rotation yet",
        "quarantined" => "it is sick, and kept for inspection",
        _ => "it is on its way out",
    };
    InstanceHealth {
        state: run.state.clone(),
        status: status_of(run.status),
        agent: agent_line(&run.agent, message),
        message: message.to_owned(),
        // What detectors say is about the present run.
        verdicts: Vec::new(),
        suppressed: None,
        ..of_instance(one)
    }
}

fn status_of(told: u16) -> u16 {
    if (200..600).contains(&told) { told } else { NO_STATUS }
}

fn of_instance(one: &InstanceView) -> InstanceHealth {
    let health = &one.health;
    let message = message(one);
    InstanceHealth {
        name: one.name.clone(),
        state: health.state.clone(),
        status: status_of(health.status),
        agent: agent_line(&health.agent, &message),
        message,
        mode: health.mode.clone(),
        verdicts: health.verdicts.clone(),
        dependencies: health.dependencies.clone(),
        replacing: health.replacing.clone(),
        suppressed: health.suppressed.clone(),
    }
}

/// From what serves to what will not for long.
fn rank(state: &str) -> usize {
    let order = ["up", "dependency_down", "draining", "starting", "sick", "down", "stopped"];
    order.iter().position(|known| *known == state).unwrap_or(order.len())
}

/// Why an instance is in its state.
fn message(one: &InstanceView) -> String {
    let health = &one.health;
    let because = || {
        let nearest = one.because.first().map(|link| link.message.clone());
        nearest.or_else(|| one.last_exit.as_ref().map(|exit| format!("its last run: {exit}")))
    };
    let said = match health.state.as_str() {
        "up" => Some(up(health)),
        "sick" => worst(health).map(|verdict| verdict.message.clone()),
        "draining" => match &health.replacing {
            Some(replacing) => Some(format!("it is being replaced: {}", replacing.cause)),
            None => because(),
        },
        "dependency_down" => {
            let troubled = health.dependencies.iter().find(|one| one.state != "up");
            troubled.map(|dependency| format!("{}: {}", dependency.name, dependency.message))
        }
        _ => because(),
    };
    said.filter(|said| !said.is_empty()).unwrap_or_else(|| format!("it is {}", health.state))
}

/// A service may be in rotation although a detector that only observes says that it is sick.
fn up(health: &HealthView) -> String {
    match worst(health) {
        Some(verdict) => {
            format!("it serves, but {} is sick: {}", verdict.detector, verdict.message)
        }
        None => "it runs, and nothing is wrong".to_owned(),
    }
}

fn worst(health: &HealthView) -> Option<&VerdictView> {
    health.verdicts.iter().find(|verdict| verdict.state == "sick")
}

fn sentence(instances: &[InstanceHealth], in_rotation: usize) -> String {
    if let [only] = instances {
        return only.message.clone();
    }
    let total = instances.len();
    let verb = if in_rotation == 1 { "is" } else { "are" };
    let text = format!("{in_rotation} of {total} instances {verb} in rotation");
    match instances.iter().find(|one| REFUSING <= one.status) {
        // The root's sentences begin with the name.
        Some(out) if out.message.starts_with(&out.name) => format!("{text}; {}", out.message),
        Some(out) => format!("{text}; {} is {}: {}", out.name, out.state, out.message),
        None => text,
    }
}

/// The words as HAProxy reads them, with the reason where it takes one.
pub(super) fn agent_line(words: &str, reason: &str) -> String {
    let words = one_line(words);
    // HAProxy 2.6 knows `down #reason`, but not the `down#reason` that one might read out of its
    // manual: it ignores that word, and the server stays up.
    let words = match words.split_once('#') {
        Some((before, after)) => format!("{} #{after}", before.trim_end()),
        None => words,
    };
    let last = words.rsplit([' ', ',', '\t']).next().unwrap_or_default();
    if reason.is_empty() || !DOWN_WORDS.contains(&last) {
        return words;
    }
    let reason: String = one_line(reason).chars().take(REASON_CHARS_MAX).collect();
    format!("{words} #{reason}")
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{ServiceView, WhyLink};

    fn instance(name: &str, state: &str, status: u16, agent: &str) -> InstanceView {
        let health =
            HealthView { state: state.into(), status, agent: agent.into(), ..Default::default() };
        InstanceView { name: name.into(), health, ..InstanceView::default() }
    }

    fn web(instances: Vec<InstanceView>) -> Snapshot {
        let service = ServiceView { name: "web".into(), instances, ..ServiceView::default() };
        Snapshot { services: vec![service], ..Snapshot::default() }
    }

    #[test]
    fn h13_a_service_is_in_rotation_while_one_of_its_instances_is() {
        let up = || instance("web:0", "up", 200, "ready up");
        let draining = || instance("web:1", "draining", 503, "drain");
        let snapshot = web(vec![draining(), up()]);
        let seen = about(&snapshot, "web", 7).unwrap();
        assert_eq!((seen.status, seen.state.as_str(), seen.in_rotation), (200, "up", 1));
        assert_eq!((seen.agent.as_str(), seen.age_ms), ("ready up", 7));
        let expect = "1 of 2 instances is in rotation; web:1 is draining: it is draining";
        assert_eq!(seen.message, expect);
        let one = about(&snapshot, "web:1", 0).unwrap();
        assert_eq!((one.status, one.agent.as_str(), one.instances.len()), (503, "drain", 1));
        let stopped = instance("web:0", "stopped", 503, "maint");
        let none = about(&web(vec![stopped, draining()]), "web", 0).unwrap();
        assert_eq!((none.status, none.in_rotation, none.agent.as_str()), (503, 0, "drain"));
        assert_eq!(about(&snapshot, "wob", 0), None);
        assert_eq!(about(&snapshot, "web:2", 0), None);
    }

    #[test]
    fn h13_the_configured_answer_is_given_and_nonsense_is_a_refusal() {
        let custom = instance("web", "draining", 429, "50%");
        assert_eq!(about(&web(vec![custom]), "web", 0).unwrap().status, 429);
        let from_nowhere = instance("web", "", 0, "");
        let seen = about(&web(vec![from_nowhere]), "web", 0).unwrap();
        assert_eq!((seen.status, seen.in_rotation), (503, 0));
    }

    #[test]
    fn a_message_says_why() {
        let mut sick = instance("web", "sick", 503, "down");
        sick.health.verdicts = vec![
            VerdictView { state: "well".into(), message: "fine".into(), ..Default::default() },
            VerdictView {
                state: "sick".into(),
                message: "no answer for 3 s".into(),
                ..Default::default()
            },
        ];
        let seen = about(&web(vec![sick.clone()]), "web", 0).unwrap();
        assert_eq!(seen.message, "no answer for 3 s");
        assert_eq!(seen.agent, "down #no answer for 3 s");
        sick.health.state = "draining".into();
        sick.health.replacing =
            Some(ReplacingView { cause: "it leaks".into(), ..ReplacingView::default() });
        let seen = about(&web(vec![sick]), "web", 0).unwrap();
        assert_eq!(seen.message, "it is being replaced: it leaks");
        let mut down = instance("web", "down", 503, "down");
        let message = "gave up".to_owned();
        down.because = vec![WhyLink { subject: "web".into(), message: message.clone() }];
        assert_eq!(about(&web(vec![down]), "web", 0).unwrap().message, message);
    }

    #[test]
    fn h29_an_agents_line_is_one_that_haproxy_understands() {
        for (words, reason, expect) in [
            ("ready up", "it runs", "ready up"),
            ("drain", "it leaks", "drain"),
            ("down", "it\nleaks", "down #it leaks"),
            ("down#by hand", "it leaks", "down #by hand"),
            ("ready 50% fail", "why", "ready 50% fail #why"),
            ("breakdown", "why", "breakdown"),
            ("up\r\ndown", "why", "up  down #why"),
            ("stopped", "", "stopped"),
        ] {
            assert_eq!(agent_line(words, reason), expect, "{words}");
        }
        let long = agent_line("down", &"é".repeat(1000));
        assert_eq!(long.chars().count(), "down #".len() + REASON_CHARS_MAX);
    }

    #[test]
    fn h22_a_port_means_the_run_that_has_it() {
        let run = |role: &str, port, state: &str, status, agent: &str| RunView {
            role: role.into(),
            port: Some(port),
            state: state.into(),
            status,
            agent: agent.into(),
            ..RunView::default()
        };
        let mut web = instance("web", "draining", 503, "drain");
        web.runs = vec![
            run("present", 8000, "draining", 503, "drain"),
            run("successor", 8001, "starting", 503, "down"),
        ];
        let snapshot = self::web(vec![web.clone()]);
        let at = |snapshot: &Snapshot, name: &str| {
            let seen = about(snapshot, name, 0).unwrap();
            (seen.status, seen.agent)
        };
        assert_eq!(at(&snapshot, "web@8000"), (503, "drain".to_owned()));
        let starting = "down #it is the successor, and not in rotation yet".to_owned();
        assert_eq!(at(&snapshot, "web@8001"), (503, starting));
        assert_eq!(at(&snapshot, "web@8002"), (503, "maint".to_owned()));
        assert_eq!(about(&snapshot, "web@", 0), None);
        assert_eq!(about(&snapshot, "wob@8000", 0), None);
        // A sick one that is kept in the same place does not speak for its successor.
        web.health = HealthView { status: 200, agent: "ready up".into(), ..web.health };
        web.runs = vec![
            run("quarantined", 8000, "draining", 503, "drain"),
            run("present", 8000, "up", 200, "ready up"),
        ];
        let snapshot = self::web(vec![web]);
        assert_eq!(at(&snapshot, "web@8000"), (200, "ready up".to_owned()));
    }

    #[test]
    fn who_gives_no_name_can_mean_an_only_service() {
        assert_eq!(only_service(&web(Vec::new())), Some("web"));
        assert_eq!(only_service(&Snapshot::default()), None);
    }
}
