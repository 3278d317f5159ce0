//! Instances: whether they run, where they are, what their security groups let pass, and stopping one.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::admission::{Group, Policy, Protocol, Rule, Source};
use super::answer::{self, Status};
use super::client::{Call, Service};
use super::{Cloud, CloudError};

/// An instance as the service describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// `i-…`.
    pub id: String,
    /// `Running`, `Stopped`, or on the way.
    pub status: Status,
    /// Of the primary interface.
    pub vswitch: Option<String>,
    /// Of the primary interface.
    pub address: Option<Ipv4Addr>,
    /// Ids of its security groups.
    pub groups: Vec<String>,
    /// Disks of the host below: a stop clears them.
    pub local_disks: u64,
}

impl Instance {
    fn read(value: &Value) -> Option<Self> {
        let vpc = value.as_object()?.get("VpcAttributes").unwrap_or(&Value::Null);
        let address = answer::texts(vpc, "PrivateIpAddress", &["IpAddress"]).into_iter().next();
        Some(Self {
            id: answer::text(value, "InstanceId")?,
            status: Status::of(value, "Status"),
            vswitch: answer::text(vpc, "VSwitchId"),
            address: address.and_then(|text| text.parse().ok()),
            groups: answer::texts(value, "SecurityGroupIds", &["SecurityGroupId"]),
            local_disks: answer::number(value, "LocalStorageAmount").unwrap_or(0),
        })
    }

    /// Whether its binding to a HaVip may be changed now.
    pub fn is_at_rest(&self) -> bool {
        self.status.is_one_of(&["Running", "Stopped"])
    }
}

/// The calls about instances.
#[derive(Clone, Copy)]
pub struct Ecs<'a>(pub(super) &'a Cloud);

impl Ecs<'_> {
    /// The status of each that there is, with its id.
    ///
    /// # Errors
    /// [`CloudError`], as with every call of this room.
    pub async fn status(self, ids: &[&str]) -> Result<Vec<(String, Status)>, CloudError> {
        let mut call = self.0.regional(Service::Ecs, "DescribeInstanceStatus").await?.with("PageSize", "50");
        for (n, id) in (1..).zip(ids) {
            call = call.with(format!("InstanceId.{n}"), *id);
        }
        let answer = self.0.call(call).await?;
        let read = |value: &Value| Some((answer::text(value, "InstanceId")?, Status::of(value, "Status")));
        let found = answer::list(&answer, "InstanceStatuses", &["InstanceStatus"]).into_iter().filter_map(read);
        Ok(found.filter(|(id, _)| ids.contains(&id.as_str())).collect())
    }

    /// Each that there is.
    ///
    /// # Errors
    /// See [`Self::status`].
    pub async fn describe(self, ids: &[&str]) -> Result<Vec<Instance>, CloudError> {
        let wanted = serde_json::to_string(ids).expect("texts are JSON");
        let call = self.0.regional(Service::Ecs, "DescribeInstances").await?;
        let answer = self.0.call(call.with("InstanceIds", wanted).with("PageSize", "100")).await?;
        let found = answer::list(&answer, "Instances", &["Instance"]).into_iter().filter_map(Instance::read);
        Ok(found.filter(|instance| ids.contains(&instance.id.as_str())).collect())
    }

    /// What a security group lets in; the rules for what goes out are left out.
    ///
    /// # Errors
    /// See [`Self::status`].
    pub async fn security_group(self, id: &str) -> Result<Group, CloudError> {
        let call = self.0.regional(Service::Ecs, "DescribeSecurityGroupAttribute").await?;
        let call = call.with("SecurityGroupId", id).with("NicType", "intranet").with("Direction", "ingress");
        let mut group = Group { id: id.to_owned(), rules: Vec::new(), members_reach_each_other: None };
        let mut page: Option<String> = None;
        // Up to 1,000 rules a page; what goes on longer than any group can be is not followed.
        for _ in 0..10 {
            let call = call.clone().with_some("NextToken", page.as_deref());
            let answer = self.0.call(call).await?;
            let inner = Status::of(&answer, "InnerAccessPolicy");
            group.members_reach_each_other = group.members_reach_each_other.or_else(|| match () {
                () if inner.is("Accept") => Some(true),
                () if inner.is("Drop") => Some(false),
                () => None,
            });
            group.rules.extend(answer::list(&answer, "Permissions", &["Permission"]).into_iter().filter_map(rule));
            page = answer::text(&answer, "NextToken");
            if page.is_none() {
                break;
            }
        }
        Ok(group)
    }

    /// Stops an instance, keeping its resources: without `KeepCharging` an account may have them given back, and the
    /// instance not start again for lack of them. `force`: as a power cut. `dry_run`: only whether it would be allowed.
    ///
    /// # Errors
    /// See [`Self::status`]; `IncorrectInstanceStatus` when it does not run.
    pub async fn stop(self, id: &str, force: bool, dry_run: bool) -> Result<(), CloudError> {
        // Neither region nor token: the endpoint is the region's, and stopping twice is stopping.
        let call = Call::new(Service::Ecs, "StopInstance")
            .with("InstanceId", id)
            .with("ForceStop", force.to_string())
            .with("StoppedMode", "KeepCharging")
            .with("DryRun", dry_run.to_string());
        match self.0.call(call).await {
            // The answer to a dry run that is allowed.
            Err(error) if dry_run && error.code() == Some("DryRunOperation") => Ok(()),
            done => done.map(drop),
        }
    }
}

