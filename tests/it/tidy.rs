//! The walls of ARCHITECTURE.md as tests over the source text: who imports whom, how long a file gets, which
//! words are used, and that every error code and metric is documented.

use std::fs;
use std::path::{Path, PathBuf};

use bowstring::engine::{Code, Retry, StoredState};
use bowstring::server::{METRICS, MetricDoc};

/// A file over this, its unit tests aside, has a second noun in it.
const LINES_MAX: usize = 400;

/// A layer of `src/` and what it may use of its siblings, and must not use of others' crates.
const LAYERS: &[Layer] = &[
    Layer {
        name: "engine",
        may_use: &[],
        must_not: &[
            "tokio",
            "tonic",
            "axum",
            "arrow",
            "parking_lot",
            "std::fs",
            "std::net",
            "std::thread",
            "SystemTime",
            "Instant",
            "async ",
        ],
    },
    Layer { name: "shared", may_use: &[], must_not: &["tonic", "axum", "arrow", "std::fs"] },
    Layer { name: "formats", may_use: &[], must_not: &["tokio", "tonic", "axum", "std::fs", "std::net"] },
    Layer { name: "wire", may_use: &["engine"], must_not: &["tokio", "tonic", "axum", "std::fs", "std::net"] },
    Layer { name: "storage", may_use: &["wire", "engine"], must_not: &["tonic", "axum"] },
    Layer { name: "client", may_use: &["shared", "wire", "engine"], must_not: &["axum"] },
    Layer { name: "spark", may_use: &["client", "shared", "wire", "engine"], must_not: &["tokio", "tonic", "axum"] },
    Layer { name: "query", may_use: &["wire", "engine"], must_not: &["tokio", "tonic", "axum", "std::fs", "std::net"] },
    Layer {
        name: "flow",
        may_use: &["query", "wire", "engine"],
        must_not: &["tokio", "tonic", "axum", "std::net", "Instant", "SystemTime"],
    },
    Layer { name: "server", may_use: &["formats", "query", "storage", "shared", "wire", "engine"], must_not: &[] },
    Layer { name: "cli", may_use: &["server", "client", "wire", "engine"], must_not: &[] },
];

/// Words that have another name here (left), so that one thing has one name everywhere.
const BANNED_WORDS: &[(&str, &str)] = &[
    ("topic", "stream"),
    ("queue", "stream, or buffer"),
    ("publish", "append"),
    ("published", "appended"),
    ("publisher", "producer"),
    ("record", "batch or row"),
    ("records", "batches or rows"),
    ("event", "batch or row"),
    ("events", "batches or rows"),
    ("group", "subscription"),
    ("session", "subscription or lease"),
    ("sequence", "offset or ordinal"),
    ("position", "offset"),
    ("pull", "read"),
    ("checkpoint", "cursor (a checkpoint is Spark's)"),
    ("watermark", "lag (a watermark is of event time)"),
    ("manager", "what it does"),
    ("util", "what it does"),
    ("utils", "what it does"),
    ("helper", "what it does"),
];

struct Layer {
    name: &'static str,
    may_use: &'static [&'static str],
    must_not: &'static [&'static str],
}

#[test]
fn layers_import_only_to_their_right() {
    let mut faults = Vec::new();
    for layer in LAYERS {
        for file in files_under("src", "rs").iter().filter(|file| layer.owns(file)) {
            for (number, line) in code_lines(file) {
                for other in LAYERS.iter().filter(|other| other.name != layer.name && !layer.may_use.contains(&other.name)) {
                    if names_layer(&line, other.name) {
                        faults.push(format!("{}:{number} uses {}", show(file), other.name));
                    }
                }
                for word in layer.must_not.iter().filter(|word| names_crate(&line, word)) {
                    faults.push(format!("{}:{number} uses {word}", show(file)));
                }
            }
        }
    }
    assert_none(&faults, "a layer uses one that it must not know (ARCHITECTURE.md, layers)");
}

#[test]
fn files_own_one_noun() {
    let mut faults = Vec::new();
    for (folder, extension) in
        [("src", "rs"), ("tests", "rs"), ("python", "rs"), ("python", "py"), ("bench", "py"), ("bench", "rs"), ("examples", "py")]
    {
        for file in files_under(folder, extension) {
            let lines = read(&file).lines().take_while(|line| *line != "mod tests {").count();
            if lines > LINES_MAX {
                faults.push(format!("{} has {lines} lines", show(&file)));
            }
        }
    }
    assert_none(&faults, "a file is longer than 400 lines: look for the second noun in it");
}

