//! Mail about changes of state, worded as keepalived's, so that filters which know those go on working.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lettre::message::Mailbox as Address;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{self, Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use tokio::time::{sleep, timeout};

use super::mailbox::{Mailbox, Ring};
use super::{Done, Event, Kind, State};

/// Before each further attempt. A change of state is what takes a network down for a moment, so the first mail about it
/// often fails; one that is minutes old helps nobody.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15)];

/// Of a HaVip that stays away.
const ASTRAY: &str = "This node serves, and the HaVip of its address is not with it: clients may not reach it. It goes on \
announcing. Run `harbor-ha havip show` and `harbor-ha havip verify` on this node; docs/operations.md says more.";

/// Where mails go, and how.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Name or address of the server.
    pub server: String,
    /// Usually 25.
    pub port: u16,
    /// Who sends it.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
    /// How this host calls itself to the server; by default its own name.
    pub helo: Option<String>,
    /// For one attempt, from the connection to the server's word.
    pub timeout: Duration,
    /// STARTTLS.
    pub tls: Tls,
    /// PEM file of who signed the server's certificate; by default the host's own list.
    pub ca_file: Option<PathBuf>,
    /// Who we are to the server.
    pub login: Option<Login>,
    /// Whether FAULT is worth a mail (`no_email_faults` says no).
    pub faults: bool,
}

/// STARTTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    None,
    /// Where the server offers it. Its certificate is not judged: without one the mail would go in the clear.
    Opportunistic,
    /// Always, and the certificate must be good; no mail otherwise.
    Required,
}

/// A user of the mail server.
#[derive(Clone)]
pub struct Login {
    /// Its name.
    pub user: String,
    /// Its password; not shown.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why no mail can be sent with these settings.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// Not an address.
    #[error("`{text}` is no mail address: {reason}")]
    Address {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: lettre::address::AddressError,
    },
    /// Nobody to send to.
    #[error("there is a mail server but nobody to send to")]
    Nobody,
    /// The file of who signed the server's certificate.
    #[error("cannot read the certificates in `{path}`: {reason}")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS for `{server}`: {reason}")]
    Tls {
        /// The server.
        server: String,
        /// What is wrong.
        reason: lettre::transport::smtp::Error,
    },
}

/// Sends mails.
pub(super) struct Sender {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Address,
    to: Vec<Address>,
    faults: bool,
    timeout: Duration,
    router_id: Arc<str>,
    /// What was last mailed about whom: the same is not mailed twice.
    last: Vec<(Kind, Arc<str>, State)>,
}

