//! The conversation with one event listener: what it may say, and when.
//!
//! ```text
//!  ACKNOWLEDGED ──READY\n──► READY ──(an event is sent)──► BUSY ──RESULT n\n…──► ACKNOWLEDGED
//!       └─────────────────────┴── anything else ──────────┴──► UNKNOWN, until its next run
//! ```
//! Why UNKNOWN is final: a listener that prints something of its own can't be told from one that
//! answers; supervisord gives up on it just so.
//! Invariants: holds at most [`LISTENER_LINE_BYTES_MAX`] bytes; never panics whatever it says.
//! Source: the manual's page "Events", "Event Listener States".

/// The longest answer of a listener, header and body. The two that mean something have 2 and 4.
pub const LISTENER_LINE_BYTES_MAX: usize = 8 * 1024;

const READY: &[u8] = b"READY\n";
const RESULT: &[u8] = b"RESULT ";

/// Digits of the length in a RESULT line.
const LENGTH_DIGITS_MAX: usize = 6;

/// Where the conversation stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TalkState {
    /// It has not asked for an event yet.
    Acknowledged,
    /// It waits for an event.
    Ready,
    /// It works on an event.
    Busy,
    /// It has said something that nobody understands, and gets nothing any more.
    Unknown,
}

impl TalkState {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledged => "ACKNOWLEDGED",
            Self::Ready => "READY",
            Self::Busy => "BUSY",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// Something that a listener said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// It wants an event.
    Ready,
    /// It has dealt with its event.
    Done,
    /// It wants its event again, later.
    Failed,
    /// What it said makes no sense; the beginning of it.
    Nonsense(String),
}

/// One listener's conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Talk {
    state: TalkState,
    heard: Vec<u8>,
}

impl Default for Talk {
    fn default() -> Self {
        Self::resumed(TalkState::Acknowledged)
    }
}

impl Talk {
    /// A conversation that somebody else has begun.
    pub fn resumed(state: TalkState) -> Self {
        Self { state, heard: Vec::new() }
    }

    /// Where it stands.
    pub fn state(&self) -> TalkState {
        self.state
    }

    /// An event is sent to it. Only to one that is [`TalkState::Ready`].
    pub fn sent(&mut self) {
        if self.state == TalkState::Ready {
            self.state = TalkState::Busy;
        }
    }

    /// It has written something. What that says, in order.
    pub fn hear(&mut self, bytes: &[u8]) -> Vec<Said> {
        let mut said = Vec::new();
        if self.state == TalkState::Unknown {
            return said;
        }
        self.heard.extend_from_slice(bytes);
        while !self.heard.is_empty() {
            let (next, taken) = match self.state {
                TalkState::Acknowledged => match begins_with(&self.heard, READY) {
                    Begins::Yes => (Said::Ready, READY.len()),
                    Begins::NotYet => break,
                    Begins::No => (self.nonsense(), 0),
                },
                TalkState::Busy => match self.result() {
                    Ok(Some(result)) => result,
                    Ok(None) => break,
                    Err(NoResult) => (self.nonsense(), 0),
                },
                TalkState::Ready => (self.nonsense(), 0),
                TalkState::Unknown => break,
            };
            self.state = match next {
                Said::Ready => TalkState::Ready,
                Said::Done | Said::Failed => TalkState::Acknowledged,
                Said::Nonsense(_) => TalkState::Unknown,
            };
            if self.state == TalkState::Unknown {
                self.heard = Vec::new();
            } else {
                self.heard.drain(..taken);
            }
            said.push(next);
        }
        said
    }

    /// A whole result at the beginning of what was heard, and its length.
    fn result(&self) -> Result<Option<(Said, usize)>, NoResult> {
        match begins_with(&self.heard, RESULT) {
            Begins::Yes => {}
            Begins::NotYet => return Ok(None),
            Begins::No => return Err(NoResult),
        }
        let rest = &self.heard[RESULT.len()..];
        let Some(digits) = rest.iter().position(|byte| *byte == b'\n') else {
            let fits = rest.len() <= LENGTH_DIGITS_MAX && rest.iter().all(u8::is_ascii_digit);
            return if fits { Ok(None) } else { Err(NoResult) };
        };
        let length = std::str::from_utf8(&rest[..digits]).ok();
        let length = length.filter(|_| (1..=LENGTH_DIGITS_MAX).contains(&digits));
        let length: usize = length.and_then(|text| text.parse().ok()).ok_or(NoResult)?;
        if LISTENER_LINE_BYTES_MAX < length {
            return Err(NoResult);
        }
        let begin = RESULT.len() + digits + 1;
        let Some(body) = self.heard.get(begin..begin + length) else { return Ok(None) };
        let said = if body == b"OK" { Said::Done } else { Said::Failed };
        Ok(Some((said, begin + length)))
    }

