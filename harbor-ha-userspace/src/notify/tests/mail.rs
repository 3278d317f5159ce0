//! Mail to a server on the other side of a socket. It speaks the dialogue of RFC 5321 as far as it is used; its TLS is a
//! real one, by rustls, with a certificate made for the test.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::super::*;
use super::{LONG, event};

/// What a server saw: each line of a client, and `TLS` where the connection became one.
type Seen = mpsc::UnboundedReceiver<String>;

#[derive(Clone, Default)]
struct Server {
    tls: Option<TlsAcceptor>,
    login: bool,
    /// The answers to `RCPT`, the last of them for ever; by default it is accepted.
    answers: Arc<std::sync::Mutex<Vec<&'static str>>>,
}

impl Server {
    async fn start(self) -> (u16, Seen) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("its port").port();
        let (tell, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, tell) = (self.clone(), tell.clone());
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    say(&mut stream, "220 test ESMTP").await;
                    if server.talk(&mut stream, false, &tell).await
                        && let Some(tls) = &server.tls
                        && let Ok(stream) = tls.accept(stream.into_inner()).await
                    {
                        let _nobody_looks = tell.send("TLS".to_owned());
                        server.talk(&mut BufReader::new(stream), true, &tell).await;
                    }
                });
            }
        });
        (port, seen)
    }

    /// True when the client wants TLS.
    async fn talk<S>(&self, stream: &mut BufReader<S>, secure: bool, tell: &mpsc::UnboundedSender<String>) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut line = String::new();
        let mut data = false;
        loop {
            line.clear();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return false;
            }
            let words = line.trim_end();
            let _nobody_looks = tell.send(words.to_owned());
            let answer = match words.split([' ', ':']).next().unwrap_or_default() {
                _ if data && words != "." => continue,
                "." => {
                    data = false;
                    "250 taken"
                }
                "EHLO" if self.tls.is_some() && !secure => "250-test\r\n250 STARTTLS",
                "EHLO" if self.login => "250-test\r\n250 AUTH PLAIN",
                "EHLO" => "250 test",
                "STARTTLS" => {
                    say(stream, "220 go ahead").await;
                    return true;
                }
                "AUTH" => "235 known",
                "RCPT" => {
                    let mut answers = self.answers.lock().expect("no panic");
                    if answers.len() > 1 { answers.remove(0) } else { answers.first().copied().unwrap_or("250 fine") }
                }
                "DATA" => {
                    data = true;
                    "354 go on"
                }
                "QUIT" => "221 bye",
                _ => "250 fine",
            };
            say(stream, answer).await;
        }
    }
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>, line: &str) {
    // A client that is gone is seen at the next line.
    let _gone = stream.write_all(format!("{line}\r\n").as_bytes()).await;
    let _gone = stream.flush().await;
}

/// A certificate for `localhost`, in a file and at a server.
fn certificate() -> (TempDir, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("ca.pem"), made.cert.pem()).expect("our folder");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("they belong together");
    (folder, TlsAcceptor::from(Arc::new(config)))
}

fn mail(port: u16, tls: Tls) -> Mail {
    Mail {
        server: "localhost".to_owned(),
        port,
        from: "Router <router@example.com>".to_owned(),
        to: vec!["a@example.com".to_owned(), "b@example.com".to_owned()],
        helo: Some("router.example.com".to_owned()),
        timeout: LONG,
        tls,
        ca_file: None,
        login: None,
        faults: true,
    }
}

fn notifier(mail: Mail) -> Notifier {
    let receiver = |kind, name: &str, mail| Receiver {
        kind,
        name: name.to_owned(),
        scripts: Scripts::default(),
        mail,
        priority_changes: true,
    };
    let receivers = vec![
        receiver(Kind::Instance, "VI_1", true),
        receiver(Kind::Group, "G", true),
        receiver(Kind::Instance, "VI_2", false),
    ];
    let settings = Settings { router_id: "router".to_owned(), receivers, fifo: None, mail: Some(mail) };
    Notifier::start(settings).expect("good settings")
}

/// Everything that was seen so far.
fn lines(seen: &mut Seen) -> Vec<String> {
    std::iter::from_fn(|| seen.try_recv().ok()).collect()
}

fn starting<'a>(lines: &'a [String], with: &str) -> Vec<&'a str> {
    lines.iter().filter(|line| line.starts_with(with)).map(String::as_str).collect()
}

