//! Options as a user has given them: names in any case, values as text.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use super::Bound;
use crate::client::Error;
use crate::engine::{Offset, PartitionId};

/// What Spark itself adds to the options of a sink or source; nothing for us to look at.
const OF_SPARK: [&str; 6] = ["checkpointlocation", "queryname", "outputmode", "truncate", "numrows", "asyncprogresstrackingenabled"];

/// Names in lower case, and their values.
pub(super) struct Given(BTreeMap<String, String>);

impl Given {
    /// Takes all pairs whose name is among `known`.
    pub(super) fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>, known: &[&str]) -> Result<Self, Error> {
        let is_known = |name: &str| OF_SPARK.iter().chain(known).any(|known| known.eq_ignore_ascii_case(name));
        let (mut given, mut unknown) = (BTreeMap::new(), Vec::new());
        for (name, value) in pairs {
            if !is_known(name) {
                unknown.push(format!("'{name}'"));
            }
            given.insert(name.to_lowercase(), value.trim().to_owned());
        }
        if unknown.is_empty() {
            return Ok(Self(given));
        }
        let (unknown, known) = (unknown.join(", "), known.join(", "));
        Err(Error::invalid(format!("format(\"bowstring\") does not know the option {unknown}; it knows: {known}")))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_lowercase()).map(String::as_str).filter(|text| !text.is_empty())
    }

    pub(super) fn number<N: FromStr + PartialOrd + From<u8>>(&self, name: &str, least: u8) -> Result<Option<N>, Error> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse::<N>() {
            Ok(number) if number >= N::from(least) => Ok(Some(number)),
            _ => Err(Error::invalid(format!("option '{name}' is '{text}'; it has to be a whole number of at least {least}"))),
        }
    }

    pub(super) fn seconds(&self, name: &str) -> Result<Option<Duration>, Error> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let seconds = text.strip_suffix('s').unwrap_or(text).parse::<f64>().ok();
        match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).filter(|duration| !duration.is_zero()) {
            Some(duration) => Ok(Some(duration)),
            None => Err(Error::invalid(format!("option '{name}' is '{text}'; it has to be a number of seconds above 0"))),
        }
    }

    pub(super) fn truth(&self, name: &str, default: bool) -> Result<bool, Error> {
        let Some(text) = self.text(name) else { return Ok(default) };
        match text.to_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(Error::invalid(format!("option '{name}' is '{text}'; it has to be true or false"))),
        }
    }

    /// The first is the default.
    pub(super) fn one_of(&self, name: &str, known: &[&'static str]) -> Result<&'static str, Error> {
        let text = self.text(name).unwrap_or(known[0]);
        known
            .iter()
            .copied()
            .find(|known| known.eq_ignore_ascii_case(text))
            .ok_or_else(|| Error::invalid(format!("option '{name}' is '{text}'; use one of: {}", known.join(", "))))
    }

    pub(super) fn bound(&self, name: &str, default: Bound) -> Result<Bound, Error> {
        match self.text(name) {
            None => Ok(default),
            Some("earliest") => Ok(Bound::Earliest),
            Some("latest") => Ok(Bound::Latest),
            Some(text) => match serde_json::from_str::<BTreeMap<u32, u64>>(text) {
                Ok(offsets) => {
                    Ok(Bound::At(offsets.into_iter().map(|(partition, offset)| (PartitionId(partition), Offset(offset))).collect()))
                }
                Err(_) => {
                    Err(Error::invalid(format!("option '{name}' is '{text}'; use earliest, latest, or JSON like {{\"0\": 12, \"1\": 7}}")))
                }
            },
        }
    }
}
