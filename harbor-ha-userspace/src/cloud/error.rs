//! What the service answers when it does not do what it was asked, what that means, and whether to ask again.
//!
//! The HTTP status is 400 for nearly everything, so the `Code` decides; an unknown code is judged by the status. Codes:
//! the error tables of the VPC, EIP and ECS references, and what the official Terraform provider retries.

use super::credentials::CredentialsError;
use super::metadata::MetadataError;

/// A refusal, in the service's own words as far as they are fit for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The API's name of the call.
    pub action: &'static str,
    /// HTTP status.
    pub status: u16,
    /// The service's name of what is wrong.
    pub code: String,
    /// Its sentence; secrets are taken out of it.
    pub message: String,
    /// To show to the provider's support.
    pub request: String,
}

/// Why a call to the cloud came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// It said no.
    #[error("{}", told(.0))]
    Refused(Box<Refusal>),
    /// Nothing was heard. Whether a change was carried out is not known: look before changing again.
    #[error("{action}: no answer from {endpoint} after {attempts} attempts: {why}")]
    Unreachable {
        /// The API's name of the call.
        action: &'static str,
        /// Host and port.
        endpoint: String,
        /// How often it was tried.
        attempts: u32,
        /// The last time.
        why: String,
    },
    /// Something was heard that is no answer of this service: cut off, too long, no JSON.
    #[error("{action}: {endpoint} gave no usable answer: {why}")]
    Unusable {
        /// The API's name of the call.
        action: &'static str,
        /// Host and port.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// Not asked: this process has asked so often that others of the account would be throttled.
    #[error("{action}: not asked, as this process has reached its own limit of calls; ask again later")]
    Limited {
        /// The API's name of the call.
        action: &'static str,
    },
    /// Not asked, or not again: the service throttles, and its pause is longer than the caller's time.
    #[error("{action}: the service throttles calls and is not asked before {until} ({})", told(refusal))]
    Throttled {
        /// The API's name of the call.
        action: &'static str,
        /// UTC, by this host's clock.
        until: String,
        /// By which the service said so; perhaps to another call.
        refusal: Box<Refusal>,
    },
    /// There is no key pair to sign with.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Something that was not configured could not be learnt.
    #[error("cloud.{key} is \"auto\", and {source}; set it")]
    Place {
        /// In `[cloud]`.
        key: &'static str,
        /// Why.
        source: MetadataError,
    },
    /// The HTTP client could not be made.
    #[error("no HTTP client: {0}")]
    Client(String),
    /// There is no such thing.
    #[error("there is no {what} in {region}; {way_out}")]
    Absent {
        /// HaVip, EIP or instance, with its id.
        what: String,
        /// Where it was looked for.
        region: String,
        /// What to do.
        way_out: String,
    },
}

impl CloudError {
    /// The service's name of what is wrong.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) | Self::Throttled { refusal, .. } => Some(&refusal.code),
            _ => None,
        }
    }

    /// Whether the key pair may not do this.
    pub fn is_denial(&self) -> bool {
        matches!(self, Self::Refused(refusal) if class(refusal.action, refusal.status, &refusal.code) == Class::Denied)
    }
}

fn told(refusal: &Refusal) -> String {
    let Refusal { action, status, code, message, request } = refusal;
    let advice = match class(action, *status, code) {
        Class::Clock => "; this host's clock is more than 15 minutes off: repair it",
        Class::Denied => "; the RAM policy does not allow it: `harbor-ha havip policy` prints one that does",
        Class::Keys => "; the AccessKey is not known, not active, expired, or its secret is wrong",
        Class::Throttled | Class::Busy | Class::Transition | Class::Nonce | Class::Final => "",
    };
    format!("{action} was refused with `{code}`: {message}{advice} (request {request})")
}

/// What kind of refusal a code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Too many calls of this account: later.
    Throttled,
    /// The service has a bad moment: soon.
    Busy,
    /// Another change is under way: when that is over.
    Transition,
    /// The nonce was used: at once, with another.
    Nonce,
    /// The key pair is not accepted: once more, with one that is fetched anew.
    Keys,
    /// The clock is wrong.
    Clock,
    /// The policy does not allow it.
    Denied,
    /// No repetition helps.
    Final,
}

