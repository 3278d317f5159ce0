//! What the facts about a host mean for one configuration, and how to mend what is wrong.
//!
//! Pure. An error keeps the daemon from doing its work, a warning costs a promise that the text names.

use serde::Serialize;

use super::probe::{Bpf, Capability, Host, Link, Release, Unreadable, XdpHook};
use crate::config::settings::{Settings, XdpMode};
use crate::observe::words;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at, in a word or two.
    pub subject: &'static str,
    /// What was found; when it is not [`Level::Ok`], also how to mend it.
    pub text: String,
}

/// How bad a finding is; the worst is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// The daemon runs, and keeps less than it could.
    Warning,
    /// The daemon cannot do its work.
    Error,
}

/// Name of our XDP program as the kernel keeps it.
const OUR_PROGRAM: &str = "harbor_ha_xdp";

/// The subject of what this process lacks.
pub const CAPABILITIES: &str = "capabilities";

/// Every finding, the good ones too, in the order in which an operator mends them.
pub fn findings(settings: &Settings, host: &Host) -> Vec<Finding> {
    let mut report = Report(Vec::new());
    release(host, &mut report);
    capabilities(host, &mut report);
    bpf(host, &mut report);
    cgroup(host, &mut report);
    isolated(settings, &mut report);
    bpffs(settings, host, &mut report);
    interface(settings, host, &mut report);
    addresses(settings, host, &mut report);
    realtime(settings, host, &mut report);
    memory(settings, host, &mut report);
    clock(host, &mut report);
    report.0
}

struct Report(Vec<Finding>);

impl Report {
    fn ok(&mut self, subject: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level: Level::Ok, subject, text: text.into() });
    }

    fn warning(&mut self, subject: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level: Level::Warning, subject, text: text.into() });
    }

    fn error(&mut self, subject: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level: Level::Error, subject, text: text.into() });
    }

    /// A fact that could not be read is a finding, and no reason to stop.
    fn known<'a, T>(&mut self, subject: &'static str, fact: &'a Result<T, Unreadable>) -> Option<&'a T> {
        fact.as_ref().map_err(|why| self.warning(subject, format!("could not be read: {why}; check it by hand"))).ok()
    }
}

fn release(host: &Host, report: &mut Report) {
    if let Some(release) = report.known("kernel", &host.release) {
        report.ok("kernel", format!("Linux {release}"));
    }
}

fn capabilities(host: &Host, report: &mut Report) {
    let Some(found) = report.known(CAPABILITIES, &host.capabilities) else { return };
    let missing = found.missing(host.foreign_postgres);
    if missing.is_empty() {
        return report.ok(CAPABILITIES, "all that are needed");
    }
    for (capability, purpose) in missing {
        let grant = "run as root, or add it to CapabilityBoundingSet= of the service";
        report.error(CAPABILITIES, format!("{capability} is missing, which {purpose}; {grant}"));
    }
}

fn bpf(host: &Host, report: &mut Report) {
    let Bpf { array, ring_buffer, xdp, cgroup_skb, timer } = &host.bpf;
    let gated = host.cgroup.as_ref().map(|_| ("cgroup-skb", cgroup_skb, "4.10"));
    let needed = [("bpf", array, "3.19"), ("ring buffer", ring_buffer, "5.8"), ("xdp", xdp, "4.8")];
    for (subject, fact, since) in needed.into_iter().chain(gated) {
        match fact {
            Ok(true) => report.ok(subject, "tried, works"),
            Ok(false) => {
                report.error(
                    subject,
                    format!("this kernel does not know it; use one from {since} on with CONFIG_BPF_SYSCALL"),
                );
            }
            Err(why) => report.error(subject, format!("refused: {why}; {}", bpf_refusal(host))),
        }
    }
    bpf_timer(host, timer, report);
}

/// What stands most likely behind a refusal of bpf(2).
fn bpf_refusal(host: &Host) -> &'static str {
    match (&host.capabilities, &host.release) {
        (Ok(found), _) if !found.has(Capability::Bpf) && !found.has(Capability::SysAdmin) => "grant CAP_BPF, see above",
        // Until then maps and programs counted against RLIMIT_MEMLOCK.
        (_, Ok(release)) if *release < Release::new(5, 11) => "set LimitMEMLOCK=infinity in the service",
        _ => {
            "look for a seccomp filter (a container's), lockdown (`/sys/kernel/security/lockdown`) or an LSM in the way"
        }
    }
}

/// The first release with `bpf_timer`.
const TIMER: Release = Release::new(5, 15);