impl Sender {
    pub(super) fn new(mail: Mail, router_id: Arc<str>) -> Result<Self, MailError> {
        let address = |text: &String| text.parse().map_err(|reason| MailError::Address { text: text.clone(), reason });
        let from = address(&mail.from)?;
        let to = mail.to.iter().map(address).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return Err(MailError::Nobody);
        }
        let tls = match mail.tls {
            Tls::None => client::Tls::None,
            Tls::Opportunistic => client::Tls::Opportunistic(parameters(&mail, false)?),
            Tls::Required => client::Tls::Required(parameters(&mail, true)?),
        };
        let own_name = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let helo = mail.helo.or_else(own_name).map_or_else(ClientId::default, ClientId::Domain);
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(mail.server)
            .port(mail.port)
            .tls(tls)
            .timeout(Some(mail.timeout))
            .hello_name(helo);
        if let Some(Login { user, password }) = mail.login {
            transport = transport.credentials(Credentials::new(user, password));
        }
        let (faults, timeout) = (mail.faults, mail.timeout);
        Ok(Self { transport: transport.build(), from, to, faults, timeout, router_id, last: Vec::new() })
    }

    /// One mail after the other.
    pub(super) async fn serve(mut self, mailbox: Arc<Mailbox<Ring>>, done: Arc<Done>) {
        while let Some(taken) = mailbox.next().await {
            let event = taken.event;
            let Some((subject, body)) = self.words(&event) else { continue };
            match self.send(&subject, body).await {
                Ok(()) => {
                    Done::add(&done.mails_sent);
                    tracing::info!(instance = %event.name, state = %event.state, "mail sent");
                }
                Err(error) => {
                    mailbox.give_up();
                    tracing::error!(instance = %event.name, state = %event.state, error, "mail not sent, given up");
                }
            }
        }
    }

    /// Subject and body, if it is worth a mail.
    fn words(&mut self, event: &Event) -> Option<(String, String)> {
        let Event { kind, name, state, .. } = event;
        if *state == State::Fault && !self.faults {
            return None;
        }
        let havip = match state {
            State::HaVipAstray => Some(("HaVip did not follow", ASTRAY)),
            State::HaVipFollowed => Some(("HaVip has followed", "The HaVip is with this node again.")),
            _ => None,
        };
        if let Some((headline, body)) = havip {
            // Each is told once already, and none is a state.
            return Some((format!("[{}] VRRP Instance {name} - {headline}", self.router_id), body.to_owned()));
        }
        let headline = match state {
            State::Master | State::Backup | State::Fault => format!("Entering {state} state"),
            State::Stop => "Stopping".to_owned(),
            State::LowerPriority
            | State::MasterPriority
            | State::BackupPriority
            | State::HaVipAstray
            | State::HaVipFollowed => return None,
        };
        let known = self.last.iter_mut().find(|(other_kind, other, _)| other_kind == kind && other == name);
        match known {
            Some((.., last)) if last == state => return None,
            Some((.., last)) => *last = *state,
            None => self.last.push((*kind, Arc::clone(name), *state)),
        }
        let (what, body) = match (kind, state) {
            (Kind::Instance, State::Master) => ("Instance", "=> VRRP Instance is now owning VRRP VIPs <=".to_owned()),
            (Kind::Instance, State::Stop) => ("Instance", "=> VRRP Instance stopping <=".to_owned()),
            (Kind::Instance, _) => ("Instance", "=> VRRP Instance is no longer owning VRRP VIPs <=".to_owned()),
            (Kind::Group, State::Stop) => ("Group", "=> All VRRP group instances are now stopping <=".to_owned()),
            (Kind::Group, _) => ("Group", format!("=> All VRRP group instances are now in {state} state <=")),
        };
        Some((format!("[{}] VRRP {what} {name} - {headline}", self.router_id), body))
    }

    async fn send(&self, subject: &str, body: String) -> Result<(), String> {
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(subject)
            .header(ContentType::TEXT_PLAIN)
            .message_id(None);
        for to in &self.to {
            message = message.to(to.clone());
        }
        let message = message.body(body).map_err(|error| error.to_string())?;
        let mut pauses = PAUSES.into_iter();
        loop {
            let (why, again) = match timeout(self.timeout, self.transport.send(message.clone())).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => (words(&error), !error.is_permanent()),
                Err(_) => (format!("not done within {:?}", self.timeout), true),
            };
            let Some(pause) = pauses.next().filter(|_| again) else { return Err(why) };
            tracing::warn!(why, ?pause, "mail not sent; tried again");
            sleep(pause).await;
        }
    }
}

fn parameters(mail: &Mail, strict: bool) -> Result<TlsParameters, MailError> {
    let mut builder = TlsParameters::builder(mail.server.clone())
        .dangerous_accept_invalid_certs(!strict)
        .dangerous_accept_invalid_hostnames(!strict);
    if let Some(path) = &mail.ca_file {
        let wrong = |reason: String| MailError::Certificates { path: path.clone(), reason };
        let pem = fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| wrong(words(&error)))?;
        builder = builder.certificate_store(client::CertificateStore::None).add_root_certificate(certificate);
    }
    builder.build().map_err(|reason| MailError::Tls { server: mail.server.clone(), reason })
}

/// With what is behind it: the outer words alone say no more than "connection error".
fn words(error: &lettre::transport::smtp::Error) -> String {
    let mut words = error.to_string();
    let mut behind = std::error::Error::source(error);
    while let Some(error) = behind {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        behind = error.source();
    }
    words
}
