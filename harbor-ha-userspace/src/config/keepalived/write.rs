//! Writes the draft as TOML, in one of the two forms, and reads it once more as our own check would.

use std::path::Path;

use super::draft::{self, Instance, Table};
use super::judge::Judge;
use super::{Memory, Pair};
use crate::config::file;
use crate::config::lookup::{Lookup, SecretFile};
use crate::config::secret::Secret;

/// The text, or why there is none.
pub(super) fn toml(judge: &Judge<'_>, from: &Path) -> Result<String, String> {
    let draft = &judge.draft;
    if draft.instances.is_empty() {
        return Err("there is no vrrp_instance that could be carried over, so there is nothing to run".into());
    }
    let name: String = from.display().to_string().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let mut text = format!("# Made of {name} by `harbor-ha import`.\n");
    match &judge.options.pair {
        None => router(judge, &mut text),
        Some(pair) => self::pair(judge, pair, &mut text)?,
    }
    // What we write is ours to get right: a mistake is told here and not to who runs it.
    match file::parse_any(&text, &Memory::new(&draft.secrets, &AnyKey)) {
        Ok(_) => Ok(text),
        Err(problems) => Err(format!("harbor-ha wrote what it would not read, please report it:\n{problems}")),
    }
}

/// Stands for the files of secrets that keepalived does not know, such as the key of the pulses.
struct AnyKey;

impl Lookup for AnyKey {
    fn file(&self, _: &Path) -> std::io::Result<SecretFile> {
        Ok(SecretFile { mode: 0o600, content: Secret::new(vec![b'0'; 32]) })
    }

    fn env(&self, _: &str) -> Option<std::ffi::OsString> {
        None
    }
}

fn table(text: &mut String, header: &str, table: &Table) {
    if table.is_empty() {
        return;
    }
    text.push_str(&format!("\n{header}\n"));
    for (key, value) in table.iter() {
        text.push_str(&format!("{key} = {value}\n"));
    }
}

/// `[mail]`, the trackers and `[realtime]`: in both forms.
fn shared(judge: &Judge<'_>, text: &mut String) {
    let draft = &judge.draft;
    for (header, list) in
        [("[[script]]", &draft.scripts), ("[[process]]", &draft.processes), ("[[file]]", &draft.files)]
    {
        list.iter().for_each(|(_, it)| table(text, header, it));
    }
    table(text, "[mail]", &draft.mail);
    table(text, "[realtime]", &draft.realtime);
}

fn router(judge: &Judge<'_>, text: &mut String) {
    let draft = &judge.draft;
    table(text, "[router]", &draft.router);
    if draft.fifo.get("path").is_some() {
        table(text, "[router.fifo]", &draft.fifo);
    }
    for instance in &draft.instances {
        let mut main = Table::default();
        main.set("name", draft::text(&instance.name));
        main.set("interface", draft::text(&instance.interface));
        main.set("version", version(instance).to_string());
        main.set("vrid", instance.vrid.to_string());
        if let Some(source) = instance.source {
            main.set("source", draft::text(&source.to_string()));
        }
        if !instance.peers.is_empty() {
            main.set("peers", peers(instance));
        }
        main.set("vips", draft::list(instance.vips.iter().map(draft::Address::render)));
        if !instance.excluded.is_empty() {
            main.set("excluded_vips", draft::list(instance.excluded.iter().map(draft::Address::render)));
        }
        for (key, value) in instance.main.iter() {
            main.set(key, value.to_owned());
        }
        table(text, "[[instance]]", &main);
        table(text, "[instance.announce]", &instance.announce);
        table(text, "[instance.track]", &instance.track.table());
        table(text, "[instance.notify]", &instance.notify);
    }
    for group in &draft.groups {
        let mut main = Table::default();
        main.set("name", draft::text(&group.name));
        main.set("instances", draft::list(group.members.iter().map(|name| draft::text(name))));
        for (key, value) in group.main.iter() {
            main.set(key, value.to_owned());
        }
        table(text, "[[group]]", &main);
        table(text, "[group.track]", &group.track.table());
        table(text, "[group.notify]", &group.notify);
    }
    shared(judge, text);
}

