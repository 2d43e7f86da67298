//! What a process writes, taken apart as supervisord does: output, and what stands between marks.
//!
//! Why text is held back: a mark may come in two halves, and so may a character.
//! Invariants: every byte is told once, in order, but for the marks and for a communication that is
//! longer than its limit or is never ended; at most a mark's length and the limit are held.
//! Source: the manual's "Capture Mode", and what supervisor 4.2.5 sent to a listener.

/// Begins a communication.
pub const BEGIN: &str = "<!--XSUPERVISOR:BEGIN-->";

/// Ends it.
pub const END: &str = "<!--XSUPERVISOR:END-->";

/// A piece of output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// Output, of a communication too: supervisord tells that as well.
    Text(String),
    /// All that stood between two marks, or the end of it.
    Communication(String),
}

/// One of the two outputs of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// Kept of one communication, in bytes; 0 = marks mean nothing.
    limit: usize,
    captured: Option<Vec<u8>>,
    held: Vec<u8>,
}

impl Output {
    /// Of a run that begins.
    pub fn new(limit: usize) -> Self {
        Self { limit, captured: None, held: Vec::new() }
    }

    /// It wrote this.
    pub fn hear(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        let mut rest = all.as_slice();
        while let Some(at) = self.mark().and_then(|mark| find(rest, mark.as_bytes())) {
            let mark = self.mark().map_or(0, str::len);
            let (before, after) = rest.split_at(at);
            self.tell(before, &mut pieces);
            self.captured = match self.captured.take() {
                None => Some(Vec::new()),
                Some(captured) => {
                    pieces.push(Piece::Communication(text(&captured)));
                    None
                }
            };
            rest = after.get(mark..).unwrap_or_default();
        }
        let half = self.mark().map_or(0, |mark| begun(rest, mark.as_bytes()));
        let (whole, held) = rest.split_at(rest.len() - half.max(half_character(rest)));
        self.held = held.to_vec();
        self.tell(whole, &mut pieces);
        pieces
    }

    /// The run is over: what was held back is told, and a communication that was not ended is none.
    pub fn end(&mut self) -> Vec<Piece> {
        let (mut pieces, held) = (Vec::new(), std::mem::take(&mut self.held));
        self.tell(&held, &mut pieces);
        self.captured = None;
        pieces
    }

    /// The mark that would change something now.
    fn mark(&self) -> Option<&'static str> {
        let next = if self.captured.is_some() { END } else { BEGIN };
        (0 < self.limit).then_some(next)
    }

    fn tell(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>) {
        if bytes.is_empty() {
            return;
        }
        if let Some(captured) = &mut self.captured {
            captured.extend_from_slice(bytes);
            captured.drain(..captured.len().saturating_sub(self.limit));
        }
        pieces.push(Piece::Text(text(bytes)));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}

/// How many of the last bytes may be the beginning of the mark.
fn begun(bytes: &[u8], mark: &[u8]) -> usize {
    (1..mark.len()).rev().find(|length| bytes.ends_with(&mark[..*length])).unwrap_or(0)
}

/// How many of the last bytes are the beginning of a character (RFC 3629).
fn half_character(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    match std::str::from_utf8(tail) {
        Err(error) if error.error_len().is_none() => tail.len() - error.valid_up_to(),
        // The tail may begin in the middle of one.
        Err(_) => {
            let begins = tail.iter().rposition(|byte| 0xC0 <= *byte);
            let begun = begins.map_or(&[][..], |at| &tail[at..]);
            let is_half =
                std::str::from_utf8(begun).is_err_and(|error| error.error_len().is_none());
            if is_half { begun.len() } else { 0 }
        }
        Ok(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(pieces: &[Piece]) -> Vec<String> {
        let one = |piece: &Piece| match piece {
            Piece::Text(text) => format!("log {text}"),
            Piece::Communication(text) => format!("comm {text}"),
        };
        pieces.iter().map(one).collect()
    }

    #[test]
    fn h27_what_stands_between_the_marks_is_a_communication_and_output_too() {
        let mut output = Output::new(100);
        let pieces = output.hear(format!("a\n{BEGIN}hello{END}b\n{BEGIN}{END}").as_bytes());
        assert_eq!(
            said(&pieces),
            ["log a\n", "log hello", "comm hello", "log b\n", "comm "].map(str::to_owned)
        );
        let mut deaf = Output::new(0);
        let text = format!("{BEGIN}x{END}");
        assert_eq!(deaf.hear(text.as_bytes()), [Piece::Text(text)]);
    }

    #[test]
    fn h27_a_communication_is_bounded_and_one_without_an_end_is_none() {
        let mut output = Output::new(4);
        output.hear(BEGIN.as_bytes());
        for _ in 0..1000 {
            output.hear(b"0123456789");
        }
        let pieces = output.hear(END.as_bytes());
        assert_eq!(pieces, [Piece::Communication("6789".to_owned())]);
        output.hear(format!("{BEGIN}lost<!--").as_bytes());
        assert_eq!(said(&output.end()), ["log <!--".to_owned()]);
        assert_eq!(said(&output.hear(b"next")), ["log next".to_owned()]);
    }

    #[test]
    fn h27_what_is_no_text_is_told_all_the_same() {
        let mut output = Output::new(0);
        assert_eq!(
            said(&output.hear(b"\xff\xfe\x80")),
            ["log \u{fffd}\u{fffd}\u{fffd}".to_owned()]
        );
        assert_eq!(said(&output.hear("ä€".as_bytes().get(..4).unwrap())), ["log ä".to_owned()]);
        assert_eq!(said(&output.hear("€".as_bytes().get(2..).unwrap())), ["log €".to_owned()]);
    }

    proptest! {
        /// However it is cut, the same is told.
        #[test]
        fn h27_how_output_is_cut_means_nothing(
            words in prop::collection::vec("a|ä|€|𝄞|<!--|<!--XSUPERVISOR:BEGIN-->|<!--XSUPERVISOR:END-->", 0..12),
            cuts in prop::collection::vec(1_usize..9, 0..60),
        ) {
            let all = words.concat();
            let told = |pieces: Vec<Piece>| {
                let (mut log, mut comms) = (String::new(), Vec::new());
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => log.push_str(&text),
                        Piece::Communication(text) => comms.push(text),
                    }
                }
                (log, comms)
            };
            let mut whole = Output::new(1000);
            let mut at_once = whole.hear(all.as_bytes());
            at_once.extend(whole.end());
            let mut output = Output::new(1000);
            let (mut rest, mut piecewise) = (all.as_bytes(), Vec::new());
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                piecewise.extend(output.hear(now));
                rest = later;
            }
            piecewise.extend(output.hear(rest));
            piecewise.extend(output.end());
            prop_assert_eq!(told(at_once), told(piecewise));
        }
    }
}
