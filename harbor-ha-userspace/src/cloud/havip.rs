//! HaVips: an address of a vSwitch that follows the gratuitous ARP of the instances that are bound to it.
//!
//! Every change is asynchronous: the call comes back when it is begun, and the status tells when it is over.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::answer::{self, Status};
use super::client::Service;
use super::{Cloud, CloudError};

/// A HaVip as the service describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaVip {
    /// `havip-…`.
    pub id: String,
    /// The address.
    pub address: Option<Ipv4Addr>,
    /// `Available` (nothing bound) and `InUse` are at rest.
    pub status: Status,
    /// Where it is.
    pub vswitch: Option<String>,
    /// Who announced it last; `None`: nobody yet.
    pub master: Option<String>,
    /// The ids of the instances that are bound.
    pub members: Vec<String>,
    /// Whether the members are network interfaces instead of instances.
    pub of_interfaces: bool,
}

impl HaVip {
    fn read(value: &Value) -> Option<Self> {
        let members = ["AssociatedInstance"];
        Some(Self {
            id: answer::text(value, "HaVipId")?,
            address: answer::address(value, "IpAddress"),
            status: Status::of(value, "Status"),
            vswitch: answer::text(value, "VSwitchId"),
            master: answer::text(value, "MasterInstanceId"),
            members: answer::texts(value, "AssociatedInstances", &members),
            of_interfaces: Status::of(value, "AssociatedInstanceType").is("NetworkInterface"),
        })
    }

    /// Whether a change may begin.
    pub fn is_at_rest(&self) -> bool {
        self.status.is_one_of(&["Available", "InUse"])
    }
}

/// The calls about HaVips.
#[derive(Clone, Copy)]
pub struct HaVips<'a>(pub(super) &'a Cloud);

impl HaVips<'_> {
    /// The HaVip of that id; `None`: there is none in this region.
    ///
    /// # Errors
    /// [`CloudError`], as with every call of this room.
    pub async fn describe(self, id: &str) -> Result<Option<HaVip>, CloudError> {
        let found = self.filtered(&[("HaVipId", id)]).await;
        match found {
            Err(error) if error.code() == Some("InvalidHaVipId.NotFound") => Ok(None),
            // The filter is the service's; that it was applied is not taken on trust.
            found => Ok(found?.into_iter().find(|havip| havip.id == id)),
        }
    }

    /// The HaVip that has `address` in `vswitch`.
    ///
    /// # Errors
    /// See [`Self::describe`].
    pub async fn find(self, vswitch: &str, address: Ipv4Addr) -> Result<Option<HaVip>, CloudError> {
        let found = self.filtered(&[("VSwitchId", vswitch), ("HaVipAddress", &address.to_string())]).await?;
        let ours = |havip: &HaVip| havip.address == Some(address) && havip.vswitch.as_deref() == Some(vswitch);
        Ok(found.into_iter().find(ours))
    }

    async fn filtered(self, filters: &[(&str, &str)]) -> Result<Vec<HaVip>, CloudError> {
        let mut call = self.0.regional(Service::Vpc, "DescribeHaVips").await?.with("PageSize", "50");
        for (n, (key, value)) in (1..).zip(filters) {
            call = call.with(format!("Filter.{n}.Key"), *key).with(format!("Filter.{n}.Value.1"), *value);
        }
        let answer = self.0.call(call).await?;
        Ok(answer::list(&answer, "HaVips", &["HaVip"]).into_iter().filter_map(HaVip::read).collect())
    }

    /// Makes one and tells its id; it is usable when its status is `Available`.
    ///
    /// Whoever died between the question and the answer and asks again makes no second one: the address is taken. A token
    /// derived from the address would say no more than that, and the service might answer it with a HaVip that has been
    /// deleted since.
    ///
    /// # Errors
    /// See [`Self::describe`]; `InvalidIPAddress.AlreadyUsed` when somebody has the address, an earlier call included.
    pub async fn create(self, vswitch: &str, address: Ipv4Addr) -> Result<Option<String>, CloudError> {
        let call = self.0.regional(Service::Vpc, "CreateHaVip").await?;
        let call =
            call.with("VSwitchId", vswitch).with("IpAddress", address.to_string()).with("Name", "harbor-ha").once();
        Ok(answer::text(&self.0.call(call).await?, "HaVipId"))
    }

    /// Binds an instance.
    ///
    /// # Errors
    /// See [`Self::describe`].
    pub async fn associate(self, id: &str, instance: &str) -> Result<(), CloudError> {
        let call = self.0.regional(Service::Vpc, "AssociateHaVip").await?;
        let call = call.with("HaVipId", id).with("InstanceId", instance).with("InstanceType", "EcsInstance").once();
        self.0.call(call).await.map(drop)
    }

    /// Takes an instance's binding away. Without `force` the service refuses that for the master
    /// (`Forbidden.UnassociateMaster`). One that is not bound is left as it is.
    ///
    /// # Errors
    /// See [`Self::describe`].
    pub async fn unassociate(self, id: &str, instance: &str, force: bool) -> Result<(), CloudError> {
        let call = self.0.regional(Service::Vpc, "UnassociateHaVip").await?;
        let call = call.with("HaVipId", id).with("InstanceId", instance).with("InstanceType", "EcsInstance");
        // A text, not a truth value, and so spelt by the official SDK.
        let call = call.with("Force", if force { "True" } else { "False" }).once();
        match self.0.call(call).await {
            Err(error) if error.code() == Some("ResourceNotAssociated") => Ok(()),
            done => done.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_havip_is_read_with_its_odd_names_and_with_none_of_them() {
        let havip = HaVip::read(&json!({
            "HaVipId": "havip-1", "IpAddress": "10.0.0.5", "Status": "Inuse", "VSwitchId": "vsw-1",
            "MasterInstanceId": "i-1", "AssociatedInstanceType": "EcsInstance",
            "AssociatedInstances": {"associatedInstance": ["i-1", "i-2"]},
            "AssociatedEipAddresses": {"associatedEipAddresse": ["47.1.2.3"]},
        }));
        let havip = havip.unwrap();
        assert_eq!((havip.master.as_deref(), havip.members.len()), (Some("i-1"), 2));
        assert!(havip.is_at_rest() && !havip.of_interfaces);

        let bare = HaVip::read(&json!({"HaVipId": "havip-1"})).unwrap();
        assert!(bare.master.is_none() && bare.members.is_empty() && !bare.is_at_rest());
        assert_eq!(HaVip::read(&json!({"Status": "InUse"})), None);
    }
}
