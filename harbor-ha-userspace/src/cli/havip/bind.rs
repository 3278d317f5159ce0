//! `harbor-ha havip bind`, `unbind` and `bind-eip`: one change by hand, waited for.

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{End, UNAVAILABLE, WithConfig, absent, open, whose};
use crate::cloud::{Cloud, CloudError, HaVip};

#[derive(Debug, clap::Args)]
pub(super) struct Bind {
    /// `own`, `peer`, or an id.
    instance: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Unbind {
    /// `own`, `peer`, or an id.
    instance: String,
    /// Also when it has the HaVip: the address is nobody's then, until another bound instance announces it.
    #[arg(long)]
    force: bool,
}

const LOOK: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(180);

pub(super) async fn bind(with: &WithConfig, arguments: &Bind) -> Result<ExitCode, End> {
    let (_, cloud) = open(with)?;
    let instance = meant(&cloud, &arguments.instance).await?;
    let havip = there(&cloud).await?;
    if havip.members.contains(&instance) {
        println!("{} is bound to {} already", told(&cloud, &instance).await?, havip.id);
        return Ok(ExitCode::SUCCESS);
    }
    cloud.havip().associate(&havip.id, &instance).await?;
    until(&cloud, |havip| havip.members.contains(&instance)).await?;
    println!("{} is bound to {}", told(&cloud, &instance).await?, havip.id);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn unbind(with: &WithConfig, arguments: &Unbind) -> Result<ExitCode, End> {
    let (_, cloud) = open(with)?;
    let instance = meant(&cloud, &arguments.instance).await?;
    let havip = there(&cloud).await?;
    let told = told(&cloud, &instance).await?;
    if !havip.members.contains(&instance) {
        println!("{told} is not bound to {}", havip.id);
        return Ok(ExitCode::SUCCESS);
    }
    if havip.master.as_ref() == Some(&instance) && !arguments.force {
        return Err(refused(&format!(
            "{told} has the HaVip: without its binding the service is off; hand over first (`harbor-ha switchover`), or \
             use --force"
        )));
    }
    match cloud.havip().unassociate(&havip.id, &instance, arguments.force).await {
        Err(error) if error.code() == Some("Forbidden.UnassociateMaster") => {
            return Err(refused(&format!("{told} has the HaVip by now; hand over first, or use --force")));
        }
        done => done?,
    }
    until(&cloud, |havip| !havip.members.contains(&instance)).await?;
    println!("{told} is not bound to {} any more", havip.id);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn bind_eip(with: &WithConfig) -> Result<ExitCode, End> {
    let (_, cloud) = open(with)?;
    let Some(id) = cloud.settings().eip.clone() else {
        return Err(refused("cloud.eip names no EIP; add its allocation id"));
    };
    let havip = there(&cloud).await?;
    let Some(eip) = cloud.eip().describe(&id).await? else {
        let region = cloud.region().await?.to_owned();
        let what = format!("EIP {id}");
        return Err(CloudError::Absent { what, region, way_out: "correct cloud.eip".to_owned() }.into());
    };
    match &eip.bound_to {
        Some(to) if *to == havip.id => {
            println!("EIP {id} is bound to {to} already");
            return Ok(ExitCode::SUCCESS);
        }
        Some(to) => return Err(refused(&format!("EIP {id} is bound to {to}; unbind it there, or name another one"))),
        None => cloud.eip().associate(&id, &havip.id).await?,
    }
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        sleep(LOOK).await;
        let now = cloud.eip().describe(&id).await?;
        if now.is_some_and(|eip| eip.is_at_rest() && eip.bound_to.as_ref() == Some(&havip.id)) {
            println!("EIP {id} is bound to {}", havip.id);
            return Ok(ExitCode::SUCCESS);
        }
    }
    Err(late())
}

/// `own`, `peer`, or the id itself.
async fn meant(cloud: &Cloud, text: &str) -> Result<String, End> {
    match text {
        "own" => Ok(cloud.instance().await?.to_owned()),
        "peer" => Ok(cloud.settings().peer_instance.clone()),
        id if id.starts_with("i-") => Ok(id.to_owned()),
        other => {
            eprintln!("harbor-ha: {other:?} is no instance; use `own`, `peer`, or an id that begins with `i-`");
            Err(End::Told(ExitCode::from(super::super::USAGE)))
        }
    }
}

async fn told(cloud: &Cloud, id: &str) -> Result<String, CloudError> {
    Ok(whose(id, cloud.instance().await?, &cloud.settings().peer_instance))
}

async fn there(cloud: &Cloud) -> Result<HaVip, CloudError> {
    match cloud.our_havip().await? {
        Some(havip) => Ok(havip),
        None => Err(absent(cloud.settings(), cloud.region().await?)),
    }
}

/// Until the change shows and nothing is under way.
async fn until(cloud: &Cloud, done: impl Fn(&HaVip) -> bool) -> Result<(), End> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        sleep(LOOK).await;
        let havip = there(cloud).await?;
        if havip.is_at_rest() && done(&havip) {
            return Ok(());
        }
    }
    Err(late())
}

fn late() -> End {
    refused(&format!("accepted, and not done after {PATIENCE:?}; `harbor-ha havip show` tells how it stands"))
}

fn refused(why: &str) -> End {
    eprintln!("harbor-ha: {why}");
    End::Told(ExitCode::from(UNAVAILABLE))
}
