//! `cargo xtask deny`: every crate that is built in, held against `deny.toml`. Offline.
//!
//! The same file and the same verdicts as `cargo deny check bans licenses sources`, without the minutes that
//! building cargo-deny costs on a fresh machine. It knows the part of the file that we use: any other key is an
//! error, because a rule that is written down but not checked is worse than none. Advisories need the network and
//! are not checked here.

use std::fs;
use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{cargo, licence};

/// Prints what is wrong, and returns whether nothing is.
pub fn run(root: &Path) -> Result<bool> {
    println!("\n== deny.toml: licences, bans, sources");
    let policy = Policy::read(&fs::read_to_string(root.join("deny.toml")).context("cannot read deny.toml")?)?;
    let packages = packages(&policy.graph.targets)?;
    let findings = judge(&policy, &packages);
    for finding in &findings {
        println!("{finding}");
    }
    println!("{} crates, {} findings", packages.len(), findings.len());
    Ok(findings.is_empty())
}

/// One line for each thing that is wrong.
fn judge(policy: &Policy, packages: &[Package]) -> Vec<String> {
    let mut findings = Vec::new();
    for package in packages {
        let wrong =
            [policy.licenses.finding(package), policy.bans.finding(package), policy.sources.finding(package)];
        let lines = wrong.into_iter().flatten();
        findings.extend(lines.map(|line| format!("{} {}: {line}", package.name, package.version)));
    }
    findings
}

/// `deny.toml`, as far as we use it. The names are cargo-deny's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Bans {
    #[serde(rename = "multiple-versions")]
    _multiple_versions: OnlyAllow,
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Sources {
    #[serde(rename = "unknown-registry")]
    _unknown_registry: OnlyDeny,
    #[serde(rename = "unknown-git")]
    _unknown_git: OnlyDeny,
    allow_registry: Vec<String>,
    allow_git: Vec<String>,
}

/// The one value whose meaning is carried out here; any other is refused when the file is read.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnlyAllow {
    Allow,
}

/// As [`OnlyAllow`].
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnlyDeny {
    Deny,
}

impl Policy {
    fn read(text: &str) -> Result<Self> {
        let policy: Self = toml::from_str(text).context("deny.toml")?;
        // No target would judge no crate, and pass.
        if policy.graph.targets.is_empty() {
            bail!("deny.toml: graph.targets is empty");
        }
        // cargo-deny takes `name:version` and `name@version` too; here they would ban nothing.
        if let Some(ban) = policy.bans.deny.iter().find(|ban| ban.name.contains([':', '@', '='])) {
            bail!("deny.toml: the ban of `{}` names a version, which is not known here", ban.name);
        }
        Ok(policy)
    }
}

impl Licenses {
    fn finding(&self, package: &Package) -> Option<String> {
        let Some(expression) = &package.license else {
            return Some("names no licence".into());
        };
        match licence::is_allowed(expression, &self.allow) {
            Ok(true) => None,
            Ok(false) => Some(format!("licence `{expression}` is not allowed")),
            Err(error) => Some(format!("licence `{expression}` cannot be read: {error}")),
        }
    }
}

impl Bans {
    fn finding(&self, package: &Package) -> Option<String> {
        let ban = self.deny.iter().find(|ban| ban.name == package.name)?;
        Some(format!("banned: {}", ban.reason))
    }
}

impl Sources {
    fn finding(&self, package: &Package) -> Option<String> {
        let source = package.source.as_deref()?; // A path has no source.
        let allowed = if let Some(registry) = source.strip_prefix("registry+") {
            self.allow_registry.iter().any(|allowed| allowed == registry)
        } else if let Some(git) = source.strip_prefix("git+") {
            let repository = git.split(['?', '#']).next().unwrap_or(git);
            self.allow_git.iter().any(|allowed| allowed == repository)
        } else {
            self.allow_registry.iter().any(|allowed| allowed == source)
        };
        (!allowed).then(|| format!("source `{source}` is not allowed"))
    }
}

