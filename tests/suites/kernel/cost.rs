//! What a packet costs, by `BPF_PROG_TEST_RUN`'s own clock. Told, and held against a bound that only a mistake breaks.

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use harbor_ha_ebpf::names;
use harbor_ha_ebpf::wire::ipv4;
use harbor_ha_tests::lab::clock;

use super::gate::{LONG, gated, to};
use super::{KEY, Kernel, PORT, VIP, advert, good_pulse, header, pulse_frame, udp};

/// Nanoseconds of the median of single runs: a pulse is another packet after it was turned round, so repeats will not do.
fn median(kernel: &Kernel, mut frames: impl FnMut(u64) -> Vec<u8>) -> u64 {
    let program: &Xdp = kernel.ebpf.program(names::XDP_PROGRAM).expect("ours").try_into().expect("XDP");
    let mut took: Vec<u64> = (1..=2001)
        .map(|sequence| {
            let frame = frames(sequence);
            let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::default() };
            program.test_run(options).expect("BPF_PROG_TEST_RUN").duration.as_nanos() as u64
        })
        .collect();
    took.sort_unstable();
    took[took.len() / 2]
}

#[test]
fn a_foreign_packet_costs_next_to_nothing_and_a_pulse_some_microseconds() {
    let mut kernel = gated();
    let foreign = median(&kernel, |_| to([10, 77, 0, 98]));
    let ours = median(&kernel, |_| udp(&header(ipv4::UDP, 0), PORT + 1, &[0; 64]));
    let shut = median(&kernel, |_| to(VIP));
    let advert = median(&kernel, |_| advert(3, |_| ()));
    let pulse = median(&kernel, |sequence| pulse_frame(&good_pulse(sequence), KEY));
    kernel.serve(u64::MAX, clock::now_ns() + LONG);
    let served = median(&kernel, |_| to(VIP));
    eprintln!(
        "a packet costs, in ns (median of single runs): foreign {foreign}, to this node and not ours {ours}, to a shut \
         virtual address {shut}, to an open one {served}, advert {advert}, pulse with its answer {pulse}"
    );
    assert!(foreign < 20_000 && pulse < 100_000);
}
