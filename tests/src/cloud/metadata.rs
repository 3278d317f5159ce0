//! The metadata service of an instance: what it is, and the keys of its role.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::verify::Received;
use super::world::World;

/// Below this everything is read.
const ROOT: &str = "/latest/meta-data/";
/// Of a token's life, in seconds.
const TTL_MAX: i64 = 21_600;

/// Its state: tokens that were handed out, with the end of each.
#[derive(Debug)]
pub struct Metadata {
    tokens: BTreeMap<String, i64>,
    /// Nothing without a token.
    pub hardened: bool,
    /// Who is taken for this instance although his address is nobody's.
    pub default: Option<String>,
}

/// HTTP status and body.
pub type Answer = (u16, String);

impl Metadata {
    /// Nobody has a token.
    pub fn new(hardened: bool, default: Option<String>) -> Self {
        Self { tokens: BTreeMap::new(), hardened, default }
    }

    /// Answers a request.
    pub fn answer(&mut self, world: &mut World, request: &Received, from: IpAddr, now: i64) -> Answer {
        if request.header("x-forwarded-for").is_some() {
            return refused(403, "no proxies");
        }
        if request.path == "/latest/api/token" {
            return self.token(request, now);
        }
        if request.method != "GET" {
            return refused(405, "only GET");
        }
        match request.header("x-aliyun-ecs-metadata-token") {
            Some(token) if self.tokens.get(token).is_none_or(|end| now >= *end) => {
                return refused(401, "no such token");
            }
            None if self.hardened => return refused(403, "a token is needed"),
            _ => {}
        }
        let owner = world.instances.iter().find(|(_, it)| IpAddr::from(it.address) == from).map(|(id, _)| id);
        let Some(id) = owner.or(self.default.as_ref()).cloned() else {
            return refused(404, "no instance of this double");
        };
        let item = request.path.strip_prefix(ROOT);
        item.and_then(|item| self.item(world, &id, item, now)).unwrap_or_else(|| refused(404, "no such item"))
    }

    fn token(&mut self, request: &Received, now: i64) -> Answer {
        if request.method != "PUT" {
            return refused(405, "only PUT");
        }
        let ttl = request.header("x-aliyun-ecs-metadata-token-ttl-seconds").and_then(|text| text.parse().ok());
        let Some(ttl) = ttl.filter(|ttl| (1..=TTL_MAX).contains(ttl)) else {
            return refused(400, "no TTL in its range");
        };
        let token = format!("{}-metadata-{:04}==", super::keys::MARK, self.tokens.len() + 1);
        self.tokens.insert(token.clone(), now + ttl);
        (200, token)
    }

    fn item(&self, world: &mut World, id: &str, item: &str, now: i64) -> Option<Answer> {
        if let Some(role) = item.strip_prefix("ram/security-credentials/") {
            return credentials(world, role, now);
        }
        let instance = world.instances.get(id)?;
        let vswitch = world.vswitches.get(&instance.vswitch)?;
        let block = format!("{}/{}", vswitch.network, vswitch.prefix);
        let address = instance.address.to_string();
        let card = item.strip_prefix("network/interfaces/macs/").map(|rest| rest.split_once('/').unwrap_or((rest, "")));
        let text = match (item, card) {
            (_, Some(("", _))) => format!("{}/", instance.mac),
            (_, Some((mac, field))) if mac == instance.mac => match field {
                "network-interface-id" => format!("eni-{id}"),
                "vswitch-id" => instance.vswitch.clone(),
                "primary-ip-address" => address,
                "private-ipv4s" => json!([address]).to_string(),
                "vswitch-cidr-block" => block,
                _ => return None,
            },
            (_, Some(_)) => return None,
            ("instance-id", _) => id.to_owned(),
            ("region-id", _) => world.region.clone(),
            ("zone-id", _) => vswitch.zone.clone(),
            ("vpc-id", _) => vswitch.vpc.clone(),
            ("vswitch-id", _) => instance.vswitch.clone(),
            ("vswitch-cidr-block", _) => block,
            ("private-ipv4", _) => address,
            ("mac", _) => instance.mac.clone(),
            ("owner-account-id", _) => world.account.clone(),
            ("hostname" | "instance/instance-name", _) => id.to_owned(),
            _ => return None,
        };
        Some((200, text))
    }
}

/// The list of roles, or a key of one.
fn credentials(world: &mut World, name: &str, now: i64) -> Option<Answer> {
    let role = world.role.clone()?;
    if name.is_empty() {
        return Some((200, role.name));
    }
    if name.trim_end_matches('/') != role.name {
        return None;
    }
    let (id, key, token) = world.keys.of_role(&role, now);
    let utc = |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok();
    let body = json!({
        "Code": "Success", "AccessKeyId": id, "AccessKeySecret": key.secret, "SecurityToken": token.value,
        "Expiration": utc(token.expires)?, "LastUpdated": utc(token.expires - role.lifetime)?,
    });
    Some((200, body.to_string()))
}

fn refused(status: u16, why: &str) -> Answer {
    (status, format!("{status} - {why}\n"))
}
