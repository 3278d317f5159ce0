//! HaVips: made, bound, shown. Nothing here moves one: that is done by who announces it.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::error::{ApiError, invalid, refuse};
use super::super::world::{Change, HaVip, World};
use super::Parameters;

/// HaVips of one instance.
const OF_INSTANCE_MAX: usize = 5;
/// Instances of one HaVip.
const MEMBERS_MAX: usize = 10;
/// Values of one filter, and filters.
const FILTER_MAX: usize = 5;

pub fn create(world: &mut World, it: &Parameters, now: Duration) -> Result<Value, ApiError> {
    region(world, it)?;
    let id = it.required("VSwitchId")?;
    let vswitch = world
        .vswitches
        .get(id)
        .ok_or_else(|| refuse(404, "InvalidVSwitch.NotFound", format!("The specified vSwitch {id} does not exist.")))?;
    let wanted = match it.optional("IpAddress") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| ip_address("Malformed", text))?),
    };
    let address = match wanted {
        Some(address) => free(world, vswitch, address)?,
        None => {
            let mut all = (0..vswitch.size()).map(|place| Ipv4Addr::from(u32::from(vswitch.network) + place));
            all.find(|address| free(world, vswitch, *address).is_ok())
                .ok_or_else(|| ip_address("NotAvailable", "any"))?
        }
    };
    let (name, description) = words(it)?;
    let mut havip = HaVip::new(address, id.to_owned());
    havip.name = name.unwrap_or_default();
    havip.description = description.unwrap_or_default();
    havip.change = Some((world.due(now), Change::Create));
    let id = world.new_id("havip");
    world.havips.insert(id.clone(), havip);
    Ok(json!({ "HaVipId": id, "IpAddress": address.to_string() }))
}

/// Alibaba keeps the first address and the last three of a vSwitch.
fn free(world: &World, vswitch: &super::super::scenario::VSwitch, address: Ipv4Addr) -> Result<Ipv4Addr, ApiError> {
    let text = address.to_string();
    let place = vswitch.place(address).ok_or_else(|| ip_address("OutOfRange", &text))?;
    if place == 0 || place + 3 >= vswitch.size() {
        return Err(ip_address("NotAvailable", &text));
    }
    let used = world.instances.values().any(|it| it.address == address)
        || world.havips.values().any(|it| it.address == address);
    if used { Err(ip_address("AlreadyUsed", &text)) } else { Ok(address) }
}

fn ip_address(why: &str, address: &str) -> ApiError {
    refuse(400, format!("InvalidIPAddress.{why}"), format!("Specified IpAddress is not usable: {address}."))
}

pub fn delete(world: &mut World, it: &Parameters, now: Duration) -> Result<Value, ApiError> {
    region(world, it)?;
    let (id, due) = (it.required("HaVipId")?.to_owned(), world.due(now));
    let with_eip = world.eips.values().any(|eip| eip.bound.as_ref() == Some(&id));
    let havip = find(world, &id)?;
    if havip.status() != "Available" || with_eip {
        return Err(status(havip));
    }
    havip.change = Some((due, Change::Delete));
    Ok(json!({}))
}

pub fn associate(world: &mut World, it: &Parameters, now: Duration) -> Result<Value, ApiError> {
    let (id, instance) = bindable(world, it)?;
    let of_instance = world.havips.values().filter(|it| it.members.contains(&instance)).count();
    let (due, vswitch) = (world.due(now), world.instances[&instance].vswitch.clone());
    let havip = find(world, &id)?;
    // Which code the service has for this is in no text that was found: a client reads the state.
    if havip.members.contains(&instance) {
        return Err(refuse(400, "OperationDenied", "The instance is bound to this HaVip already."));
    }
    if havip.vswitch != vswitch {
        return Err(refuse(400, "InvalidParameter.Mismatch", "HaVip and instance are not in the same vSwitch."));
    }
    if of_instance >= OF_INSTANCE_MAX {
        return Err(refuse(400, "CountLimitExceed.HaVipOnInstance", "The instance has as many HaVips as it may."));
    }
    if havip.members.len() >= MEMBERS_MAX {
        let words = "The HaVip has as many instances as it may.";
        return Err(refuse(400, "CountLimitExceeded.HaVipOnECSInstance", words));
    }
    havip.change = Some((due, Change::Bind(instance)));
    Ok(json!({}))
}

pub fn unassociate(world: &mut World, it: &Parameters, now: Duration) -> Result<Value, ApiError> {
    let force = it.flag("Force")?;
    let (id, instance) = bindable(world, it)?;
    let due = world.due(now);
    let havip = find(world, &id)?;
    if !havip.members.contains(&instance) {
        return Err(refuse(400, "ResourceNotAssociated", "The instance is not bound to this HaVip."));
    }
    if havip.master.as_ref() == Some(&instance) && !force {
        return Err(refuse(400, "Forbidden.UnassociateMaster", "The master of a HaVip is not unbound without Force."));
    }
    havip.change = Some((due, Change::Unbind(instance)));
    Ok(json!({}))
}

/// What binding and unbinding ask for: a HaVip that is in no transition, and an instance that is in none.
fn bindable(world: &mut World, it: &Parameters) -> Result<(String, String), ApiError> {
    region(world, it)?;
    let (id, instance) = (it.required("HaVipId")?.to_owned(), it.required("InstanceId")?.to_owned());
    match it.optional("InstanceType") {
        None | Some("EcsInstance") => {}
        Some(other) => return Err(invalid("InstanceType", &format!("the double has no `{other}`"))),
    }
    let havip = find(world, &id)?;
    if !matches!(havip.status(), "Available" | "InUse") {
        return Err(status(havip));
    }
    let found = world.instances.get(&instance).ok_or_else(|| super::ecs::not_found(&instance))?;
    if !matches!(found.status.as_str(), "Running" | "Stopped") {
        return Err(refuse(400, "IncorrectInstanceStatus", format!("The instance is {}.", found.status)));
    }
    Ok((id, instance))
}

