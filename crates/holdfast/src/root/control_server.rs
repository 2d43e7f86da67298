//! The control socket: frames in, requests to the loop, replies out.
//!
//! Served by the root, so that `status`, `why` and `stop` work when everything else is on fire.
//! A duty's inherited socket pair is served by the same code.

use control::{
    Caller, Envelope, ErrorCode, EventRecord, FRAME_BYTES_MAX, Fault, Reply, Request, Role,
    decode_frame, encode_frame,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{broadcast, mpsc, oneshot};

/// Connections at one time; more are closed at once. Each costs a descriptor and a few KiB; a client that leaks them must
/// not take the root's descriptors.
pub(crate) const CONNECTIONS_MAX: usize = 128;

/// Of these, connections of anybody but root and our own user.
pub(crate) const OTHERS_CONNECTIONS_MAX: usize = 64;

/// Requests that wait for the loop.
pub(crate) const REQUESTS_MAX: usize = 256;

/// Events that wait for one subscriber; one that is further behind loses its connection, and
/// reads what it missed from the journal.
pub(crate) const SUBSCRIBER_LAG_MAX: usize = 4096;

/// A request frame longer than this is none of ours.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// A client that does not take its answer is given up after this long.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

const _: () = assert!(REQUEST_BYTES_MAX <= FRAME_BYTES_MAX);

/// A request on its way to the loop, with the way back.
pub(crate) struct Asked {
    pub(crate) caller: Caller,
    pub(crate) request: Request,
    pub(crate) answer: oneshot::Sender<Reply>,
}

/// What a connection needs.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) requests: mpsc::Sender<Asked>,
    pub(crate) events: broadcast::Sender<Arc<EventRecord>>,
}

/// Serves one connection to its end. `duty` may ask on behalf of others.
pub(crate) async fn serve(stream: UnixStream, caller: Caller, door: Door, duty: bool) {
    let peer = caller.name.clone();
    if let Err(error) = converse(stream, caller, door, duty).await {
        tracing::debug!(peer, error = %format!("{error:#}"), "control connection ended");
    }
}

async fn converse(
    stream: UnixStream,
    caller: Caller,
    door: Door,
    duty: bool,
) -> anyhow::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let mut buffer = Vec::with_capacity(4096);
    let mut events: Option<broadcast::Receiver<Arc<EventRecord>>> = None;
    loop {
        while let Some((envelope, used)) = decode_frame::<Envelope<serde_json::Value>>(&buffer)? {
            buffer.drain(..used);
            let reply = answer(&envelope, &caller, &door, duty, &mut events).await;
            send(&mut writer, &Envelope { id: envelope.id, body: reply }).await?;
        }
        anyhow::ensure!(buffer.len() <= REQUEST_BYTES_MAX, "a request that is too long");
        tokio::select! {
            // Cancel safe: what has been read is in `buffer`.
            read = reader.read_buf(&mut buffer) => if read? == 0 { return Ok(()) },
            event = next_event(&mut events, duty) => {
                let event = Box::new((*event?).clone());
                send(&mut writer, &Envelope { id: 0, body: Reply::Event { event } }).await?;
            }
        }
    }
}

async fn next_event(
    events: &mut Option<broadcast::Receiver<Arc<EventRecord>>>,
    duty: bool,
) -> anyhow::Result<Arc<EventRecord>> {
    let Some(events) = events else { return std::future::pending().await };
    loop {
        match events.recv().await {
            // A duty reads the files; any later event nudges it as well as those it has missed.
            Err(broadcast::error::RecvError::Lagged(_)) if duty => {}
            event => return Ok(event?),
        }
    }
}

async fn answer(
    envelope: &Envelope<serde_json::Value>,
    caller: &Caller,
    door: &Door,
    duty: bool,
    events: &mut Option<broadcast::Receiver<Arc<EventRecord>>>,
) -> Reply {
    let request: Request = match serde_json::from_value(envelope.body.clone()) {
        Ok(request) => request,
        Err(error) => {
            return fault(
                ErrorCode::Unsupported,
                format!("this version of holdfast does not know the request: {error}"),
                "use the `holdfast` command of the version that runs (`holdfast status` shows it)",
            );
        }
    };
    let (caller, request) = match request {
        Request::OnBehalf { caller, request } if duty => (caller, *request),
        Request::OnBehalf { .. } | Request::Record { .. } | Request::Notice { .. } if !duty => {
            return fault(ErrorCode::Forbidden, "only holdfast's own duties may ask this", "");
        }
        request => (caller.clone(), request),
    };
    if caller.role < request.needs() {
        let help = "ask an operator, or be listed in `operators` of `[api]` in the configuration";
        return fault(ErrorCode::Forbidden, format!("{} may not do this", caller.name), help);
    }
    if request == Request::Subscribe {
        *events = Some(door.events.subscribe());
        return Reply::Done { message: "subscribed".into(), instances: Vec::new() };
    }
    let (sender, receiver) = oneshot::channel();
    let asked = Asked { caller, request, answer: sender };
    if door.requests.send(asked).await.is_err() {
        return fault(ErrorCode::Conflict, "holdfast is ending", "");
    }
    receiver.await.unwrap_or_else(|_| fault(ErrorCode::Internal, "the request was dropped", ""))
}

async fn send(writer: &mut OwnedWriteHalf, message: &Envelope<Reply>) -> anyhow::Result<()> {
    let frame = encode_frame(message)?;
    tokio::time::timeout(WRITE_TIMEOUT, writer.write_all(&frame)).await??;
    Ok(())
}

/// A refusal.
pub(crate) fn fault(code: ErrorCode, message: impl Into<String>, help: &str) -> Reply {
    Reply::Failed(Fault { code, message: message.into(), help: help.to_owned() })
}

/// Whether the other end is root or our own user. Asks the kernel alone.
pub(crate) fn is_owner(stream: &UnixStream) -> bool {
    let peer = stream.peer_cred().map(|peer| peer.uid());
    peer.is_ok_and(|uid| uid == 0 || uid == sys::users::effective_uid())
}

/// Who is at the other end of a control connection, and what they may.
pub(crate) async fn identify(stream: &UnixStream, api: config::ApiSettings) -> Caller {
    use std::os::fd::AsFd;
    let nobody =
        |why: String| Caller { name: format!("somebody unknown ({why})"), role: Role::None };
    let peer = match sys::socket::unix_peer(stream.as_fd()) {
        Ok(peer) => peer,
        Err(error) => return nobody(error.to_string()),
    };
    if peer.uid == 0 {
        // `holdfast stop` has to work also where the user database does not answer.
        return Caller { name: "uid 0 (root)".into(), role: Role::Act };
    }
    // Names are looked up in the user database, which may be far away: off the loop.
    let looked_up = tokio::task::spawn_blocking(move || {
        let own_uid = sys::users::effective_uid();
        let role = console::role_of_peer(&api, &peer, own_uid, &console::SystemNames);
        let user = sys::users::name_of_uid(peer.uid);
        let user = user.map_or(String::new(), |name| format!(" ({name})"));
        Caller { name: format!("uid {}{user}", peer.uid), role }
    });
    looked_up.await.unwrap_or_else(|error| nobody(error.to_string()))
}
