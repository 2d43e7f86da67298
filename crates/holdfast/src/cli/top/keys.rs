//! What a key means. Everything that changes a service is asked back first.

use super::model::{Model, Question, View};
use control::ServiceAction;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What the driver must do after a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ask {
    /// Nothing.
    Nothing,
    /// End the program.
    Quit,
    /// Another instance or view is selected.
    LookCloser,
    /// Do this.
    Service {
        /// What.
        action: ServiceAction,
        /// To whom.
        instance: String,
    },
}

/// Rows that a page key moves.
const PAGE: isize = 10;

/// Changes the model by a key.
pub(super) fn pressed(model: &mut Model, key: KeyEvent) -> Ask {
    let is_control_c =
        key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    if is_control_c {
        return Ask::Quit;
    }
    if let Some(question) = model.question.take() {
        model.touch();
        return match key.code {
            KeyCode::Char('y') | KeyCode::Enter => {
                Ask::Service { action: question.action, instance: question.instance }
            }
            _ => Ask::Nothing,
        };
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => match model.view {
            View::Table => return Ask::Quit,
            View::Log => model.view = View::Table,
        },
        KeyCode::Up | KeyCode::Char('k') => model.select_by(-1),
        KeyCode::Down | KeyCode::Char('j') => model.select_by(1),
        KeyCode::PageUp => model.select_by(-PAGE),
        KeyCode::PageDown => model.select_by(PAGE),
        KeyCode::Home | KeyCode::Char('g') => model.select_by(isize::MIN),
        KeyCode::End | KeyCode::Char('G') => model.select_by(isize::MAX),
        KeyCode::Char('l') | KeyCode::Enter => {
            model.view = if model.view == View::Log { View::Table } else { View::Log };
        }
        KeyCode::Char('s') => return start_or_stop(model),
        KeyCode::Char('t') => return question(model, ServiceAction::Restart, "restart"),
        KeyCode::Char('r') => return question(model, ServiceAction::Reload, "reload"),
        _ => return Ask::Nothing,
    }
    model.touch();
    Ask::LookCloser
}

fn start_or_stop(model: &mut Model) -> Ask {
    let is_down = model.selected().is_some_and(|i| i.wish != "up");
    if is_down {
        question(model, ServiceAction::Start, "start")
    } else {
        question(model, ServiceAction::Stop, "stop")
    }
}

fn question(model: &mut Model, action: ServiceAction, verb: &'static str) -> Ask {
    if let Some(instance) = model.selected().map(|i| i.name.clone()) {
        model.question = Some(Question { action, verb, instance });
        model.touch();
    }
    Ask::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    fn press(model: &mut Model, code: KeyCode) -> Ask {
        pressed(model, KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn nothing_is_done_to_a_service_without_a_yes() {
        let mut model = Model::new(samples::snapshot());
        press(&mut model, KeyCode::End);
        assert_eq!(press(&mut model, KeyCode::Char('t')), Ask::Nothing);
        assert_eq!(press(&mut model, KeyCode::Char('n')), Ask::Nothing);
        assert_eq!(model.question, None);
        press(&mut model, KeyCode::Char('t'));
        let expect = Ask::Service { action: ServiceAction::Restart, instance: "worker".into() };
        assert_eq!(press(&mut model, KeyCode::Char('y')), expect);
    }

    #[test]
    fn s_starts_what_is_down_and_stops_what_is_up() {
        let mut model = Model::new(samples::snapshot());
        press(&mut model, KeyCode::Char('s'));
        assert_eq!(model.question.take().unwrap().action, ServiceAction::Stop);
        for _ in 0..3 {
            press(&mut model, KeyCode::Char('j'));
        }
        assert_eq!(model.selected().unwrap().name, "old");
        press(&mut model, KeyCode::Char('s'));
        assert_eq!(model.question.take().unwrap().action, ServiceAction::Start);
    }

    #[test]
    fn the_selection_stops_at_the_ends_and_follows_the_name() {
        let mut model = Model::new(samples::snapshot());
        press(&mut model, KeyCode::Up);
        assert_eq!(model.selected_row(), 0);
        press(&mut model, KeyCode::Char('G'));
        press(&mut model, KeyCode::Down);
        assert_eq!(model.selected().unwrap().name, "worker");
        model.snapshot.services.remove(0);
        assert_eq!(model.selected().unwrap().name, "worker");
    }

    #[test]
    fn q_leaves_the_log_first() {
        let mut model = Model::new(samples::snapshot());
        assert_eq!(press(&mut model, KeyCode::Char('l')), Ask::LookCloser);
        assert_eq!(press(&mut model, KeyCode::Char('q')), Ask::LookCloser);
        assert_eq!(press(&mut model, KeyCode::Char('q')), Ask::Quit);
    }
}