pub fn modify(world: &mut World, it: &Parameters, _now: Duration) -> Result<Value, ApiError> {
    region(world, it)?;
    let (name, description) = words(it)?;
    let havip = find(world, it.required("HaVipId")?)?;
    if !matches!(havip.status(), "Available" | "InUse") {
        return Err(status(havip));
    }
    havip.name = name.unwrap_or_else(|| havip.name.clone());
    havip.description = description.unwrap_or_else(|| havip.description.clone());
    Ok(json!({}))
}

fn words(it: &Parameters) -> Result<(Option<String>, Option<String>), ApiError> {
    let (name, description) = (it.optional("Name"), it.optional("Description"));
    if name.is_some_and(|name| name.chars().count() > 128) {
        return Err(invalid("Name", "at most 128 characters"));
    }
    let url = |text: &str| text.starts_with("http://") || text.starts_with("https://");
    if description.is_some_and(|text| text.chars().count() > 255 || url(text)) {
        return Err(invalid("Description", "at most 255 characters, and no URL"));
    }
    Ok((name.map(str::to_owned), description.map(str::to_owned)))
}

pub fn describe(world: &mut World, it: &Parameters, _now: Duration) -> Result<Value, ApiError> {
    region(world, it)?;
    let (page, filters) = (it.page(50)?, filters(it)?);
    let wanted = |id: &str, havip: &HaVip| {
        filters.iter().all(|(key, values)| {
            let value = match *key {
                "VpcId" => world.vswitches[&havip.vswitch].vpc.clone(),
                "VSwitchId" => havip.vswitch.clone(),
                "Status" => havip.status().to_owned(),
                "HaVipId" => id.to_owned(),
                _ => havip.address.to_string(),
            };
            values.contains(&value.as_str())
        })
    };
    let all: Vec<Value> = world
        .havips
        .iter()
        .filter(|(id, havip)| wanted(id, havip))
        .map(|(id, havip)| shown(world, id, havip))
        .collect();
    Ok(json!({
        "PageNumber": page.number, "PageSize": page.size, "TotalCount": all.len(),
        "HaVips": { "HaVip": page.of(all) },
    }))
}

fn filters(it: &Parameters) -> Result<Vec<(&str, Vec<&str>)>, ApiError> {
    let known = ["VpcId", "VSwitchId", "Status", "HaVipId", "HaVipAddress"];
    let mut filters = Vec::new();
    for number in 1..=FILTER_MAX {
        let Some(key) = it.optional(&format!("Filter.{number}.Key")) else { continue };
        if !known.contains(&key) {
            let words = format!("The filter key {key} is not supported.");
            return Err(refuse(400, "InvalidFilterKey.ValueNotSupported", words));
        }
        let mut values = it.list(&format!("Filter.{number}.Value"));
        values.truncate(FILTER_MAX);
        filters.push((key, values));
    }
    Ok(filters)
}

/// The names of the lists are the service's own: one begins with a small letter, the other one also lacks its last.
fn shown(world: &World, id: &str, havip: &HaVip) -> Value {
    let eips = world.eips.values().filter(|eip| eip.bound.as_deref() == Some(id)).map(|eip| eip.address.to_string());
    let mut shown = json!({
        "HaVipId": id, "IpAddress": havip.address.to_string(), "Status": world.shown(id, havip.status()),
        "Name": havip.name, "Description": havip.description, "RegionId": world.region,
        "VpcId": world.vswitches[&havip.vswitch].vpc, "VSwitchId": havip.vswitch,
        "CreateTime": "2026-01-01T00:00:00Z", "ChargeType": "PostPaid", "ResourceGroupId": "rg-double",
        "AssociatedInstances": { "associatedInstance": havip.members },
        "AssociatedEipAddresses": { "associatedEipAddresse": eips.collect::<Vec<_>>() },
        "Tags": { "Tag": [] },
    });
    // Absent while nobody has announced it, and so is the type while nobody is bound.
    if let Some(master) = &havip.master {
        shown["MasterInstanceId"] = json!(master);
    }
    if !havip.members.is_empty() {
        shown["AssociatedInstanceType"] = json!("EcsInstance");
    }
    shown
}

/// # Errors
/// The region is not named, or not the double's.
pub fn region(world: &World, it: &Parameters) -> Result<(), ApiError> {
    match it.required("RegionId")? {
        id if id == world.region => Ok(()),
        id => Err(refuse(404, "InvalidRegionId.NotFound", format!("The specified RegionId {id} does not exist."))),
    }
}

/// # Errors
/// There is no such HaVip.
pub fn find<'a>(world: &'a mut World, id: &str) -> Result<&'a mut HaVip, ApiError> {
    let none = || refuse(404, "InvalidHaVipId.NotFound", format!("The specified HaVip {id} does not exist."));
    world.havips.get_mut(id).ok_or_else(none)
}

/// The HaVip is not as it must be for this.
pub fn status(havip: &HaVip) -> ApiError {
    refuse(400, "IncorrectHaVipStatus", format!("The status of the HaVip is {}.", havip.status()))
}
