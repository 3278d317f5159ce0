//! Frames that a real keepalived sent, for the suites `pure` and `kernel`.

/// Written by `tests/cases/capture-keepalived.sh`; its head says who talks to whom.
const KEEPALIVED: &str = include_str!("../cases/keepalived.frames");

/// The address that the captured frames come from.
pub const SOURCE: [u8; 4] = [172, 19, 48, 253];
/// The address that they go to.
pub const DESTINATION: [u8; 4] = [172, 19, 48, 254];

/// A captured frame, by its name in the file.
///
/// # Panics
/// There is no such frame, or it is not written in hexadecimal digits.
pub fn keepalived(name: &str) -> Vec<u8> {
    let lines = KEEPALIVED.lines().filter_map(|line| line.split_once(' '));
    let (_, digits) =
        lines.into_iter().find(|(first, _)| *first == name).unwrap_or_else(|| panic!("no frame `{name}`"));
    assert!(digits.len().is_multiple_of(2), "half a byte in `{name}`");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal")).collect()
}

/// The names of all of them.
pub fn keepalived_names() -> Vec<&'static str> {
    let lines = KEEPALIVED.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ')).map(|(name, _)| name).collect()
}
