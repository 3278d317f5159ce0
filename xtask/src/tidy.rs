//! `cargo xtask tidy`: what no compiler watches. Sizes of files, and which room may know which.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cargo;

/// Above this a file is named: it may be two. `// size: why` near its top says why it is one.
const LONG: usize = 400;
/// Above this it is refused.
const TOO_LONG: usize = 600;
/// How near.
const TOP: usize = 40;

/// The rooms of the userspace crate, and what each may name with `crate::`.
const ROOMS: [(&str, &[&str]); 15] = [
    ("clock", &[]),
    ("vrrp", &[]),
    ("core", &["vrrp"]),
    ("config", &["core", "vrrp"]),
    ("observe", &["core", "config", "vrrp"]),
    ("kernel", &["core", "config", "observe"]),
    ("net", &["clock", "core", "config", "observe"]),
    ("pg", &["clock", "core", "config", "observe"]),
    ("cloud", &["core", "config", "observe"]),
    ("witness", &["clock", "core", "config", "observe"]),
    ("program", &[]),
    ("notify", &["program"]),
    ("health", &["clock", "program"]),
    (
        "daemon",
        &[
            "clock", "core", "vrrp", "config", "observe", "kernel", "net", "pg", "cloud", "witness", "program",
            "notify", "health",
        ],
    ),
    (
        "cli",
        &[
            "clock", "core", "vrrp", "config", "observe", "kernel", "net", "pg", "cloud", "witness", "program",
            "notify", "health", "daemon",
        ],
    ),
];

/// Rooms that know neither when nor where they run.
const PURE: [&str; 2] = ["core", "vrrp"];
/// What the core may know of the kernel's crate: formats and rules, not names of pins.
const CORE_OF_EBPF: [&str; 4] = ["units", "wire", "records", "decide"];
/// What would make the core depend on when and where it runs.
const IMPURE: [&str; 7] =
    ["tokio", "std::fs", "std::process", "std::thread", "Instant::now", "SystemTime", "std::net::Udp"];

/// Looks at every Rust file of the checkout.
///
/// # Errors
/// Lists everything that is out of place.
pub fn verb() -> Result<()> {
    let mut wrong = Vec::new();
    let mut files = Vec::new();
    for folder in ["harbor-ha-ebpf", "harbor-ha-userspace", "tests", "xtask"] {
        collect(&cargo::root().join(folder), &mut files)?;
    }
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
        let path = file.strip_prefix(cargo::root()).unwrap_or(file);
        size(path, &text, &mut wrong);
        if let Ok(inside) = path.strip_prefix("harbor-ha-userspace/src") {
            direction(path, inside, &text, &mut wrong);
        }
    }
    if !wrong.is_empty() {
        bail!("out of place:\n  {}", wrong.join("\n  "));
    }
    eprintln!("tidy: {} files in place", files.len());
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn size(path: &Path, text: &str, wrong: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines <= LONG || text.lines().take(TOP).any(|line| line.starts_with("// size: ")) {
        return;
    }
    let words = format!("{}: {lines} lines; split it, or say `// size: why` near its top", path.display());
    if lines > TOO_LONG {
        wrong.push(words);
    } else {
        eprintln!("tidy: {words}");
    }
}

fn direction(path: &Path, inside: &Path, text: &str, wrong: &mut Vec<String>) {
    let room = inside.iter().next().and_then(|first| first.to_str()).unwrap_or_default();
    // `main.rs` and `lib.rs` are the crate's own.
    let Some((_, may)) = ROOMS.into_iter().find(|(name, _)| *name == room) else { return };
    let test = path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests");
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let mut complain = |what: String| wrong.push(format!("{}:{}: {what}", path.display(), number + 1));
        for named in names_after(code, "crate::") {
            if ROOMS.iter().any(|(name, _)| *name == named) && named != room && !may.contains(&named.as_str()) {
                complain(format!("room `{room}` must not know room `{named}`"));
            }
        }
        if !PURE.contains(&room) || test {
            continue;
        }
        for named in names_after(code, "harbor_ha_ebpf::") {
            if !CORE_OF_EBPF.contains(&named.as_str()) {
                complain(format!("the core must not know `harbor_ha_ebpf::{named}`"));
            }
        }
        for impure in IMPURE.into_iter().filter(|impure| code.contains(impure)) {
            complain(format!("the core must not know `{impure}`"));
        }
    }
}

/// The words behind each `prefix`; of `prefix{a, b::c}` both `a` and `b`.
fn names_after(code: &str, prefix: &str) -> Vec<String> {
    let word = |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        // `other_crate::` is another word.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(list) => names.extend(list.split('}').next().unwrap_or_default().split(',').map(word)),
            None => names.push(word(rest)),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(inside: &str, text: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        direction(Path::new(inside), Path::new(inside), text, &mut wrong);
        wrong
    }

    #[test]
    fn a_room_that_names_a_later_one_is_told_with_file_and_line() {
        let found = complaints("net/x.rs", "use crate::core::Input;\nuse crate::kernel::Host;\n");
        assert_eq!(found, ["net/x.rs:2: room `net` must not know room `kernel`"]);
        assert_eq!(complaints("pg/x.rs", "use crate::{config::Settings, net::pulse};").len(), 1);
        assert_eq!(complaints("cli/x.rs", "use crate::daemon; use crate::cli::USAGE;"), Vec::<String>::new());
        assert_eq!(complaints("net/x.rs", "// crate::kernel does it\nother_crate::kernel::y();"), Vec::<String>::new());
    }

    #[test]
    fn the_core_stays_pure() {
        assert_eq!(complaints("core/x.rs", "use harbor_ha_ebpf::units::Nanos;"), Vec::<String>::new());
        assert_eq!(complaints("core/x.rs", "use harbor_ha_ebpf::names::map;").len(), 1);
        assert_eq!(complaints("core/x.rs", "let now = std::time::Instant::now();").len(), 1);
    }

    #[test]
    fn a_long_file_is_refused_unless_it_says_why() {
        let text = |top: &str| top.to_owned() + &"\n".repeat(TOO_LONG + 1);
        let refused = |text: String| {
            let mut wrong = Vec::new();
            size(Path::new("x.rs"), &text, &mut wrong);
            wrong.len()
        };
        assert_eq!(refused(text("//! A room.")), 1);
        assert_eq!(refused(text("//! A room.\n// size: one table")), 0);
    }
}