#[tokio::test]
async fn a_mail_is_worded_as_keepalived_does() {
    let (port, mut seen) = Server::default().start().await;
    let notifier = notifier(mail(port, Tls::None));
    for state in [State::Master, State::Master, State::MasterPriority, State::LowerPriority, State::Fault, State::Stop]
    {
        notifier.tell(&event("VI_1", state, 100));
        notifier.tell(&event("VI_2", state, 100));
    }
    notifier.tell(&Event { kind: Kind::Group, name: "G".into(), state: State::Backup, priority: 0 });
    notifier.stop(LONG).await;
    let lines = lines(&mut seen);
    let subjects = [
        "Subject: [router] VRRP Instance VI_1 - Entering MASTER state",
        "Subject: [router] VRRP Instance VI_1 - Entering FAULT state",
        "Subject: [router] VRRP Instance VI_1 - Stopping",
        "Subject: [router] VRRP Group G - Entering BACKUP state",
    ];
    assert_eq!(starting(&lines, "Subject:"), subjects, "each state once, and none of VI_2's");
    let bodies = [
        "=> VRRP Instance is now owning VRRP VIPs <=",
        "=> VRRP Instance is no longer owning VRRP VIPs <=",
        "=> VRRP Instance stopping <=",
        "=> All VRRP group instances are now in BACKUP state <=",
    ];
    assert_eq!(starting(&lines, "=>"), bodies);
    assert_eq!(starting(&lines, "EHLO")[0], "EHLO router.example.com");
    assert_eq!(starting(&lines, "MAIL FROM")[0], "MAIL FROM:<router@example.com>");
    assert_eq!(starting(&lines, "RCPT TO")[..2], ["RCPT TO:<a@example.com>", "RCPT TO:<b@example.com>"]);
}

#[tokio::test]
async fn a_havip_that_stays_away_is_told_each_time_and_hides_no_state() {
    let (port, mut seen) = Server::default().start().await;
    let notifier = notifier(Mail { faults: false, ..mail(port, Tls::None) });
    for state in
        [State::Master, State::HaVipAstray, State::HaVipFollowed, State::HaVipAstray, State::Master, State::Stop]
    {
        notifier.tell(&event("VI_1", state, 100));
    }
    notifier.tell(&event("VI_2", State::HaVipAstray, 100));
    notifier.stop(LONG).await;
    let subjects = [
        "Subject: [router] VRRP Instance VI_1 - Entering MASTER state",
        "Subject: [router] VRRP Instance VI_1 - HaVip did not follow",
        "Subject: [router] VRRP Instance VI_1 - HaVip has followed",
        "Subject: [router] VRRP Instance VI_1 - HaVip did not follow",
        "Subject: [router] VRRP Instance VI_1 - Stopping",
    ];
    assert_eq!(starting(&lines(&mut seen), "Subject:"), subjects);
}

#[tokio::test]
async fn faults_are_left_out_where_they_are_not_wanted() {
    let (port, mut seen) = Server::default().start().await;
    let notifier = notifier(Mail { faults: false, ..mail(port, Tls::Opportunistic) });
    notifier.tell(&event("VI_1", State::Fault, 100));
    notifier.tell(&event("VI_1", State::Backup, 100));
    notifier.stop(LONG).await;
    let lines = lines(&mut seen);
    assert_eq!(starting(&lines, "Subject:"), ["Subject: [router] VRRP Instance VI_1 - Entering BACKUP state"]);
    assert!(starting(&lines, "STARTTLS").is_empty(), "a server without it is mailed to in the clear");
}

#[tokio::test]
async fn required_tls_is_had_with_a_certificate_that_is_known() {
    let (folder, tls) = certificate();
    let (port, mut seen) = Server { tls: Some(tls), login: true, ..Server::default() }.start().await;
    let login = Some(Login { user: "user".to_owned(), password: "secret".to_owned() });
    let notifier = notifier(Mail { ca_file: Some(folder.path().join("ca.pem")), login, ..mail(port, Tls::Required) });
    notifier.tell(&event("VI_1", State::Master, 100));
    notifier.stop(LONG).await;
    let lines = lines(&mut seen);
    let at = lines.iter().position(|line| line == "TLS").expect("TLS");
    assert_eq!(starting(&lines[..at], ""), ["EHLO router.example.com", "STARTTLS"], "nothing else in the clear");
    // "\0user\0secret".
    assert_eq!(starting(&lines[at..], "AUTH"), ["AUTH PLAIN AHVzZXIAc2VjcmV0"]);
    assert_eq!(starting(&lines[at..], "Subject:").len(), 1);
}