/// Each code by which a call is repeated, or which has a sentence of its own.
const TABLE: [(&str, Class); 33] = [
    ("IncorrectHaVipStatus", Class::Transition),
    ("InvalidVip.Status", Class::Transition),
    ("IncorrectInstanceStatus", Class::Transition),
    ("IncorrectEipStatus", Class::Transition),
    ("InvalidBindingStatus", Class::Transition),
    ("IncorrectStatus", Class::Transition),
    ("OperationConflict", Class::Transition),
    ("TaskConflict", Class::Transition),
    ("LastTokenProcessing", Class::Transition),
    ("OperationFailed.LastTokenProcessing", Class::Transition),
    // Spelt so by the service; the other in case it is mended.
    ("OperationFailed.DistibuteLock", Class::Transition),
    ("OperationFailed.DistributeLock", Class::Transition),
    ("SystemBusy", Class::Busy),
    ("ServiceUnavailable", Class::Busy),
    ("InternalError", Class::Busy),
    ("UnknownError", Class::Busy),
    ("SignatureNonceUsed", Class::Nonce),
    ("InvalidTimeStamp.Expired", Class::Clock),
    ("InvalidTimeStamp.Format", Class::Clock),
    ("InvalidSecurityToken.Expired", Class::Keys),
    ("InvalidSecurityToken.Malformed", Class::Keys),
    ("InvalidSecurityToken.MismatchWithAccessKey", Class::Keys),
    ("SecurityTokenExpired", Class::Keys),
    ("InvalidAccessKeyId", Class::Keys),
    ("InvalidAccessKeyId.NotFound", Class::Keys),
    ("InvalidAccessKeyId.Inactive", Class::Keys),
    ("SignatureDoesNotMatch", Class::Keys),
    ("IncompleteSignature", Class::Keys),
    ("Forbidden.RAM", Class::Denied),
    ("Forbidden.HaVip", Class::Denied),
    ("NoPermission", Class::Denied),
    ("Forbidden.RiskControl", Class::Denied),
    ("ImplicitDeny", Class::Denied),
];

/// What a refusal of `action` is.
pub fn class(action: &str, status: u16, code: &str) -> Class {
    // Of a stop it says that the instance is not running: to be looked at, not repeated.
    if action == "StopInstance" && code == "IncorrectInstanceStatus" {
        return Class::Final;
    }
    if let Some((_, class)) = TABLE.iter().find(|(known, _)| known.eq_ignore_ascii_case(code)) {
        return *class;
    }
    match status {
        _ if code.contains("Throttling") => Class::Throttled,
        429 => Class::Throttled,
        // The codes of RAM differ from service to service.
        _ if code == "Forbidden" || code.contains("NoPermission") || code.contains("AccessDenied") => Class::Denied,
        500.. => Class::Busy,
        _ => Class::Final,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_decides_and_an_unknown_one_is_judged_by_the_status() {
        let cases = [
            ("AssociateHaVip", 400, "IncorrectHaVipStatus", Class::Transition),
            ("AssociateHaVip", 400, "incorrecthavipstatus", Class::Transition),
            ("UnassociateHaVip", 400, "IncorrectInstanceStatus", Class::Transition),
            ("StopInstance", 403, "IncorrectInstanceStatus", Class::Final),
            ("AssociateHaVip", 400, "OperationFailed.DistibuteLock", Class::Transition),
            ("DescribeHaVips", 400, "Throttling", Class::Throttled),
            ("DescribeHaVips", 400, "Throttling.User", Class::Throttled),
            ("DescribeHaVips", 400, "Rejected.Throttling", Class::Throttled),
            ("DescribeHaVips", 429, "", Class::Throttled),
            ("DescribeHaVips", 503, "ServiceUnavailable", Class::Busy),
            ("DescribeHaVips", 502, "", Class::Busy),
            ("DescribeHaVips", 400, "SignatureNonceUsed", Class::Nonce),
            ("DescribeHaVips", 400, "InvalidTimeStamp.Expired", Class::Clock),
            ("DescribeHaVips", 404, "InvalidHaVipId.NotFound", Class::Final),
            ("DescribeHaVips", 403, "Forbidden.RAM", Class::Denied),
            ("DescribeInstances", 403, "Forbidden", Class::Denied),
            ("DescribeInstances", 403, "Forbidden.NoPermission", Class::Denied),
            ("StopInstance", 403, "InstanceLockedForSecurity", Class::Final),
            ("UnassociateHaVip", 400, "Forbidden.UnassociateMaster", Class::Final),
            ("UnassociateHaVip", 400, "NeverHeardOf", Class::Final),
        ];
        for (action, status, code, expected) in cases {
            assert_eq!(class(action, status, code), expected, "{action} {status} {code}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do_where_it_is_known() {
        let refused = |code: &str| {
            CloudError::Refused(Box::new(Refusal {
                action: "AssociateHaVip",
                status: 403,
                code: code.to_owned(),
                message: "no".to_owned(),
                request: "R".to_owned(),
            }))
        };
        let denied = refused("Forbidden.RAM");
        assert!(denied.is_denial() && denied.to_string().contains("harbor-ha havip policy"), "{denied}");
        assert!(refused("InvalidTimeStamp.Expired").to_string().contains("clock"));
        let other = refused("InvalidHaVipId.NotFound");
        assert_eq!(other.to_string(), "AssociateHaVip was refused with `InvalidHaVipId.NotFound`: no (request R)");
        assert!(!other.is_denial());
    }
}
