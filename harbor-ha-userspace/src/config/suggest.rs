//! "Did you mean …": the closest word, and what keepalived's words are called here.

/// The word of `known` that `word` was probably meant to be.
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // One slip in short words, two in longer ones, three in the longest: more would suggest at random.
    let limit = match word.len() {
        0..4 => 1,
        4..10 => 2,
        10.. => 3,
    };
    known.into_iter().map(|other| (distance(word, other), other)).filter(|(d, _)| *d <= limit).min().map(|(_, w)| w)
}

/// Letters to insert, delete or replace on the way from `a` to `b`.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// What a word of `keepalived.conf` is called here; people move over with their old file in hand. `plain`: in the form
/// without a pair.
pub(super) fn from_keepalived(word: &str, plain: bool) -> Option<&'static str> {
    if plain {
        return of_instance(word);
    }
    Some(match word {
        "advert_int" => "use vrrp.advert_interval, with a unit",
        "auth_pass" => "use vrrp.password_file or vrrp.password_env",
        "auth_type" => "leave it out; vrrp.password_file implies PASS",
        "garp_master_delay" | "vrrp_garp_master_delay" => "use announce.delay",
        "garp_master_refresh" | "vrrp_garp_master_refresh" => "use announce.refresh",
        "garp_master_refresh_repeat" | "vrrp_garp_master_refresh_repeat" => "use announce.refresh_repeat",
        "garp_master_repeat" | "vrrp_garp_master_repeat" => "use announce.repeat",
        "nopreempt" => "leave it out; vrrp.preempt = false is the default",
        "router_id" => "use node.instance",
        "state" => "leave it out; the nodes elect the primary",
        "unicast_peer" => "use node.peer",
        "unicast_src_ip" | "mcast_src_ip" => "use node.address",
        "virtual_ipaddress" => "use node.vips",
        "virtual_router_id" => "use vrrp.vrid",
        "vrrp_instance" => "use node.instance",
        "vrrp_version" => "use vrrp.version",
        _ => return None,
    })
}

/// Where a router's instance has it.
fn of_instance(word: &str) -> Option<&'static str> {
    Some(match word {
        "advert_int" => "use instance.advert_interval, with a unit",
        "auth_pass" => "use instance.password_file or instance.password_env",
        "auth_type" => "leave it out; instance.password_file implies PASS",
        "garp_master_delay" | "vrrp_garp_master_delay" => "use instance.announce.delay",
        "garp_master_refresh" | "vrrp_garp_master_refresh" => "use instance.announce.refresh",
        "garp_master_refresh_repeat" | "vrrp_garp_master_refresh_repeat" => "use instance.announce.refresh_repeat",
        "garp_master_repeat" | "vrrp_garp_master_repeat" => "use instance.announce.repeat",
        "nopreempt" => "use instance.preempt = false",
        "unicast_peer" => "use instance.peers",
        "unicast_src_ip" | "mcast_src_ip" => "use instance.source",
        "virtual_ipaddress" => "use instance.vips",
        "virtual_ipaddress_excluded" => "use instance.excluded_vips",
        "virtual_router_id" => "use instance.vrid",
        "vrrp_instance" => "use [[instance]] with a name",
        "vrrp_script" => "use [[script]] with a name",
        "vrrp_sync_group" => "use [[group]] with a name",
        "vrrp_version" => "use instance.version",
        "notify_master" | "notify_backup" | "notify_fault" | "notify_stop" => "use [instance.notify]",
        "track_interface" | "track_script" | "track_process" | "track_file" => "use [instance.track]",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word_and_a_foreign_word_finds_none() {
        let known = ["threshold", "interval", "port", "key_file"];
        assert_eq!(closest("treshold", known), Some("threshold"));
        assert_eq!(closest("intervall", known), Some("interval"));
        assert_eq!(closest("prot", known), Some("port"));
        assert_eq!(closest("colour", known), None);
    }

    #[test]
    fn the_distance_counts_insertions_deletions_and_replacements() {
        assert_eq!(distance("vrid", "vrid"), 0);
        assert_eq!(distance("", "vrid"), 4);
        assert_eq!(distance("vird", "vrid"), 2);
        assert_eq!(distance("interval", "intervals"), 1);
    }
}
