//! Servers that misbehave. The ones that behave are real: `tests/it/mail.rs`.

use super::*;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const SHORT: Deadlines = Deadlines {
    resolve: Duration::from_secs(20),
    connect: Duration::from_secs(20),
    tls: Duration::from_secs(20),
    answer: Duration::from_millis(50),
    mail: Duration::from_millis(50),
};

const PATIENT: Deadlines =
    Deadlines { answer: Duration::from_secs(20), mail: Duration::from_secs(20), ..SHORT };

fn settings(port: u16, security: MailSecurity) -> MailSettings {
    MailSettings {
        to: vec!["a@x.example".into()],
        from: "h@x.example".into(),
        host: "127.0.0.1".into(),
        port,
        security,
        ca: None,
        user: None,
        password_file: None,
        severity: supervisor::Severity::Error,
        digest: Duration::from_mins(1),
        queue_max: 10,
    }
}

/// A server that takes one connection and plays its part.
async fn server<F, P>(part: P) -> u16
where
    P: FnOnce(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        part(stream).await;
    });
    tasks.detach_all();
    port
}

/// Answers each line with the next answer; `DATA`'s body is read to its end.
async fn script(stream: TcpStream, answers: &'static [&'static str]) {
    let mut stream = BufReader::new(stream);
    let mut answers = answers.iter();
    let mut body = false;
    while let Some(answer) = answers.next() {
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if !body || line == ".\r\n" {
                body = line == "DATA\r\n" && answer_is_next(&answers, "354");
                break;
            }
        }
    }
    // It says nothing more, and does not hang up either.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

fn answer_is_next(answers: &std::slice::Iter<'_, &str>, code: &str) -> bool {
    answers.as_slice().first().is_some_and(|next| next.starts_with(code))
}

async fn open(port: u16, security: MailSecurity, deadlines: Deadlines) -> anyhow::Result<Session> {
    Session::open(&settings(port, security), "n1", deadlines, &mut |_| {}).await
}

async fn why(port: u16, security: MailSecurity, deadlines: Deadlines) -> String {
    match open(port, security, deadlines).await {
        Ok(_) => panic!("it works"),
        Err(error) => format!("{error:#}"),
    }
}

