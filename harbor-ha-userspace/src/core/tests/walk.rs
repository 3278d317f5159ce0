//! Two cores in a toy world, driven by a seeded stream of faults, then healed: it must come back.

use super::*;

mod host;
mod server;
mod world;

use world::{Outcome, World};

#[test]
fn two_nodes_survive_a_random_walk_of_faults_and_come_back() {
    let (mut by_hand, mut by_hand_with_terms) = (0, 0);
    let seeds = std::env::var("WALK_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(150);
    let only = std::env::var("WALK_SEED").ok().and_then(|seed| seed.parse().ok());
    // The seed is in the panic of a world too.
    for seed in only.map_or(0..seeds, |seed: u64| seed..seed + 1) {
        eprintln!("seed {seed}");
        let mut world = World::new(seed, only.is_some());
        world.settle(ms(60_000)).unwrap_or_else(|state| panic!("seed {seed}: never began\n{state}"));
        for _ in 0..12 {
            world.fault();
            let length = ms(100 + world.below(3000));
            world.run(length);
        }
        world.heal();
        match world.settle(ms(180_000)) {
            Ok(Outcome::Streams) => {}
            // Pulses carry terms: the later of two former primaries starts by itself.
            Ok(Outcome::NeedsAHuman) => {
                by_hand += 1;
                by_hand_with_terms += u32::from(!world.adverts);
            }
            Err(state) => panic!("seed {seed}: did not come back (WALK_SEED={seed} tells the story)\n{state}"),
        }
    }
    eprintln!(
        "{by_hand} of {seeds} ended with former primaries that hold for a human, {by_hand_with_terms} with pulses"
    );
    // Without pulses no term is on the wire, and the second primary died before the first one had rejoined.
    assert_eq!(by_hand_with_terms, 0, "pulses carry terms, and a human was needed");
    assert!(by_hand * 4 <= seeds, "{by_hand} of {seeds} need a human");
}