/// A crate as `cargo metadata` has it.
#[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    license: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// Every crate that is built in on any of the targets, tests and build scripts included, each once.
fn packages(targets: &[String]) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for target in targets {
        let mut output = metadata(target)?;
        if !output.status.success() {
            // The tests before this fetch only what this machine's own target needs.
            println!("fetching what {target} needs");
            let fetched = cargo().args(["fetch", "--locked", "--target", target]).status()?;
            if fetched.success() {
                output = metadata(target)?;
            }
        }
        if !output.status.success() {
            bail!("cargo metadata for {target}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        packages.extend(serde_json::from_slice::<Metadata>(&output.stdout)?.packages);
    }
    packages.sort();
    packages.dedup();
    Ok(packages)
}

fn metadata(target: &str) -> Result<Output> {
    cargo()
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", target])
        .output()
        .context("cannot start cargo")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

    fn ours() -> String {
        fs::read_to_string(crate::root().join("deny.toml")).unwrap()
    }

    fn check(name: &str, license: Option<&str>, source: Option<&str>, expected: Option<&str>) {
        let package = Package {
            name: name.into(),
            version: "1.0.0".into(),
            source: source.map(str::to_owned),
            license: license.map(str::to_owned),
        };
        let findings = judge(&Policy::read(&ours()).unwrap(), &[package]);
        match expected {
            None => assert_eq!(findings, Vec::<String>::new()),
            Some(text) => {
                assert_eq!(findings.len(), 1, "{findings:?}");
                assert!(findings[0].starts_with(&format!("{name} 1.0.0: {text}")), "{findings:?}");
            }
        }
    }

    #[test]
    fn crates_from_crates_io_and_from_here_pass() {
        check("itoa", Some("MIT OR Apache-2.0"), Some(CRATES_IO), None);
        check("pabal-ledger", Some("Apache-2.0"), None, None);
    }

    #[test]
    fn a_licence_that_is_not_on_the_list_is_found() {
        check("x", Some("GPL-3.0-only"), Some(CRATES_IO), Some("licence `GPL-3.0-only` is not allowed"));
        check("x", Some("MIT OR"), Some(CRATES_IO), Some("licence `MIT OR` cannot be read"));
        check("x", None, Some(CRATES_IO), Some("names no licence"));
    }

    #[test]
    fn every_banned_crate_is_found() {
        for name in ["openssl-sys", "openssl", "native-tls", "cmake", "bindgen", "clang-sys"] {
            check(name, Some("MIT"), Some(CRATES_IO), Some("banned: "));
        }
        check("cmake-like", Some("MIT"), Some(CRATES_IO), None);
    }

    #[test]
    fn a_strange_source_is_found() {
        for source in [
            "git+https://github.com/rust-lang/crates.io-index?branch=main#0123",
            "registry+https://example.com/index",
            "sparse+https://example.com/index/",
        ] {
            check("x", Some("MIT"), Some(source), Some(&format!("source `{source}` is not allowed")));
        }
    }

    #[test]
    fn a_rule_that_is_not_checked_here_is_refused() {
        assert!(Policy::read(&ours()).is_ok());
        for (from, to) in [
            ("[licenses]", "[licenses]\nexceptions = []"),
            ("[bans]", "[bans]\nwildcards = \"deny\""),
            ("[bans]", "[bans]\nallow = []"),
            ("[graph]", "[advisories]\nignore = []\n[graph]"),
            ("multiple-versions = \"allow\"", "multiple-versions = \"deny\""),
            ("unknown-git = \"deny\"", "unknown-git = \"warn\""),
            ("crate = \"cmake\"", "crate = \"cmake@0.1\""),
            ("crate = \"cmake\"", "crate = \"cmake\", wrappers = [\"x\"]"),
        ] {
            let changed = ours().replacen(from, to, 1);
            assert_ne!(changed, ours(), "{from}");
            assert!(Policy::read(&changed).is_err(), "{to}");
        }
        let no_target = "[graph]\ntargets = []\n[licenses]".to_owned()
            + ours().split_once("[licenses]").expect("deny.toml has licences").1;
        assert!(
            Policy::read(&no_target).is_err_and(|error| error.to_string().contains("graph.targets is empty"))
        );
    }
}
