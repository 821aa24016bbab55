//! What ends a native call without a result, and how Java sees it: as an exception that `Native` makes.

use std::any::Any;
use std::time::{Duration, Instant};

use bowstring::client::Error;
use bowstring::engine::{Code, Retry};
use bowstring::spark::{Ended, Waiting};
use jni::errors::ErrorPolicy;
use jni::objects::{JClass, JObject, JThrowable, JValue};
use jni::{Env, EnvUnowned, jni_sig, jni_str};

/// How long an abort or the end of a source may take: Spark has interrupted their thread once and will not do so again, and where the
/// coordinator is gone nothing is lost by giving up.
const LAST_WORD: Duration = Duration::from_secs(5);

/// What ends a native call without a result.
pub(crate) enum Raised {
    /// A step failed, or nobody waits for it any more.
    Ended(Ended),
    /// The JVM did not do what it was asked for; its own exception may be pending.
    Jvm(jni::errors::Error),
}

impl From<Error> for Raised {
    fn from(error: Error) -> Self {
        Self::Ended(Ended::Failed(error))
    }
}

impl From<Ended> for Raised {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

impl From<jni::errors::Error> for Raised {
    fn from(error: jni::errors::Error) -> Self {
        Self::Jvm(error)
    }
}

/// Runs the body of a native method of `class`: what it raises, and a panic, becomes a Java exception.
pub(crate) fn native<'local, T: Default>(
    mut env: EnvUnowned<'local>,
    class: &JClass<'local>,
    body: impl FnOnce(&mut Env<'local>) -> Result<T, Raised>,
) -> T {
    env.with_env(body).resolve_with::<Thrown, _>(|| class)
}

/// Runs a step that may have to wait. The Java thread is asked at least every 100 ms whether it was interrupted, or its task killed.
pub(crate) fn waiting<'local, T>(
    env: &mut Env<'local>,
    class: &JClass<'local>,
    step: impl FnOnce(&mut Waiting<'_>) -> Result<T, Ended>,
) -> Result<T, Raised> {
    let mut check = || match is_cancelled(env, class) {
        Ok(false) => Ok(()),
        Ok(true) | Err(_) => Err(Ended::Cancelled),
    };
    Ok(step(&mut Waiting::checked(None, &mut check))?)
}

/// The same for a word that need not get through: it waits for [`LAST_WORD`] at most, whoever waits.
pub(crate) fn last_word<T>(step: impl FnOnce(&mut Waiting<'_>) -> Result<T, Ended>) -> Result<T, Raised> {
    #[expect(clippy::disallowed_methods, reason = "the deadline of a blocking caller begins at the call")]
    let deadline = Instant::now() + LAST_WORD;
    Ok(step(&mut Waiting::checked(Some(deadline), &mut || Ok(())))?)
}

fn is_cancelled<'local>(env: &mut Env<'local>, class: &JClass<'local>) -> jni::errors::Result<bool> {
    env.call_static_method(class, jni_str!("isCancelled"), jni_sig!("()Z"), &[])?.z()
}

/// Throws what was raised.
struct Thrown;

impl<T: Default> ErrorPolicy<T, Raised> for Thrown {
    type Captures<'env: 'native, 'native> = &'native JClass<'env>;

    fn on_error<'env: 'native, 'native>(
        env: &mut Env<'env>,
        class: &mut Self::Captures<'env, 'native>,
        raised: Raised,
    ) -> jni::errors::Result<T> {
        if env.exception_check() {
            return Ok(T::default());
        }
        match raised {
            Raised::Ended(Ended::Failed(error)) => {
                throw(env, class, error.code(), error.retry() != Retry::Never, &error.to_string())?;
            }
            Raised::Ended(Ended::Cancelled) => {
                throw(env, class, Code::Cancelled, true, "the wait was interrupted: the task was killed or the query stopped")?;
            }
            Raised::Jvm(error) => throw(env, class, Code::Internal, false, &format!("the JVM refused a call: {error}"))?,
        }
        Ok(T::default())
    }

    fn on_panic<'env: 'native, 'native>(
        env: &mut Env<'env>,
        class: &mut Self::Captures<'env, 'native>,
        payload: Box<dyn Any + Send + 'static>,
    ) -> jni::errors::Result<T> {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
        let text = format!("bowstring's native library failed: {text}; please report this with what led to it");
        throw(env, class, Code::Internal, false, &text)?;
        Ok(T::default())
    }
}

/// `Native.thrown` knows the classes.
fn throw<'local>(env: &mut Env<'local>, class: &JClass<'local>, code: Code, retryable: bool, text: &str) -> jni::errors::Result<()> {
    let (code, text) = (env.new_string(code.as_str())?, env.new_string(text)?);
    let arguments = [JValue::Object(&code), JValue::Bool(retryable), JValue::Object(&text)];
    let signature = jni_sig!("(Ljava/lang/String;ZLjava/lang/String;)Ljava/lang/Throwable;");
    let made: JObject<'_> = env.call_static_method(class, jni_str!("thrown"), signature, &arguments)?.l()?;
    let made = env.cast_local::<JThrowable>(made)?;
    env.throw(made)
}
