//! `harbor-ha reinit`: makes this standby anew by a base backup from the primary.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::WithConfig;
use super::follow::{Progress, look_again, not_so, refused, summary, unless_paused, word};
use super::status::ask;
use crate::config::Settings;
use crate::daemon::Request;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    with: WithConfig,
    /// Yes, copy the whole data directory anew.
    #[arg(long)]
    yes: bool,
}

/// A copy takes as long as it takes; this often a line says that it goes on.
const STILL: Duration = Duration::from_secs(30);

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, ExitCode> {
    let settings = arguments.with.load()?;
    super::block_on(async {
        let before = ask(&settings, Request::Status).await?;
        impossible(&before).map_or(Ok(()), |why| Err(refused(&why)))?;
        unless_paused(&before)?;
        if !arguments.yes {
            return Err(not_so(&price(&settings)));
        }
        ask(&settings, Request::Reinit).await?;
        follow(&settings).await
    })
}

/// Why this node cannot be made anew now.
fn impossible(status: &Value) -> Option<String> {
    let (role, peer) = (word(&status["role"]), word(&status["peer"]["role"]));
    if !status["postgres"].is_object() {
        return Some("there is no [postgres] in the configuration, so nothing to make anew".to_owned());
    }
    if role == "primary" || status["postgres"]["state"] == "primary" {
        return Some(
            "PostgreSQL of this node is a primary: its data are the ones that are copied. To make this node anew, run \
             `harbor-ha switchover` here first"
                .to_owned(),
        );
    }
    (peer != "primary").then(|| format!("there is no primary to copy from: the peer is {peer}, this node {role}"))
}

/// What it costs.
fn price(settings: &Settings) -> String {
    let Some(postgres) = &settings.postgres else { return String::new() };
    let old = match postgres.keep_old {
        true => "is kept (postgres.keep_old)",
        false => "is removed once the new one streams",
    };
    format!(
        "a base backup of the primary would replace `{}`: it needs room for both, the old one {old}. Until it streams \
         there is no standby: nobody can take over, and with `sync = \"required\"` commits on the primary wait. If that \
         is what you want, say --yes",
        postgres.data_dir.display()
    )
}

async fn follow(settings: &Settings) -> Result<ExitCode, ExitCode> {
    println!("Interrupting this command does not interrupt the copy.");
    let mut progress = Progress::new();
    let mut said = Duration::ZERO;
    loop {
        let now = look_again(settings).await?;
        let why = word(&now["why"]);
        progress.show(format!("{}: {why}", summary(&now)));
        if now["role"] == "primary" {
            return Err(refused(&format!("this node became the primary meanwhile: {why}")));
        }
        let streams = now["postgres"]["facts"]["streaming"] == true && now["role"] == "standby";
        if now["reinit"] != true && now["operation"] == "none" && streams {
            println!("made anew in {:.1} s; this node streams from the primary", progress.elapsed().as_secs_f64());
            return Ok(ExitCode::SUCCESS);
        }
        if progress.elapsed() >= said + STILL {
            said = progress.elapsed();
            println!("{:>8.0} s   {}", said.as_secs_f64(), summary(&now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_and_a_node_without_one_are_refused() {
        let status = |role: &str, peer: &str| serde_json::json!({"role": role, "peer": {"role": peer}, "postgres": {"state": role}});
        assert!(impossible(&status("primary", "standby")).unwrap().contains("switchover"));
        assert!(impossible(&status("standby", "dead")).unwrap().contains("no primary to copy from"));
        assert_eq!(impossible(&status("standby", "primary")), None);
        assert_eq!(impossible(&status("starting", "primary")), None);
    }
}
