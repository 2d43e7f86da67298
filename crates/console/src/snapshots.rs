//! Snapshots of the root: asked for once at a time, shared by everybody who waits.
//!
//! Why: a hundred browsers that refresh must not become a hundred snapshots to be made by the
//! root.
//! Invariant: a snapshot that answers a request was taken after the request was made; at most one
//! is being asked for at any time.

use crate::link::{LinkError, RootLink};
use control::{Reply, Request, Snapshot};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Requests for a snapshot that wait together.
const WAITING_MAX: usize = 512;

type Answer = Result<Arc<Snapshot>, LinkError>;

/// Where snapshots come from; cheap to clone.
#[derive(Clone)]
pub(crate) struct Snapshots {
    asks: mpsc::Sender<oneshot::Sender<Answer>>,
}

impl Snapshots {
    /// Begins to serve snapshots.
    pub(crate) fn start(root: RootLink, tasks: &mut JoinSet<()>) -> Self {
        let (asks, waiting) = mpsc::channel(WAITING_MAX);
        tasks.spawn(serve(root, waiting));
        Self { asks }
    }

    /// A snapshot taken after this call.
    pub(crate) async fn fresh(&self) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.asks.try_send(answer).map_err(|_| LinkError::Busy)?;
        answered.await.map_err(|_| LinkError::Gone)?
    }
}

async fn serve(root: RootLink, mut waiting: mpsc::Receiver<oneshot::Sender<Answer>>) {
    let mut together = Vec::new();
    // `recv_many` takes all that wait now; those who come while the root is asked get the next one.
    while 0 < waiting.recv_many(&mut together, WAITING_MAX).await {
        let answer = match root.ask(Request::Status).await {
            Ok(Reply::Status { snapshot }) => Ok(Arc::<Snapshot>::from(snapshot)),
            Ok(_) => Err(LinkError::Unexpected),
            Err(error) => Err(error),
        };
        for asker in together.drain(..) {
            let _ = asker.send(answer.clone());
        }
    }
}
