//! The lab and the suites.
