//! The native half of the JVM connector: converts, calls the client core's verb for Spark, converts back. No logic.
//!
//! Java holds numbers for what lives here (`handles`), batches cross as addresses of their buffers (`columns`; the only place with
//! `unsafe` that is not the look of a JNI function), and whatever goes wrong becomes one exception (`raised`).

mod catalog;
mod columns;
mod handles;
mod memory;
mod raised;
mod sink;
mod source;
mod text;

use jni::sys::{JNI_VERSION_1_8, jint};

#[global_allocator]
static ALLOCATOR: bowstring_allocator::MiMalloc = bowstring_allocator::MiMalloc;

/// Called by the JVM when it has loaded the library.
#[unsafe(no_mangle)]
pub(crate) extern "system" fn JNI_OnLoad(_vm: *mut jni::sys::JavaVM, _reserved: *mut std::ffi::c_void) -> jint {
    bowstring_allocator::keep_free_memory();
    JNI_VERSION_1_8
}
