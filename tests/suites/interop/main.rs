//! Our daemon among others on a wire: a real keepalived as its peer, and whoever sends what he should not. Root.
//!
//! States and their order are asserted, times are printed beside the RFC's. Whatever goes over a wire of this suite is
//! recorded, and judged at the end of each test by tshark's dissector of VRRP.

mod dropin;
mod dump;
mod either;
mod forged;
mod judge;
mod keepalived;
mod keywords;
mod mail;
mod migration;
mod multicast;
mod peers;
mod router;
mod seed;
mod told;
mod tracking;
mod twins;
mod waits;
mod words;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harbor_ha_tests::lab::dropin::Dropin;
use harbor_ha_tests::lab::host::Host;
use harbor_ha_tests::lab::keepalived::Keepalived;
use harbor_ha_tests::lab::need::{self, LAB, Need};
use harbor_ha_tests::lab::node::Status;
use harbor_ha_tests::lab::record::Record;
use harbor_ha_tests::lab::tshark::{self, Checksum, Judgement};
use harbor_ha_tests::lab::{Lab, Options, Side, residue, state};

/// Three times the longest Master_Down_Interval here (3.96 s), and some for a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Whether a test can run here: on a lab, before the judge, with these programs more.
fn requirements_met(test: &str, more: &[&'static str]) -> bool {
    let tools: Vec<_> = ["tshark", "unshare"].iter().chain(more).map(|name| Need::Tool(name)).collect();
    need::has(test, &[&LAB[..], &tools].concat())
}

/// Runs a test on hosts of its own, has every advert judged, and proves that the hosts are gone after it.
fn on_a_network(test: impl FnOnce(&Lab)) {
    on_a_judged_network(Checksum::PseudoHeader, test, Judgement::insist);
}

/// The same where the judge is told another form of the checksum, or shall find something.
fn on_a_judged_network(checksum: Checksum, test: impl FnOnce(&Lab), verdict: impl FnOnce(&Judgement) -> Result<()>) {
    let lab = Lab::network(&Options { daemon: false, ..Options::default() }).unwrap();
    let run = lab.run().to_owned();
    judged(&lab, checksum, test, verdict);
    drop(lab);
    assert_eq!(residue::of(&run), Vec::<String>::new());
}

/// Records what a test puts on the wires of a lab, and has it judged.
fn judged(lab: &Lab, checksum: Checksum, test: impl FnOnce(&Lab), verdict: impl FnOnce(&Judgement) -> Result<()>) {
    let record = Record::start(lab).unwrap();
    test(lab);
    let file = lab.state().folder().join("wire.pcap");
    record.save(&file).unwrap();
    let judgement = tshark::judge(&file, checksum).unwrap();
    eprintln!("tshark: adverts {:?}, objections to {}", judgement.adverts, judgement.objections.len());
    if let Err(error) = verdict(&judgement) {
        let kept = state::root().join("target/lab-logs").join(lab.run());
        let copied = fs::create_dir_all(&kept).and_then(|()| fs::copy(&file, kept.join("wire.pcap")));
        panic!("{error:#}\nthe capture: {} ({copied:?})", kept.join("wire.pcap").display());
    }
}

/// Configures our daemon on a node and starts it; `rest` are the tables after `[node]`.
fn start_ours(lab: &Lab, side: Side, rest: &str) {
    let node = lab.node(side);
    let home = node.home();
    fs::create_dir_all(&home).unwrap();
    let text = format!(
        "[node]\ninstance = \"{instance}\"\ninterface = \"eth0\"\naddress = \"{address}\"\npeer = \"{peer}\"\n\
         vips = [\"10.77.0.100/32\"]\nstate_dir = \"{home}/state\"\nruntime_dir = \"{home}/run\"\nbpffs = \"{bpffs}\"\n\n\
         {rest}\n[kernel]\nxdp_mode = \"generic\"\ncgroup = \"{cgroup}\"\n",
        instance = node.instance(),
        address = node.address(),
        peer = node.peer_address(),
        home = home.display(),
        bpffs = lab.state().bpffs().display(),
        cgroup = node.cgroup().unwrap().display(),
    );
    fs::write(node.config(), text).unwrap();
    node.start_daemon().unwrap();
}

/// A file that the daemon accepts as a secret.
fn secret(file: &Path, text: &str) {
    fs::create_dir_all(file.parent().expect("in a folder")).unwrap();
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

fn serves(status: &Status) -> bool {
    status.text("/role") == "primary" && status.is("/vip")
}

/// Waits until our daemon on a node says what the test wants to hear.
fn until(lab: &Lab, side: Side, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
    let mut last = None;
    let waited = lab.wait(what, LIMIT, || {
        let status = lab.node(side).status()?;
        let reached = wanted(&status);
        let heard = status.number("/adverts_heard/arrivals").unwrap_or_default();
        let short = format!("{} ({}), {heard} adverts heard", status.text("/role"), status.text("/why"));
        last = Some(status);
        ensure!(reached, "{short}");
        Ok(())
    });
    let whole = last.as_ref().map(|status| status.0.to_string());
    settled(lab, waited.with_context(|| whole.unwrap_or_default()));
    last.expect("it answered")
}

/// A failed wait shows what the daemons said.
fn settled(lab: &Lab, waited: Result<()>) {
    let Err(error) = waited else { return };
    let nodes = Side::BOTH.map(|side| lab.node(side).daemon_log());
    let hosts = lab.state().hosts().into_iter().map(|(name, _)| Host::named(lab.state(), name));
    let logs = nodes.into_iter().chain(hosts.flat_map(|host| [Keepalived::on(host).log(), Dropin::on(host).log()]));
    let told: Vec<_> =
        logs.filter_map(|file| Some(format!("--- {}\n{}", file.display(), fs::read_to_string(&file).ok()?))).collect();
    panic!("{error:#}\n{}", told.join("\n"));
}