#[test]
fn rust_files_say_first_what_they_are() {
    let faults: Vec<_> = files_under("src", "rs")
        .into_iter()
        .chain(files_under("python/src", "rs"))
        .filter(|file| read(file).lines().count() > 1)
        .filter(|file| !read(file).lines().find(|line| !line.starts_with("#![")).is_some_and(|line| line.starts_with("//!")))
        .map(|file| show(&file))
        .collect();
    assert_none(&faults, "a file does not begin with a //! line that says which noun it owns");
}

#[test]
fn public_names_use_the_words_of_the_design() {
    let mut faults = Vec::new();
    for file in files_under("src", "rs") {
        for (number, line) in code_lines(&file) {
            let found = public_name(&line).and_then(banned_word).filter(|found| !is_of_event_time(&file, found));
            faults.extend(found.map(|found| format!("{}:{number} {found}", show(&file))));
        }
    }
    for file in files_under("proto", "proto") {
        for (number, line) in code_lines(&file) {
            let names = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            faults.extend(names.filter_map(banned_word).map(|found| format!("{}:{number} {found}", show(&file))));
        }
    }
    assert_none(&faults, "a public name uses a word that has another name here (CONTRIBUTING.md, words)");
}

/// Flows are about event time, and its words are theirs.
fn is_of_event_time(file: &Path, found: &str) -> bool {
    file.starts_with(root().join("src/flow"))
        && ["event", "session", "watermark"].iter().any(|word| found.ends_with(&format!("not {word}")))
}

#[test]
fn lints_are_silenced_only_with_a_reason() {
    let mut faults = Vec::new();
    for file in files_under("python", "py").into_iter().chain(files_under("examples", "py")).chain(files_under("bench", "py")) {
        for (number, line) in read(&file).lines().enumerate() {
            let bare = line.trim_end();
            if bare.ends_with("# type: ignore") || bare.ends_with("# noqa") {
                faults.push(format!("{}:{} names no rule", show(&file), number + 1));
            }
        }
    }
    assert_none(&faults, "a lint is silenced without saying which");
}

#[test]
fn no_file_names_this_machine_or_a_registry() {
    let mut faults = Vec::new();
    let texts = ["md", "rs", "py", "pyi", "toml", "txt", "proto", "sh", "yml"];
    let all = texts.iter().flat_map(|extension| files_under(".", extension)).chain(["Makefile", ".ci/run"].map(|name| root().join(name)));
    for file in all.filter(|file| !file.ends_with("tests/it/tidy.rs")) {
        for (number, line) in read(&file).lines().enumerate() {
            for word in ["/root/", "/home/", "/work/", "pypi.org", "crates.io/api", "index-url", "repo.maven"] {
                if line.contains(word) {
                    faults.push(format!("{}:{} contains {word}", show(&file), number + 1));
                }
            }
        }
    }
    assert_none(&faults, "a file names a machine's path or a registry's host");
}

#[test]
fn every_error_code_is_documented_as_it_is() {
    let table = read(&root().join("docs/errors.md"));
    let proto = read(&root().join("proto/bowstring/v1/control.proto"));
    let mut faults = Vec::new();
    for code in Code::ALL {
        let row = format!("| `{}` | {} | {} | {} |", code.as_str(), code.number(), retry_text(code.retry()), stored_text(code.stored()));
        if !table.lines().any(|line| line.starts_with(&row) && line.len() > row.len() + 20) {
            faults.push(format!("docs/errors.md has no row that begins with: {row}"));
        }
        let value = format!("  ERROR_CODE_{} = {};", code.as_str().to_uppercase(), code.number());
        if !proto.lines().any(|line| line == value) {
            faults.push(format!("control.proto has no line: {value}"));
        }
    }
    // The table of Python's exceptions names codes too; only this one numbers them.
    let numbered =
        |line: &&str| line.starts_with("| `") && line.split('|').nth(2).is_some_and(|number| number.trim().parse::<u32>().is_ok());
    let rows = table.lines().filter(numbered).count();
    if rows != Code::ALL.len() {
        faults.push(format!("docs/errors.md has {rows} rows for {} codes", Code::ALL.len()));
    }
    assert_none(&faults, "error codes, docs/errors.md and control.proto differ");
}

