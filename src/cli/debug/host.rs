//! Facts of the host that the command runs on, and of its own limits.

use rustix::system::uname;
use serde_json::{Value, json};

/// Lines of `/proc/meminfo` that say how much there is.
const MEMORY: [&str; 5] = ["MemTotal", "MemAvailable", "SwapTotal", "SwapFree", "Shmem"];

/// Cores, memory, kernel, limits; null where the system does not say. The host's name is not among them.
pub(super) fn facts() -> Value {
    let kernel = uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    json!({
        "cores": std::thread::available_parallelism().ok().map(usize::from),
        "system": text(kernel.sysname()),
        "kernel": text(kernel.release()),
        "kernel_version": text(kernel.version()),
        "machine": text(kernel.machine()),
        "distribution": read("/etc/os-release").and_then(|text| after(&text, "PRETTY_NAME=").map(|name| name.trim_matches('"').to_owned())),
        "memory": read("/proc/meminfo").map(|text| memory(&text)),
        "cgroup": {"memory.max": read("/sys/fs/cgroup/memory.max"), "cpu.max": read("/sys/fs/cgroup/cpu.max")},
        "limits_of_this_command": read("/proc/self/limits").map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()),
    })
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// What follows on the line that begins so.
fn after<'a>(text: &'a str, begin: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(begin)).map(str::trim)
}

fn memory(text: &str) -> Value {
    MEMORY
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), after(text, &format!("{name}:"))?.into())))
        .collect::<serde_json::Map<_, Value>>()
        .into()
}
