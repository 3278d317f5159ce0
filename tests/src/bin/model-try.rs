use harbor_ha_tests::model::{bounds::*, step::Protocol};
use stateright::{Checker, HasDiscoveries, Model};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let policy = match args[1].as_str() { "hold" => Policy::Hold, "witness" => Policy::Witness, _ => Policy::Serve };
    let mut b = Bounds::SMALL;
    let mut it = args[2].split(',').map(|x| x.parse::<u8>().unwrap());
    b.detection = it.next().unwrap(); b.slots = it.next().unwrap(); b.terms = it.next().unwrap();
    b.crashes = it.next().unwrap(); b.losses = it.next().unwrap(); b.resigns = it.next().unwrap(); b.waivers = it.next().unwrap(); b.forces = it.next().unwrap(); b.halves = it.next().unwrap() != 0;
    let p = Protocol { policy, bounds: b, deviation: args.get(4).map(|d| *Deviation::ALL.iter().find(|x| format!("{x:?}") == *d).unwrap()) };
    println!("state {} bytes", size_of::<harbor_ha_tests::model::state::State>());
    let t = std::time::Instant::now();
    let c = p.checker().threads(if args.len() > 4 { 1 } else { 2 }).finish_when(if args.len() > 5 { HasDiscoveries::AnyOf(std::collections::BTreeSet::from([harbor_ha_tests::model::properties::ONE_GATE])) } else { HasDiscoveries::AnyFailures }).spawn_bfs();
    let c = loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
        if c.is_done() { break c.join(); }
        if t.elapsed().as_secs() % 10 == 0 { println!("{:?} unique {} total {} depth {}", t.elapsed(), c.unique_state_count(), c.state_count(), c.max_depth()); }
        if t.elapsed().as_secs() > args.get(3).map_or(60, |x| x.parse().unwrap()) { println!("out of time"); for (k, _) in c.discoveries() { println!("found {k}"); } std::process::exit(1) }
    };
    println!("{:?} unique {} total {} depth {}", t.elapsed(), c.unique_state_count(), c.state_count(), c.max_depth());
    for (k, path) in c.discoveries() {
        println!("{k}: {:?}", c.discovery_classification(k).to_string());
        if c.discovery_classification(k).to_string() == "counterexample" { for (s, a) in path.into_vec() { let g: Vec<_> = s.nodes.iter().map(|n| format!("T{} {:?} lease {} prom {} {:?}{}", n.kernel.serving, n.kernel.solo, n.kernel.leased, n.kernel.promise, n.user.phase, if n.kernel.is_open() {" OPEN"} else {""})).collect(); println!("   {g:?}"); println!("{a:?}"); } }
    }
}
