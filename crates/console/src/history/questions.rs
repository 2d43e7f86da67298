//! The query thread: answers questions with a read-only connection of its own.

use super::{HistoryError, Question, Shared};
use journal::Journal;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// See the module's head.
pub(super) struct Reader {
    shared: Arc<Shared>,
    asked: Receiver<Question>,
    /// The connection, and the generation of the database that it belongs to.
    open: Option<(Journal, u64)>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, asked: Receiver<Question>) -> Self {
        Self { shared, asked, open: None }
    }

    /// Answers until nobody can ask any more.
    pub(super) fn run(mut self) {
        while let Ok(question) = self.asked.recv() {
            // The asker may have gone away while it waited: then the work is saved.
            if question.answer.is_closed() {
                continue;
            }
            let answer = self.answer(&question.query);
            let _ = question.answer.send(answer);
        }
    }

    fn answer(
        &mut self,
        query: &journal::Query,
    ) -> Result<Vec<control::EventRecord>, HistoryError> {
        let generation = self.shared.wait_until_open()?;
        if self.open.as_ref().is_some_and(|(_, of)| *of != generation) {
            self.open = None;
        }
        let fail = |error: &dyn std::error::Error| HistoryError::Unavailable(chain(error));
        let open = if let Some(open) = self.open.take() {
            open
        } else {
            let path = &self.shared.places.journal;
            let journal = Journal::open_read_only(path).map_err(|error| fail(&error))?;
            (journal, generation)
        };
        // After an error the connection is not put back: the next question opens a new one.
        let found = open.0.query(query).map_err(|error| fail(&error))?;
        self.open = Some(open);
        Ok(found)
    }
}

/// An error with all its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
