//! Mail (`smtp_alert`), as a server gets it from ours and from a real keepalived that live through the same.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use harbor_ha_tests::lab::{Lab, Side, netns};

use super::keepalived::{STRONG, with_keepalived};
use super::twins::{Happens::Runs, Twins, Words};
use super::{LIMIT, settled};

/// Whatever a client said, line by line.
type Dialogue = Vec<String>;

/// A server on the third host that takes every mail; who sent it is told by his address.
struct Server {
    taken: Arc<Mutex<Vec<(Ipv4Addr, Dialogue)>>>,
}

impl Server {
    fn start(lab: &Lab) -> Self {
        // 25: keepalived 2.2.7 knows other ports too, but this is the usual one.
        let listener =
            netns::inside(&lab.state().netns("c"), || Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 25))?)).unwrap();
        let server = Self { taken: Arc::default() };
        let taken = Arc::clone(&server.taken);
        // Ends with the process: nobody can take its socket from it before.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let taken = Arc::clone(&taken);
                std::thread::spawn(move || talk(client, &taken));
            }
        });
        server
    }

    /// The mails of a node, in the order in which they came.
    fn of(&self, address: Ipv4Addr) -> Vec<Dialogue> {
        let taken = self.taken.lock().expect("no holder panics");
        taken.iter().filter(|(from, _)| *from == address).map(|(_, dialogue)| dialogue.clone()).collect()
    }
}

/// RFC 5321, as far as anybody here speaks it. A mail is kept once it is taken.
fn talk(stream: TcpStream, taken: &Mutex<Vec<(Ipv4Addr, Dialogue)>>) -> Result<()> {
    let from = match stream.peer_addr()?.ip() {
        std::net::IpAddr::V4(address) => address,
        std::net::IpAddr::V6(address) => anyhow::bail!("{address}"),
    };
    let mut answers = stream.try_clone()?;
    let mut say = |line: &str| answers.write_all(format!("{line}\r\n").as_bytes());
    let (mut dialogue, mut data) = (Vec::new(), false);
    say("220 test ESMTP")?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        dialogue.push(line.clone());
        let answer = match line.split([' ', ':']).next().unwrap_or_default() {
            "." => {
                data = false;
                taken.lock().expect("no holder panics").push((from, std::mem::take(&mut dialogue)));
                "250 taken"
            }
            _ if data => continue,
            "DATA" => {
                data = true;
                "354 go on"
            }
            "QUIT" => "221 bye",
            _ => "250 fine",
        };
        say(answer)?;
    }
    Ok(())
}

/// What of a mail has to be the same: the envelope, and what whoever sorts mail goes by. `X-Mailer: Keepalived` is not ours
/// to say, and a `Message-ID` is not theirs.
fn compared(dialogue: &Dialogue) -> Vec<String> {
    let word = |line: &str| line.split([' ', ':']).next().unwrap_or_default().to_owned();
    let (envelope, mail) = dialogue.split_at(dialogue.iter().position(|line| line == "DATA").expect("it is one"));
    let end = mail.iter().position(String::is_empty).expect("headers end");
    let (headers, body) = mail.split_at(end);
    let envelope = envelope.iter().filter(|line| ["MAIL", "RCPT"].contains(&word(line).as_str()));
    let headers = headers.iter().filter(|line| ["From", "To", "Subject"].contains(&word(line).as_str()));
    let body = body.iter().filter(|line| !line.is_empty() && *line != ".");
    envelope.chain(headers).chain(body).cloned().collect()
}

#[test]
fn mail_is_what_keepalived_sends() {
    with_keepalived("mail_is_what_keepalived_sends", |lab| {
        let mut twins = Twins::on(lab);
        twins.write("fatal", ".\n");
        let server = Server::start(lab);
        let words = Words {
            globals: "    notification_email {\n        ops@example.com\n        second@example.com\n    }\n\
                      \x20   notification_email_from keepalived@example.com\n    smtp_server 10.77.0.3\n    smtp_connect_timeout 5\n",
            trackers: "vrrp_script fatal {\n    script \"/etc/keepalived/check fatal\"\n    interval 1\n}\n",
            instance: "    smtp_alert\n    track_script {\n        fatal\n    }\n",
        };
        twins.start(words, STRONG);
        twins.happens(&(Runs("fatal", "x"), &[0]));
        twins.happens(&(Runs("fatal", "."), &[STRONG]));
        let waited = lab.wait("both have sent the same", LIMIT, || {
            let sent = Side::BOTH.map(|side| server.of(lab.state().address(side)));
            let both = sent.each_ref().map(|mails| mails.iter().map(compared).collect::<Vec<_>>());
            ensure!(both[0] == both[1] && both[0].len() == 5, "ours: {:#?}\ntheirs: {:#?}", sent[0], sent[1]);
            Ok(())
        });
        settled(lab, waited);
        twins.end();
    });
}
