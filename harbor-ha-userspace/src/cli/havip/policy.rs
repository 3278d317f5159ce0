//! `harbor-ha havip policy`: the smallest RAM policy that this configuration needs.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{End, WithConfig, open};
use crate::config::settings::cloud::Cloud as Settings;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only what looks: for a daemon that fences nobody, where `provision` is run with other keys.
    #[arg(long)]
    observe: bool,
}

pub(super) async fn run(with: &WithConfig, arguments: &Arguments) -> Result<ExitCode, End> {
    let (_, cloud) = open(with)?;
    let settings = cloud.settings();
    // Asked for, and left open where nobody tells: a policy with `*` is wider, and works.
    let known = Known {
        region: cloud.region().await.ok().map(str::to_owned),
        account: cloud.metadata().account().await.ok(),
        own: cloud.instance().await.ok().map(str::to_owned),
    };
    let policy = policy(settings, &known, arguments.observe);
    println!("{}", serde_json::to_string_pretty(&policy).expect("texts are JSON"));
    if known.region.is_none() || known.account.is_none() {
        eprintln!(
            "harbor-ha: instance metadata did not tell region and account, so `*` stands for them; run this on the ECS, or \
             put them in"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What the names of resources are made of; `None`: `*`.
#[derive(Debug, Default)]
struct Known {
    region: Option<String>,
    account: Option<String>,
    own: Option<String>,
}

impl Known {
    fn name(&self, service: &str, resource: &str) -> String {
        let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "*".to_owned());
        format!("acs:{service}:{}:{}:{resource}", part(&self.region), part(&self.account))
    }
}

fn policy(settings: &Settings, known: &Known, observe: bool) -> Value {
    let allow =
        |actions: &[&str], resources: Vec<String>| json!({"Effect": "Allow", "Action": actions, "Resource": resources});
    let any = || vec!["*".to_owned()];
    let mut statements = vec![
        allow(&["vpc:DescribeHaVips"], vec![known.name("vpc", "havip/*")]),
        allow(
            &[
                "vpc:DescribeEipAddresses",
                "ecs:DescribeInstanceStatus",
                "ecs:DescribeInstances",
                "ecs:DescribeSecurityGroupAttribute",
            ],
            any(),
        ),
    ];
    let havip = known.name("vpc", &format!("havip/{}", settings.havip.as_deref().unwrap_or("*")));
    let own = known.name("vpc", &format!("instance/{}", known.own.as_deref().unwrap_or("*")));
    let peer = known.name("vpc", &format!("instance/{}", settings.peer_instance));
    if !observe {
        let members = vec![havip.clone(), own, peer.clone()];
        statements.push(allow(&["vpc:AssociateHaVip", "vpc:UnassociateHaVip"], members));
        if settings.havip.is_none() {
            statements.push(allow(&["vpc:CreateHaVip"], any()));
        }
        if settings.eip.is_some() {
            statements.push(allow(&["vpc:AssociateEipAddress"], any()));
        }
    } else if settings.fence.unassociate {
        // Bound again when it rejoins; and this node itself, when it serves and its peer had taken its binding.
        statements.push(allow(&["vpc:AssociateHaVip", "vpc:UnassociateHaVip"], vec![havip, own, peer]));
    }
    if settings.fence.stop {
        let peer = known.name("ecs", &format!("instance/{}", settings.peer_instance));
        statements.push(allow(&["ecs:StopInstance"], vec![peer]));
    }
    json!({"Version": "1", "Statement": statements})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::cloud::Fence;

    fn settings(havip: Option<&str>, eip: Option<&str>, unassociate: bool, stop: bool) -> Settings {
        let fence = Fence { unassociate, stop, dry_run: false, cooldown: std::time::Duration::ZERO, limit: 1 };
        Settings {
            havip: havip.map(str::to_owned),
            eip: eip.map(str::to_owned),
            fence,
            ..super::super::judge::tests::settings()
        }
    }

    fn actions(policy: &Value) -> Vec<String> {
        let statements = policy["Statement"].as_array().unwrap().iter();
        let actions = statements.flat_map(|statement| statement["Action"].as_array().unwrap().clone());
        actions.map(|action| action.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn nothing_is_allowed_that_the_configuration_does_not_need() {
        let changes = |policy: Value| {
            let mut actions = actions(&policy);
            actions.retain(|action| !action.contains("Describe"));
            actions
        };
        let known = Known::default();
        let observing = policy(&settings(Some("havip-1"), None, false, false), &known, true);
        assert_eq!(changes(observing), Vec::<String>::new());
        let bound = policy(&settings(Some("havip-1"), None, false, false), &known, false);
        assert_eq!(changes(bound), ["vpc:AssociateHaVip", "vpc:UnassociateHaVip"]);
        let all = policy(&settings(None, Some("eip-1"), true, true), &known, false);
        let expected = [
            "vpc:AssociateHaVip",
            "vpc:UnassociateHaVip",
            "vpc:CreateHaVip",
            "vpc:AssociateEipAddress",
            "ecs:StopInstance",
        ];
        assert_eq!(changes(all), expected);
        let fencing = policy(&settings(Some("havip-1"), None, true, true), &known, true);
        assert_eq!(changes(fencing), ["vpc:AssociateHaVip", "vpc:UnassociateHaVip", "ecs:StopInstance"]);
    }

    #[test]
    fn resources_are_named_as_far_as_they_are_known() {
        let known = Known { region: Some("cn-x".into()), account: Some("123".into()), own: Some("i-a".into()) };
        let text = policy(&settings(Some("havip-1"), None, false, true), &known, false).to_string();
        for name in ["acs:vpc:cn-x:123:havip/havip-1", "acs:vpc:cn-x:123:instance/i-a", "acs:ecs:cn-x:123:instance/i-b"]
        {
            assert!(text.contains(name), "{name}: {text}");
        }
        let open = policy(&settings(None, None, false, false), &Known::default(), false).to_string();
        assert!(open.contains("acs:vpc:*:*:havip/*") && open.contains("acs:vpc:*:*:instance/*"), "{open}");
    }
}
