//! `harbor-ha havip provision`: from whatever is there to a HaVip with both instances and the EIP bound to it.

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::plan::{State, Step, Wanted, plan, strangers};
use super::{End, UNAVAILABLE, WithConfig, open, stranger};
use crate::cloud::{Cloud, CloudError};
use crate::fault;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Show the plan and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Between two looks at something that is under way.
const LOOK: Duration = Duration::from_secs(1);
/// How often a HaVip is looked for whose address is taken.
const LOOKS: u32 = 10;
/// How long one step may be under way.
const PATIENCE: Duration = Duration::from_secs(180);

pub(super) async fn run(with: &WithConfig, arguments: &Arguments) -> Result<ExitCode, End> {
    let (_, cloud) = open(with)?;
    let wanted = wanted(&cloud).await?;
    let state = look(&cloud, &wanted).await?;
    for other in strangers(&state, &wanted) {
        eprintln!("harbor-ha: warning: {}", stranger(&other));
    }
    let steps = plan(&state, &wanted).map_err(|obstacles| in_the_way(&obstacles))?;
    if steps.is_empty() {
        println!("nothing to do: the HaVip is as the configuration has it");
        return Ok(ExitCode::SUCCESS);
    }
    println!("plan:");
    for (n, step) in (1..).zip(&steps) {
        println!("  {n}. {step}");
    }
    if arguments.dry_run {
        println!("nothing was changed (--dry-run)");
        return Ok(ExitCode::SUCCESS);
    }
    walk(&cloud, &wanted).await?;
    println!("done; `harbor-ha havip verify` looks at all of it");
    Ok(ExitCode::SUCCESS)
}

fn in_the_way(obstacles: &[super::plan::Obstacle]) -> End {
    for obstacle in obstacles {
        eprintln!("harbor-ha: {obstacle}");
    }
    End::Told(ExitCode::from(UNAVAILABLE))
}

/// What the configuration and metadata say.
async fn wanted(cloud: &Cloud) -> Result<Wanted, CloudError> {
    let settings = cloud.settings();
    Ok(Wanted {
        havip: settings.havip.clone(),
        address: settings.address,
        vswitch: cloud.vswitch().await?.to_owned(),
        own: cloud.instance().await?.to_owned(),
        peer: settings.peer_instance.clone(),
        eip: settings.eip.clone(),
    })
}

/// What is there.
async fn look(cloud: &Cloud, wanted: &Wanted) -> Result<State, CloudError> {
    let havip = cloud.our_havip().await?;
    let instances = cloud.ecs().describe(&[&wanted.own, &wanted.peer]).await?;
    let mut state = State { havip, instances, ..State::default() };
    if let Some(id) = &wanted.eip {
        state.eip = cloud.eip().describe(id).await?;
        if let Some(havip) = &state.havip {
            let bound = cloud.eip().of_havip(&havip.id).await?;
            state.other_eips = bound.into_iter().map(|eip| eip.id).filter(|other| other != id).collect();
        }
    }
    Ok(state)
}

/// The first step of a plan, and then a new plan, until there is none.
async fn walk(cloud: &Cloud, wanted: &Wanted) -> Result<(), End> {
    let mut last: Option<Step> = None;
    let mut since = Instant::now();
    loop {
        let state = look(cloud, wanted).await?;
        let steps = plan(&state, wanted).map_err(|obstacles| in_the_way(&obstacles))?;
        let Some(step) = steps.first() else { return Ok(()) };
        // One that was accepted is not always seen at once.
        let begun = last.as_ref() == Some(step);
        if !begun && !matches!(step, Step::Settle(_)) {
            println!("{step}");
            since = Instant::now();
            perform(cloud, wanted, step).await?;
            last = Some(step.clone());
        } else if since.elapsed() > PATIENCE {
            eprintln!(
                "harbor-ha: still not done after {PATIENCE:?}: {step}; look at it in the console and run this again"
            );
            return Err(End::Told(ExitCode::from(UNAVAILABLE)));
        }
        sleep(LOOK).await;
    }
}

async fn perform(cloud: &Cloud, wanted: &Wanted, step: &Step) -> Result<(), CloudError> {
    let Some((begin, done)) = points(wanted, step) else { return Ok(()) };
    fault::point(begin);
    let result = match step {
        Step::Settle(_) => Ok(()),
        Step::Create { vswitch, address } => cloud.havip().create(vswitch, *address).await.map(drop),
        // A plan that begins with these knows the HaVip.
        Step::Bind { havip, instance } => cloud.havip().associate(havip.as_deref().unwrap_or_default(), instance).await,
        Step::BindEip { havip, eip } => cloud.eip().associate(eip, havip.as_deref().unwrap_or_default()).await,
    };
    fault::point(done);
    match result {
        // Somebody was faster, or an earlier run of this was: the next look tells who has it.
        Err(error) if error.code() == Some("InvalidAssociation.Duplicated") => Ok(()),
        Err(error) if error.code() == Some("InvalidIPAddress.AlreadyUsed") => {
            if appears(cloud).await? {
                Ok(())
            } else {
                Err(error)
            }
        }
        result => result,
    }
}

/// Whether it is the HaVip that has the address: one that was just made may not be listed yet.
async fn appears(cloud: &Cloud) -> Result<bool, CloudError> {
    for _ in 0..LOOKS {
        if cloud.our_havip().await?.is_some() {
            return Ok(true);
        }
        sleep(LOOK).await;
    }
    Ok(false)
}

/// Where a test lets a step die: before it is asked for, and once it was accepted.
fn points(wanted: &Wanted, step: &Step) -> Option<(&'static str, &'static str)> {
    Some(match step {
        Step::Settle(_) => return None,
        Step::Create { .. } => ("provision.create", "provision.create.done"),
        Step::Bind { instance, .. } if *instance == wanted.own => ("provision.own", "provision.own.done"),
        Step::Bind { .. } => ("provision.peer", "provision.peer.done"),
        Step::BindEip { .. } => ("provision.eip", "provision.eip.done"),
    })
}