async fn deliver(session: &mut Session, names: &[&str]) -> anyhow::Result<Answers> {
    let to: Vec<_> = names.iter().map(|n| ((*n).to_owned(), n.parse().unwrap())).collect();
    let from = "h@x.example".parse().unwrap();
    session.deliver(&from, &to, b"Subject: x\r\n\r\n.hidden\r\n", &mut |_| {}).await
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_costs_a_deadline() {
    let port = server(|stream| script(stream, &[""])).await;
    let why = why(port, MailSecurity::None, SHORT).await;
    assert_eq!(why, "the mail server has not answered to the greeting within 50ms");
}

#[tokio::test]
async fn a_server_that_stops_answering_in_the_middle_costs_a_deadline() {
    let port =
        server(|stream| script(stream, &["220 mx\r\n", "250 mx\r\n", "250 ok\r\n", ""])).await;
    let mut session = open(port, MailSecurity::None, PATIENT).await.unwrap();
    session.deadlines = SHORT;
    let why = deliver(&mut session, &["a@x.example"]).await.unwrap_err();
    assert_eq!(why.to_string(), "the mail server has not answered to RCPT within 50ms");
}

#[tokio::test]
async fn a_server_that_drips_without_an_end_is_left() {
    let port = server(|mut stream| async move {
        while stream.write_all(b"220").await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let why = why(port, MailSecurity::None, PATIENT).await;
    assert!(why.contains("does not end"), "{why}");
}

#[tokio::test]
async fn words_put_before_tls_are_not_taken_for_protected_ones() {
    let offer = "250-mx\r\n250 STARTTLS\r\n";
    let injected = "220 go\r\n250-mx\r\n250 AUTH PLAIN\r\n";
    let answers: &'static [&'static str] =
        Box::leak(vec!["220 mx\r\n", offer, injected].into_boxed_slice());
    let port = server(move |stream| script(stream, answers)).await;
    let why = why(port, MailSecurity::StartTls, PATIENT).await;
    assert!(why.contains("no protected connection"), "{why}");
}

#[tokio::test]
async fn starttls_that_was_taken_out_of_the_offer_ends_the_conversation() {
    let (tell, mut told) = tokio::sync::mpsc::channel(8);
    let port = server(|stream| async move {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 mx\r\n").await.unwrap();
        let mut line = String::new();
        while 0 < stream.read_line(&mut line).await.unwrap_or(0) {
            tell.send(std::mem::take(&mut line)).await.unwrap();
            let _ = stream.write_all(b"250-mx\r\n250 AUTH PLAIN LOGIN\r\n").await;
        }
    })
    .await;
    let why = why(port, MailSecurity::StartTls, PATIENT).await;
    assert!(why.contains("does not offer STARTTLS"), "{why}");
    assert_eq!(told.recv().await.as_deref(), Some("EHLO n1\r\n"));
    assert_eq!(told.recv().await, None, "nothing else is said to it");
}

#[tokio::test]
async fn each_recipient_and_each_mail_has_an_answer_and_421_is_about_the_server() {
    let port = server(|stream| {
        script(
            stream,
            &[
                "220 mx\r\n",
                "250 mx\r\n",
                "250 ok\r\n",
                "250 ok\r\n",
                "450-busy\r\n450 later\r\n",
                "550 5.1.1 no\r\n",
                "354 go\r\n",
                "250 queued\r\n",
                // The second mail is spam, the third is put off, the fourth meets a shutdown.
                "250 ok\r\n",
                "250 ok\r\n",
                "354 go\r\n",
                "554 spam\r\n",
                "451 not now\r\n",
                "250 reset\r\n",
                "250 ok\r\n",
                "421 going down\r\n",
            ],
        )
    })
    .await;
    let mut session = open(port, MailSecurity::None, PATIENT).await.unwrap();
    let names = ["a@x.example", "b@x.example", "c@x.example"];
    let first = deliver(&mut session, &names).await.unwrap();
    let pair = |name: &str, why: &str| BTreeMap::from([(name.to_owned(), why.to_owned())]);
    assert_eq!(first.delivered, ["a@x.example"]);
    assert_eq!(first.later, pair("b@x.example", "450 busy later"));
    assert_eq!(first.refused, pair("c@x.example", "550 5.1.1 no"));
    let second = deliver(&mut session, &names[..1]).await.unwrap();
    assert_eq!(second.refused, pair("a@x.example", "554 spam"));
    let third = deliver(&mut session, &names[..1]).await.unwrap();
    assert_eq!(third.later, pair("a@x.example", "451 not now"));
    let fourth = deliver(&mut session, &names[..1]).await.unwrap_err();
    assert!(fourth.to_string().contains("421 going down"), "{fourth}");
}

#[tokio::test]
async fn a_refused_sender_is_a_fault_of_the_configuration_and_costs_no_mail() {
    let port =
        server(|stream| script(stream, &["220 mx\r\n", "250 mx\r\n", "553 who are you\r\n"])).await;
    let mut session = open(port, MailSecurity::None, PATIENT).await.unwrap();
    let why = deliver(&mut session, &["a@x.example"]).await.unwrap_err().to_string();
    assert_eq!(why, "the mail server does not take mail from h@x.example: 553 who are you");
}

#[tokio::test]
async fn a_name_without_an_address_and_a_closed_port_are_told_apart() {
    let mut unknown = settings(25, MailSecurity::None);
    unknown.host = "no such name".into();
    let Err(why) = Session::open(&unknown, "n1", PATIENT, &mut |_| {}).await else {
        panic!("it works");
    };
    assert!(format!("{why:#}").contains("the mail server's name `no such name` has no address"));
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let why = self::why(closed, MailSecurity::None, PATIENT).await;
    assert!(why.starts_with("cannot connect to the mail server 127.0.0.1:"), "{why}");
}

#[test]
fn who_has_no_name_of_its_own_says_so() {
    assert_eq!(hello("n1.example.org").to_string(), "n1.example.org");
    assert_eq!(hello("my node").to_string(), "[127.0.0.1]");
}
