//! Public addresses: bound to a HaVip, and shown.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::error::{ApiError, invalid, refuse};
use super::super::world::{Eip, World};
use super::{Parameters, havip};

pub fn describe(world: &mut World, it: &Parameters, _now: Duration) -> Result<Value, ApiError> {
    havip::region(world, it)?;
    if it.flag("DryRun")? {
        return Err(super::ecs::dry_run());
    }
    let page = it.page(100)?;
    let one_of = |name: &str, value: &str| {
        it.optional(name).is_none_or(|list| list.split(',').any(|wanted| wanted.trim() == value))
    };
    let wanted = |id: &str, eip: &Eip| {
        let bound = eip.bound.as_deref().unwrap_or_default();
        let kind = eip.bound.as_deref().map_or("", |bound| kind(world, bound));
        one_of("AllocationId", id)
            && one_of("EipAddress", &eip.address.to_string())
            && it.optional("Status").is_none_or(|status| status == eip.status())
            && it.optional("AssociatedInstanceId").is_none_or(|id| id == bound)
            && it.optional("AssociatedInstanceType").is_none_or(|wanted| wanted == kind)
    };
    let all: Vec<Value> =
        world.eips.iter().filter(|(id, eip)| wanted(id, eip)).map(|(id, eip)| shown(world, id, eip)).collect();
    Ok(json!({
        "PageNumber": page.number, "PageSize": page.size, "TotalCount": all.len(),
        "EipAddresses": { "EipAddress": page.of(all) },
    }))
}

fn kind(world: &World, bound: &str) -> &'static str {
    if world.havips.contains_key(bound) { "HaVip" } else { "EcsInstance" }
}

fn shown(world: &World, id: &str, eip: &Eip) -> Value {
    let bound = eip.bound.as_deref();
    let private = bound.and_then(|bound| Some(world.havips.get(bound)?.address.to_string()));
    json!({
        "AllocationId": id, "IpAddress": eip.address.to_string(), "Status": world.shown(id, eip.status()),
        "InstanceId": bound.unwrap_or_default(), "InstanceType": bound.map_or("", |bound| kind(world, bound)),
        "InstanceRegionId": if bound.is_some() { world.region.as_str() } else { "" }, "RegionId": world.region,
        "PrivateIpAddress": private.unwrap_or_default(), "BusinessStatus": "Normal",
        "OperationLocks": { "LockReason": [] },
        // A number, and yet a string.
        "Bandwidth": "5", "ChargeType": "PostPaid", "InternetChargeType": "PayByTraffic", "ISP": "BGP",
    })
}

pub fn associate(world: &mut World, it: &Parameters, now: Duration) -> Result<Value, ApiError> {
    let (id, target) = (it.required("AllocationId")?.to_owned(), it.required("InstanceId")?.to_owned());
    match it.optional("InstanceType") {
        Some("HaVip") => {
            let found = havip::find(world, &target)?;
            if !matches!(found.status(), "Available" | "InUse") {
                return Err(havip::status(found));
            }
        }
        None | Some("EcsInstance") => {
            let none = || refuse(404, "InvalidInstanceId.NotFound", "The specified instance does not exist.");
            let instance = world.instances.get(&target).ok_or_else(none)?;
            if !matches!(instance.status.as_str(), "Running" | "Stopped") {
                return Err(refuse(400, "IncorrectInstanceStatus", "The instance is in transition."));
            }
        }
        Some(other) => {
            let words = format!("The instance type {other} is not supported.");
            return Err(refuse(400, "InvalidInstanceType.ValueNotSupported", words));
        }
    }
    let due = world.due(now);
    let taken = world.eips.iter().any(|(other, eip)| *other != id && bound_to(eip, &target));
    let eip = find(world, &id)?;
    if eip.status() != "Available" {
        return Err(status(eip));
    }
    if taken {
        return Err(refuse(400, "InvalidAssociation.Duplicated", "The instance has an EIP already."));
    }
    eip.change = Some((due, Some(target)));
    Ok(json!({}))
}

fn bound_to(eip: &Eip, target: &str) -> bool {
    let will_be = eip.change.as_ref().and_then(|(_, bound)| bound.as_deref());
    eip.bound.as_deref() == Some(target) || will_be == Some(target)
}

pub fn unassociate(world: &mut World, it: &Parameters, now: Duration) -> Result<Value, ApiError> {
    let (id, due) = (it.required("AllocationId")?.to_owned(), world.due(now));
    if let Some(target) = it.optional("InstanceId")
        && let Some(found) = world.havips.get(target)
        && found.change.is_some()
    {
        return Err(havip::status(found));
    }
    let eip = find(world, &id)?;
    if eip.status() != "InUse" {
        return Err(status(eip));
    }
    if it.optional("InstanceId").is_some_and(|target| eip.bound.as_deref() != Some(target)) {
        return Err(invalid("InstanceId", "the EIP is bound to another one"));
    }
    eip.change = Some((due, None));
    Ok(json!({}))
}

fn find<'a>(world: &'a mut World, id: &str) -> Result<&'a mut Eip, ApiError> {
    let none = || refuse(404, "InvalidAllocationId.NotFound", format!("The specified EIP {id} does not exist."));
    world.eips.get_mut(id).ok_or_else(none)
}

fn status(eip: &Eip) -> ApiError {
    refuse(400, "IncorrectEipStatus", format!("The status of the EIP is {}.", eip.status()))
}
