//! Set-up, lab, main job and tests.
fn main() {}