#[tokio::test]
async fn required_tls_sends_nothing_to_a_server_that_is_not_known_or_has_none() {
    let (_folder, tls) = certificate();
    let (other, _tls) = certificate();
    for server in [Server { tls: Some(tls), ..Server::default() }, Server::default()] {
        let (port, mut seen) = server.start().await;
        let login = Some(Login { user: "user".to_owned(), password: "secret".to_owned() });
        let notifier =
            notifier(Mail { ca_file: Some(other.path().join("ca.pem")), login, ..mail(port, Tls::Required) });
        notifier.tell(&event("VI_1", State::Master, 100));
        // The first attempt, at least.
        let first = tokio::time::timeout(LONG, seen.recv()).await.expect("in time");
        assert_eq!(first.as_deref(), Some("EHLO router.example.com"));
        notifier.stop(Duration::from_millis(500)).await;
        let lines = lines(&mut seen);
        for word in ["AUTH", "MAIL", "RCPT", "DATA", "Subject:"] {
            assert!(starting(&lines, word).is_empty(), "{lines:?}");
        }
    }
}

#[tokio::test]
async fn opportunistic_tls_takes_any_certificate() {
    let (_folder, tls) = certificate();
    let (port, mut seen) = Server { tls: Some(tls), ..Server::default() }.start().await;
    let notifier = notifier(mail(port, Tls::Opportunistic));
    notifier.tell(&event("VI_1", State::Master, 100));
    notifier.stop(LONG).await;
    let lines = lines(&mut seen);
    let at = lines.iter().position(|line| line == "TLS").expect("TLS");
    assert_eq!(starting(&lines[at..], "Subject:").len(), 1);
}

#[tokio::test]
async fn a_server_that_refuses_for_now_is_asked_again_and_one_that_refuses_is_not() {
    let answers = vec!["451 later", "250 fine"];
    let (port, mut seen) = Server { answers: Arc::new(answers.into()), ..Server::default() }.start().await;
    let patient = notifier(mail(port, Tls::None));
    patient.tell(&event("VI_1", State::Master, 100));
    patient.stop(LONG).await;
    assert_eq!(starting(&lines(&mut seen), "Subject:").len(), 1);
    let (port, mut seen) = Server { answers: Arc::new(vec!["550 never"].into()), ..Server::default() }.start().await;
    let refused = notifier(mail(port, Tls::None));
    refused.tell(&event("VI_1", State::Master, 100));
    super::until("it is given up", || refused.told().mails == 1).await;
    assert_eq!(starting(&lines(&mut seen), "MAIL").len(), 1);
}

#[tokio::test]
async fn a_server_that_says_nothing_keeps_nobody_from_going_on() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("its port").port();
    let notifier = notifier(mail(port, Tls::None));
    notifier.tell(&event("VI_1", State::Master, 100));
    let (_silent, _) = listener.accept().await.expect("the mail's connection");
    for number in 0..1000 {
        let state = if number % 2 == 0 { State::Backup } else { State::Master };
        notifier.tell(&event("VI_1", state, 100));
    }
    assert_eq!(notifier.told().mails, 1000 - 64, "the newest wait, the others are counted");
    notifier.stop(Duration::from_millis(10)).await;
}

#[tokio::test]
async fn settings_that_cannot_send_are_refused() {
    let refused = |change: fn(&mut Mail)| {
        let mut mail = mail(25, Tls::Required);
        change(&mut mail);
        let receiver = Receiver {
            kind: Kind::Instance,
            name: "VI_1".to_owned(),
            scripts: Scripts::default(),
            mail: true,
            priority_changes: true,
        };
        let settings =
            Settings { router_id: "router".to_owned(), receivers: vec![receiver], fifo: None, mail: Some(mail) };
        Notifier::start(settings).expect_err("it cannot send").to_string()
    };
    assert!(refused(|mail| mail.from = "nobody".to_owned()).starts_with("`nobody` is no mail address"));
    assert!(refused(|mail| mail.to.clear()).contains("nobody to send to"));
    assert!(refused(|mail| mail.ca_file = Some("/harbor-ha/ca.pem".into())).contains("`/harbor-ha/ca.pem`"));
}
