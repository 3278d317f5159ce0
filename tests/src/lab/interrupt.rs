//! Ctrl-C and its like: the process becomes the one that takes its labs down.
//!
//! The handler calls `execve`: that ends all other threads at once, so nothing is built while it is being
//! taken down, and the process keeps its number, by which its labs know it, and its terminal.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::node;

/// The program of the lab, the verb, and the end of the list.
static BECOME: OnceLock<[CString; 2]> = OnceLock::new();

/// Installs the handler, once per process.
///
/// # Errors
/// The program that takes labs down is not built.
pub fn install() -> Result<()> {
    let program = CString::new(node::lab_program()?.into_os_string().into_vec()).context("a strange path")?;
    if BECOME.set([program, c"interrupted".into()]).is_err() {
        return Ok(());
    }
    let action = SigAction::new(SigHandler::Handler(take_down), SaFlags::empty(), SigSet::all());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler makes one system call with memory that was made before it was installed.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

extern "C" fn take_down(_signal: libc::c_int) {
    let Some([program, verb]) = BECOME.get() else { return };
    let arguments = [program.as_ptr(), verb.as_ptr(), std::ptr::null()];
    // SAFETY: `execv` may be called from a handler; the strings live for ever, the list ends with a null.
    unsafe {
        libc::execv(program.as_ptr(), arguments.as_ptr());
        libc::_exit(130);
    }
}
