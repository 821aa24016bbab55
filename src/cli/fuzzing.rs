//! The settings' file for `tests/fuzz`.

use figment::Figment;
use figment::providers::{Format as _, Toml};

use super::config::{ClientSettings, ServeSettings, Settings};
use super::log::LogSettings;

/// Reads a file of settings as every command does.
///
/// # Errors
/// What is said to who has written it.
pub fn settings(text: &str) -> Result<(), String> {
    let settings = Settings::of(Figment::from(Toml::string(text)));
    settings.serve(&ServeSettings::default()).map_err(|error| error.to_string())?;
    settings.log(&LogSettings::default()).map_err(|error| error.to_string())?;
    settings.client(&ClientSettings::default()).map_err(|error| error.to_string())
}
