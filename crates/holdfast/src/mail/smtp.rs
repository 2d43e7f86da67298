//! One conversation with a mail server: connect, protect, log in, hand over mails.
//!
//! ```text
//! greeting · EHLO · (STARTTLS · TLS · EHLO) · (AUTH) · { MAIL · RCPT… · DATA · mail }… · QUIT
//! ```
//! Invariants: with protection configured nothing but STARTTLS is said before it is there, and there
//! is no way back to plain text; every step has a deadline; each recipient gets an answer of its own.
//! Source: RFC 5321, RFC 3207 (STARTTLS), RFC 4954 (AUTH), RFC 8314 (TLS from the first byte).

use super::secrets;
use super::wire::Wire;
use crate::cli::text::{clean, cut};
use anyhow::{Context as _, anyhow, bail};
use config::{MailSecurity, MailSettings};
use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Auth, Data, Ehlo, Mail, Quit, Rcpt, Rset, Starttls};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter, ServerInfo};
use lettre::transport::smtp::response::Response;
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Columns of a server's words that are repeated.
const WORDS_MAX: usize = 300;

/// How long each step may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// The server's name becomes an address.
    pub(crate) resolve: Duration,
    /// One address is connected to.
    pub(crate) connect: Duration,
    /// The TLS handshake.
    pub(crate) tls: Duration,
    /// Any answer. Some servers keep strangers waiting for half a minute on purpose.
    pub(crate) answer: Duration,
    /// The answer to a whole mail. Who gives up too early sends it twice (RFC 5321, 4.5.3.2.6).
    pub(crate) mail: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            tls: Duration::from_secs(20),
            answer: Duration::from_mins(1),
            mail: Duration::from_mins(5),
        }
    }
}

/// What became of one mail, by recipient (as it was given).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Answers {
    /// The server answers for these now.
    pub(crate) delivered: Vec<String>,
    /// Not now, with the server's words.
    pub(crate) later: BTreeMap<String, String>,
    /// Never, with the server's words.
    pub(crate) refused: BTreeMap<String, String>,
    /// The server's words to the whole mail.
    pub(crate) words: String,
}

/// Told of each step, in words.
pub(crate) type Listener<'a> = &'a mut (dyn FnMut(String) + Send);

/// A conversation in which mails can be handed over.
pub(crate) struct Session {
    connection: AsyncSmtpConnection,
    info: ServerInfo,
    deadlines: Deadlines,
}

/// What a server says to a command.
enum Said {
    Yes(Response),
    Later(String),
    No(String),
}

impl Session {
    /// Begins a conversation. An error is about the server or the configuration, not about a mail.
    pub(crate) async fn open(
        settings: &MailSettings,
        node: &str,
        deadlines: Deadlines,
        tell: Listener<'_>,
    ) -> anyhow::Result<Self> {
        let server = format!("{}:{}", settings.host, settings.port);
        let wire = connect(settings, deadlines, &server).await?;
        tell(format!("connected to {server} ({})", wire.peer()));
        if settings.security == MailSecurity::Tls {
            protect(&wire, settings, deadlines).await?;
            tell(format!("protected by {}", wire.protection().unwrap_or("TLS")));
        }
        let hello = hello(node);
        let greeting = AsyncSmtpConnection::connect_with_transport(Box::new(wire.clone()), &hello);
        let connection = within(deadlines.answer, "the greeting", greeting).await?;
        let connection =
            connection.map_err(|error| anyhow!("the mail server says {}", words(&error)));
        let connection = connection?;
        let info = connection.server_info().clone();
        let mut session = Self { connection, info, deadlines };
        tell(format!("{} says hello; it offers {}", session.name(), session.offers()));
        if settings.security == MailSecurity::StartTls {
            session.start_tls(&wire, settings, &hello).await?;
            tell(format!("protected by {}", wire.protection().unwrap_or("TLS")));
        }
        if let Some(user) = &settings.user {
            let protected = wire.protection().is_some() || wire.peer().ip().is_loopback();
            anyhow::ensure!(protected, "a password is never sent without protection");
            session.log_in(user, settings).await?;
            tell(format!("logged in as {user}"));
        }
        Ok(session)
    }

