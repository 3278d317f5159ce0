//! Packet traces of the XDP program, through aya-log, as log lines of the daemon.
//!
//! Only with `RUST_LOG=harbor_ha_ebpf=debug`: otherwise the program is loaded without them.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Begins to write the program's traces to the log; ends with the runtime.
pub fn start(ebpf: &mut Ebpf) {
    let logger = match EbpfLogger::init(ebpf) {
        Ok(logger) => logger,
        Err(error) => {
            tracing::warn!(%error, "no packet traces");
            return;
        }
    };
    // SAFETY: the logger owns its descriptor and keeps it until it is dropped, which the `AsyncFd` outlives.
    let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = match logger {
        Ok(logger) => logger,
        Err(error) => {
            tracing::warn!(error = %std::io::Error::from(error), "no packet traces");
            return;
        }
    };
    tokio::spawn(async move {
        while let Ok(mut guard) = logger.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    });
}
