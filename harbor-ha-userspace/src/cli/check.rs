//! `harbor-ha check`: the configuration, this host, and PostgreSQL; changes nothing.

use std::process::ExitCode;

use serde::Serialize;

use super::{NOT_PERMITTED, UNAVAILABLE, WithConfig};
use crate::config::settings::cloud::Cloud;
use crate::config::{Configuration, Settings, router};
use crate::kernel::findings::CAPABILITIES;
use crate::kernel::{self, Host, Level};
use crate::pg::{self, Pg};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    with: WithConfig,
    /// One JSON array instead of lines.
    #[arg(long)]
    json: bool,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Line {
    level: Level,
    subject: String,
    text: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, ExitCode> {
    let (configuration, verdicts) = arguments.with.any()?;
    let mut lines = vec![Line {
        level: Level::Ok,
        subject: "configuration".to_owned(),
        text: format!("{} is complete", arguments.with.config.display()),
    }];
    lines.extend(super::losses(&verdicts).map(|lost| Line {
        level: Level::Warning,
        subject: "keepalived.conf".to_owned(),
        text: format!("line {}, {}: {}", lost.line, lost.keyword, lost.why),
    }));
    match configuration {
        Configuration::Pair(settings) => lines.extend(pair(&settings)),
        Configuration::Router(settings) => {
            lines.extend(on_host(router::host::findings(&settings, &router::host::System)));
            lines.extend(cloud(settings.cloud.as_ref()));
        }
    }
    let worst = lines.iter().map(|line| line.level).max().unwrap_or(Level::Ok);
    if arguments.json {
        println!("{}", serde_json::to_string(&lines).expect("lines are plain text"));
    } else {
        print(&lines);
    }
    let denied = lines.iter().any(|line| line.level == Level::Error && line.subject == CAPABILITIES);
    match worst {
        Level::Error => Err(ExitCode::from(if denied { NOT_PERMITTED } else { UNAVAILABLE })),
        Level::Ok | Level::Warning => Ok(ExitCode::SUCCESS),
    }
}

fn pair(settings: &Settings) -> Vec<Line> {
    let host = Host::look(settings);
    let found = kernel::findings(settings, &host).into_iter();
    let mut lines: Vec<_> = found
        .map(|finding| Line { level: finding.level, subject: finding.subject.to_owned(), text: finding.text })
        .collect();
    let (trackers, track, notify) = (&settings.trackers, &settings.track, &settings.notify);
    lines.extend(on_host(router::host::findings_of_pair(trackers, track, notify, &router::host::System)));
    lines.extend(super::block_on(postgres(settings)));
    lines.extend(cloud(settings.cloud.as_ref()));
    lines
}

fn cloud(settings: Option<&Cloud>) -> Option<Line> {
    let text = "configured, and not asked here: `harbor-ha havip verify` looks at the HaVip and what it needs";
    settings.map(|_| Line { level: Level::Ok, subject: "cloud".to_owned(), text: text.to_owned() })
}

fn on_host(findings: Vec<router::host::Finding>) -> impl Iterator<Item = Line> {
    findings.into_iter().map(|finding| Line {
        level: match finding.level {
            router::host::Level::Ok => Level::Ok,
            router::host::Level::Warning => Level::Warning,
            router::host::Level::Error => Level::Error,
        },
        subject: finding.subject,
        text: finding.text,
    })
}

fn print(lines: &[Line]) {
    for line in lines {
        let mark = match line.level {
            Level::Ok => "ok     ",
            Level::Warning => "WARNING",
            Level::Error => "ERROR  ",
        };
        println!("{mark}  {:<20} {}", line.subject, line.text);
    }
    let count = |level| lines.iter().filter(|line| line.level == level).count();
    let counted = |level, word: &str| match count(level) {
        1 => format!("1 {word}"),
        other => format!("{other} {word}s"),
    };
    println!("{}, {}", counted(Level::Error, "error"), counted(Level::Warning, "warning"));
}

/// What the pg room thinks of this server, of the peer's, and of the two together.
async fn postgres(settings: &Settings) -> Vec<Line> {
    let line = |level, text| Line { level, subject: "postgresql".to_owned(), text };
    let Some(postgres) = settings.postgres.clone() else {
        return vec![line(Level::Ok, "no [postgres]: addresses only".to_owned())];
    };
    let within = postgres.probe_timeout;
    let pg = match Pg::open(postgres, &settings.node.state_dir) {
        Ok(pg) => pg,
        Err(error) => return vec![line(Level::Error, error.to_string())],
    };
    let vips: Vec<_> = settings.node.vips.iter().map(|vip| vip.address).collect();
    let level = |level| match level {
        pg::Level::Good | pg::Level::Note => Level::Ok,
        pg::Level::Warning => Level::Warning,
        pg::Level::Problem => Level::Error,
    };
    let findings = pg.findings(&vips, within).await.into_iter();
    findings.map(|pg::Finding { level: how, subject, text }| line(level(how), format!("{subject}: {text}"))).collect()
}