#[test]
fn every_metric_is_documented_as_it_is() {
    let table = read(&root().join("docs/metrics.md"));
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| `bowstring_") || line.starts_with("| `process_")).collect();
    let begin = |metric: &MetricDoc| format!("| `{}` | {} |", metric.name, format!("{:?}", metric.kind).to_lowercase());
    let documented = |metric: &&MetricDoc| rows.iter().any(|row| row.starts_with(&begin(metric)));
    let mut faults: Vec<_> =
        METRICS.iter().filter(|metric| !documented(metric)).map(|metric| format!("no row begins with: {}", begin(metric))).collect();
    // Prometheus' own names for what every process has.
    let of_process = ["cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds", "threads"];
    let known = |name: &str| name.starts_with("bowstring_") || name.strip_prefix("process_").is_some_and(|name| of_process.contains(&name));
    let unknown = METRICS.iter().filter(|metric| !known(metric.name));
    faults.extend(unknown.map(|metric| format!("{} does not begin with bowstring_", metric.name)));
    if rows.len() != METRICS.len() {
        faults.push(format!("{} rows for {} metrics", rows.len(), METRICS.len()));
    }
    assert_none(&faults, "the metrics and docs/metrics.md differ");
}

impl Layer {
    fn owns(&self, file: &Path) -> bool {
        let inside = file.strip_prefix(root().join("src")).unwrap();
        inside.starts_with(self.name) || inside == Path::new(self.name).with_extension("rs")
    }
}

fn names_layer(line: &str, layer: &str) -> bool {
    ["crate::", "bowstring::"].iter().any(|prefix| {
        line.match_indices(prefix).any(|(at, _)| {
            let rest = &line[at + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(list) => list.split([',', ' ', '}']).any(|item| item == layer || item.starts_with(&format!("{layer}::"))),
                None => rest.strip_prefix(layer).is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_')),
            }
        })
    })
}

fn names_crate(line: &str, word: &str) -> bool {
    let boundary = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric());
    let inner = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word)
        .any(|(at, _)| inner(line[..at].chars().next_back()) && (word.ends_with(' ') || boundary(line[at + word.len()..].chars().next())))
}

/// The name that a `pub` item or field of this line gives.
fn public_name(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub ")?;
    let rest = ["const fn ", "async fn ", "fn ", "struct ", "enum ", "trait ", "type ", "mod ", "const ", "static "]
        .iter()
        .find_map(|keyword| rest.strip_prefix(keyword))
        .unwrap_or(rest);
    rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()
}

fn banned_word(name: &str) -> Option<String> {
    // Arrow's own names.
    if name.contains("RecordBatch") || name.contains("record_batch") {
        return None;
    }
    let words = split_words(name);
    let (word, instead) = BANNED_WORDS.iter().find(|(word, _)| words.iter().any(|part| part == word))?;
    Some(format!("{name}: say {instead}, not {word}"))
}

fn split_words(name: &str) -> Vec<String> {
    let mut spaced = String::new();
    for c in name.chars() {
        if c.is_uppercase() {
            spaced.push('_');
        }
        spaced.extend(c.to_lowercase());
    }
    spaced.split('_').filter(|word| !word.is_empty()).map(String::from).collect()
}

fn retry_text(retry: Retry) -> &'static str {
    match retry {
        Retry::Never => "never",
        Retry::Now => "now",
        Retry::After => "after",
    }
}

fn stored_text(stored: StoredState) -> &'static str {
    match stored {
        StoredState::No => "no",
        StoredState::Yes => "yes",
        StoredState::Unknown => "unknown",
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn show(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Lines of code without their comments: docs may speak of whom the code must not know.
fn code_lines(file: &Path) -> Vec<(usize, String)> {
    let text = read(file);
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default().to_owned()));
    lines.filter(|(_, line)| !line.trim().is_empty()).collect()
}

/// Files of the checkout with this extension; neither generated nor built ones.
fn files_under(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                let built = name.starts_with('.') || matches!(name.as_str(), "target" | "generated" | "dist" | "__pycache__");
                // wire/proto/ is generated too; the folder proto/ at the root is not.
                if !built && !path.ends_with("src/wire/proto") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn assert_none(faults: &[String], rule: &str) {
    assert!(faults.is_empty(), "{rule}:\n{}", faults.join("\n"));
}
