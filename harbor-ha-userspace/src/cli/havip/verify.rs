//! `harbor-ha havip verify`: asks all there is to ask, and lets [`judge`] say what it means.

use std::process::ExitCode;

use super::judge::{self, Facts, Level, Line, NotTold};
use super::site::Site;
use super::{End, NOT_PERMITTED, UNAVAILABLE, WithConfig, open};
use crate::cloud::{Cloud, CloudError};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// One JSON array instead of lines.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(with: &WithConfig, arguments: &Arguments) -> Result<ExitCode, End> {
    let (site, cloud) = open(with)?;
    let facts = gather(&site, &cloud).await;
    let lines = judge::judge(cloud.settings(), &site.node, &facts);
    match arguments.json {
        true => println!("{}", serde_json::to_string(&lines).expect("lines are plain text")),
        false => print(&lines),
    }
    let bad = lines.iter().any(|line| line.level == Level::Bad);
    match (bad, is_only_denied(&facts)) {
        (false, _) => Ok(ExitCode::SUCCESS),
        (true, true) => Ok(ExitCode::from(NOT_PERMITTED)),
        (true, false) => Ok(ExitCode::from(UNAVAILABLE)),
    }
}

/// The policy allows not even to look.
fn is_only_denied(facts: &Facts) -> bool {
    let denied = |not_told: &NotTold| not_told.denied;
    facts.havip.as_ref().is_err_and(denied) && facts.instances.as_ref().is_err_and(denied)
}

fn print(lines: &[Line]) {
    for line in lines {
        let mark = match line.level {
            Level::Ok => "ok     ",
            Level::Unknown => "unknown",
            Level::Bad => "BAD    ",
        };
        println!("{mark}  {:<15} {}", line.subject, line.text);
    }
    let count = |level| lines.iter().filter(|line| line.level == level).count();
    println!("{} ok, {} bad, {} unknown", count(Level::Ok), count(Level::Bad), count(Level::Unknown));
}

fn not_told(error: &CloudError) -> NotTold {
    NotTold { why: error.to_string(), denied: error.is_denial() }
}

async fn gather(site: &Site, cloud: &Cloud) -> Facts {
    let keys = cloud.keys_from().await.map_err(|error| NotTold { why: error.to_string(), denied: false });
    let told = |answer: Result<&str, CloudError>| answer.map(str::to_owned).map_err(|error| not_told(&error));
    let (region, own, vswitch) =
        (told(cloud.region().await), told(cloud.instance().await), told(cloud.vswitch().await));
    // Each of the rest would only say again that there is no key.
    let without_keys =
        keys.as_ref().err().map(|_| NotTold { why: "not asked without a key".to_owned(), denied: false });
    if let Some(why) = without_keys {
        let serves = site.serves().await;
        return Facts {
            keys,
            region,
            own,
            vswitch,
            havip: Err(why.clone()),
            instances: Err(why.clone()),
            eip: Err(why.clone()),
            groups: Err(why.clone()),
            stop: Some(Err(why)),
            serves,
        };
    }
    let havip = cloud.our_havip().await.map_err(|error| not_told(&error));
    let peer = cloud.settings().peer_instance.as_str();
    let ids: Vec<&str> = own.iter().map(String::as_str).chain([peer]).collect();
    let instances = cloud.ecs().describe(&ids).await.map_err(|error| not_told(&error));
    let eip = match &cloud.settings().eip {
        Some(id) => cloud.eip().describe(id).await.map_err(|error| not_told(&error)),
        None => Ok(None),
    };
    let mut groups = Ok(Vec::new());
    let mut wanted: Vec<&String> = instances.iter().flatten().flat_map(|instance| &instance.groups).collect();
    wanted.sort();
    wanted.dedup();
    for id in wanted {
        match (&mut groups, cloud.ecs().security_group(id).await) {
            (Ok(groups), Ok(group)) => groups.push(group),
            (Ok(_), Err(error)) => groups = Err(not_told(&error)),
            (Err(_), _) => break,
        }
    }
    let stop = match cloud.settings().fence.stop {
        true => Some(cloud.ecs().stop(peer, true, true).await.map_err(|error| not_told(&error))),
        false => None,
    };
    Facts { keys, region, own, vswitch, havip, instances, eip, groups, stop, serves: site.serves().await }
}
