//! The judge of the captures, judged: it accepts what a real keepalived sent, and no frame of which one bit is wrong.

use harbor_ha_tests::frames;
use harbor_ha_tests::lab::need::{self, Need};
use harbor_ha_tests::lab::record;
use harbor_ha_tests::lab::tshark::{Checksum, Judgement, judge};

/// Ethernet, then an IP header without options: the advert begins.
const ADVERT: usize = 14 + 20;

fn judged(frames: &[Vec<u8>], checksum: Checksum) -> Judgement {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("frames.pcap");
    record::write(&file, frames.iter().enumerate().map(|(at, frame)| (at as u64, frame.as_slice()))).unwrap();
    judge(&file, checksum).unwrap()
}

#[test]
fn the_judge_accepts_keepalived_and_refuses_each_frame_with_one_wrong_bit() {
    let test = "the_judge_accepts_keepalived_and_refuses_each_frame_with_one_wrong_bit";
    if !need::has(test, &[Need::Tool("tshark")]) {
        return;
    }
    let usual: Vec<_> = frames::keepalived_names()
        .into_iter()
        // Not an advert; not a checksum that anybody sends any more.
        .filter(|name| !matches!(*name, "garp" | "v3-old-checksum"))
        .map(frames::keepalived)
        .collect();
    let accepted = judged(&usual, Checksum::PseudoHeader);
    accepted.insist().unwrap();
    assert_eq!(accepted.adverts.values().sum::<usize>(), usual.len());

    let mut wrong = vec![frames::keepalived("v3-old-checksum")];
    for name in ["v2-pass", "v3-1s"] {
        let good = frames::keepalived(name);
        for bit in ADVERT * 8..good.len() * 8 {
            let mut frame = good.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            wrong.push(frame);
        }
        // A byte too few.
        wrong.push(good[..good.len() - 1].to_vec());
    }
    let refused = judged(&wrong, Checksum::PseudoHeader);
    let numbers: Vec<_> = refused.objections.iter().map(|it| it.frame as usize).collect();
    let missed: Vec<_> = (1..=wrong.len()).filter(|number| !numbers.contains(number)).collect();
    assert_eq!(missed, Vec::<usize>::new(), "of {} frames", wrong.len());
    assert!(refused.insist().is_err());

    // The form of the checksum is judged, not guessed; and nothing at all is no good news.
    let v3 = [frames::keepalived("v3-1s")];
    assert_eq!(judged(&v3, Checksum::AsV2).objections.len(), 1);
    assert!(judged(&[frames::keepalived("garp")], Checksum::PseudoHeader).insist().is_err());
}
