//! The link to the root: requests and replies by number over the inherited socket pair, and the
//! events the root pushes.
//!
//! Why: the root must never wait for us, and we must never wait for the root without an end. Each
//! request has a deadline, the number of requests under way is bounded, and a silent root becomes
//! an answer that says so.
//! Invariants: a reply goes to the request with its number or nowhere; end of file or a frame that
//! can't be read means that the root is gone for good.
//! Source: crate `control` (frames, requests, replies).

use control::{Envelope, Reply, Request, decode_frame, encode_frame};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Requests under way at one time. The root answers each within a turn of its loop; more than this
/// waiting means that it does not turn, and more of them would not help.
pub const LINK_REQUESTS_MAX: usize = 64;

/// How long a request may take. A reload reads the configuration and the user database, which may
/// be slow; everything else takes a millisecond.
pub const LINK_DEADLINE: Duration = Duration::from_secs(10);

const READ_BYTES: usize = 64 * 1024;

/// Why the root gave no usable answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LinkError {
    /// [`LINK_REQUESTS_MAX`] requests wait already.
    #[error("holdfast's root process has {LINK_REQUESTS_MAX} requests waiting already")]
    Busy,
    /// The link is closed.
    #[error("holdfast's root process has closed the link")]
    Gone,
    /// No answer within [`LINK_DEADLINE`].
    #[error("holdfast's root process has not answered within {} s", LINK_DEADLINE.as_secs())]
    Late,
    /// An answer to another question.
    #[error("holdfast's root process gave an answer to another question")]
    Unexpected,
}

/// Told of every event that the root pushes.
pub trait Pushed: Send + 'static {
    /// An event has happened; its file record may be written a moment later.
    fn pushed(&mut self, event: &control::EventRecord);
}

type Pending = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Reply>>>>;

/// The asking end; cheap to clone.
#[derive(Clone)]
pub struct RootLink {
    outbox: mpsc::Sender<Vec<u8>>,
    pending: Pending,
    next: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

impl RootLink {
    /// Takes over the socket. `gone` is cancelled when the root has closed it.
    pub fn start(
        stream: UnixStream,
        tasks: &mut JoinSet<()>,
        gone: CancellationToken,
        pushed: impl Pushed,
    ) -> Self {
        let (reader, writer) = stream.into_split();
        let (outbox, frames) = mpsc::channel(LINK_REQUESTS_MAX);
        let pending = Pending::default();
        tasks.spawn(write_frames(writer, frames));
        tasks.spawn(read_frames(reader, Arc::clone(&pending), gone, pushed));
        Self { outbox, pending, next: Arc::default(), refused: Arc::default() }
    }

    /// Asks, and waits for the answer at most [`LINK_DEADLINE`].
    pub async fn ask(&self, request: Request) -> Result<Reply, LinkError> {
        self.ask_within(request, LINK_DEADLINE).await
    }

    /// Requests waiting for their answer.
    pub(crate) fn depth(&self) -> usize {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Requests refused because too many were waiting.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    async fn ask_within(&self, request: Request, deadline: Duration) -> Result<Reply, LinkError> {
        let id = 1 + self.next.fetch_add(1, Ordering::Relaxed);
        let frame =
            encode_frame(&Envelope { id, body: request }).map_err(|_| LinkError::Unexpected)?;
        let (answer, answered) = oneshot::channel();
        {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            if LINK_REQUESTS_MAX <= pending.len() {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(LinkError::Busy);
            }
            pending.insert(id, answer);
        }
        // Takes the number back however this ends, also when the asking client goes away.
        let _forget = Forget { pending: &self.pending, id };
        self.outbox.try_send(frame).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => LinkError::Busy,
            mpsc::error::TrySendError::Closed(_) => LinkError::Gone,
        })?;
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(LinkError::Gone),
            Err(_) => Err(LinkError::Late),
        }
    }
}

struct Forget<'a> {
    pending: &'a Pending,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

async fn write_frames(mut writer: OwnedWriteHalf, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        if let Err(error) = writer.write_all(&frame).await {
            tracing::warn!(%error, "cannot write to the root");
            return;
        }
    }
}

async fn read_frames(
    mut reader: OwnedReadHalf,
    pending: Pending,
    gone: CancellationToken,
    mut pushed: impl Pushed,
) {
    let mut buffer: Vec<u8> = Vec::with_capacity(READ_BYTES);
    loop {
        match reader.read_buf(&mut buffer).await {
            Ok(0) => {
                tracing::info!("the root has closed the link");
                break;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot read from the root");
                break;
            }
        }
        if let Err(error) = take_frames(&mut buffer, &pending, &mut pushed) {
            tracing::error!(%error, "the root sent a frame that can't be read");
            break;
        }
    }
    // Dropping the askers' ends tells every one of them that no answer will come.
    pending.lock().unwrap_or_else(PoisonError::into_inner).clear();
    gone.cancel();
}

fn take_frames(
    buffer: &mut Vec<u8>,
    pending: &Pending,
    pushed: &mut impl Pushed,
) -> Result<(), control::FrameError> {
    let mut taken = 0;
    while let Some((envelope, used)) = decode_frame::<Envelope<Reply>>(&buffer[taken..])? {
        taken += used;
        match envelope.body {
            Reply::Event { event } => pushed.pushed(&event),
            reply => {
                let asker =
                    pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&envelope.id);
                if let Some(asker) = asker {
                    // An asker that has gone away does not want it any more.
                    let _ = asker.send(reply);
                }
            }
        }
    }
    buffer.drain(..taken);
    // A big snapshot must not be paid for for ever.
    if buffer.is_empty() && 16 * READ_BYTES < buffer.capacity() {
        buffer.shrink_to(READ_BYTES);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ignore;

    impl Pushed for Ignore {
        fn pushed(&mut self, _event: &control::EventRecord) {}
    }

    fn link() -> (RootLink, UnixStream, CancellationToken, JoinSet<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (gone, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let link = RootLink::start(ours, &mut tasks, gone.clone(), Ignore);
        (link, theirs, gone, tasks)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_root_is_an_answer_and_leaves_nothing_waiting() {
        let (link, _theirs, _gone, _tasks) = link();
        assert_eq!(link.ask(Request::Ping).await, Err(LinkError::Late));
        assert_eq!(link.depth(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_requests_are_refused_at_once() {
        let (link, _theirs, _gone, _tasks) = link();
        let mut asks = JoinSet::new();
        for _ in 0..LINK_REQUESTS_MAX + 3 {
            let link = link.clone();
            asks.spawn(async move { link.ask(Request::Ping).await });
        }
        let answers = asks.join_all().await;
        let busy = answers.iter().filter(|answer| **answer == Err(LinkError::Busy)).count();
        assert_eq!((busy, link.refused()), (3, 3));
    }

    #[tokio::test]
    async fn the_end_of_the_root_ends_every_request_and_says_so() {
        let (link, theirs, gone, _tasks) = link();
        let asked = tokio::join!(link.ask(Request::Ping), async {
            theirs.readable().await.unwrap();
            drop(theirs);
        });
        assert_eq!(asked.0, Err(LinkError::Gone));
        gone.cancelled().await;
    }

    #[tokio::test]
    async fn an_absurd_frame_ends_the_link() {
        let (_link, mut theirs, gone, _tasks) = link();
        theirs.write_all(&[0xFF; 16]).await.unwrap();
        gone.cancelled().await;
    }
}