    fn nonsense(&self) -> Said {
        const SHOWN_MAX: usize = 120;
        let shown = &self.heard[..self.heard.len().min(SHOWN_MAX)];
        Said::Nonsense(String::from_utf8_lossy(shown).escape_debug().to_string())
    }
}

struct NoResult;

enum Begins {
    Yes,
    NotYet,
    No,
}

fn begins_with(heard: &[u8], token: &[u8]) -> Begins {
    if heard.starts_with(token) {
        Begins::Yes
    } else if token.starts_with(heard) {
        Begins::NotYet
    } else {
        Begins::No
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn busy() -> Talk {
        Talk::resumed(TalkState::Busy)
    }

    #[test]
    fn a_listener_asks_works_and_answers() {
        let mut talk = Talk::default();
        assert_eq!(talk.hear(b"REA"), []);
        assert_eq!(talk.hear(b"DY\n"), [Said::Ready]);
        talk.sent();
        assert_eq!(talk.state(), TalkState::Busy);
        assert_eq!(talk.hear(b"RESULT 2\nO"), []);
        assert_eq!(talk.hear(b"KREADY\n"), [Said::Done, Said::Ready]);
        talk.sent();
        assert_eq!(talk.hear(b"RESULT 4\nFAIL"), [Said::Failed]);
        assert_eq!(talk.state(), TalkState::Acknowledged);
        assert_eq!(busy().hear(b"RESULT 0\n"), [Said::Failed], "anything but OK");
    }

    #[test]
    fn what_nobody_understands_ends_the_conversation() {
        for (state, text) in [
            (TalkState::Acknowledged, &b"hello\n"[..]),
            (TalkState::Acknowledged, b"READYX"),
            (TalkState::Ready, b"READY\n"),
            (TalkState::Busy, b"READY\n"),
            (TalkState::Busy, b"RESULT x\nOK"),
            (TalkState::Busy, b"RESULT \nOK"),
            (TalkState::Busy, b"RESULT -2\nOK"),
            (TalkState::Busy, b"RESULT 99999999"),
            (TalkState::Busy, b"RESULT 9000\n"),
        ] {
            let mut talk = Talk::resumed(state);
            let said = talk.hear(text);
            assert!(matches!(&said[..], [Said::Nonsense(_)]), "{state:?} {said:?}");
            assert_eq!(talk.state(), TalkState::Unknown);
            assert_eq!(talk.hear(b"READY\n"), [], "nothing it says counts any more");
        }
        let said = Talk::default().hear(b"READY\nprint\n");
        assert_eq!(said, [Said::Ready, Said::Nonsense("print\\n".into())]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_heard_without_a_panic_and_cost_little(
            pieces: Vec<Vec<u8>>, state in 0..3_usize
        ) {
            let states = [TalkState::Acknowledged, TalkState::Ready, TalkState::Busy];
            let mut talk = Talk::resumed(states[state]);
            for piece in pieces {
                talk.hear(&piece);
                prop_assert!(talk.heard.len() <= LISTENER_LINE_BYTES_MAX + 32);
            }
        }

        #[test]
        fn it_does_not_matter_how_the_bytes_are_cut(cuts in prop::collection::vec(1..9_usize, 0..30)) {
            let text = b"RESULT 2\nOKREADY\n";
            let mut talk = busy();
            let (mut said, mut rest) = (Vec::new(), &text[..]);
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                said.extend(talk.hear(piece));
                rest = after;
            }
            said.extend(talk.hear(rest));
            prop_assert_eq!(said, [Said::Done, Said::Ready]);
        }
    }
}
