//! `Native`'s methods for the streams of a coordinator. A stream's own options say where that is.

use bowstring::spark::{Catalog, SourceOptions};
use jni::objects::{JClass, JObject, JObjectArray, JString};
use jni::sys::jboolean;
use jni::{EnvUnowned, jni_str};

use crate::raised::{native, waiting};
use crate::text::Options;

/// The names of all streams.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_streams<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    options: JObjectArray<'local, JString<'local>>,
) -> JObjectArray<'local, JObject<'local>> {
    native(env, &class, |env| {
        let options = SourceOptions::parse(Options::take(env, &options)?.pairs())?;
        let names = waiting(env, &class, |wait| Catalog::open(&options.place, wait)?.streams(wait))?;
        let found = env.new_object_array(i32::try_from(names.len()).unwrap_or(i32::MAX), jni_str!("java/lang/String"), JObject::null())?;
        for (index, name) in names.iter().enumerate() {
            let name = env.new_string(name)?;
            found.set_element(env, index, &name)?;
            env.delete_local_ref(name);
        }
        Ok(found)
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_hasStream<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    options: JObjectArray<'local, JString<'local>>,
) -> jboolean {
    native(env, &class, |env| {
        let place = SourceOptions::parse(Options::take(env, &options)?.pairs())?.place;
        waiting(env, &class, |wait| Catalog::open(&place, wait)?.has(&place.stream, wait))
    })
}

/// Whether there was one.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn Java_io_bowstring_spark_Native_deleteStream<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    options: JObjectArray<'local, JString<'local>>,
) -> jboolean {
    native(env, &class, |env| {
        let place = SourceOptions::parse(Options::take(env, &options)?.pairs())?.place;
        waiting(env, &class, |wait| Catalog::open(&place, wait)?.delete(&place.stream, wait))
    })
}
