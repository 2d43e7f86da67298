//! Readiness probes that need no process: TCP, HTTP and file. Each is one question with a limit
//! of time; what the answer means is the core's business.

use base::Answer;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use supervisor::Probe;
use sys::tree::Tree;
use tokio::net::TcpStream;

/// The processes of a run, as the hands share them.
type Shared = Arc<Mutex<Tree>>;

/// Asks. A command is no question for this function, and can't be told.
pub(crate) async fn ask(probe: &Probe, timeout: Duration) -> Answer {
    let question = async {
        match probe {
            Probe::Tcp(address) => tcp(address).await,
            Probe::Http { url, status } => http(url, *status).await,
            Probe::File(path) => file(path).await,
            Probe::Command(_) => Answer::CannotTell("a command is asked by running it".into()),
        }
    };
    match tokio::time::timeout(timeout, question).await {
        Ok(answer) => answer,
        Err(_) => Answer::No(format!(
            "no answer from {} within {}",
            target(probe),
            base::format_duration(timeout)
        )),
    }
}

/// How long the search for the holder of a port may take. Without an answer the message lacks it.
const SEARCH_MAX: Duration = Duration::from_secs(1);

/// Adds to the reason of a failure who holds the port, if that is a process of this machine and none
/// of the service's: it is asked in vain as long as somebody else answers.
pub(crate) async fn name_stranger(probe: &Probe, why: String, tree: Option<Shared>) -> String {
    let Some(at) = asked_here(probe) else { return why };
    let search = tokio::task::spawn_blocking(move || {
        // What is handed to services by their sockets is ours as well.
        let mut own = vec![std::process::id()];
        match &tree {
            // It is locked while it is being killed: then this is no matter any more.
            Some(tree) => own.extend(tree.try_lock().ok()?.members().iter().map(|one| one.pid)),
            None => return None,
        }
        sys::socket::stranger(&sys::socket::Address::Tcp(at), &own)
    });
    match tokio::time::timeout(SEARCH_MAX, search).await {
        Ok(Ok(Some((pid, command)))) => format!(
            "{why}; port {} is held by process {pid} ({command}), which is none of its own",
            at.port()
        ),
        _ => why,
    }
}

/// The address that is asked, if it is one of the loopback's, which is surely this machine.
fn asked_here(probe: &Probe) -> Option<SocketAddr> {
    let address = match probe {
        Probe::Tcp(address) => address.clone(),
        Probe::Http { url, .. } => {
            let uri: hyper::Uri = url.parse().ok()?;
            let authority = uri.authority()?;
            format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80))
        }
        Probe::File(_) | Probe::Command(_) => return None,
    };
    let address = match address.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => address,
    };
    address.parse().ok().filter(|at: &SocketAddr| at.ip().to_canonical().is_loopback())
}

fn target(probe: &Probe) -> &str {
    match probe {
        Probe::Tcp(target) | Probe::File(target) => target,
        Probe::Http { url, .. } => url,
        Probe::Command(argv) => argv.first().map_or("", String::as_str),
    }
}

async fn tcp(address: &str) -> Answer {
    match TcpStream::connect(address).await {
        Ok(_) => Answer::Yes,
        Err(error) => Answer::No(format!("cannot connect to {address}: {error}")),
    }
}

async fn file(path: &str) -> Answer {
    let looked_at = std::path::PathBuf::from(path);
    // A look at a file can hang with its disk: it is done off the loop.
    match tokio::task::spawn_blocking(move || looked_at.try_exists()).await {
        Ok(Ok(true)) => Answer::Yes,
        Ok(Ok(false)) => Answer::No(format!("{path} does not exist yet")),
        Ok(Err(error)) => Answer::CannotTell(format!("cannot look at {path}: {error}")),
        Err(error) => Answer::CannotTell(format!("cannot look at {path}: {error}")),
    }
}

async fn http(url: &str, wanted: Option<u16>) -> Answer {
    match http_status(url).await {
        Err(why) => Answer::No(format!("GET {url}: {why}")),
        Ok(status) => {
            let fine = match wanted {
                Some(wanted) => status == wanted,
                None => (200..=399).contains(&status),
            };
            match (fine, wanted) {
                (true, _) => Answer::Yes,
                (false, Some(wanted)) => {
                    Answer::No(format!("GET {url} answered {status}, {wanted} is wanted"))
                }
                (false, None) => Answer::No(format!("GET {url} answered {status}")),
            }
        }
    }
}

async fn http_status(url: &str) -> anyhow::Result<u16> {
    let uri: hyper::Uri = url.parse()?;
    let authority = uri.authority().ok_or_else(|| anyhow::anyhow!("the URL names no host"))?;
    let host = authority.host().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let request = hyper::Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, authority.as_str())
        .header(USER_AGENT, concat!("holdfast/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    // The connection is driven only as long as the answer's head is awaited: nobody reads a body.
    // It may end first with the answer already read: the answer is looked at first.
    let (response, connection) = (sender.send_request(request), connection);
    tokio::pin!(response, connection);
    tokio::select! {
        biased;
        response = &mut response => return Ok(response?.status().as_u16()),
        _ = &mut connection => {}
    }
    Ok(response.await?.status().as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const LONG: Duration = Duration::from_secs(20);

    async fn server(answer: &'static [u8]) -> (String, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        #[expect(clippy::disallowed_methods, reason = "the test awaits it")]
        let handle = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer).await;
        });
        (address, handle)
    }

    #[tokio::test]
    async fn a_probe_tells_yes_from_no_with_the_reason() {
        let (address, done) = server(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
        let url = format!("http://{address}/health");
        let answer = ask(&Probe::Http { url: url.clone(), status: None }, LONG).await;
        assert_eq!(answer, Answer::No(format!("GET {url} answered 503")));
        done.await.unwrap();
        // Nobody listens there any more.
        assert!(
            matches!(ask(&Probe::Tcp(address), LONG).await, Answer::No(why) if why.contains("refused"))
        );

        let (address, done) = server(b"HTTP/1.1 204 Fine\r\n\r\n").await;
        let probe = Probe::Http { url: format!("http://{address}"), status: Some(204) };
        assert_eq!(ask(&probe, LONG).await, Answer::Yes);
        done.await.unwrap();
    }

    #[test]
    fn only_this_machine_is_searched() {
        let http = |url: &str| asked_here(&Probe::Http { url: url.into(), status: None });
        let tcp = |address: &str| asked_here(&Probe::Tcp(address.into()));
        assert_eq!(tcp("localhost:81"), Some(([127, 0, 0, 1], 81).into()));
        assert_eq!(tcp("[::1]:81"), Some("[::1]:81".parse().unwrap()));
        assert_eq!(http("http://127.0.0.1/health"), Some(([127, 0, 0, 1], 80).into()));
        assert_eq!(http("http://[::1]:82/"), Some("[::1]:82".parse().unwrap()));
        assert_eq!((tcp("10.0.0.1:81"), http("http://db.example:81/")), (None, None));
        assert_eq!(asked_here(&Probe::File("/x:1".into())), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_costs_the_time_limit_and_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let answer = ask(&Probe::Http { url, status: None }, Duration::from_millis(50)).await;
        assert!(matches!(answer, Answer::No(why) if why.contains("within 50ms")));
    }
}
