//! The code broken on purpose: what the checkers must catch, and the proof that they bite.

/// One way to break a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// L > D: the kernel extends the lease by more than the peer waits.
    LeaseOutlastsDetection,
    /// The lease is counted from the arrival of an echo, not from the stamp that came back.
    LeaseFromArrival,
    /// The echo carries the echoing node's clock, not the stamp that was heard.
    OwnClockEchoed,
    /// Clocks that differ by a quarter, which L = 0.9 D does not cover.
    ClocksRace,
    /// Terms are said to be on disk, and are not.
    TermNotStored,
    /// The waiver is said to be on disk, and is not.
    WaiverNotStored,
    /// The witness grants everybody everything.
    WitnessIgnored,
    /// An order to stop echoing never reaches the kernel.
    EchoNotWithdrawn,
    /// The promise that was given by echoing is not waited for.
    PromiseIgnored,
    /// The gate stays open when it is ordered shut.
    GateNotShut,
    /// A lease once granted never ends.
    LeaseNeverEnds,
    /// `synchronous_standby_names` is said to name the standby, and names nobody.
    StandbyNotNamed,
    /// The witness forgets a key long before its holder does.
    KeyOutlived,
    /// A primary claims that its standby has everything.
    TailNotAwaited,
    /// Silence is declared a death at the first missed pulse.
    HastyDetector,
    /// Every term that a peer says is dropped by the gate.
    GateIgnoresTerms,
    /// The old data directory is removed once the new one runs, whether it streams or not.
    OldRemovedEarly,
    /// Of a HaVip as the witness: whoever it leads to may go on.
    HaVipMasterDecides,
    /// Of the same: the key counts at once, and not when the other one's has certainly run out.
    HaVipNotWaited,
    /// Of the same: a look may show what was so seconds ago, where the wait allows for less.
    HaVipLooksOld,
}

impl Mutant {
    /// All of them, with the name that the command line takes.
    pub const ALL: [(Self, &'static str); 20] = [
        (Self::LeaseOutlastsDetection, "lease-outlasts-detection"),
        (Self::LeaseFromArrival, "lease-from-arrival"),
        (Self::OwnClockEchoed, "own-clock-echoed"),
        (Self::ClocksRace, "clocks-race"),
        (Self::TermNotStored, "term-not-stored"),
        (Self::WaiverNotStored, "waiver-not-stored"),
        (Self::WitnessIgnored, "witness-ignored"),
        (Self::EchoNotWithdrawn, "echo-not-withdrawn"),
        (Self::PromiseIgnored, "promise-ignored"),
        (Self::GateNotShut, "gate-not-shut"),
        (Self::LeaseNeverEnds, "lease-never-ends"),
        (Self::StandbyNotNamed, "standby-not-named"),
        (Self::KeyOutlived, "key-outlived"),
        (Self::TailNotAwaited, "tail-not-awaited"),
        (Self::HastyDetector, "hasty-detector"),
        (Self::GateIgnoresTerms, "gate-ignores-terms"),
        (Self::OldRemovedEarly, "old-removed-early"),
        (Self::HaVipMasterDecides, "havip-master-decides"),
        (Self::HaVipNotWaited, "havip-not-waited"),
        (Self::HaVipLooksOld, "havip-looks-old"),
    ];

    /// Whether it is about a HaVip as the witness.
    pub const fn asks_a_havip(self) -> bool {
        matches!(self, Self::HaVipMasterDecides | Self::HaVipNotWaited | Self::HaVipLooksOld)
    }

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == name).map(|(mutant, _)| mutant)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(mutant, _)| *mutant == self).map_or("", |(_, name)| name)
    }
}
