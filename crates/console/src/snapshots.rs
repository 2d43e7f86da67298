//! Questions to the root that many people ask: put once at a time, answered to everybody who waits.
//!
//! Why: a hundred browsers that refresh must not become a hundred snapshots to be made by the root,
//! and anybody may ask `/healthz` as often as he likes.
//! Invariant: an answer was given after the question was put; at most one question of a kind is
//! under way at any time.

use crate::link::{LinkError, RootLink};
use control::{Reply, Request, Snapshot};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Those who wait together for one answer. Each has a connection, and these are bounded.
const WAITING_MAX: usize = 1024;

type Asker<T> = oneshot::Sender<Result<T, LinkError>>;

/// One kind of question; cheap to clone.
#[derive(Clone)]
pub(crate) struct Together<T> {
    asks: mpsc::Sender<Asker<T>>,
}

/// Snapshots of everything the root knows.
pub(crate) type Snapshots = Together<Arc<Snapshot>>;

/// Whether the root answers at all.
pub(crate) type Pulse = Together<()>;

impl Snapshots {
    /// Begins to serve snapshots.
    pub(crate) fn start(root: RootLink, tasks: &mut JoinSet<()>) -> Self {
        Self::serve(root, tasks, Request::Status, |reply| match reply {
            Reply::Status { snapshot } => Some(Arc::<Snapshot>::from(snapshot)),
            _ => None,
        })
    }
}

impl Pulse {
    /// Begins to feel the pulse.
    pub(crate) fn feel(root: RootLink, tasks: &mut JoinSet<()>) -> Self {
        Self::serve(root, tasks, Request::Ping, |reply| {
            matches!(reply, Reply::Pong { .. }).then_some(())
        })
    }
}

impl<T: Clone + Send + 'static> Together<T> {
    /// An answer to a question that is put after this call.
    pub(crate) async fn fresh(&self) -> Result<T, LinkError> {
        let (answer, answered) = oneshot::channel();
        self.asks.try_send(answer).map_err(|_| LinkError::Busy)?;
        answered.await.map_err(|_| LinkError::Gone)?
    }

    fn serve(
        root: RootLink,
        tasks: &mut JoinSet<()>,
        request: Request,
        read: fn(Reply) -> Option<T>,
    ) -> Self {
        let (asks, waiting) = mpsc::channel(WAITING_MAX);
        tasks.spawn(answer_all(root, waiting, request, read));
        Self { asks }
    }
}

async fn answer_all<T: Clone>(
    root: RootLink,
    mut waiting: mpsc::Receiver<Asker<T>>,
    request: Request,
    read: fn(Reply) -> Option<T>,
) {
    let mut together = Vec::new();
    // `recv_many` takes all that wait now; those who come while the root is asked get the next one.
    while 0 < waiting.recv_many(&mut together, WAITING_MAX).await {
        let reply = root.ask(request.clone()).await;
        let answer = reply.and_then(|reply| read(reply).ok_or(LinkError::Unexpected));
        for asker in together.drain(..) {
            // Who has gone away does not want it any more.
            let _ = asker.send(answer.clone());
        }
    }
}
