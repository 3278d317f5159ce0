//! The kernel's side, seen from userspace: load, attach, pin, adopt; typed maps; verdicts.

pub mod load;
pub mod maps;
