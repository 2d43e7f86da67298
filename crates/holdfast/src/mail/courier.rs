//! The courier: hands over what waits, one mail at a time, as the outbox decides.
//!
//! Invariants: nothing blocks the loop (disk and name service are threads' work); one conversation at
//! a time; a mail is settled on disk before the outbox hears of it.

use super::message::{self, Headers};
use super::note::{Note, Notes};
use super::smtp::{Answers, Deadlines, Session};
use super::spool::{Mail, Spool};
use super::status::{self, Trouble};
use super::text::{self, Setting};
use anyhow::Context as _;
use base::WallTime;
use config::MailSettings;
use control::{MailView, Severity};
use lettre::message::Mailbox;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use supervisor::report::{Attempt, Letter, Outbox, OutboxInput, OutboxOutput, Purpose};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long the end waits for the mail under way.
const GOODBYE: Duration = Duration::from_secs(3);

/// A mail that was put off so often is news: a server that only makes strangers wait takes it long
/// before.
const PUT_OFF_NEWS: u32 = 5;

/// What is needed to make and send a mail.
#[derive(Clone)]
pub(crate) struct Post {
    pub(crate) settings: MailSettings,
    pub(crate) setting: Setting,
    pub(crate) from: Mailbox,
    /// Who is told, by what stands in the configuration.
    pub(crate) to: BTreeMap<String, Mailbox>,
    /// This state directory's own random name.
    pub(crate) identity: String,
    pub(crate) deadlines: Deadlines,
}

/// The courier's state.
pub(super) struct Courier {
    post: Arc<Post>,
    spool: Arc<Mutex<Spool>>,
    outbox: Outbox,
    notes: Notes,
    notice: watch::Sender<Option<String>>,
    work: JoinSet<Work>,
    session: Option<Session>,
    view: MailView,
    /// Mails that wait: when each was queued.
    queued: BTreeMap<u64, i64>,
    writing_status: bool,
    status_changed: bool,
}

/// What a task has done.
enum Work {
    Delivered { number: u64, session: Option<Session>, result: anyhow::Result<Answers> },
    Merged { gone: Vec<u64>, result: anyhow::Result<Mail> },
    StatusWritten,
    Closed,
}

impl Courier {
    pub(super) fn new(
        post: Post,
        spool: Arc<Mutex<Spool>>,
        notes: Notes,
        notice: watch::Sender<Option<String>>,
    ) -> Self {
        let seed = sys::clock::now().as_nanos() ^ u64::from(std::process::id());
        let queue_max = usize::try_from(post.settings.queue_max).unwrap_or(usize::MAX);
        let server = format!("{}:{}", post.settings.host, post.settings.port);
        Self {
            post: Arc::new(post),
            spool,
            outbox: Outbox::new(queue_max, seed),
            notes,
            notice,
            work: JoinSet::new(),
            session: None,
            view: MailView { server, waiting_max: queue_max as u64, ..MailView::default() },
            queued: BTreeMap::new(),
            writing_status: false,
            status_changed: true,
        }
    }

    /// Works until `stop`. `waiting` is what was queued before, `queued` what comes.
    pub(super) async fn run(
        mut self,
        waiting: Vec<Mail>,
        mut queued: mpsc::Receiver<Mail>,
        stop: CancellationToken,
    ) {
        for mail in waiting {
            self.take(&mail);
        }
        loop {
            self.show();
            let wake = self.outbox.next_wake();
            tokio::select! {
                // Each is cancel safe: nothing is taken out before it is ready.
                () = stop.cancelled() => break,
                Some(mail) = queued.recv() => self.take(&mail),
                Some(done) = self.work.join_next(), if !self.work.is_empty() => match done {
                    Ok(work) => self.done(work),
                    Err(error) => tracing::error!(%error, "a task of the mail duty has failed"),
                },
                () = sleep_until(wake) => self.input(OutboxInput::Tick),
            }
        }
        let finish = async { while self.work.join_next().await.is_some() {} };
        if tokio::time::timeout(GOODBYE, finish).await.is_err() {
            tracing::info!("a mail is under way at the end; it is sent again by the next start");
        }
        self.work.shutdown().await;
    }

    fn take(&mut self, mail: &Mail) {
        self.queued.insert(mail.number, mail.queued_us);
        let urgent = mail.letter().is_urgent();
        self.input(OutboxInput::Queued { number: mail.number, urgent, to: mail.to.clone() });
    }

