//! `harbor-ha`: see [`harbor_ha::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    harbor_ha::cli::main()
}
