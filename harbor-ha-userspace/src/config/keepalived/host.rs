//! The host that an import asks: files beside the configuration, and programs along the PATH.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Import, Options, Surroundings, Verdict, import};
use crate::config::lookup::System;
use crate::config::problems::{Problem, Problems};
use crate::config::{Configuration, file};

/// The host itself.
#[derive(Clone, Copy, Debug)]
pub struct Host;

/// No configuration is longer.
const LONGEST: u64 = 4 << 20;
/// What a pattern may name at most.
const MOST_FILES: usize = 200;

impl Surroundings for Host {
    fn include(&self, from: &Path, pattern: &str) -> Result<Vec<(PathBuf, String)>, String> {
        let base = from.parent().unwrap_or(Path::new("/"));
        if pattern.contains('{') {
            return Err("alternatives in braces are not resolved; write one `include` for each".into());
        }
        let whole = base.join(pattern);
        let whole = whole.to_str().ok_or("is not UTF-8 text")?;
        let found = glob::glob(whole).map_err(|error| error.to_string())?;
        let mut files = Vec::new();
        for path in found {
            let path = path.map_err(|error| error.to_string())?;
            if files.len() >= MOST_FILES {
                return Err(format!("names more than {MOST_FILES} files"));
            }
            if path.is_file() {
                let text = read(&path).map_err(|why| format!("`{}` {why}", path.display()))?;
                files.push((path, text));
            }
        }
        Ok(files)
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let runs = |path: &PathBuf| {
            path.is_absolute()
                && std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        };
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(runs)
    }

    fn name(&self) -> Option<String> {
        nix::unistd::gethostname().ok()?.into_string().ok()
    }
}

/// The text of a `keepalived.conf`; what is no UTF-8 in it (a comment, most likely) is replaced.
///
/// # Errors
/// A sentence.
pub fn read(path: &Path) -> Result<String, String> {
    // O_NONBLOCK: a FIFO in the place of a file must not hold up the start.
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path);
    let file = open.map_err(|error| format!("could not be read: {error}"))?;
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err("is no regular file".into());
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| format!("could not be read: {error}"))?;
    if bytes.len() as u64 > LONGEST {
        return Err("is longer than 4 MiB, so no configuration".into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// keepalived's own default: the host's name up to the first dot.
pub fn config_id() -> String {
    let name = Host.name().unwrap_or_default();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// Whether a configuration is keepalived's: by its name, else by its statements.
pub fn is_keepalived(path: &Path, text: impl FnOnce() -> String) -> bool {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("conf") => true,
        Some("toml") => false,
        _ => {
            const WORDS: [&str; 8] = [
                "global_defs",
                "vrrp_instance",
                "vrrp_script",
                "vrrp_sync_group",
                "vrrp_track_process",
                "track_file",
                "include",
                "static_ipaddress",
            ];
            text()
                .lines()
                .filter_map(|line| line.split_whitespace().next())
                .any(|word| WORDS.contains(&word.trim_end_matches('{')))
        }
    }
}

/// Reads a `keepalived.conf` to run by it; its passwords stay in memory.
///
/// # Errors
/// There is nothing in it to run, or an instance is lost that could then be master beside another node.
pub fn load(path: &Path) -> Result<(Configuration, Vec<Verdict>), Problems> {
    let failed = |text: String| Problems::new(path, vec![Problem { line: None, key: String::new(), text }]);
    let text = read(path).map_err(failed)?;
    let options = Options { config_id: config_id(), secrets_dir: "/in-memory".into(), pair: None };
    let Import { toml, secrets, verdicts } = import(path, &text, &options, &Host);
    let because = |is: fn(&&Verdict) -> bool, why: String| {
        let problem = |it: &Verdict| {
            let (line, key) = match it.file == path {
                true => (Some(it.line), it.keyword.clone()),
                false => (None, format!("{}:{}: {}", it.file.display(), it.line, it.keyword)),
            };
            Problem { line, key, text: it.why.clone() }
        };
        let mut problems: Vec<_> = verdicts.iter().filter(is).map(problem).collect();
        problems.push(Problem { line: None, key: String::new(), text: why });
        Problems::new(path, problems)
    };
    if verdicts.iter().any(|it| it.stops) {
        let why = "is not run: without these lines a node could be master beside another one; `harbor-ha import --dry-run` tells \
                   of each line";
        return Err(because(|it| it.stops, why.to_owned()));
    }
    let toml = toml.map_err(|why| because(|it| it.kind == super::Kind::NotSupported, why))?;
    let configuration = file::parse_any(&toml, &super::Memory::new(&secrets, &System));
    configuration.map(|configuration| (configuration, verdicts)).map_err(|problems| problems.in_file(path))
}
