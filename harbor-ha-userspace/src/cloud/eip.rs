//! EIPs: a public address that is bound to the HaVip once, and goes where that goes.

use serde_json::Value;

use super::answer::{self, Status};
use super::client::Service;
use super::{Cloud, CloudError};

/// An EIP as the service describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eip {
    /// Allocation id, `eip-…`.
    pub id: String,
    /// The public address.
    pub address: Option<String>,
    /// `Available` (bound to nothing) and `InUse` are at rest.
    pub status: Status,
    /// What it is bound to.
    pub bound_to: Option<String>,
    /// Why it is locked (`financial`, `security`); empty when it is not.
    pub locks: Vec<String>,
}

impl Eip {
    fn read(value: &Value) -> Option<Self> {
        let mut locks: Vec<String> = answer::list(value, "OperationLocks", &["LockReason"])
            .into_iter()
            .filter_map(|lock| answer::text(lock, "LockReason"))
            .collect();
        let business = Status::of(value, "BusinessStatus");
        if business.is("FinancialLocked") && locks.is_empty() {
            locks.push("financial".to_owned());
        }
        Some(Self {
            id: answer::text(value, "AllocationId")?,
            address: answer::text(value, "IpAddress"),
            status: Status::of(value, "Status"),
            bound_to: answer::text(value, "InstanceId"),
            locks,
        })
    }

    /// Whether a change may begin.
    pub fn is_at_rest(&self) -> bool {
        self.status.is_one_of(&["Available", "InUse"])
    }
}

/// The calls about EIPs.
#[derive(Clone, Copy)]
pub struct Eips<'a>(pub(super) &'a Cloud);

impl Eips<'_> {
    /// The EIP of that allocation id; `None`: there is none in this region.
    ///
    /// # Errors
    /// [`CloudError`], as with every call of this room.
    pub async fn describe(self, id: &str) -> Result<Option<Eip>, CloudError> {
        let found = self.found(&[("AllocationId", id)]).await;
        match found {
            Err(error) if error.code() == Some("InvalidAllocationId.NotFound") => Ok(None),
            found => Ok(found?.into_iter().find(|eip| eip.id == id)),
        }
    }

    /// Those that are bound to a HaVip: its own list names addresses at one time and ids at another.
    ///
    /// # Errors
    /// See [`Self::describe`].
    pub async fn of_havip(self, havip: &str) -> Result<Vec<Eip>, CloudError> {
        let found = self.found(&[("AssociatedInstanceType", "HaVip"), ("AssociatedInstanceId", havip)]).await?;
        Ok(found.into_iter().filter(|eip| eip.bound_to.as_deref() == Some(havip)).collect())
    }

    async fn found(self, filters: &[(&str, &str)]) -> Result<Vec<Eip>, CloudError> {
        let mut call = self.0.regional(Service::Vpc, "DescribeEipAddresses").await?.with("PageSize", "100");
        for (name, value) in filters {
            call = call.with(*name, *value);
        }
        let answer = self.0.call(call).await?;
        Ok(answer::list(&answer, "EipAddresses", &["EipAddress"]).into_iter().filter_map(Eip::read).collect())
    }

    /// Binds it to a HaVip.
    ///
    /// # Errors
    /// See [`Self::describe`].
    pub async fn associate(self, id: &str, havip: &str) -> Result<(), CloudError> {
        let call = self.0.regional(Service::Vpc, "AssociateEipAddress").await?;
        let call = call.with("AllocationId", id).with("InstanceId", havip).with("InstanceType", "HaVip").once();
        self.0.call(call).await.map(drop)
    }

    /// Takes it from a HaVip.
    ///
    /// # Errors
    /// See [`Self::describe`].
    pub async fn unassociate(self, id: &str, havip: &str) -> Result<(), CloudError> {
        let call = self.0.regional(Service::Vpc, "UnassociateEipAddress").await?;
        let call = call.with("AllocationId", id).with("InstanceId", havip).with("InstanceType", "HaVip").once();
        self.0.call(call).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_eip_is_read_with_its_locks() {
        let eip = Eip::read(&json!({"AllocationId": "eip-1", "IpAddress": "47.1.2.3", "Status": "InUse",
                                    "InstanceId": "havip-1", "Bandwidth": "5", "BusinessStatus": "Normal",
                                    "OperationLocks": {"LockReason": [{"LockReason": "security"}]}}));
        let eip = eip.unwrap();
        assert_eq!((eip.bound_to.as_deref(), eip.locks.as_slice()), (Some("havip-1"), &["security".to_owned()][..]));
        let locked = Eip::read(&json!({"AllocationId": "eip-1", "BusinessStatus": "FinancialLocked"})).unwrap();
        assert_eq!((locked.locks.as_slice(), locked.bound_to), (&["financial".to_owned()][..], None));
    }
}
