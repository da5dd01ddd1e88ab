//! Rules that hold over the source itself: module order, file heads, lengths, and what a pure
//! module may not touch. `docs/ARCHITECTURE.md` tells the order as a story.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that have no I/O, no clock and no randomness of their own.
const PURE: [&str; 9] =
    ["base", "cost", "metrics", "chunk", "encode", "manifest", "policy", "wire", "protocol"];
/// Longest file without tests, in lines.
const LINES_MAX: usize = 400;
/// Files that may hold `unsafe`, with the reason.
const UNSAFE: [(&str, &str); 23] = [
    ("benches/storage/ring.rs", "submissions that the kernel reads"),
    ("cli/src/memory.rs", "setting up the C library's allocator"),
    ("engine/src/buf/slab.rs", "one mapping, lent out in parts"),
    ("engine/src/fuzzing/heap.rs", "an allocator that counts, in fuzzers and unit tests"),
    ("engine/src/gpu/device.rs", "libcuda: GPUs and their contexts"),
    ("engine/src/gpu/export.rs", "libcuda: device memory as a dmabuf"),
    ("engine/src/gpu/library.rs", "libcuda: opened at run time"),
    ("engine/src/gpu/memory.rs", "libcuda: device memory, by address"),
    ("engine/src/gpu/pin.rs", "libcuda: the slab registered with it"),
    ("engine/src/gpu/stream.rs", "a device reads and writes leases by address"),
    ("engine/src/storage/os/label/relative.rs", "a call that no crate has"),
    ("engine/src/storage/uring.rs", "submissions that the kernel reads"),
    ("engine/src/transport/rdma/verbs/address.rs", "a C structure"),
    ("engine/src/transport/rdma/verbs/completion.rs", "libibverbs: completion queues"),
    ("engine/src/transport/rdma/verbs/device.rs", "libibverbs: devices"),
    ("engine/src/transport/rdma/verbs/domain.rs", "libibverbs: protection domains"),
    ("engine/src/transport/rdma/verbs/library.rs", "libibverbs: opened at run time"),
    ("engine/src/transport/rdma/verbs/measured.rs", "devices write to memory by address"),
    ("engine/src/transport/rdma/verbs/pair.rs", "libibverbs: queue pairs"),
    ("engine/src/transport/rdma/verbs/queued.rs", "devices write to memory by address"),
    ("engine/src/transport/rdma/verbs/region.rs", "libibverbs: registered memory"),
    ("engine/src/transport/rdma/verbs/rail.rs", "devices write to memory by address"),
    ("engine/src/transport/rdma/verbs/window.rs", "libibverbs: memory windows"),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

fn rust_files(dir: &Path, out: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.map(|e| e.expect("an entry").path()) {
        let ours = path != workspace().join("target") && path != workspace().join(".git");
        if path.is_dir() && ours {
            rust_files(&path, out);
        } else if ours && path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(workspace()).expect("below the workspace");
            let text = fs::read_to_string(&path).expect("UTF-8");
            out.push((name.to_string_lossy().into_owned(), text));
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let mut out = Vec::new();
    rust_files(&workspace(), &mut out);
    out.sort();
    assert!(out.len() > 50, "the walk found the sources");
    out
}

fn is_test(name: &str) -> bool {
    name.contains("/tests/")
        || name.ends_with("tests.rs")
        || name.contains("/testing")
        || name.ends_with("test.rs")
}

/// The part of a file before its tests.
fn code(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod ").map_or(text, |at| &text[..at])
}

/// The ordered list of modules in `lib.rs`.
fn order() -> Vec<String> {
    let lib = fs::read_to_string(workspace().join("engine/src/lib.rs")).expect("lib.rs");
    let names = lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';'));
    names.map(str::to_owned).collect()
}

