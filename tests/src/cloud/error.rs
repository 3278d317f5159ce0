//! A refusal of the service, as it goes over the wire.

use serde_json::{Value, json};

/// HTTP status, code and message. Whoever reads it decides by the code: most of them come with 400.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP's.
    pub status: u16,
    /// `IncorrectHaVipStatus`
    pub code: String,
    /// For people.
    pub message: String,
    /// Only of a refusal by RAM: which action on what, for whom.
    pub denied: Option<Box<Denied>>,
}

/// What RAM adds (`AccessDeniedDetail`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// `vpc:AssociateHaVip`
    pub action: String,
    /// The first resource that no policy allows.
    pub resource: String,
    /// Who asked.
    pub principal: String,
}

impl ApiError {
    /// The body.
    pub fn body(&self, request_id: &str, host: &str) -> Value {
        let mut body = json!({
            "RequestId": request_id,
            "HostId": host,
            "Code": self.code,
            "Message": self.message,
            "Recommend": format!("troubleshoot?q={}&requestId={request_id}", self.code),
        });
        if let Some(denied) = &self.denied {
            body["AccessDeniedDetail"] = json!({
                "AuthAction": denied.action,
                "AuthPrincipalDisplayName": denied.principal,
                "AuthPrincipalType": "SubUser",
                "NoPermissionType": "ImplicitDeny",
                "PolicyType": "AccountLevelIdentityBasedPolicy",
                "AuthResource": denied.resource,
            });
        }
        body
    }
}

/// Any refusal.
pub fn refuse(status: u16, code: impl Into<String>, message: impl Into<String>) -> ApiError {
    ApiError { status, code: code.into(), message: message.into(), denied: None }
}

/// A parameter is not there.
pub fn missing(name: &str) -> ApiError {
    refuse(400, format!("Missing{name}"), format!("{name} is mandatory for this action."))
}

/// A parameter is there, and of no use.
pub fn invalid(name: &str, why: &str) -> ApiError {
    refuse(400, format!("InvalidParameter.{name}"), format!("{name}: {why}"))
}
