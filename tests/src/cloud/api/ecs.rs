//! Instances: shown, stopped, started.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::error::{ApiError, invalid, refuse};
use super::super::world::{Instance, World};
use super::{Parameters, havip};

pub fn statuses(world: &mut World, it: &Parameters, _now: Duration) -> Result<Value, ApiError> {
    havip::region(world, it)?;
    let (page, wanted) = (it.page(50)?, it.list("InstanceId"));
    let known = world.instances.iter().filter(|(id, _)| wanted.is_empty() || wanted.contains(&id.as_str()));
    let all: Vec<Value> =
        known.map(|(id, it)| json!({ "InstanceId": id, "Status": world.shown(id, &it.status) })).collect();
    Ok(json!({
        "PageNumber": page.number, "PageSize": page.size, "TotalCount": all.len(),
        "InstanceStatuses": { "InstanceStatus": page.of(all) },
    }))
}

pub fn instances(world: &mut World, it: &Parameters, _now: Duration) -> Result<Value, ApiError> {
    havip::region(world, it)?;
    let page = it.page(100)?;
    // A list in the form of JSON, unlike that of the action above.
    let wanted: Option<Vec<String>> = match it.optional("InstanceIds") {
        None => None,
        Some(text) => Some(serde_json::from_str(text).map_err(|_| invalid("InstanceIds", "no JSON list of ids"))?),
    };
    let known = world.instances.iter().filter(|(id, _)| wanted.as_ref().is_none_or(|wanted| wanted.contains(id)));
    let all: Vec<Value> = known.map(|(id, instance)| shown(world, id, instance)).collect();
    Ok(json!({
        "PageNumber": page.number, "PageSize": page.size, "TotalCount": all.len(),
        "Instances": { "Instance": page.of(all) },
    }))
}

fn shown(world: &World, id: &str, it: &Instance) -> Value {
    let vpc = world.vswitches.get(&it.vswitch).map(|vswitch| vswitch.vpc.as_str()).unwrap_or_default();
    let zone = world.vswitches.get(&it.vswitch).map(|vswitch| vswitch.zone.as_str()).unwrap_or_default();
    let address = it.address.to_string();
    let eip = world.eips.iter().find(|(_, eip)| eip.bound.as_deref() == Some(id));
    json!({
        "InstanceId": id, "InstanceName": id, "HostName": id, "RegionId": world.region, "ZoneId": zone,
        "Status": world.shown(id, &it.status), "StoppedMode": it.stopped_mode.as_deref().unwrap_or("Not-applicable"),
        "InstanceNetworkType": "vpc", "InstanceType": "ecs.g7.large", "InstanceTypeFamily": "ecs.g7",
        "LocalStorageAmount": it.local_disks,
        "VpcAttributes": { "VpcId": vpc, "VSwitchId": it.vswitch, "NatIpAddress": "",
            "PrivateIpAddress": { "IpAddress": [address] } },
        "SecurityGroupIds": { "SecurityGroupId": it.security_groups },
        "NetworkInterfaces": { "NetworkInterface": [{ "NetworkInterfaceId": format!("eni-{id}"), "Type": "Primary",
            "MacAddress": it.mac, "PrimaryIpAddress": address }] },
        "EipAddress": { "AllocationId": eip.map_or("", |(id, _)| id.as_str()),
            "IpAddress": eip.map_or_else(String::new, |(_, eip)| eip.address.to_string()) },
        "OperationLocks": { "LockReason": if it.locked { json!([{ "LockReason": "security" }]) } else { json!([]) } },
    })
}

pub fn security_group(world: &mut World, it: &Parameters, _now: Duration) -> Result<Value, ApiError> {
    havip::region(world, it)?;
    let id = it.required("SecurityGroupId")?;
    let none = || refuse(404, "InvalidSecurityGroupId.NotFound", format!("The security group {id} does not exist."));
    let group = world.groups.get(id).ok_or_else(none)?;
    let wanted = |direction: &str| match it.optional("Direction") {
        None | Some("all") => true,
        Some(one) => one.eq_ignore_ascii_case(direction),
    };
    let rules = group.rule.iter().filter(|rule| wanted(&rule.direction)).map(|rule| {
        let inward = rule.direction == "ingress";
        json!({
            "IpProtocol": rule.protocol, "PortRange": rule.ports, "Policy": rule.policy, "Direction": rule.direction,
            "SourceCidrIp": if inward { rule.source.as_str() } else { "" },
            "DestCidrIp": if inward { "" } else { rule.source.as_str() },
            "SourceGroupId": "", "DestGroupId": "", "NicType": "intranet", "Priority": "1",
        })
    });
    Ok(json!({
        "RegionId": world.region, "SecurityGroupId": id, "SecurityGroupName": id, "VpcId": group.vpc,
        "InnerAccessPolicy": if group.inner { "Accept" } else { "Drop" },
        "Permissions": { "Permission": rules.collect::<Vec<_>>() },
    }))
}

pub fn stop(world: &mut World, it: &Parameters, now: Duration) -> Result<Value, ApiError> {
    it.flag("ForceStop")?;
    let mode = match it.optional("StoppedMode") {
        // As an account with economical mode has it: what is not said gives the processors back.
        None => "StopCharging",
        Some(mode @ ("KeepCharging" | "StopCharging")) => mode,
        Some(_) => return Err(invalid("StoppedMode", "neither KeepCharging nor StopCharging")),
    };
    let mode = mode.to_owned();
    let instance = switch(world, it, "Running", "Stopping", "Stopped", now)?;
    instance.stopped_mode = Some(mode);
    Ok(json!({}))
}

pub fn start(world: &mut World, it: &Parameters, now: Duration) -> Result<Value, ApiError> {
    switch(world, it, "Stopped", "Starting", "Running", now)?.stopped_mode = None;
    Ok(json!({}))
}

pub fn reboot(world: &mut World, it: &Parameters, now: Duration) -> Result<Value, ApiError> {
    it.flag("ForceStop")?;
    switch(world, it, "Running", "Starting", "Running", now)?;
    Ok(json!({}))
}

/// From one status over a second one to a third, unless it is a dry run.
fn switch<'a>(
    world: &'a mut World,
    it: &Parameters,
    from: &str,
    over: &str,
    to: &'static str,
    now: Duration,
) -> Result<&'a mut Instance, ApiError> {
    let (id, due, dry) = (it.required("InstanceId")?, world.due(now), it.flag("DryRun")?);
    let instance = world.instances.get_mut(id).ok_or_else(|| not_found(id))?;
    if instance.locked {
        let words = "The specified operation is denied as your instance is locked for security reasons.";
        return Err(refuse(403, "InstanceLockedForSecurity", words));
    }
    if instance.status != from {
        let words = format!("The current status of the resource does not support this operation: {}.", instance.status);
        return Err(refuse(403, "IncorrectInstanceStatus", words));
    }
    if dry {
        return Err(dry_run());
    }
    over.clone_into(&mut instance.status);
    instance.change = Some((due, to));
    Ok(instance)
}

/// How a dry run that would have worked is answered: as an error.
pub fn dry_run() -> ApiError {
    refuse(400, "DryRunOperation", "Request validation has been passed with DryRun flag set.")
}

/// There is no such instance.
pub fn not_found(id: &str) -> ApiError {
    refuse(404, "InvalidInstanceId.NotFound", format!("The specified instance {id} does not exist."))
}
