//! A program that passes every frame, for the switch's end of a cable whose other end is a node with native XDP.
//!
//! A veth takes what the other end's XDP program sends back (`XDP_TX`) only once its own end polls, and it is woken for
//! that only if it has a program itself (`veth_xdp_flush` in the kernel's drivers/net/veth.c; GRO makes it poll, and does
//! not wake it). A real card needs nothing of the kind.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;

use super::link;
use super::state::State;

/// `r0 = XDP_PASS; exit`, as `struct bpf_insn` lies in memory.
const PASS: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
/// `enum bpf_cmd` and `enum bpf_prog_type` of linux/bpf.h.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_PROG_TYPE_XDP: u32 = 6;

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes what is behind it for zeroes.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

/// The same for `BPF_OBJ_PIN`.
#[repr(C)]
struct Pin {
    path: u64,
    program: u32,
    flags: u32,
}

/// Puts the program on both nodes' ports of the switch; it goes with them.
///
/// # Errors
/// The kernel or `ip` refuses.
pub fn attach(state: &State) -> Result<()> {
    let program = load().context("cannot load a program that passes all")?;
    let path = state.bpffs().join("pass");
    pin(&program, &path).with_context(|| format!("cannot pin `{}`", path.display()))?;
    let lines = ["pa", "pb"].map(|port| format!("link set dev {port} xdpdrv pinned {}\n", path.display()));
    let attached = link::batch(Some(&state.netns("sw")), &lines.concat());
    fs::remove_file(&path)?;
    attached
}

fn load() -> Result<OwnedFd> {
    let license = c"Dual MIT/GPL";
    let attributes = Load {
        kind: BPF_PROG_TYPE_XDP,
        count: PASS.len() as u32,
        instructions: PASS.as_ptr() as u64,
        license: license.as_ptr() as u64,
    };
    let size = size_of::<Load>();
    // SAFETY: the attributes and what they point to outlive the call, which only reads them.
    let got = Errno::result(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &attributes, size) })?;
    // SAFETY: a descriptor that the kernel has just made, and nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(got)?) })
}

fn pin(program: &OwnedFd, path: &Path) -> Result<()> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    let attributes = Pin { path: path.as_ptr() as u64, program: program.as_raw_fd().cast_unsigned(), flags: 0 };
    // SAFETY: the attributes and the path outlive the call, which only reads them.
    Errno::result(unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_PIN, &attributes, size_of::<Pin>()) })?;
    Ok(())
}