fn bpf_timer(host: &Host, timer: &Result<bool, Unreadable>, report: &mut Report) {
    let subject = "bpf_timer";
    let needed = "the detector's deadlines need it, so the XDP program does not load; use Linux 5.15 or later";
    match (timer, &host.release) {
        (Ok(true), _) => report.ok(subject, "tried, works: the kernel keeps the deadlines"),
        (Ok(false), _) => report.error(subject, format!("this kernel has none, and {needed}")),
        (Err(why), Ok(release)) if *release >= TIMER => {
            report.warning(subject, format!("could not be tried: {why}; assumed from the version, {release}"));
        }
        (Err(why), _) => report.error(subject, format!("could not be tried: {why}; assumed missing, and {needed}")),
    }
}

fn cgroup(host: &Host, report: &mut Report) {
    match &host.cgroup {
        None => report.ok("gate", "not asked for (pulse.enabled = false): nothing fences this node"),
        Some(Ok(path)) => report.ok("gate", format!("guards the sockets of `{}`", path.display())),
        Some(Err(why)) => report.error("gate", why.to_string()),
    }
}

/// Nothing is wrong with any of the choices; nobody should find out in a partition which one was made.
fn isolated(settings: &Settings, report: &mut Report) {
    if let Some(lease) = settings.lease.as_ref().filter(|_| settings.postgres.is_some()) {
        report.ok("isolated", format!("{}: {}", words::name(lease.isolated), words::isolated(lease.isolated)));
    }
}

fn bpffs(settings: &Settings, host: &Host, report: &mut Report) {
    let path = settings.node.bpffs.display();
    match &host.bpffs {
        Ok(true) => report.ok("bpffs", format!("mounted at `{path}`")),
        Ok(false) => report.error("bpffs", format!("`{path}` is no BPF file system; run `mount -t bpf bpf {path}`")),
        Err(why) => report.error("bpffs", format!("`{path}`: {why}; create it and run `mount -t bpf bpf {path}`")),
    }
}

fn interface(settings: &Settings, host: &Host, report: &mut Report) {
    let (subject, name) = ("interface", &settings.node.interface);
    let Some(link) = report.known(subject, &host.link) else { return };
    let Some(link) = link else {
        let names: Vec<_> = host.interfaces.iter().flatten().map(|interface| interface.name.as_str()).collect();
        let text = format!("there is no `{name}` in this network namespace; use one of: {}", names.join(", "));
        return report.error(subject, text);
    };
    match link {
        Link { ethernet: false, .. } => {
            report.error(subject, format!("`{name}` does not speak Ethernet, so has no ARP; use one that does"));
        }
        Link { up: false, .. } => report.error(subject, format!("`{name}` is down; run `ip link set {name} up`")),
        Link { running: false, .. } => {
            report.error(subject, format!("`{name}` has no carrier; look at the cable or the switch"))
        }
        Link { .. } => report.ok(subject, format!("`{name}` is up")),
    }
    mtu(settings, link, report);
    attached(name, link, report);
}

/// What every IPv4 host takes (RFC 791), and far more than an advert or a pulse needs.
const SMALLEST_MTU: u32 = 576;

/// Above about this, virtio-net refuses native XDP without multi-buffer support: a frame must fit one page.
const LARGEST_NATIVE_MTU: u32 = 3498;

fn mtu(settings: &Settings, link: &Link, report: &mut Report) {
    match link.mtu {
        None => report.warning("mtu", "the kernel did not tell it; `ip link` shows it"),
        Some(mtu) if mtu < SMALLEST_MTU => {
            report.error(
                "mtu",
                format!("{mtu} bytes are less than IPv4 needs; run `ip link set {} mtu 1500`", settings.node.interface),
            );
        }
        Some(mtu) if mtu > LARGEST_NATIVE_MTU && settings.xdp_mode == XdpMode::Native => report.warning(
            "mtu",
            format!(
                "{mtu} bytes: some drivers refuse native XDP above {LARGEST_NATIVE_MTU}; use kernel.xdp_mode = \"auto\""
            ),
        ),
        Some(mtu) => report.ok("mtu", format!("{mtu} bytes")),
    }
}

fn attached(interface: &str, link: &Link, report: &mut Report) {
    let subject = "xdp on the interface";
    if link.xdp.is_empty() {
        return report.ok(subject, "nothing attached");
    }
    for program in &link.xdp {
        let (hook, off) = match program.hook {
            XdpHook::Native => ("native", "xdpdrv"),
            XdpHook::Generic => ("generic", "xdpgeneric"),
            XdpHook::Hardware => ("hardware", "xdpoffload"),
        };
        let id = program.id;
        match program.name.as_deref() {
            Some(OUR_PROGRAM) => report.ok(subject, format!("{OUR_PROGRAM} (id {id}, {hook})")),
            Some(name) => report.error(
                subject,
                format!(
                    "`{name}` (id {id}, {hook}) is attached and will not be pushed out; \
                     end what owns it, or run `ip link set {interface} {off} off`"
                ),
            ),
            None => report.warning(
                subject,
                format!(
                    "a program whose name may not be read (id {id}, {hook}) is attached; \
                     run this as root, or `bpftool prog show id {id}`"
                ),
            ),
        }
    }
}