fn rule(value: &Value) -> Option<Rule> {
    let direction = Status::of(value, "Direction");
    if direction.is("egress") {
        return None;
    }
    let source = match (answer::text(value, "SourceCidrIp"), answer::text(value, "SourceGroupId")) {
        (Some(range), _) => Source::range(&range),
        (None, Some(group)) => Source::Group(group),
        // IPv6 alone, or a prefix list.
        (None, None) if answer::text(value, "Ipv6SourceCidrIp").is_some() => return None,
        (None, None) => Source::Other,
    };
    Some(Rule {
        protocol: Protocol::named(&answer::text(value, "IpProtocol").unwrap_or_default()),
        ports: ports(&answer::text(value, "PortRange").unwrap_or_default()),
        source,
        policy: if Status::of(value, "Policy").is("Drop") { Policy::Drop } else { Policy::Accept },
        priority: answer::number(value, "Priority").and_then(|number| u32::try_from(number).ok()).unwrap_or(1),
    })
}

/// `5112/5113`; `-1/-1` is every port.
fn ports(text: &str) -> (u16, u16) {
    let whole = (0, u16::MAX);
    let Some((low, high)) = text.split_once('/') else { return whole };
    match (low.trim().parse::<u16>(), high.trim().parse::<u16>()) {
        (Ok(low), Ok(high)) => (low, high),
        _ => whole,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_instance_is_read_from_the_depths_of_its_description() {
        let instance = Instance::read(&json!({
            "InstanceId": "i-1", "Status": "Running", "LocalStorageAmount": 2,
            "VpcAttributes": {"VSwitchId": "vsw-1", "PrivateIpAddress": {"IpAddress": ["10.0.0.1"]}},
            "SecurityGroupIds": {"SecurityGroupId": ["sg-1", "sg-2"]},
        }));
        let instance = instance.unwrap();
        assert_eq!((instance.vswitch.as_deref(), instance.groups.len()), (Some("vsw-1"), 2));
        assert_eq!((instance.address, instance.local_disks), (Some(Ipv4Addr::new(10, 0, 0, 1)), 2));
        let bare = Instance::read(&json!({"InstanceId": "i-1"})).unwrap();
        assert!(bare.vswitch.is_none() && !bare.is_at_rest() && bare.local_disks == 0);
    }

    #[test]
    fn a_rule_is_read_and_one_for_what_goes_out_is_left_out() {
        let value = json!({"IpProtocol": "UDP", "PortRange": "5112/5113", "SourceCidrIp": "10.0.0.0/24",
                           "Policy": "Accept", "Priority": "2", "Direction": "ingress"});
        let found = rule(&value).unwrap();
        assert_eq!((found.protocol, found.ports, found.priority), (Protocol::Udp, (5112, 5113), 2));
        assert_eq!(found.policy, Policy::Accept);
        assert_eq!(rule(&json!({"Direction": "egress", "SourceCidrIp": "0.0.0.0/0"})), None);
        assert_eq!(rule(&json!({"Ipv6SourceCidrIp": "::/0"})), None);
        assert_eq!(ports("-1/-1"), (0, u16::MAX));
    }
}
