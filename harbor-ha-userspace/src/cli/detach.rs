//! `harbor-ha detach`: takes the program and its maps out of the kernel.

use std::process::ExitCode;

use super::{UNAVAILABLE, WithConfig};
use crate::daemon::{self, Request};
use crate::kernel::load;

pub(super) fn run(with: &WithConfig) -> Result<ExitCode, ExitCode> {
    let settings = with.load()?;
    let socket = daemon::socket_path(&settings.node);
    if super::block_on(daemon::ask(&socket, Request::Status)).is_ok() {
        eprintln!("harbor-ha: the daemon of this instance runs; stop it first, or it goes on without its detector");
        return Err(ExitCode::from(UNAVAILABLE));
    }
    match load::detach(&settings.node.bpffs, &settings.node.instance) {
        Ok(removed) if removed.is_empty() => {
            println!("nothing of instance `{}` was in the kernel", settings.node.instance);
            Ok(ExitCode::SUCCESS)
        }
        Ok(removed) => {
            for path in removed {
                println!("removed {}", path.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("harbor-ha: cannot remove the pins of `{}`: {error}", settings.node.instance);
            Err(ExitCode::from(UNAVAILABLE))
        }
    }
}
