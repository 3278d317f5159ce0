//! `harbor-ha switchover`: the primary hands over, and this command tells how it went.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::WithConfig;
use super::follow::{Progress, look_again, number, refused, summary, unless_paused, word};
use super::status::ask;
use crate::config::Settings;
use crate::config::settings::Sync;
use crate::daemon::Request;
use crate::observe::words::age;

/// A checkpoint, a shutdown, a promotion and a rejoin.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn run(with: &WithConfig) -> Result<ExitCode, ExitCode> {
    let settings = with.load()?;
    super::block_on(async {
        let before = ask(&settings, Request::Status).await?;
        impossible(&before, &settings).map_or(Ok(()), |why| Err(refused(&why)))?;
        unless_paused(&before)?;
        ask(&settings, Request::Switchover).await?;
        follow(&settings, number(&before["now_ns"])).await
    })
}

/// Why it would not end well: better told before anything stops.
fn impossible(status: &Value, settings: &Settings) -> Option<String> {
    let (role, peer) = (word(&status["role"]), word(&status["peer"]["role"]));
    if role != "primary" {
        return Some(format!("this node is {role} and the peer {peer}; run the switchover on the primary"));
    }
    let postgres = settings.postgres.as_ref()?;
    if status["peer"]["alive"] != true && settings.pulse.is_some() {
        return Some(format!("no switchover: the peer is not alive ({peer}), so nobody could take over"));
    }
    if status["peer"]["unwell"] == true {
        return Some(
            "no switchover: something that the peer tracks has failed, so it would not take over; see `harbor-ha status` \
             there"
                .to_owned(),
        );
    }
    let facts = &status["postgres"]["facts"];
    if facts["streaming"] != true {
        return Some(
            "no switchover: the peer does not stream from this node, so it would lack the last writes".to_owned(),
        );
    }
    if postgres.sync != Sync::Off && facts["peer_is_sync"] != true {
        return Some(
            "no switchover: commits do not wait for the peer yet; wait until `harbor-ha status` says `the peer streams \
             synchronously`"
                .to_owned(),
        );
    }
    if status["lease"]["peer_waived"] == true {
        return Some(
            "no switchover: the peer has given up its right to take over in this term, and would refuse".to_owned(),
        );
    }
    let (ours, theirs) = (lsn(&facts["lsn"])?, lsn(&facts["peer_lsn"])?);
    let lag = ours.saturating_sub(theirs);
    (lag > postgres.max_lag).then(|| {
        format!(
            "no switchover: the peer is {lag} bytes of WAL behind, more than `postgres.max_lag` ({}), and writes would be \
             refused until it has them; wait until it has caught up",
            postgres.max_lag
        )
    })
}

/// A position as PostgreSQL prints it.
fn lsn(value: &Value) -> Option<u64> {
    let (high, low) = value.as_str()?.split_once('/')?;
    Some((u64::from_str_radix(high, 16).ok()? << 32) | u64::from_str_radix(low, 16).ok()?)
}

/// Until this node is a standby again; `asked`: the daemon's clock before.
async fn follow(settings: &Settings, asked: u64) -> Result<ExitCode, ExitCode> {
    let mut progress = Progress::new();
    let mut told = false;
    while progress.elapsed() < PATIENCE {
        let now = look_again(settings).await?;
        progress.show(summary(&now));
        if !told && let Some(text) = refused_for(&now["handover"], asked) {
            told = true;
            println!("{text}");
        }
        if now["role"] == "standby" && now["peer"]["role"] == "primary" && now["operation"] == "none" {
            println!("the peer serves; this node is its standby");
            return Ok(ExitCode::SUCCESS);
        }
        let stayed = now["role"] == "primary" && now["operation"] == "none";
        if stayed && progress.elapsed() > Duration::from_secs(1) {
            return Err(refused(word(&now["why"])));
        }
    }
    Err(refused(&format!("not finished after {PATIENCE:?}; `harbor-ha status` tells where it is")))
}

/// How long nobody could write, once that is over.
fn refused_for(stamps: &Value, asked: u64) -> Option<String> {
    let [begun, shut, stopped, served] =
        ["begun_ns", "shut_ns", "stopped_ns", "peer_serves_ns"].map(|name| number(&stamps[name]));
    if begun < asked || shut == 0 || stopped == 0 || served == 0 {
        return None;
    }
    Some(format!(
        "writes were refused for {}, as seen from this node: PostgreSQL stopped in {}, and the peer served {} later (a \
         checkpoint of {} went before, with writes)",
        age(served.saturating_sub(shut)),
        age(stopped.saturating_sub(shut)),
        age(served.saturating_sub(stopped)),
        age(shut.saturating_sub(begun)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let example = include_str!("../../../packaging/harbor-ha.toml");
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("pulse.key");
        std::fs::write(&key, "00112233445566778899aabbccddeeff\n").unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let file = folder.path().join("harbor-ha.toml");
        std::fs::write(&file, example.replace("/etc/harbor-ha/pulse.key", key.to_str().unwrap())).unwrap();
        crate::config::load(&file).unwrap()
    }

    fn good() -> Value {
        let facts = serde_json::json!({"streaming": true, "peer_is_sync": true, "lsn": "1/30", "peer_lsn": "1/20"});
        serde_json::json!({"role": "primary", "peer": {"role": "standby", "alive": true, "unwell": false},
                           "postgres": {"facts": facts}, "lease": {"peer_waived": false}})
    }

    #[test]
    fn what_would_not_end_well_is_refused_before_anything_stops() {
        let settings = settings();
        assert_eq!(impossible(&good(), &settings), None);
        let cases = [
            ("/role", serde_json::json!("standby"), "on the primary"),
            ("/peer/alive", serde_json::json!(false), "not alive"),
            ("/peer/unwell", serde_json::json!(true), "tracks has failed"),
            ("/postgres/facts/streaming", serde_json::json!(false), "does not stream"),
            ("/postgres/facts/peer_is_sync", serde_json::json!(false), "do not wait"),
            ("/lease/peer_waived", serde_json::json!(true), "given up its right"),
            ("/postgres/facts/peer_lsn", serde_json::json!("0/0"), "behind"),
        ];
        for (pointer, value, says) in cases {
            let mut status = good();
            *status.pointer_mut(pointer).unwrap() = value;
            let why = impossible(&status, &settings).expect(pointer);
            assert!(why.contains(says), "{pointer}: {why}");
        }
    }

    #[test]
    fn the_time_without_writes_is_told_once_the_peer_serves_and_not_of_an_earlier_hand_over() {
        let stamps = |served: u64| {
            serde_json::json!({"begun_ns": 1_000_000, "shut_ns": 3_000_000, "stopped_ns": 7_000_000,
                               "peer_serves_ns": served})
        };
        assert_eq!(refused_for(&stamps(0), 0), None);
        assert_eq!(refused_for(&stamps(30_000_000), 2_000_000), None);
        let text = refused_for(&stamps(30_000_000), 500_000).unwrap();
        assert!(text.contains("refused for 27.0 ms, as seen from this node"), "{text}");
    }
}
