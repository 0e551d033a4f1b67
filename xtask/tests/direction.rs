//! Lower never imports higher: which of our crates each of our crates may import.
//!
//! A crate that is not in [`FLOORS`] fails, so that a new one is given its place by someone who thought about it.
//! Dependencies of tests and of build scripts count like any other: a test of the engine that needs the bank is a
//! test of something higher, and stands there. The one exception is named beside the crate, with its reason.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

struct Floor {
    name: &'static str,
    /// What it may import, in any kind of dependency.
    imports: Imports,
    /// What only its tests may import beside that.
    imports_in_tests: &'static [&'static str],
}

enum Imports {
    Only(&'static [&'static str]),
    /// Every crate of ours except [`TOP`].
    Anything,
}

/// The one binary. Nothing imports it: what two crates need stands below both.
const TOP: &str = "pabal";

const FLOORS: &[Floor] = &[
    Floor { name: "pabal-fault", imports: Imports::Only(&[]), imports_in_tests: &[] },
    Floor { name: "pabal-ledger", imports: Imports::Only(&["pabal-fault"]), imports_in_tests: &[] },
    Floor {
        name: "pabal-bank",
        imports: Imports::Only(&["pabal-fault", "pabal-ledger"]),
        // The model that judges a bank in memory in the bank's own tests is the one that judges a bank on a journal
        // in drills: two models would drift apart. Cargo permits the circle for tests in `tests/`, where there is
        // one bank; a test in `src/` would meet a second, whose types are others.
        imports_in_tests: &["pabal-drill"],
    },
    Floor { name: "pabal-journal", imports: Imports::Only(&["pabal-fault"]), imports_in_tests: &[] },
    Floor {
        name: "pabal-engine",
        imports: Imports::Only(&["pabal-fault", "pabal-journal"]),
        imports_in_tests: &[],
    },
    Floor {
        name: "pabal-core",
        imports: Imports::Only(&[
            "pabal-fault",
            "pabal-ledger",
            "pabal-bank",
            "pabal-journal",
            "pabal-engine",
            "pabal-wire",
        ]),
        imports_in_tests: &[],
    },
    Floor { name: "pabal-wire", imports: Imports::Only(&["pabal-fault"]), imports_in_tests: &[] },
    Floor {
        name: "pabal-client",
        imports: Imports::Only(&["pabal-fault", "pabal-ledger", "pabal-bank", "pabal-wire"]),
        imports_in_tests: &[],
    },
    // It drills whatever there is.
    Floor { name: "pabal-drill", imports: Imports::Anything, imports_in_tests: &[] },
    Floor { name: TOP, imports: Imports::Anything, imports_in_tests: &[] },
    // It drives the bank from outside, as a process, and must build when the bank does not.
    Floor { name: "xtask", imports: Imports::Only(&[]), imports_in_tests: &[] },
];

#[test]
fn no_crate_imports_a_higher_one() {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    assert_eq!(findings(&metadata), Vec::<String>::new());
}

/// One line for each import that is not allowed, each crate without a floor, and each floor without a crate.
fn findings(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().expect("packages");
    let ours: BTreeSet<&str> = packages.iter().map(|package| text(&package["name"])).collect();
    let mut findings = Vec::new();
    for package in packages {
        let name = text(&package["name"]);
        let Some(floor) = FLOORS.iter().find(|floor| floor.name == name) else {
            findings.push(format!("{name} has no place in FLOORS"));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            // `name` is the package's own, whatever it was renamed to.
            let import = text(&dependency["name"]);
            let in_tests = dependency["kind"] == "dev";
            if ours.contains(import) && !floor.may_import(import, in_tests) {
                let place = if in_tests { " in its tests" } else { "" };
                findings.push(format!("{name} imports {import}{place}"));
            }
        }
    }
    let gone = FLOORS.iter().filter(|floor| !ours.contains(floor.name));
    findings.extend(gone.map(|floor| format!("{} is in FLOORS and is no crate", floor.name)));
    findings
}

impl Floor {
    fn may_import(&self, import: &str, in_tests: bool) -> bool {
        let named = match self.imports {
            Imports::Only(names) => names.contains(&import),
            Imports::Anything => true,
        };
        import != TOP && (named || (in_tests && self.imports_in_tests.contains(&import)))
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

/// Metadata of our crates as they should be, with the dependency `import` planted in `crate`.
fn planted(name: &str, import: &str, kind: Option<&str>) -> Value {
    let packages: Vec<Value> = FLOORS
        .iter()
        .map(|floor| {
            let dependencies = if floor.name == name {
                serde_json::json!([{ "name": import, "kind": kind, "rename": "harmless" }])
            } else {
                serde_json::json!([])
            };
            serde_json::json!({ "name": floor.name, "dependencies": dependencies })
        })
        .collect();
    serde_json::json!({ "packages": packages })
}

#[test]
fn what_may_be_imported_passes() {
    for (name, import) in [
        ("pabal-bank", "pabal-ledger"),
        ("pabal-engine", "pabal-journal"),
        (TOP, "pabal-ledger"),
        (TOP, "pabal-engine"),
        ("pabal-core", "pabal-bank"),
        ("pabal-core", "pabal-engine"),
        ("pabal-drill", "pabal-bank"),
        ("pabal-drill", "pabal-core"),
        ("pabal-ledger", "zerocopy"),
    ] {
        for kind in [None, Some("dev"), Some("build")] {
            assert_eq!(findings(&planted(name, import, kind)), Vec::<String>::new(), "{name} {import}");
        }
    }
}

#[test]
fn a_planted_import_is_found_in_every_kind() {
    for (name, import) in [
        ("pabal-ledger", "pabal-bank"),
        ("pabal-ledger", "pabal-journal"),
        ("pabal-bank", "pabal-engine"),
        ("pabal-bank", "pabal-journal"),
        ("pabal-journal", "pabal-ledger"),
        ("pabal-engine", "pabal-ledger"),
        ("pabal-engine", "pabal-bank"),
        ("pabal-engine", TOP),
        ("pabal-engine", "pabal-core"),
        ("pabal-engine", "pabal-drill"),
        ("pabal-core", "pabal-drill"),
        ("pabal-drill", TOP),
        ("xtask", TOP),
        ("xtask", "pabal-journal"),
    ] {
        for (kind, place) in [(None, ""), (Some("dev"), " in its tests"), (Some("build"), "")] {
            assert_eq!(findings(&planted(name, import, kind)), [format!("{name} imports {import}{place}")]);
        }
    }
}

/// What only tests may import is no import of the crate itself, nor of how it is built.
#[test]
fn what_tests_may_import_is_found_elsewhere() {
    let (name, import) = ("pabal-bank", "pabal-drill");
    assert_eq!(findings(&planted(name, import, Some("dev"))), Vec::<String>::new());
    for kind in [None, Some("build")] {
        assert_eq!(findings(&planted(name, import, kind)), [format!("{name} imports {import}")]);
    }
}

#[test]
fn a_crate_without_a_floor_and_a_floor_without_a_crate_are_found() {
    let mut metadata = planted("", "", None);
    metadata["packages"][0]["name"] = "pabal-new".into();
    assert_eq!(
        findings(&metadata),
        ["pabal-new has no place in FLOORS", "pabal-fault is in FLOORS and is no crate"]
    );
}
