//! The states of VRRP.

use serde::Serialize;

/// The states of RFC 9568 §6.4, and keepalived's Fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VrrpState {
    /// Not yet known how link and PostgreSQL are.
    Init,
    /// The peer serves, or nobody does.
    Backup,
    /// This node serves.
    Master,
    /// This node cannot serve.
    Fault,
}

impl std::fmt::Display for VrrpState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Init => "init",
            Self::Backup => "backup",
            Self::Master => "master",
            Self::Fault => "fault",
        })
    }
}
