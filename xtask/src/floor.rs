//! What holds the floors apart: which crate may import which, and what the deterministic ones must not say.

use crate::deny::metadata;
use anyhow::{Context as _, bail};
use std::path::Path;

/// Each crate of ours and what of ours it may import. `pabal` and `xtask` stand above all.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("pabal-ledger", &[]),
    ("pabal-bank", &["pabal-ledger"]),
    ("pabal-journal", &[]),
    ("pabal-engine", &["pabal-journal"]),
    ("pabal", &["pabal-ledger", "pabal-bank", "pabal-journal", "pabal-engine"]),
    ("xtask", &[]),
];

/// Holds the crate direction.
pub fn direction() -> anyhow::Result<bool> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().context("packages")?;
    for package in packages.iter().filter(|p| p["source"].is_null()) {
        let name = package["name"].as_str().context("a name")?;
        let Some((_, may)) = MAY_IMPORT.iter().find(|(n, _)| *n == name) else {
            bail!("{name} is not in the list of what may import what (xtask/src/floor.rs)");
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let other = dependency["name"].as_str().unwrap_or("");
            let ours = MAY_IMPORT.iter().any(|(n, _)| *n == other);
            if ours && !may.contains(&other) {
                bail!("{name} imports {other}: lower never imports higher");
            }
        }
    }
    Ok(true)
}

const IMPURE: &[&str] = &[
    "f32",
    "f64",
    "HashMap",
    "HashSet",
    "SystemTime",
    "Instant",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "getrandom",
    "rand::",
];

/// Looks for what the deterministic crates must not say.
pub fn pure() -> anyhow::Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    for name in ["ledger", "bank"] {
        for file in std::fs::read_dir(root.join(name).join("src"))? {
            let path = file?.path();
            let text = std::fs::read_to_string(&path)?;
            if let Some((line, word)) = impure(&text) {
                bail!("{}:{line}: {word} in a deterministic crate", path.display());
            }
        }
    }
    Ok(true)
}

/// The first line that says something impure outside a comment.
fn impure(text: &str) -> Option<(usize, &'static str)> {
    for (i, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or("");
        let is_word = |word: &str| {
            code.match_indices(word).any(|(at, _)| {
                let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
                edge(code[..at].chars().next_back()) && edge(code[at + word.len()..].chars().next())
            })
        };
        if let Some(word) = IMPURE.iter().find(|word| is_word(word)) {
            return Some((i + 1, word));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::impure;

    #[test]
    fn planted_impurities_are_found() {
        assert_eq!(impure("fn a() {\n    let x: f64 = 0.0;\n}"), Some((2, "f64")));
        assert_eq!(impure("use std::time::Instant;"), Some((1, "Instant")));
        assert_eq!(impure("// no HashMap here\nlet buf64 = 1;"), None);
    }
}
