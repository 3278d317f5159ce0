//! Configuration: a TOML file becomes [`settings::Settings`], or a list of everything that is wrong with it.

pub mod secret;
pub mod settings;