fn addresses(settings: &Settings, host: &Host, report: &mut Report) {
    let subject = "addresses";
    let Some(interfaces) = report.known(subject, &host.interfaces) else { return };
    let node = &settings.node;
    let owner = |address| interfaces.iter().find(|i| i.addresses.contains(&address)).map(|i| i.name.as_str());
    match owner(node.address) {
        Some(name) if name == node.interface => report.ok(subject, format!("{} is on `{name}`", node.address)),
        Some(name) => report.error(subject, format!("{} is on `{name}`; use interface = \"{name}\"", node.address)),
        None if owner(node.peer).is_some() => {} // said below, once
        None => report.error(
            subject,
            format!("{} is on no interface; add it to `{}`, or correct node.address", node.address, node.interface),
        ),
    }
    if let Some(name) = owner(node.peer) {
        let text = format!("{} is the peer's address and on `{name}` here; exchange address and peer", node.peer);
        report.error(subject, format!("{text}: this is the other node's file"));
    }
    // While our gate guards them they may be there ahead of time.
    let ours = matches!(&host.link, Ok(Some(link)) if link.xdp.iter().any(|p| p.name.as_deref() == Some(OUR_PROGRAM)));
    for vip in node.vips.iter().filter(|_| !ours) {
        if let Some(name) = owner(vip.address) {
            let text = format!("{} is on `{name}` already, and nothing of ours guards it", vip.address);
            let remedy = format!("stop keepalived, or run `ip address del {}/{} dev {name}`", vip.address, vip.prefix);
            report.warning(subject, format!("{text}; {remedy}"));
        }
    }
}

fn realtime(settings: &Settings, host: &Host, report: &mut Report) {
    let (subject, priority) = ("real time", settings.realtime.priority);
    let why = match &host.fifo {
        None => return report.ok(subject, "not asked for (realtime.priority = 0)"),
        Some(Ok(())) => return report.ok(subject, format!("SCHED_FIFO {priority}: tried, works")),
        Some(Err(why)) => why,
    };
    // EPERM in spite of the capability comes from the CPU controller of a vendor's kernel.
    let remedy = match &host.capabilities {
        Ok(found) if found.has(Capability::SysNice) => {
            "the kernel has RT_GROUP_SCHED and this control group no real-time budget: with cgroup v1 write to its \
             cpu.rt_runtime_us, with v2 boot with rt_group_sched=0 where there is that parameter"
        }
        _ => "grant CAP_SYS_NICE, or set LimitRTPRIO=99 in the service",
    };
    let cost = "the pulse thread falls back to niceness, so verdicts stay right and come later under load";
    report.warning(subject, format!("SCHED_FIFO {priority} is refused ({why}): {cost}; {remedy}"));
}

/// Room for the daemon with its libraries and the stacks of its threads.
const LOCKED_BYTES: u64 = 64 << 20;

fn memory(settings: &Settings, host: &Host, report: &mut Report) {
    let subject = "locked memory";
    if !settings.realtime.lock_memory {
        return report.ok(subject, "not asked for (realtime.lock_memory = false)");
    }
    if matches!(&host.capabilities, Ok(found) if found.has(Capability::IpcLock)) {
        return report.ok(subject, "without a limit (CAP_IPC_LOCK)");
    }
    match report.known(subject, &host.memory_lock) {
        None => {}
        Some(&u64::MAX) => report.ok(subject, "without a limit"),
        Some(&limit) if limit >= LOCKED_BYTES => report.ok(subject, format!("up to {} MiB", limit >> 20)),
        Some(&limit) => {
            let text = format!("at most {} KiB, and the daemon needs up to {} MiB", limit >> 10, LOCKED_BYTES >> 20);
            report.warning(
                subject,
                format!("{text}: a page fault may delay a pulse; set LimitMEMLOCK=infinity in the service"),
            );
        }
    }
}

fn clock(host: &Host, report: &mut Report) {
    let subject = "clock";
    let Some(clock) = report.known(subject, &host.clock) else { return };
    let current = clock.current.as_str();
    match current {
        "kvm-clock" => {
            let tsc = match clock.available.iter().any(|name| name == "tsc") {
                true => "boot with clocksource=tsc",
                false => "ask for a type of instance with a stable TSC",
            };
            report.warning(
                subject,
                format!(
                    "kvm-clock may stand still while the guest is paused: after the pause this node does not know how \
                     long it was away, and serves beside its successor until it hears it. \
                     Synchronous replication keeps the data safe; {tsc}"
                ),
            );
        }
        "jiffies" | "acpi_pm" | "hpet" | "refined-jiffies" => {
            report
                .warning(subject, format!("{current} is slow or coarse; boot with clocksource=tsc where it is stable"));
        }
        _ => report.ok(subject, current),
    }
}

#[cfg(test)]
mod tests;
