//! Attaches the gate to the sockets of a control group, and pins its links beside that of XDP.
//!
//! A restart attaches the new programs before the old ones go: for a moment a packet meets two gates, which read the same
//! maps and so say the same, and never none. The new link is pinned under a name of its own and renamed over the old one,
//! which is one step; the kernel drops the old link with its last pin. So it makes no difference whether the
//! configuration now names another group.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType};
use harbor_ha_ebpf::names;

use super::cgroup;
use super::load::{LoadError, pin_folder};

/// Program, direction, pin, and the pin until that is free.
const GATES: [(&str, CgroupSkbAttachType, &str, &str); 2] = [
    (names::GATE_IN_PROGRAM, CgroupSkbAttachType::Ingress, names::GATE_IN_LINK, names::GATE_IN_NEXT),
    (names::GATE_OUT_PROGRAM, CgroupSkbAttachType::Egress, names::GATE_OUT_LINK, names::GATE_OUT_NEXT),
];

/// Loads the gate's programs and attaches them to `group` (`None`: the root of the hierarchy); says to which.
///
/// # Errors
///
/// [`LoadError`]; what an earlier run attached is still there then.
pub fn attach(ebpf: &mut Ebpf, bpffs: &Path, instance: &str, group: Option<&Path>) -> Result<PathBuf, LoadError> {
    let folder = pin_folder(bpffs, instance);
    let (cgroup, path) = cgroup::open(group)?;
    for (name, direction, pin, next) in GATES {
        let refused = |source| LoadError::Gate { path: path.clone(), source };
        let program = ebpf.program_mut(name).expect("the object holds the program that it is built from");
        let program: &mut CgroupSkb = program.try_into().expect("it is a cgroup-skb program");
        program.load().map_err(LoadError::Program)?;
        // Others may attach too, and another instance of ours, and each packet must pass them all: links always allow that,
        // and the kernel takes no flag that says it (`Single` is no flag).
        let id = program.attach(&cgroup, direction, CgroupAttachMode::Single).map_err(refused)?;
        let link: FdLink = program.take_link(id).map_err(refused)?.try_into()?;
        let (pin, next) = (folder.join(pin), folder.join(next));
        // Of a start that ended between the next two lines.
        let _absent = fs::remove_file(&next);
        link.pin(&next).map_err(|source| LoadError::Pin { path: folder.clone(), source })?;
        fs::rename(&next, &pin).map_err(|source| LoadError::Rename { path: pin, source })?;
    }
    Ok(path)
}

/// Takes away what an earlier run attached: this one has no pulses, and with them no lease.
///
/// # Errors
///
/// What the file system said.
pub fn detach(bpffs: &Path, instance: &str) -> Result<(), LoadError> {
    let folder = pin_folder(bpffs, instance);
    for path in GATES.into_iter().flat_map(|(_, _, pin, next)| [pin, next]).map(|name| folder.join(name)) {
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(LoadError::Rename { path, source }),
            _ => {}
        }
    }
    Ok(())
}
