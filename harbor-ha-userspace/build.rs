//! Builds the XDP program for the BPF target and puts the object where `kernel::load` includes it.
//!
//! The compiler: what `cargo xtask setup` wrote into `target/setup.json`; else a nightly of rustup with rust-src; else
//! a system compiler with the source of `core` beside it. `AYA_BUILD_SKIP=1` leaves an empty object, which
//! `kernel::load` refuses in words: core, simulator and lints need no BPF tools.
//!
//! cargo is called directly: aya-build asks rustup for a toolchain, and the second way has none.

use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::{env, fs};

const OBJECT: &str = "harbor-ha-ebpf";

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(OBJECT);
    let root = package().parent().expect("the workspace").to_owned();
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    println!("cargo:rerun-if-env-changed=AYA_BUILD_SKIP");
    println!("cargo:rerun-if-changed={}", root.join("harbor-ha-ebpf").display());
    println!("cargo:rerun-if-changed={}", target.join("setup.json").display());
    if env::var_os("AYA_BUILD_SKIP").is_some_and(|value| value == "1") {
        fs::write(out, []).expect("an empty object");
        return;
    }
    let built = build(&root, &target);
    fs::copy(&built, &out).unwrap_or_else(|error| fail(&format!("{}: {error}", built.display())));
}

/// Asked when the script runs, not when it is compiled: a target folder that was copied to another checkout must build
/// that one's program.
fn package() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR").into()
}

/// How to call the compiler of the program.
enum Compiler {
    /// A rustup toolchain with rust-src.
    Toolchain(String),
    /// A compiler with the source of `core` beside it, which may use unstable features when told so.
    Rustc(PathBuf),
}

fn build(root: &Path, target: &Path) -> PathBuf {
    let folder = target.join("ebpf");
    let tools = target.join("tools/bin");
    let path =
        env::join_paths(std::iter::once(tools).chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())))
            .expect("no colon in the path of the tools");
    let mut cargo = match compiler(target) {
        Compiler::Toolchain(name) => {
            let mut cargo = Command::new("rustup");
            cargo.args(["run", &name, "cargo"]).env_remove("RUSTC");
            cargo
        }
        Compiler::Rustc(rustc) => {
            let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
            cargo
        }
    };
    cargo
        .current_dir(root.join("harbor-ha-ebpf"))
        .args(["build", "--release", "--features", "bpf", "--bins"])
        .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core", "--target-dir"])
        .arg(&folder)
        .env("PATH", path)
        // Without `--btf` there is no BTF in the object, and its maps do not load.
        .env("CARGO_ENCODED_RUSTFLAGS", "-Cdebuginfo=2\x1f-Clink-arg=--btf")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    match cargo.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("the XDP program did not build ({status})")),
        Err(error) => fail(&format!("cannot run the compiler of the XDP program: {error}")),
    }
    folder.join("bpfel-unknown-none/release").join(OBJECT)
}

fn compiler(target: &Path) -> Compiler {
    let setup = fs::read_to_string(target.join("setup.json")).unwrap_or_default();
    if let Some(name) = text_field(&setup, "toolchain") {
        return Compiler::Toolchain(name);
    }
    if let Some(rustc) = text_field(&setup, "rustc") {
        return Compiler::Rustc(rustc.into());
    }
    let nightly = Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]).output();
    if let Ok(output) = nightly
        && output.status.success()
        && has_source(Path::new(String::from_utf8_lossy(&output.stdout).trim()))
    {
        return Compiler::Toolchain("nightly".into());
    }
    let system = Path::new("/usr/bin/rustc");
    if system.exists() && has_source(Path::new("/usr")) {
        return Compiler::Rustc(system.into());
    }
    fail("no compiler for the BPF target")
}

/// Whether a sysroot has the source of `core`, which is built for the BPF target.
fn has_source(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
}

/// A text field of the small JSON file that set-up writes; no parser, so that this script has no dependency.
fn text_field(json: &str, name: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{name}\""))?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    rest.split_once('"').map(|(value, _)| value.to_owned())
}

fn fail(what: &str) -> ! {
    eprintln!(
        "{what}\n\nrun `cargo xtask setup` first: it installs a compiler with the source of `core`, and bpf-linker"
    );
    exit(1)
}