    fn input(&mut self, input: OutboxInput) {
        let mut outputs = Vec::new();
        self.outbox.handle(sys::clock::now(), input, &mut outputs);
        self.status_changed = true;
        for output in outputs {
            match output {
                OutboxOutput::Deliver { number, to } => self.deliver(number, to),
                OutboxOutput::Merge { numbers } => {
                    let spool = Arc::clone(&self.spool);
                    self.work.spawn(async move {
                        let gone = numbers.clone();
                        let merge = move || lock(&spool).merge(&numbers);
                        Work::Merged { gone, result: blocking(merge).await }
                    });
                }
            }
        }
        if let Some(session) = self.session.take() {
            // Nothing more to say to it now.
            self.work.spawn(async move {
                session.close().await;
                Work::Closed
            });
        }
    }

    fn deliver(&mut self, number: u64, to: BTreeSet<String>) {
        let (post, spool) = (Arc::clone(&self.post), Arc::clone(&self.spool));
        let mut session = self.session.take();
        self.work.spawn(async move {
            let result = hand_over(&post, &spool, &mut session, number, to).await;
            Work::Delivered { number, session, result }
        });
    }

    fn done(&mut self, work: Work) {
        match work {
            Work::Delivered { number, session, result } => {
                self.session = session;
                let attempt = match result {
                    Ok(answers) => self.answered(number, answers),
                    Err(error) => {
                        status::trouble(&mut self.view, Trouble::Server, &format!("{error:#}"));
                        Attempt::NoServer
                    }
                };
                self.input(OutboxInput::Attempted { number, attempt });
                self.judge();
            }
            Work::Merged { gone, result } => self.merged(gone, result),
            Work::StatusWritten => self.writing_status = false,
            Work::Closed => {}
        }
    }

    fn answered(&mut self, number: u64, answers: Answers) -> Attempt {
        if !answers.delivered.is_empty() {
            self.view.delivered += 1;
        }
        for (recipient, why) in &answers.refused {
            self.notes.say(Note {
                kind: "mail.refused",
                severity: Severity::Error,
                message: format!(
                    "the mail server refuses mail to {recipient} for good: {why}; the mail is kept \
                     in mail/refused of the state directory"
                ),
            });
        }
        if let Some((recipient, why)) = answers.later.iter().next() {
            let words = format!("the mail server puts off mail to {recipient}: {why}");
            status::trouble(&mut self.view, Trouble::Recipient, &words);
        } else {
            self.queued.remove(&number);
        }
        Attempt::Answered { later: answers.later.into_keys().collect() }
    }

    fn merged(&mut self, gone: Vec<u64>, result: anyhow::Result<Mail>) {
        let mail = match result {
            Ok(mail) => mail,
            Err(error) => {
                tracing::warn!(error = %format!("{error:#}"), "mails that wait can't be merged");
                return self.input(OutboxInput::NotMerged);
            }
        };
        let many = gone.len();
        self.notes.say(Note {
            kind: "mail.merged",
            severity: Severity::Warning,
            message: format!("{many} mails that can't be delivered were merged into one"),
        });
        self.queued.retain(|number, _| !gone.contains(number));
        self.queued.insert(mail.number, mail.queued_us);
        let (urgent, to) = (mail.letter().is_urgent(), mail.to);
        self.input(OutboxInput::Merged { gone, number: mail.number, urgent, to });
    }

    /// Is it news how mails fare?
    fn judge(&mut self) {
        let put_off = self.outbox.waiting().iter().any(|mail| PUT_OFF_NEWS <= mail.failures);
        let standing = match &self.view.last_error {
            Some(error) if 0 < self.outbox.server_failures() || put_off => {
                Some(format!("mail is delayed: {error}"))
            }
            _ => None,
        };
        let before = self.notice.borrow().clone();
        if before == standing {
            return;
        }
        match (&before, &standing) {
            (None, Some(message)) => self.notes.say(Note {
                kind: "mail.delayed",
                severity: Severity::Warning,
                message: format!("{message}; it is kept, and tried again until it is delivered"),
            }),
            (Some(_), None) => self.notes.say(Note {
                kind: "mail.delivered",
                severity: Severity::Info,
                message: "mail is delivered again".to_owned(),
            }),
            _ => {}
        }
        self.notice.send_replace(standing);
    }

    /// Writes down how the queue stands, for those who look; one writing at a time.
    fn show(&mut self) {
        if !self.status_changed || self.writing_status {
            return;
        }
        self.status_changed = false;
        self.writing_status = true;
        status::look(&mut self.view, &self.outbox, &self.queued);
        let (spool, view) = (Arc::clone(&self.spool), self.view.clone());
        self.work.spawn(async move {
            let write = move || {
                let spool = lock(&spool);
                let (refused, merged) = spool.totals();
                spool.write_status(&MailView { refused, merged, ..view })
            };
            if let Err(error) = blocking(write).await {
                tracing::debug!(error = %format!("{error:#}"), "the mail status is not written");
            }
            Work::StatusWritten
        });
    }
}

