//! keepalived's numbers: seconds with fractions, and how it rounds the interval of adverts.

use std::time::Duration;

use crate::config::settings::VrrpVersion;

/// A number of seconds, in whole microseconds; `None` for anything else.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = text.parse::<f64>().ok().filter(|seconds| plain && *seconds < 1e7)?;
    Some(Duration::from_micros((seconds * 1e6).round() as u64))
}

/// The interval that keepalived makes of `wanted`.
pub(super) fn advert_interval(wanted: Duration, version: VrrpVersion) -> Duration {
    let (step, most) = match version {
        // Half a second is rounded up, nothing becomes one second.
        VrrpVersion::V2 => (Duration::from_secs(1), 255),
        VrrpVersion::V3 => (Duration::from_millis(10), 4095),
    };
    let steps = (wanted + step / 2).as_micros() / step.as_micros();
    step * u32::try_from(steps).unwrap_or(u32::MAX).clamp(1, most)
}

/// `on`, `true`, `yes` and their opposites; nothing means yes.
pub(super) fn switch(word: Option<&str>) -> Option<bool> {
    Some(match word {
        None | Some("on" | "true" | "yes") => true,
        Some("off" | "false" | "no") => false,
        Some(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_fractions() {
        assert_eq!(seconds("1"), Some(Duration::from_secs(1)));
        assert_eq!(seconds("0.92"), Some(Duration::from_millis(920)));
        assert_eq!(seconds("0.000001"), Some(Duration::from_micros(1)));
        for wrong in ["", "-1", "1s", "1e3", "inf", "NaN", ".", "99999999"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_interval_is_rounded_as_keepalived_does_it() {
        let of = |millis, version| advert_interval(Duration::from_millis(millis), version);
        assert_eq!(of(400, VrrpVersion::V2), Duration::from_secs(1));
        assert_eq!(of(1499, VrrpVersion::V2), Duration::from_secs(1));
        assert_eq!(of(1500, VrrpVersion::V2), Duration::from_secs(2));
        assert_eq!(of(0, VrrpVersion::V3), Duration::from_millis(10));
        assert_eq!(of(14, VrrpVersion::V3), Duration::from_millis(10));
        assert_eq!(of(15, VrrpVersion::V3), Duration::from_millis(20));
        assert_eq!(of(99_000, VrrpVersion::V3), Duration::from_millis(40_950));
    }
}
