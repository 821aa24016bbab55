//! Text and options out of Java.

use jni::Env;
use jni::objects::{JObjectArray, JString};

use crate::raised::Raised;

/// A string.
pub(crate) fn string(env: &Env<'_>, text: &JString<'_>) -> Result<String, Raised> {
    Ok(text.try_to_string(env)?)
}

/// Names and values in turn.
pub(crate) struct Options(Vec<String>);

impl Options {
    pub(crate) fn take(env: &mut Env<'_>, array: &JObjectArray<'_, JString<'_>>) -> Result<Self, Raised> {
        let count = array.len(env)?;
        let mut all = Vec::with_capacity(count);
        for index in 0..count {
            let text = array.get_element(env, index)?;
            all.push(text.try_to_string(env)?);
            env.delete_local_ref(text);
        }
        Ok(Self(all))
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.chunks_exact(2).map(|pair| (pair[0].as_str(), pair[1].as_str()))
    }
}
