//! The house rules that a reader should not have to check: floors, sizes, headers, SQL in files, banned words.

#![expect(clippy::expect_used, reason = "a test that cannot go on says so where it stands")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The floors, lowest first; a module imports strictly lower floors only. Within a floor, modules are strangers.
const FLOORS: &[&[&str]] = &[
    &["domain"],
    &["config"],
    &["telemetry"],
    &["db"],
    &["queue", "store", "provider"],
    &["outcome", "planner"],
    &["scheduler", "executor", "notifier"],
    &["api"],
    &["service"],
    // Measures the service, so it stands above it; the fakes stand beside it, and know nothing of it.
    &["bench", "fake_providers"],
];

/// What a module never imports, however low it is.
const NEVER: &[(&str, &[&str])] = &[
    ("provider", &["sqlx", "axum", "crate::db"]),
    ("outcome", &["crate::provider", "axum"]),
    ("executor", &["axum", "crate::scheduler"]),
    ("notifier", &["axum", "crate::queue"]),
    ("scheduler", &["crate::provider", "crate::executor", "reqwest"]),
    ("api", &["crate::scheduler", "crate::executor", "sqlx::query"]),
    ("fake_providers", &["sqlx", "crate::provider", "crate::service", "crate::config"]),
    ("domain", &["tokio", "axum", "reqwest"]),
];

/// Words that stand in one place only, or nowhere; and where.
const BANNED: &[(&str, &[&str])] = &[
    ("sqlx::query(", &[]),
    ("query!(", &[]),
    ("query_as!(", &[]),
    ("tokio::spawn(", &["src/bench/", "src/fake_providers/"]),
    ("std::env::", &["src/config.rs", "src/domain/failpoint.rs"]),
    ("todo!(", &[]),
    ("unimplemented!(", &[]),
    ("dbg!(", &[]),
    ("FIXME", &[]),
    ("use super::*", &["src/outcome/decide/tests.rs"]),
    ("#[allow(", &[]),
    (".unwrap()", &[]),
];

fn files(folder: &str, ending: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<(PathBuf, String)>) {
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(&path, ending, found);
            } else if path.to_string_lossy().ends_with(ending) {
                let text = std::fs::read_to_string(&path).expect("text");
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(ROOT).join(folder), ending, &mut found);
    assert!(!found.is_empty(), "nothing in {folder}");
    found
}

fn short(path: &Path) -> String {
    path.strip_prefix(ROOT).expect("inside the repository").to_string_lossy().into_owned()
}

/// The code before the unit tests of a file.
fn production(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or(text)
}

fn module_of(path: &Path) -> String {
    let short = short(path);
    let inside = short.trim_start_matches("src/");
    inside.split(['/', '.']).next().unwrap_or_default().to_owned()
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Modules that a text names by `crate::…`, also inside braces.
fn imports(text: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for part in text.split("crate::").skip(1) {
        let name: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        named.insert(name);
    }
    named
}

/// A module imports from strictly lower floors only, and never what it must not know.
#[test]
fn floors_only_look_down() {
    let mut faults = Vec::new();
    for (path, text) in files("src", ".rs") {
        let (module, code) = (module_of(&path), production(&text));
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let own = floor_of(&module).unwrap_or_else(|| panic!("{module} stands on no floor"));
        for other in imports(code).iter().filter(|other| **other != module) {
            if floor_of(other).is_some_and(|floor| floor >= own) {
                faults.push(format!("{}: {module} imports {other}", short(&path)));
            }
        }
        for (_, never) in NEVER.iter().filter(|(name, _)| *name == module) {
            for word in
                never.iter().filter(|word| code.contains(&format!("{word}::")) || code.contains(&format!("use {word}")))
            {
                faults.push(format!("{}: {module} must never know {word}", short(&path)));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Every module says what it owns.
#[test]
fn every_file_has_a_header() {
    let mut faults = Vec::new();
    for (path, text) in files("src", ".rs").into_iter().chain(files("tests", ".rs")) {
        if !text.starts_with("//!") {
            faults.push(format!("{} does not open with //!", short(&path)));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Words stand where they belong.
#[test]
fn banned_words_stay_out() {
    let mut faults = Vec::new();
    for (path, text) in files("src", ".rs") {
        for (word, places) in BANNED {
            let here = places.iter().any(|place| short(&path).starts_with(place));
            for line in production(&text)
                .lines()
                .filter(|line| !here && line.contains(word) && !line.trim_start().starts_with("//"))
            {
                faults.push(format!("{}: {} in {line:?}", short(&path), word));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Each query file is used by the code it names, and each use names a file that exists; a header says what it does.
#[test]
fn every_query_is_a_file_with_a_user() {
    let mut used: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in files("src", ".rs") {
        for part in text.split("sql/").skip(1) {
            let name: String = part.chars().take_while(|c| !c.is_whitespace() && *c != '"').collect();
            if name.ends_with(".sql") {
                used.entry(format!("sql/{name}")).or_default().push(short(&path));
            }
        }
    }
    let mut faults = Vec::new();
    for folder in ["sql/queue", "sql/store"] {
        for (path, text) in files(folder, ".sql") {
            let name = short(&path);
            if used.remove(&name).is_none() {
                faults.push(format!("{name} is used by nobody"));
            }
            let is_lock =
                ["sql/queue/admit.sql", "sql/queue/feed.sql", "sql/queue/lock_windows.sql"].contains(&name.as_str());
            let has_header = text.starts_with("-- ") && text.contains("Used by ");
            if !is_lock && !has_header {
                faults.push(format!("{name}: needs a header: what it does, its parameters, `Used by`"));
            }
            if text.contains("select *\n") && !text.contains("from (") && !text.contains("from unnest") {
                faults.push(format!("{name}: select *"));
            }
        }
    }
    for (path, text) in files("sql/functions", ".sql") {
        let name = short(&path);
        let function = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if used.remove(&name).is_none() {
            faults.push(format!("{name} is not installed by db::migrate"));
        }
        let has_header = text.starts_with("-- ") && (text.contains("Used by ") || text.contains("Called by "));
        if !has_header || !text.contains(&format!("create or replace function {function}(")) {
            faults.push(format!("{name}: needs a header, and the function of its name"));
        }
    }
    let missing = used.keys().filter(|name| name.starts_with("sql/queue") || name.starts_with("sql/store"));
    faults.extend(missing.map(|name| format!("{name} does not exist")));
    assert!(faults.is_empty(), "{faults:#?}");
}

/// The OpenAPI document names each shape once: two types of one name would silently share the first one's fields.
#[test]
fn shapes_of_the_document_have_names_of_their_own() {
    let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in files("src", ".rs") {
        for part in text.split("ToSchema)]\n").skip(1) {
            let own = part.split_once("#[schema(as = ").filter(|(before, _)| !before.contains("pub "));
            let rest = own.map(|(_, name)| name).or_else(|| {
                let (_, after) = part.split_once("pub ")?;
                after.split_once(' ').map(|(_, name)| name)
            });
            let name: String = rest.unwrap_or_default().chars().take_while(|c| c.is_alphanumeric()).collect();
            named.entry(name).or_default().push(short(&path));
        }
    }
    named.retain(|_, places| places.len() > 1);
    assert!(named.is_empty(), "{named:#?}");
}

/// The project speaks of itself: no path of somebody's machine.
#[test]
fn no_path_of_a_machine() {
    let mut faults = Vec::new();
    for folder in ["src", "sql", "migrations", "tests"] {
        for (path, text) in files(folder, "") {
            if text.contains(concat!("/wo", "rk/")) || text.contains(concat!("/ho", "me/")) {
                faults.push(short(&path));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