/// Loads one mail, hands it over and settles it. An error is about the server, not the mail.
async fn hand_over(
    post: &Post,
    spool: &Arc<Mutex<Spool>>,
    session: &mut Option<Session>,
    number: u64,
    to: BTreeSet<String>,
) -> anyhow::Result<Answers> {
    let load = Arc::clone(spool);
    let answers = match blocking(move || lock(&load).load(number)).await {
        Ok(mail) => send(post, session, &mail, &to).await?,
        // It can't be sent ever: the next start sets it aside and says so.
        Err(error) => {
            tracing::error!(number, error = %format!("{error:#}"), "a mail that waits is lost");
            return Ok(Answers::default());
        }
    };
    tracing::info!(number, delivered = answers.delivered.len(), words = answers.words, "mail");
    let left: BTreeSet<String> = answers.later.keys().cloned().collect();
    let (refused, settle) = (answers.refused.clone(), Arc::clone(spool));
    if let Err(error) = blocking(move || lock(&settle).settle(number, &left, &refused)).await {
        // Sent again after a restart, with the same Message-ID.
        tracing::error!(number, error = %format!("{error:#}"), "a mail can't be settled");
    }
    Ok(answers)
}

async fn send(
    post: &Post,
    session: &mut Option<Session>,
    mail: &Mail,
    to: &BTreeSet<String>,
) -> anyhow::Result<Answers> {
    let letter = mail.letter();
    let bytes = post.compose(mail, &letter)?;
    let mut recipients = Vec::new();
    for name in to {
        recipients.push((name.clone(), message::address(name)?));
    }
    if let Some(mut used) = session.take() {
        // The server may have hung up meanwhile: then a new conversation is begun.
        if let Ok(answers) = used.deliver(&post.from.email, &recipients, &bytes, &mut |_| {}).await
        {
            *session = Some(used);
            return Ok(answers);
        }
    }
    let mut fresh = post.open(&mut |_| {}).await?;
    let answers = fresh.deliver(&post.from.email, &recipients, &bytes, &mut |_| {}).await?;
    *session = Some(fresh);
    Ok(answers)
}

impl Post {
    /// Of a checked configuration.
    pub(crate) fn new(
        settings: &MailSettings,
        setting: Setting,
        identity: String,
    ) -> anyhow::Result<Self> {
        let boxes = settings.to.iter().map(|to| Ok((to.clone(), message::mailbox(to)?)));
        Ok(Self {
            from: message::mailbox(&settings.from).context("`from` in [mail]")?,
            to: boxes.collect::<anyhow::Result<_>>().context("`to` in [mail]")?,
            settings: settings.clone(),
            setting,
            identity,
            deadlines: Deadlines::default(),
        })
    }

    /// Begins a conversation with the server.
    pub(crate) async fn open(&self, tell: super::smtp::Listener<'_>) -> anyhow::Result<Session> {
        Session::open(&self.settings, &self.setting.node, self.deadlines, tell).await
    }

    /// The Message-ID of a mail: the same each time.
    pub(crate) fn message_id(&self, number: u64, queued_us: i64) -> String {
        format!("<{queued_us}.{number}.{}@{}>", self.identity, self.from.email.domain())
    }

    fn compose(&self, mail: &Mail, letter: &Letter) -> anyhow::Result<Vec<u8>> {
        let headers = Headers {
            from: self.from.clone(),
            to: self.to.values().cloned().collect(),
            date_us: mail.queued_us,
            message_id: self.message_id(mail.number, mail.queued_us),
            urgent: letter.is_urgent(),
            purpose: match letter.purpose {
                Purpose::Incident => "incident",
                Purpose::Page => "page",
                Purpose::Digest => "digest",
                Purpose::Reminder => "reminder",
            },
        };
        let written = WallTime::from_micros(mail.queued_us);
        message::compose(&headers, &text::render(letter, written, &self.setting))
    }
}

fn lock(spool: &Mutex<Spool>) -> std::sync::MutexGuard<'_, Spool> {
    spool.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("a thread has failed")?
}

async fn sleep_until(wake: Option<base::Now>) {
    match wake {
        Some(wake) => tokio::time::sleep(sys::clock::now().until(wake)).await,
        None => std::future::pending().await,
    }
}