    /// Hands over one mail. `to`: each recipient as it was given, with its address.
    pub(crate) async fn deliver(
        &mut self,
        from: &Address,
        to: &[(String, Address)],
        mail: &[u8],
        tell: Listener<'_>,
    ) -> anyhow::Result<Answers> {
        let mut answers = Answers::default();
        let wide = !to.iter().all(|(_, address)| address.to_string().is_ascii())
            || !from.to_string().is_ascii();
        let can = self.info.supports_feature(Extension::SmtpUtfEight);
        if wide && !can {
            let why = "the mail server can't handle addresses with umlauts (SMTPUTF8)";
            answers.refused = to.iter().map(|(name, _)| (name.clone(), why.to_owned())).collect();
            return Ok(answers);
        }
        let parameters = if wide { vec![MailParameter::SmtpUtfEight] } else { Vec::new() };
        match self.say(Mail::new(Some(from.clone()), parameters), "MAIL").await? {
            Said::Yes(_) => tell(format!("it takes mail from {from}")),
            Said::Later(why) => {
                answers.later = to.iter().map(|(name, _)| (name.clone(), why.clone())).collect();
                self.reset().await?;
                return Ok(answers);
            }
            // Not about this mail: the next one would have the same sender.
            Said::No(why) => bail!("the mail server does not take mail from {from}: {why}"),
        }
        let mut taken = Vec::new();
        for (name, address) in to {
            match self.say(Rcpt::new(address.clone(), Vec::new()), "RCPT").await? {
                Said::Yes(_) => {
                    tell(format!("it takes mail to {address}"));
                    taken.push(name.clone());
                }
                Said::Later(why) => {
                    tell(format!("it does not take mail to {address} now: {why}"));
                    answers.later.insert(name.clone(), why);
                }
                Said::No(why) => {
                    tell(format!("it refuses mail to {address}: {why}"));
                    answers.refused.insert(name.clone(), why);
                }
            }
        }
        if taken.is_empty() {
            self.reset().await?;
            return Ok(answers);
        }
        self.hand_over(taken, mail, &mut answers).await?;
        if !answers.delivered.is_empty() {
            tell(format!("it has taken the mail: {}", answers.words));
        }
        Ok(answers)
    }

    /// Says goodbye; a server that does not answer is left.
    pub(crate) async fn close(mut self) {
        let limit = self.deadlines.connect;
        let _ = timeout(limit, self.connection.command(Quit)).await;
    }

    fn name(&self) -> String {
        cut(&clean(self.info.name()), WORDS_MAX)
    }

    fn offers(&self) -> String {
        let known = [
            Extension::StartTls,
            Extension::Authentication(Mechanism::Plain),
            Extension::Authentication(Mechanism::Login),
            Extension::EightBitMime,
            Extension::SmtpUtfEight,
        ];
        let offered = known.into_iter().filter(|extension| self.info.supports_feature(*extension));
        let offered = offered.map(|extension| extension.to_string()).collect::<Vec<_>>().join(", ");
        if offered.is_empty() { "nothing that we know".to_owned() } else { offered }
    }

    async fn start_tls(
        &mut self,
        wire: &Wire,
        settings: &MailSettings,
        hello: &ClientId,
    ) -> anyhow::Result<()> {
        if !self.info.supports_feature(Extension::StartTls) {
            bail!(
                "the mail server does not offer STARTTLS, and nothing is sent to it without: \
                 somebody may be in between, or it wants `security = \"tls\"` in [mail]"
            );
        }
        match self.say(Starttls, "STARTTLS").await? {
            Said::Yes(_) => {}
            Said::Later(why) | Said::No(why) => bail!("the mail server refuses STARTTLS: {why}"),
        }
        protect(wire, settings, self.deadlines).await?;
        // What it said before may have been said by anybody.
        match self.say(Ehlo::new(hello.clone()), "EHLO").await? {
            Said::Yes(response) => {
                self.info = ServerInfo::from_response(&response)
                    .map_err(|error| anyhow!("the mail server says {}", words(&error)))?;
                Ok(())
            }
            Said::Later(why) | Said::No(why) => bail!("the mail server refuses EHLO: {why}"),
        }
    }

    async fn log_in(&mut self, user: &str, settings: &MailSettings) -> anyhow::Result<()> {
        let path = settings.password_file.clone().context(
            "a user is configured for the mail server, but no password: set `password_file` in [mail]",
        )?;
        let password = blocking(move || secrets::password(&path)).await?;
        let credentials = Credentials::new(user.to_owned(), password);
        let Some(mechanism) = self.info.get_auth_mechanism(&[Mechanism::Plain, Mechanism::Login])
        else {
            bail!("the mail server offers no login that we know (PLAIN, LOGIN)");
        };
        let unusable = |_| anyhow!("the mail server asks for a login in a way that we don't know");
        let mut command = Auth::new(mechanism, credentials.clone(), None).map_err(unusable)?;
        // LOGIN asks twice.
        for _ in 0..4 {
            match self.say(command, "AUTH").await? {
                Said::Yes(response) if response.has_code(334) => {
                    command = Auth::new_from_response(mechanism, credentials.clone(), &response)
                        .map_err(unusable)?;
                }
                Said::Yes(_) => return Ok(()),
                Said::Later(why) | Said::No(why) => bail!(
                    "the mail server refuses the login of {user}: {why}; look at `user` and \
                     `password_file` in [mail]"
                ),
            }
        }
        bail!("the mail server asks again and again for the login of {user}")
    }

