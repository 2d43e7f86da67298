//! The two pipes of one event listener's run: events go out, answers come in.
//!
//! Why two halves at once: a listener that writes while it does not read must not block the one who
//! waits to write to it.
//! Invariant: ends when either pipe does, and says so.
//! Source: fifo(7).

use std::io;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::mpsc;

/// Letters on their way: there is one at a time, see [`supervisord::Pool`].
pub(crate) const LETTERS_MAX: usize = 2;

/// Read at once.
const READ_BYTES: usize = 4 * 1024;

/// One run of one instance.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Speaker {
    pub(crate) instance: String,
    pub(crate) run: u64,
}

/// What comes of it.
#[derive(Debug)]
pub(crate) enum Heard {
    /// It wrote this.
    Said(Speaker, Vec<u8>),
    /// Its pipes are closed, or can't be used.
    Gone(Speaker, String),
}

/// Where its pipes lie.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    pub(crate) events: PathBuf,
    pub(crate) answers: PathBuf,
}

/// Talks until the end of either pipe.
pub(crate) async fn talk(
    speaker: Speaker,
    ends: Ends,
    letters: mpsc::Receiver<Vec<u8>>,
    heard: mpsc::Sender<Heard>,
) {
    let why = match open(&ends).await {
        Ok((sender, receiver)) => tokio::select! {
            why = write(sender, letters) => why,
            why = read(receiver, &speaker, &heard) => why,
        },
        Err(error) => Some(error.to_string()),
    };
    if let Some(why) = why {
        let _ = heard.send(Heard::Gone(speaker, why)).await;
    }
}

async fn open(ends: &Ends) -> io::Result<(Sender, Receiver)> {
    let ends = ends.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let at = |path: &Path| {
            let shown = path.display().to_string();
            move |error: io::Error| io::Error::new(error.kind(), format!("{shown}: {error}"))
        };
        let events = sys::fifo::open_for_writing(&ends.events).map_err(at(&ends.events))?;
        let answers = sys::fifo::open_for_reading(&ends.answers).map_err(at(&ends.answers))?;
        Ok::<_, io::Error>((events, answers))
    });
    let (events, answers) = opened.await.map_err(io::Error::other)??;
    Ok((Sender::from_owned_fd(events)?, Receiver::from_owned_fd(answers)?))
}

/// `None`: nobody wants to write any more, so nobody needs to be told.
async fn write(mut pipe: Sender, mut letters: mpsc::Receiver<Vec<u8>>) -> Option<String> {
    while let Some(letter) = letters.recv().await {
        if let Err(error) = pipe.write_all(&letter).await {
            return Some(format!("cannot write to it: {error}"));
        }
    }
    None
}

async fn read(
    mut pipe: Receiver,
    speaker: &Speaker,
    heard: &mpsc::Sender<Heard>,
) -> Option<String> {
    loop {
        let mut bytes = vec![0; READ_BYTES];
        match pipe.read(&mut bytes).await {
            Ok(0) => return Some("it has closed its output".to_owned()),
            Ok(read) => {
                bytes.truncate(read);
                if heard.send(Heard::Said(speaker.clone(), bytes)).await.is_err() {
                    return None;
                }
            }
            Err(error) => return Some(format!("cannot read from it: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read as _, Write as _};

    #[tokio::test]
    async fn letters_go_out_answers_come_in_and_the_end_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (events, answers) = (dir.path().join("a.1.in"), dir.path().join("a.1.events"));
        let fifo = |path: &Path| {
            sys::fifo::ensure(path).unwrap();
            File::from(sys::fifo::open_for_service(path).unwrap())
        };
        let (mut stdin, mut stdout) = (fifo(&events), fifo(&answers));
        // What it said before anybody listened is heard all the same.
        stdout.write_all(b"READY\n").unwrap();
        let speaker = Speaker { instance: "a".into(), run: 1 };
        let (letters, waiting) = mpsc::channel(LETTERS_MAX);
        let (tell, mut heard) = mpsc::channel(8);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(talk(speaker.clone(), Ends { events, answers }, waiting, tell));
        let Some(Heard::Said(who, said)) = heard.recv().await else { panic!("nothing") };
        assert_eq!((who, said.as_slice()), (speaker, &b"READY\n"[..]));
        letters.send(b"ver:3.0\n".to_vec()).await.unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = [0; 8];
            stdin.read_exact(&mut bytes).unwrap();
            (stdin, bytes)
        });
        let (stdin, bytes) = read.await.unwrap();
        assert_eq!(&bytes, b"ver:3.0\n");
        drop((stdin, stdout));
        let Some(Heard::Gone(_, why)) = heard.recv().await else { panic!("nothing") };
        assert!(why.contains("closed"), "{why}");
    }

    #[tokio::test]
    async fn pipes_that_are_not_there_are_an_end_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let ends = Ends { events: dir.path().join("x"), answers: dir.path().join("y") };
        let (_letters, waiting) = mpsc::channel(1);
        let (tell, mut heard) = mpsc::channel(1);
        talk(Speaker { instance: "a".into(), run: 1 }, ends, waiting, tell).await;
        let Some(Heard::Gone(_, why)) = heard.recv().await else { panic!("nothing") };
        assert!(why.contains("/x: "), "{why}");
    }
}
