//! `harbor-ha havip show`: what the cloud says, and whether the daemon means the same.

use std::process::ExitCode;

use serde_json::json;

use super::judge::{Agreement, agreement};
use super::{End, WithConfig, absent, open, whose};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(with: &WithConfig, arguments: &Arguments) -> Result<ExitCode, End> {
    let (site, cloud) = open(with)?;
    let Some(havip) = cloud.our_havip().await? else {
        return Err(absent(cloud.settings(), cloud.region().await?).into());
    };
    let own = cloud.instance().await?;
    let peer = cloud.settings().peer_instance.as_str();
    let eips = cloud.eip().of_havip(&havip.id).await?;
    let members: Vec<&str> = havip.members.iter().map(String::as_str).collect();
    let states = match members.as_slice() {
        [] => Vec::new(),
        _ if havip.of_interfaces => Vec::new(),
        members => cloud.ecs().status(members).await?,
    };
    let serves = site.serves().await;
    let (agrees, sentence) = match agreement(havip.master.as_deref(), own, peer, serves) {
        Agreement::Yes(text) => (Some(true), text),
        Agreement::No(text) => (Some(false), text),
        Agreement::Unknown(text) => (None, text),
    };
    let state = |id: &str| states.iter().find(|(known, _)| known == id).map(|(_, status)| status.to_string());
    if arguments.json {
        let members: Vec<_> = members.iter().map(|id| json!({"instance": id, "status": state(id)})).collect();
        let eips: Vec<_> = eips
            .iter()
            .map(|eip| json!({"id": eip.id, "address": eip.address, "status": eip.status.to_string()}))
            .collect();
        let shown = json!({
            "havip": havip.id, "address": havip.address, "status": havip.status.to_string(), "vswitch": havip.vswitch,
            "region": cloud.region().await?, "instance": own, "peer_instance": peer, "members": members,
            "master": havip.master, "eips": eips, "agrees": agrees, "sentence": sentence,
            "daemon": serves.map(|(own, peer)| json!({"serves": own, "peer_serves": peer})),
        });
        println!("{shown}");
        return Ok(ExitCode::SUCCESS);
    }
    let line = |name: &str, text: String| println!("{name:<10} {text}");
    let or = |text: Option<String>| text.unwrap_or_else(|| "not told".to_owned());
    let address = or(havip.address.map(|address| address.to_string()));
    line("havip", format!("{}, {address}, {}, in {}", havip.id, havip.status, or(havip.vswitch.clone())));
    if members.is_empty() {
        line("bound", "nothing".to_owned());
    }
    for id in &members {
        line(
            "bound",
            format!("{}, {}", whose(id, own, peer), state(id).unwrap_or_else(|| "status not told".to_owned())),
        );
    }
    line("master", havip.master.as_deref().map_or("nobody yet".to_owned(), |id| whose(id, own, peer)));
    match eips.as_slice() {
        [] => line("eip", "none".to_owned()),
        eips => {
            eips.iter().for_each(|eip| line("eip", format!("{}, {}, {}", eip.id, or(eip.address.clone()), eip.status)))
        }
    }
    let daemon = match serves {
        None => "does not answer: is it running, and are you root?",
        Some((true, _)) => "this node serves",
        Some((false, true)) => "the peer serves",
        Some((false, false)) => "neither node serves",
    };
    line("daemon", daemon.to_owned());
    let agreed = match agrees {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "unknown",
    };
    line("agree", format!("{agreed}: {sentence}"));
    Ok(ExitCode::SUCCESS)
}
