//! What each kind of event is to the people who are told: the one table of it.

use super::Fact;
use crate::Severity;

/// What is done with an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// A person must act: told at once, as urgent.
    Page,
    /// Told.
    Report,
    /// Not told by itself, but with what is told of the same subject.
    Story,
    /// Nothing.
    Nothing,
}

/// How a kind is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Page,
    Always,
    /// From the configured severity on; otherwise it belongs to the story.
    BySeverity,
    /// From the configured severity on; otherwise it is nothing.
    OnlyBySeverity,
    Never,
}

/// The role of one event, where everything of at least `severity` is told.
pub(super) fn role(fact: &Fact, severity: Severity) -> Role {
    let severe = severity <= fact.severity;
    match told(fact) {
        Told::Page => Role::Page,
        Told::Always => Role::Report,
        Told::BySeverity | Told::OnlyBySeverity if severe => Role::Report,
        Told::BySeverity => Role::Story,
        Told::OnlyBySeverity | Told::Never => Role::Nothing,
    }
}

fn told(fact: &Fact) -> Told {
    // A mail about our own mails would make the next one.
    if fact.subject == "duty/mail" || fact.kind.starts_with("mail.") {
        return Told::Never;
    }
    match fact.kind.as_str() {
        // It stays down, or nothing can be done about it, until somebody comes.
        "service.budget_spent" | "service.failed" | "service.unkillable" => Told::Page,
        "service.start_failed" if fact.severity == Severity::Error => Told::Page,
        // Every restart and every replacement, done, failed, or only thought of.
        "service.restart_scheduled"
        | "service.watchdog_timeout"
        | "service.replaced"
        | "service.would_replace"
        | "service.replacement_failed"
        // The root cause, where it is none of our services.
        | "service.dependency_down" => Told::Always,
        // Sick, and nothing is done about it. One that waits for its turn is told when it has come.
        "service.replacement_suppressed" if !fact.waits => Told::Always,
        "service.added"
        | "service.changed"
        | "service.removed"
        | "service.starting"
        | "service.forked"
        | "service.finished"
        | "service.mode"
        | "service.workaround_ended" => Told::OnlyBySeverity,
        // The steps between a cause and its end; also those that are yet to be invented.
        kind if kind.starts_with("service.") => Told::BySeverity,
        _ => Told::OnlyBySeverity,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fact::tests::fact;
    use super::*;

    #[test]
    fn h9_every_restart_is_told_and_what_needs_a_person_pages() {
        let check = |kind: &str, severity, expect| {
            let fact = Fact { severity, ..fact("web", kind, 0) };
            assert_eq!(role(&fact, Severity::Error), expect, "{kind}");
        };
        check("service.restart_scheduled", Severity::Warning, Role::Report);
        check("service.replaced", Severity::Info, Role::Report);
        check("service.would_replace", Severity::Info, Role::Report);
        check("service.replacement_suppressed", Severity::Warning, Role::Report);
        check("service.budget_spent", Severity::Error, Role::Page);
        check("service.start_failed", Severity::Warning, Role::Story);
        check("service.start_failed", Severity::Error, Role::Page);
        check("service.exited", Severity::Warning, Role::Story);
        check("service.exited", Severity::Error, Role::Report);
        check("service.invented_tomorrow", Severity::Info, Role::Story);
        check("service.starting", Severity::Info, Role::Nothing);
        check("daemon.complaint", Severity::Warning, Role::Nothing);
        check("events.lost", Severity::Error, Role::Report);
        check("mail.delayed", Severity::Error, Role::Nothing);
    }

    #[test]
    fn one_that_waits_for_its_turn_is_told_when_it_has_come() {
        let kind = "service.replacement_suppressed";
        let waits = Fact { waits: true, ..fact("web:1", kind, 0) };
        assert_eq!(role(&waits, Severity::Error), Role::Story);
    }

    #[test]
    fn our_own_mail_is_never_told_by_mail() {
        let own = Fact { severity: Severity::Error, ..fact("duty/mail", "service.failed", 0) };
        assert_eq!(role(&own, Severity::Info), Role::Nothing);
    }
}