    async fn hand_over(
        &mut self,
        taken: Vec<String>,
        mail: &[u8],
        answers: &mut Answers,
    ) -> anyhow::Result<()> {
        let said = match self.say(Data, "DATA").await? {
            Said::Yes(_) => {
                let sent = self.connection.message(mail);
                let answer = within(self.deadlines.mail, "the mail", sent).await?;
                judge(answer)?
            }
            refusal => {
                self.reset().await?;
                refusal
            }
        };
        match said {
            Said::Yes(response) => {
                answers.words =
                    cut(&clean(&response.message().collect::<Vec<_>>().join(" ")), WORDS_MAX);
                answers.delivered = taken;
            }
            Said::Later(why) => answers.later.extend(taken.into_iter().map(|to| (to, why.clone()))),
            Said::No(why) => answers.refused.extend(taken.into_iter().map(|to| (to, why.clone()))),
        }
        Ok(())
    }

    async fn reset(&mut self) -> anyhow::Result<()> {
        self.say(Rset, "RSET").await.map(drop)
    }

    async fn say(&mut self, command: impl std::fmt::Display, name: &str) -> anyhow::Result<Said> {
        let answer = within(self.deadlines.answer, name, self.connection.command(command)).await?;
        judge(answer)
    }
}

/// An answer for one mail, or trouble with the server as a whole.
fn judge(answer: Result<Response, lettre::transport::smtp::Error>) -> anyhow::Result<Said> {
    let error = match answer {
        Ok(response) => return Ok(Said::Yes(response)),
        Err(error) => error,
    };
    let code = error.status().map(|code| code.to_string());
    match code.as_deref() {
        // It is about to close the connection (RFC 5321, 4.2.3).
        Some("421") | None => bail!("the mail server says {}", words(&error)),
        Some(_) if error.is_transient() => Ok(Said::Later(words(&error))),
        Some(_) => Ok(Said::No(words(&error))),
    }
}

/// What a server said, or why it said nothing.
fn words(error: &lettre::transport::smtp::Error) -> String {
    let said = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let said = match error.status() {
        Some(code) => format!("{code} {said}"),
        None => said,
    };
    cut(&clean(&said), WORDS_MAX)
}

async fn connect(
    settings: &MailSettings,
    deadlines: Deadlines,
    server: &str,
) -> anyhow::Result<Wire> {
    let host = bare(&settings.host).to_owned();
    let lookup = tokio::net::lookup_host((host, settings.port));
    let addresses = within(deadlines.resolve, "the name service", lookup).await?;
    let addresses: Vec<SocketAddr> = addresses
        .with_context(|| format!("the mail server's name `{}` has no address", settings.host))?
        .take(ADDRESSES_MAX)
        .collect();
    let mut last = anyhow!("the mail server's name `{}` has no address", settings.host);
    for address in addresses {
        match timeout(deadlines.connect, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(Wire::new(stream)?),
            Ok(Err(error)) => last = anyhow!("cannot connect to the mail server {server}: {error}"),
            Err(_) => {
                let limit = base::format_duration(deadlines.connect);
                last = anyhow!("cannot connect to the mail server {server} within {limit}");
            }
        }
    }
    Err(last)
}

async fn protect(wire: &Wire, settings: &MailSettings, deadlines: Deadlines) -> anyhow::Result<()> {
    let ca = settings.ca.clone();
    let trust = blocking(move || secrets::trust(ca.as_deref())).await?;
    let name = ServerName::try_from(bare(&settings.host).to_owned())
        .with_context(|| format!("`{}` is no host name", settings.host))?;
    let handshake = within(deadlines.tls, "the TLS handshake", wire.protect(trust, name)).await?;
    handshake.with_context(|| {
        format!(
            "no protected connection to the mail server {}: if its certificate is signed by an \
             authority of your own, set `ca` in [mail]",
            settings.host
        )
    })
}

/// A host name, or an address without the brackets of IPv6.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// As whom we introduce ourselves: by name, unless it is none (RFC 5321, 4.1.3).
fn hello(node: &str) -> ClientId {
    let is_name = !node.is_empty()
        && node.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    match is_name {
        true => ClientId::Domain(node.to_owned()),
        false => ClientId::Ipv4(Ipv4Addr::LOCALHOST),
    }
}

async fn within<T>(
    limit: Duration,
    what: &str,
    step: impl Future<Output = T>,
) -> anyhow::Result<T> {
    let limit_text = base::format_duration(limit);
    timeout(limit, step)
        .await
        .map_err(|_| anyhow!("the mail server has not answered to {what} within {limit_text}"))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("a thread has failed")?
}

#[cfg(test)]
mod tests;