fn version(instance: &Instance) -> u8 {
    match instance.version {
        crate::config::settings::VrrpVersion::V2 => 2,
        crate::config::settings::VrrpVersion::V3 => 3,
    }
}

fn peers(instance: &Instance) -> String {
    draft::list(instance.peers.iter().map(|peer| draft::text(&peer.to_string())))
}

/// The form for a pair: one instance, one peer, and PostgreSQL.
fn pair(judge: &Judge<'_>, pair: &Pair, text: &mut String) -> Result<(), String> {
    let draft = &judge.draft;
    let [instance] = draft.instances.as_slice() else { return Err("a pair has one instance".into()) };
    let [peer] = instance.peers.as_slice() else {
        let found = instance.peers.len();
        return Err(format!("a pair has one peer, and unicast_peer names {found}; import without --postgres"));
    };
    let address = instance.source.ok_or("a pair needs this node's own address; add unicast_src_ip")?;
    let plain = |vip: &&draft::Address| vip.interface.is_none() && vip.label.is_none() && vip.scope.is_none();
    let all = || instance.vips.iter().chain(&instance.excluded);
    if let Some(vip) = all().find(|vip| !plain(vip)) {
        return Err(format!(
            "{} has dev, label or scope, which an address of a pair has not; remove them",
            vip.address
        ));
    }
    if all().count() == 0 || all().count() > 20 {
        return Err(format!("a pair has 1 to 20 virtual addresses, and here are {}", all().count()));
    }
    let mut node = Table::default();
    node.set("interface", draft::text(&instance.interface));
    node.set("address", draft::text(&address.to_string()));
    node.set("peer", draft::text(&peer.to_string()));
    node.set("vips", draft::list(all().map(draft::Address::render)));
    table(text, "[node]", &node);

    let mut vrrp = Table::default();
    vrrp.set("version", version(instance).to_string());
    vrrp.set("vrid", instance.vrid.to_string());
    vrrp.set_default("priority", instance.main.get("priority").unwrap_or("100"));
    for key in ["advert_interval", "password_file"] {
        if let Some(value) = instance.main.get(key) {
            vrrp.set_default(key, value);
        }
    }
    if let Some(ttl) = instance.main.get("min_ttl") {
        vrrp.set("min_ttl", if ttl == "0" { "1" } else { ttl }.to_owned());
    }
    table(text, "[vrrp]", &vrrp);
    text.push_str("# A returning node never takes over from a healthy primary; `harbor-ha switchover` does it without loss.\npreempt = false\n");
    let mut pulse = Table::default();
    pulse.set("key_file", draft::text(&pair.pulse_key_file.to_string_lossy()));
    table(text, "[pulse]", &pulse);
    let mut lease = Table::default();
    lease.set("isolated", draft::text(&pair.isolated));
    table(text, "[lease]", &lease);
    let mut announce = Table::default();
    for key in ["repeat", "delay", "refresh", "refresh_repeat"] {
        if let Some(value) = instance.announce.get(key) {
            announce.set_default(key, value);
        }
    }
    table(text, "[announce]", &announce);
    let mut postgres = Table::default();
    postgres.set("data_dir", draft::text(&pair.data_dir.to_string_lossy()));
    postgres.set("bin_dir", draft::text(&pair.bin_dir.to_string_lossy()));
    let (name, peer_name) = match &pair.names {
        Some((name, peer)) => (name.clone(), peer.clone()),
        // The same on both nodes, as each names the other by the other's address.
        None => {
            let of = |address: &std::net::Ipv4Addr| format!("node_{}", address.to_string().replace('.', "_"));
            (of(&address), of(peer))
        }
    };
    postgres.set("name", draft::text(&name));
    postgres.set("peer_name", draft::text(&peer_name));
    table(text, "[postgres]", &postgres);
    table(text, "[track]", &instance.track.table());
    table(text, "[notify]", &instance.notify);
    if !draft.left_out.is_empty() {
        text.push_str(
            "\n# Left out, as harbor-ha itself promotes PostgreSQL; under [notify], if they do more than that:\n",
        );
        for (key, command) in &draft.left_out {
            text.push_str(&format!("# {key} = {}\n", command.replace(['\n', '\r'], " ")));
        }
    }
    shared(judge, text);
    Ok(())
}
