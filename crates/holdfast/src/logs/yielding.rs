//! The old duty's side of a handover: listens on `<run>/logs.sock` for one who asks us to yield.

use super::handover::YIELD_WAIT_MAX;
use super::protocol::{YieldRequest, Yielded};
use control::{decode_frame, encode_frame};
use rustix::process::geteuid;
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections that are being read at the same time; more are closed at once.
const CONNECTIONS_MAX: usize = 4;

/// Longest request.
const REQUEST_BYTES_MAX: usize = 1024;

/// The listening socket and those who have connected but not spoken yet.
#[derive(Debug)]
pub(super) struct Door {
    listener: UnixListener,
    path: PathBuf,
    reading: JoinSet<Option<Asker>>,
}

/// Somebody who has asked us to yield.
#[derive(Debug)]
pub(super) struct Asker {
    stream: UnixStream,
    request: YieldRequest,
}

impl Door {
    /// Listens at `path`. The caller holds the lock, so whatever is there is left over.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned(), reading: JoinSet::new() })
    }

    /// Waits for somebody entitled who asks us to yield. Cancel-safe.
    pub(super) async fn next(&mut self) -> Asker {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream),
                    // Out of descriptors: the others' end frees some. Until then, no spinning.
                    Err(_) => tokio::time::sleep(YIELD_WAIT_MAX).await,
                },
                Some(read) = self.reading.join_next() => {
                    if let Ok(Some(asker)) = read {
                        return asker;
                    }
                }
            }
        }
    }

    fn admit(&mut self, stream: UnixStream) {
        let own = geteuid().as_raw();
        let entitled = stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0);
        if entitled && self.reading.len() < CONNECTIONS_MAX {
            self.reading.spawn(async move { timeout(YIELD_WAIT_MAX, read(stream)).await.ok()? });
        }
    }

    /// Takes the name away, so that nobody finds a dead socket.
    pub(super) fn close(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn read(mut stream: UnixStream) -> Option<Asker> {
    let mut bytes = Vec::new();
    loop {
        if let Some((request, _)) = decode_frame(&bytes).ok()? {
            return Some(Asker { stream, request });
        }
        if REQUEST_BYTES_MAX < bytes.len() || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

impl Asker {
    pub(super) fn pid(&self) -> u32 {
        self.request.pid
    }

    /// Our last words.
    pub(super) async fn answer(mut self, yielded: &Yielded) {
        let Ok(frame) = encode_frame(yielded) else { return };
        // If it can't be said, the other one kills us: as good.
        let _ = timeout(YIELD_WAIT_MAX, self.stream.write_all(&frame)).await;
    }
}
