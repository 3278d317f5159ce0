//! Judges `authentication`; nothing here may repeat a word that could be the password.

use super::judge::Judge;
use super::tree::Node;
use super::verdict::Kind;
use crate::config::secret::Secret;
use crate::config::settings::VrrpVersion;

impl Judge<'_> {
    /// The password, when there is one to send.
    pub(super) fn authentication(&mut self, node: &Node, version: VrrpVersion) -> Option<Secret<String>> {
        let kind = node.last("auth_type").and_then(|child| child.word(1)).unwrap_or_default().to_owned();
        if version == VrrpVersion::V3 {
            let why = "version 3 has no authentication, and keepalived ignores it there too";
            self.all_of(node, Kind::NotNeeded, why);
            return None;
        }
        if kind == "AH" {
            self.refused(node, "AH is not there; use auth_type PASS on all nodes, or an IPsec policy of the hosts");
            return None;
        }
        self.carried(node, "its keys are below");
        let mut password = None;
        for child in node.children() {
            self.no_block(child);
            match child.keyword() {
                "auth_type" if kind == "PASS" => self.carried(child, "implied by instance.password_file"),
                "auth_type" => {
                    let why = "keepalived knows PASS and AH, in capitals, and sends no password here; nor does \
                               harbor-ha. Write PASS, on every node at once";
                    self.trap(child, Kind::Changed, why);
                }
                "auth_pass" if kind != "PASS" => {
                    self.trap(child, Kind::Changed, "is not sent without auth_type PASS, by keepalived neither");
                }
                "auth_pass" => password = self.password(child),
                // It may be the password itself.
                _ => self.ledger.note(child.place, "?", Kind::NotSupported, "is no keyword of authentication"),
            }
        }
        password
    }

    fn password(&mut self, node: &Node) -> Option<Secret<String>> {
        let whole = node.word(1).unwrap_or_default();
        let Some(first) =
            whole.get(..whole.len().min(8)).filter(|first| !first.is_empty() && !first.chars().any(char::is_control))
        else {
            self.refused(node, "is empty, holds control characters, or is cut within a letter; use 1 to 8 plain ones");
            return None;
        };
        if first.len() < whole.len() {
            let why = format!("its first 8 of {} bytes, as keepalived sends them: instance.password_file", whole.len());
            self.trap(node, Kind::Changed, why);
        } else {
            self.carried(node, "instance.password_file, a file with mode 0600");
        }
        Some(Secret::new(first.to_owned()))
    }
}