#[test]
fn a_module_names_only_modules_before_it() {
    let order = order();
    let place: BTreeMap<&str, usize> =
        order.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let Some(path) = name.strip_prefix("engine/src/") else { continue };
        let module = path.split(['/', '.']).next().unwrap_or_default();
        let Some(&mine) = place.get(module) else { continue };
        if is_test(&name) {
            continue;
        }
        for (number, line) in code(&text).lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            for part in line.split("crate::").skip(1) {
                let end = part.find(|c: char| !c.is_alphanumeric() && c != '_');
                let used = &part[..end.unwrap_or(part.len())];
                if place.get(used).is_some_and(|&theirs| theirs > mine) {
                    wrong.push(format!("{name}:{}: {module} names {used}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "modules out of order:\n{}", wrong.join("\n"));
}

#[test]
fn the_order_of_modules_is_the_order_of_the_architecture_document() {
    let document = fs::read_to_string(workspace().join("docs/ARCHITECTURE.md")).expect("document");
    let mut at = 0;
    for module in order() {
        let heading = format!("\n**{module}**");
        let found = document[at..].find(&heading);
        at += found
            .unwrap_or_else(|| panic!("{heading} is missing, or out of order, in the document"));
    }
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let bare: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(name, _)| name)
        .collect();
    assert!(bare.is_empty(), "no `//!` line at the top of: {bare:?}");
}

/// Fails for files that need an exception and have none, and for exceptions that no file needs.
fn excepted_by_name(what: &str, need: &[String], granted: &[(&str, &str)]) {
    let granted: Vec<&str> = granted.iter().map(|(name, _)| *name).collect();
    let bare: Vec<_> = need.iter().filter(|name| !granted.contains(&name.as_str())).collect();
    assert!(bare.is_empty(), "{what}: {bare:?}");
    let stale: Vec<_> = granted.iter().filter(|name| !need.iter().any(|n| n == *name)).collect();
    assert!(stale.is_empty(), "excepted from \"{what}\" without need: {stale:?}");
}

#[test]
fn files_are_short() {
    let long =
        |(name, text): &(String, String)| code(text).lines().count() > LINES_MAX && !is_test(name);
    let long: Vec<String> = sources().into_iter().filter(long).map(|(name, _)| name).collect();
    assert!(long.is_empty(), "over {LINES_MAX} lines: {long:?}");
}

#[test]
fn unsafe_code_is_only_where_it_is_granted() {
    let uses = |(name, text): &(String, String)| {
        !is_test(name)
            && code(text).lines().any(|line| {
                let line = line.split("//").next().unwrap_or_default();
                ["unsafe {", "unsafe impl", "unsafe fn"].iter().any(|word| line.contains(word))
            })
    };
    let found: Vec<String> = sources().into_iter().filter(uses).map(|(name, _)| name).collect();
    excepted_by_name("unsafe code", &found, &UNSAFE);
}

#[test]
fn pure_modules_have_no_clock_no_files_and_no_randomness() {
    let forbidden = [
        "std::fs",
        "std::net",
        "Instant::now",
        "SystemTime::now",
        "tokio::",
        "thread::sleep",
        "SystemRandom",
        "RandomState",
    ];
    let mut found = Vec::new();
    for (name, text) in sources() {
        let Some(path) = name.strip_prefix("engine/src/") else { continue };
        let module = path.split(['/', '.']).next().unwrap_or_default();
        if !PURE.contains(&module) || is_test(&name) {
            continue;
        }
        for word in forbidden {
            if code(&text).contains(word) {
                found.push(format!("{name}: {word}"));
            }
        }
    }
    assert!(found.is_empty(), "pure modules touch the world: {found:?}");
}

/// Names and constants of the fuzz targets that the library lists, which its tests run.
fn targets() -> BTreeMap<String, String> {
    let list = workspace().join("engine/src/fuzzing/mod.rs");
    let list = fs::read_to_string(list).expect("the list of targets");
    let (_, list) = list.split_once("\ntargets! {\n").expect("the list of targets");
    let target = |line: &str| {
        let (constant, rest) = line.trim().split_once(": \"")?;
        let (name, _) = rest.split_once('"')?;
        Some((name.to_owned(), constant.to_owned()))
    };
    list.lines().filter_map(target).collect()
}

#[test]
fn every_fuzz_target_is_run_by_the_tests_and_has_its_file_and_program() {
    let targets = targets();
    assert!(targets.len() >= 25, "the list was read: {targets:?}");
    let folder = workspace().join("fuzz");
    let files = fs::read_dir(folder.join("fuzz_targets")).expect("a folder");
    let files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
    for file in &files {
        let name = file.file_stem().and_then(|name| name.to_str()).expect("a name");
        let constant = targets.get(name).unwrap_or_else(|| panic!("{name} is not in the list"));
        let text = fs::read_to_string(file).expect("UTF-8");
        let call = format!("    portway::fuzzing::{constant}.try_on(data);\n");
        assert!(text.contains(&call), "{name} runs another target");
        let program = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n");
        assert!(manifest.contains(&program), "fuzz/Cargo.toml lacks {name}");
    }
    assert_eq!(files.len(), targets.len(), "each of {:?} has a file", targets.keys());
    let seeds = 1;
    assert_eq!(manifest.matches("[[bin]]").count(), files.len() + seeds);
}

#[test]
fn nothing_is_left_open_in_the_code() {
    let mut found = Vec::new();
    for (name, text) in sources() {
        for word in [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("FIX", "ME")] {
            if text.contains(word) {
                found.push(format!("{name}: {word}"));
            }
        }
    }
    assert!(found.is_empty(), "left open: {found:?}");
}

/// Content leaves by one function, which asks the border: no other calls what it calls.
#[test]
fn only_a_way_sends_content() {
    // The simulation has a network of its own, in memory.
    let allowed = ["engine/src/transport/", "engine/src/border/way.rs", "engine/src/sim/"];
    let callers: Vec<String> = sources()
        .into_iter()
        .filter(|(name, text)| {
            name.starts_with("engine/src/") && !is_test(name) && code(text).contains(".send_data(")
        })
        .map(|(name, _)| name)
        .filter(|name| !allowed.iter().any(|place| name.starts_with(place)))
        .collect();
    assert!(callers.is_empty(), "content is sent without asking: {callers:?}");
}
