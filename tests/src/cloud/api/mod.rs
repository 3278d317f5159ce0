//! The actions: which there are, what each needs, and the way of a call through checks that all of them share.

mod ecs;
mod eip;
mod havip;
mod parameters;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::Value;

pub use parameters::Parameters;

use super::error::{ApiError, refuse};
use super::keys::Caller;
use super::verify::{self, Received};
use super::world::{Call, World};

/// An action of a product.
pub struct Action {
    /// `vpc` or `ecs`, as RAM has it.
    pub product: &'static str,
    /// As the header has it.
    pub name: &'static str,
    /// Whether `ClientToken` counts.
    token: bool,
    /// What it works on, as RAM names it: below `acs:PRODUCT:REGION:ACCOUNT:`.
    resources: fn(&Parameters) -> Vec<String>,
    run: Run,
}

type Run = fn(&mut World, &Parameters, Duration) -> Result<Value, ApiError>;

/// The products, with the versions that their clients name.
const PRODUCTS: [(&str, &str); 2] = [("vpc", "2016-04-28"), ("ecs", "2014-05-26")];

const fn vpc(name: &'static str, token: bool, resources: fn(&Parameters) -> Vec<String>, run: Run) -> Action {
    Action { product: "vpc", name, token, resources, run }
}

const fn ecs(name: &'static str, resources: fn(&Parameters) -> Vec<String>, run: Run) -> Action {
    Action { product: "ecs", name, token: false, resources, run }
}

/// All of them.
pub const ACTIONS: [Action; 15] = [
    vpc("CreateHaVip", true, |_| vec!["havip/*".into()], havip::create),
    vpc("DeleteHaVip", true, |it| vec![it.named("havip", "HaVipId")], havip::delete),
    vpc("DescribeHaVips", false, |_| vec!["havip/*".into()], havip::describe),
    vpc("AssociateHaVip", true, both, havip::associate),
    vpc("UnassociateHaVip", true, both, havip::unassociate),
    vpc("ModifyHaVipAttribute", true, |it| vec![it.named("havip", "HaVipId")], havip::modify),
    vpc("DescribeEipAddresses", false, |_| vec!["eip/*".into()], eip::describe),
    vpc("AssociateEipAddress", true, |it| vec![it.named("eip", "AllocationId")], eip::associate),
    vpc("UnassociateEipAddress", true, |it| vec![it.named("eip", "AllocationId")], eip::unassociate),
    ecs("DescribeInstanceStatus", |_| vec!["instance/*".into()], ecs::statuses),
    ecs("DescribeInstances", |_| vec!["instance/*".into()], ecs::instances),
    ecs("DescribeSecurityGroupAttribute", |it| vec![it.named("securitygroup", "SecurityGroupId")], ecs::security_group),
    ecs("StopInstance", |it| vec![it.named("instance", "InstanceId")], ecs::stop),
    ecs("StartInstance", |it| vec![it.named("instance", "InstanceId")], ecs::start),
    ecs("RebootInstance", |it| vec![it.named("instance", "InstanceId")], ecs::reboot),
];

fn both(it: &Parameters) -> Vec<String> {
    vec![it.named("havip", "HaVipId"), it.named("instance", "InstanceId")]
}

/// The action that a request is for, before anybody knows who sent it.
///
/// # Errors
/// There is no such action.
pub fn action(request: &Received) -> Result<&'static Action, ApiError> {
    let header = |name| request.header(name).unwrap_or_default();
    let (version, name) = (header("x-acs-version"), header("x-acs-action"));
    let product = PRODUCTS.iter().find(|(_, known)| *known == version).map(|(product, _)| *product);
    ACTIONS.iter().find(|it| Some(it.product) == product && it.name == name).ok_or_else(|| {
        let words = format!("Specified api is not found: `{name}` of version `{version}`.");
        refuse(404, "InvalidApi.NotFound", words)
    })
}

/// Does what a request asks for: who it is, whether he may, whether he did so before, and then the action itself.
///
/// Returns who asked, when his signature is right, and the answer.
pub fn call(
    world: &mut World,
    action: &Action,
    request: &Received,
    now: Duration,
    date: i64,
) -> (Option<Caller>, Result<Value, ApiError>) {
    world.settle(now);
    if !matches!(request.method.as_str(), "GET" | "POST") || !matches!(request.path.as_str(), "" | "/") {
        return (None, Err(refuse(405, "UnsupportedHTTPMethod", "Neither GET nor POST of `/`.")));
    }
    let mut nonces = std::mem::take(&mut world.nonces);
    let caller = verify::authenticate(request, &world.keys, &mut nonces, date);
    world.nonces = nonces;
    match caller {
        Ok(caller) => {
            let answer = allowed(world, action, request, &caller, now);
            (Some(caller), answer)
        }
        Err(error) => (None, Err(error)),
    }
}

fn allowed(
    world: &mut World,
    action: &Action,
    request: &Received,
    caller: &Caller,
    now: Duration,
) -> Result<Value, ApiError> {
    let parameters = Parameters::new(request.parameters()?)?;
    let (region, account) = (&world.region, &world.account);
    let below = |resource: String| format!("acs:{}:{region}:{account}:{resource}", action.product);
    let resources: Vec<String> = (action.resources)(&parameters).into_iter().map(below).collect();
    caller.may(&format!("{}:{}", action.product, action.name), &resources)?;
    let token = parameters.optional("ClientToken").filter(|_| action.token);
    let Some(token) = token else { return (action.run)(world, &parameters, now) };
    if token.len() > 64 || !token.is_ascii() {
        return Err(super::error::invalid("ClientToken", "at most 64 characters of ASCII"));
    }
    let key = format!("{}/{}/{token}", caller.user, action.name);
    if let Some(before) = world.calls.get(&key) {
        if before.parameters != *parameters.all() {
            let words = "Request uses a client token in a previous request but is not identical to that request.";
            return Err(refuse(400, "IdempotentParameterMismatch", words));
        }
        if before.about.as_ref().is_some_and(|id| world.in_transition(id)) {
            return Err(refuse(400, "LastTokenProcessing", "The last request with this token is processing."));
        }
        return Ok(before.answer.clone());
    }
    let answer = (action.run)(world, &parameters, now)?;
    let about = answer["HaVipId"].as_str().or_else(|| parameters.optional("HaVipId"));
    let about = about.or_else(|| parameters.optional("AllocationId")).map(str::to_owned);
    world.calls.insert(key, Call { parameters: parameters.all().clone(), answer: answer.clone(), about });
    Ok(answer)
}
