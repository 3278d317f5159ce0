//! `harbor-ha import`: our configuration from keepalived's, and what became of each line of it.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;

use super::{CONFIG, LOST, USAGE};
use crate::config::keepalived::{self, Import, Kind, Options, Pair, Verdict, host};

/// A file could not be made.
const CANNOT_CREATE: u8 = 73;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// keepalived's configuration file.
    #[arg(default_value = "/etc/keepalived/keepalived.conf")]
    file: PathBuf,
    /// Write the TOML to this file, and passwords to files beside it; without it: to the standard output.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Replace files that are there.
    #[arg(long, requires = "output")]
    force: bool,
    /// Which lines under `@conditions` hold, as keepalived's --config-id; without it: the host's name.
    #[arg(long)]
    config_id: Option<String>,
    /// Only the verdicts.
    #[arg(long, conflicts_with = "output")]
    dry_run: bool,
    #[command(flatten)]
    pair: ForPair,
}

/// What keepalived cannot know: with these harbor-ha itself promotes PostgreSQL.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Two nodes with PostgreSQL")]
struct ForPair {
    /// The data directory; makes the configuration of a pair.
    #[arg(long, value_name = "DATA_DIR", requires = "bin_dir")]
    postgres: Option<PathBuf>,
    /// Where pg_ctl is.
    #[arg(long, requires = "postgres")]
    bin_dir: Option<PathBuf>,
    /// The key of the pulses, the same on both nodes.
    #[arg(long, requires = "postgres", default_value = "/etc/harbor-ha/pulse.key")]
    pulse_key_file: PathBuf,
    /// What a primary does that loses its standby.
    #[arg(long, requires = "postgres", default_value = "hold")]
    isolated: Isolated,
    /// This node's application_name in synchronous_standby_names; without it: made of its address.
    #[arg(long, requires_all = ["postgres", "peer_name"])]
    name: Option<String>,
    /// The peer's.
    #[arg(long, requires = "name")]
    peer_name: Option<String>,
    /// Carry the notify scripts over: they do more than promote PostgreSQL.
    #[arg(long, requires = "postgres")]
    keep_notify: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Isolated {
    /// It stops serving.
    Hold,
    /// It serves on.
    Serve,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, ExitCode> {
    let text = host::read(&arguments.file).map_err(|why| {
        eprintln!("harbor-ha: `{}` {why}", arguments.file.display());
        ExitCode::from(USAGE)
    })?;
    let folder = match &arguments.output {
        Some(output) => std::path::absolute(output).ok().and_then(|path| path.parent().map(Path::to_owned)),
        None => None,
    };
    let options = Options {
        config_id: arguments.config_id.clone().unwrap_or_else(host::config_id),
        secrets_dir: folder.unwrap_or_else(|| "/etc/harbor-ha".into()),
        pair: arguments.pair.options(),
    };
    let import = keepalived::import(&arguments.file, &text, &options, &host::Host);
    eprint!("{}", table(&import.verdicts));
    let toml = match &import.toml {
        Ok(toml) => toml,
        Err(why) => {
            eprintln!("\nharbor-ha: no configuration: {why}");
            return Err(ExitCode::from(CONFIG));
        }
    };
    match &arguments.output {
        Some(output) => write(&import, toml, output, arguments.force).map_err(|why| {
            eprintln!("harbor-ha: {why}");
            ExitCode::from(CANNOT_CREATE)
        })?,
        None if arguments.dry_run => {}
        None => {
            for secret in &import.secrets {
                eprintln!(
                    "\nThe password is not shown: put it into `{}` with mode 0600, or use --output.",
                    secret.path.display()
                );
            }
            let _closed = io::stdout().write_all(toml.as_bytes());
        }
    }
    Ok(ExitCode::from(if import.loses() { LOST } else { 0 }))
}

impl ForPair {
    fn options(&self) -> Option<Pair> {
        let isolated = match self.isolated {
            Isolated::Hold => "hold",
            Isolated::Serve => "serve",
        };
        Some(Pair {
            data_dir: self.postgres.clone()?,
            bin_dir: self.bin_dir.clone()?,
            pulse_key_file: self.pulse_key_file.clone(),
            isolated: isolated.to_owned(),
            names: self.name.clone().zip(self.peer_name.clone()),
            keep_notify: self.keep_notify,
        })
    }
}

/// The secrets first: a configuration is not there before what it names.
fn write(import: &Import, toml: &str, output: &Path, force: bool) -> Result<(), String> {
    let secrets = import.secrets.iter().map(|secret| (secret.path.as_path(), secret.secret.reveal().clone() + "\n"));
    let files: Vec<(&Path, String)> = secrets.chain([(output, toml.to_owned())]).collect();
    if let Some((taken, _)) = files.iter().find(|(path, _)| !force && path.symlink_metadata().is_ok()) {
        return Err(format!("`{}` is there already; --force replaces it", taken.display()));
    }
    for (path, text) in &files {
        replace(path, text).map_err(|error| format!("`{}` cannot be written: {error}", path.display()))?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

/// All or nothing, and never open to others, not even for a moment.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let made = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    if made.is_err() {
        let _gone = fs::remove_file(&beside);
    }
    made
}

/// What became of each line: traps first, then the graver kinds. Comments and braces are counted, not listed.
pub(super) fn table(verdicts: &[Verdict]) -> String {
    let several = verdicts.iter().any(|verdict| verdict.file != verdicts[0].file);
    let plain = |verdict: &&Verdict| verdict.keyword == "}" || verdict.why == "comment";
    let listed: Vec<_> = verdicts.iter().filter(|verdict| !plain(verdict)).collect();
    let place = |verdict: &Verdict| match several {
        true => format!("{}:{}", verdict.file.display(), verdict.line),
        false => verdict.line.to_string(),
    };
    // One width for all, so that the eye goes down one column.
    let number = listed.iter().map(|verdict| place(verdict).chars().count()).max().unwrap_or(0);
    let word = listed.iter().map(|verdict| verdict.keyword.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    let mut section = |title: &str, lines: &[&&Verdict]| {
        if lines.is_empty() {
            return;
        }
        out.push_str(&format!("{title}\n"));
        for line in lines {
            let how = if line.trap { format!("[{}] ", line.kind.words()) } else { String::new() };
            let text = format!("  {:>number$}  {:<word$}  {how}{}", place(line), line.keyword, line.why);
            out.push_str(text.trim_end());
            out.push('\n');
        }
        out.push('\n');
    };
    let traps: Vec<_> = listed.iter().filter(|verdict| verdict.trap).collect();
    section("LOOK AT THESE: keepalived does not do what they seem to say", &traps);
    for kind in [Kind::NotSupported, Kind::Changed, Kind::Carried, Kind::NotNeeded] {
        let lines: Vec<_> = listed.iter().filter(|verdict| verdict.kind == kind && !verdict.trap).collect();
        section(&kind.words().to_uppercase(), &lines);
    }
    let count = |kind| listed.iter().filter(|verdict| verdict.kind == kind).count();
    out.push_str(&format!(
        "{} lines: {} carried over, {} changed, {} not needed, {} not supported; {} of comments and braces\n",
        verdicts.len(),
        count(Kind::Carried),
        count(Kind::Changed),
        count(Kind::NotNeeded),
        count(Kind::NotSupported),
        verdicts.len() - listed.len(),
    ));
    out
}

#[cfg(test)]
mod tests;
