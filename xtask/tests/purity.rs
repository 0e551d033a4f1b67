//! The deterministic crates name nothing that could give another answer on another machine or another day.
//!
//! Clippy holds the same by meaning (`crates/ledger/clippy.toml`, `crates/bank/clippy.toml`). This holds it by
//! text, so that an `allow`, a macro or a lint that changes its mind does not open a hole. Comments may say what
//! they like; strings may not: a false alarm there costs a word, a lexer that is wrong about them costs the check.

use std::fs;
use std::path::{Path, PathBuf};

/// The deterministic floor.
const CRATES: &[&str] = &["ledger", "bank"];

/// A word by itself: clock, floats, chance.
const WORDS: &[&str] = &["f32", "f64", "SystemTime", "Instant", "getrandom"];

/// Anywhere in a word, so that `FxHashMap` is found: iterated in hash order.
const WORD_PARTS: &[&str] = &["HashMap", "HashSet"];

/// Modules of `std`: files, streams, network, threads and what they share, processes, surroundings.
const STD_MODULES: &[&str] = &["fs", "io", "net", "thread", "sync", "process", "os", "env"];

/// The lints that `lib.rs` must turn into errors.
const LINTS: &[&str] = &["disallowed_methods", "disallowed_types", "disallowed_macros", "float_arithmetic"];

#[test]
fn the_deterministic_crates_are_pure() {
    let mut findings = Vec::new();
    for name in CRATES {
        let files = sources(&folder(name).join("src"));
        assert!(!files.is_empty(), "{name} has no source");
        for file in files {
            let source =
                fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            findings.extend(scan(&file, &source));
        }
    }
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn the_deterministic_crates_turn_the_lints_into_errors() {
    for name in CRATES {
        let file = folder(name).join("src/lib.rs");
        let code = without_comments(&fs::read_to_string(&file).expect("lib.rs is readable"));
        let code: String = code.split_whitespace().collect();
        let denied: Vec<&str> =
            code.split("#![").filter_map(|attribute| attribute.strip_prefix("deny(")).collect();
        for lint in LINTS {
            let is_denied = denied.iter().any(|list| {
                list.split(')')
                    .next()
                    .is_some_and(|list| list.split(',').any(|one| one == format!("clippy::{lint}")))
            });
            assert!(is_denied, "{} does not deny clippy::{lint}", file.display());
        }
    }
}

/// An `allow` of such a lint, or of the group it is in, would take back what `lib.rs` denies.
#[test]
fn the_deterministic_crates_name_no_lint_of_clippy_but_to_deny_it() {
    for name in CRATES {
        let named: usize = sources(&folder(name).join("src"))
            .iter()
            .map(|file| lints_named(&fs::read_to_string(file).expect("the source is readable")))
            .sum();
        assert!(named == LINTS.len(), "{name} names lints of clippy {named} times, not {}", LINTS.len());
    }
}

fn lints_named(source: &str) -> usize {
    let code = without_comments(source);
    tokens(&code).windows(2).filter(|pair| pair[0].text == "clippy" && pair[1].text == "::").count()
}

#[test]
fn a_lint_that_is_named_is_counted() {
    for (source, count) in [
        ("#![allow(clippy::disallowed_types)]", 1),
        ("#[expect(\n    clippy :: style,\n    clippy::all)]", 2),
        ("// clippy::all\nlet a = clippyx::all;", 0),
    ] {
        assert_eq!(lints_named(source), count, "{source}");
    }
}

#[test]
fn the_deterministic_crates_have_the_same_clippy_toml() {
    let read =
        |name: &str| fs::read_to_string(folder(name).join("clippy.toml")).expect("clippy.toml is readable");
    for name in CRATES {
        assert!(read(name) == read(CRATES[0]), "clippy.toml of {name} and {} differ", CRATES[0]);
    }
}

/// One line, `file:line: what`, for each forbidden thing outside comments.
fn scan(file: &Path, source: &str) -> Vec<String> {
    let code = without_comments(source);
    let tokens = tokens(&code);
    let mut findings = Vec::new();
    for at in 0..tokens.len() {
        if let Some(what) = forbidden(&tokens[at..]) {
            findings.push(format!("{}:{}: {what}", file.display(), tokens[at].line));
        }
        for (line, module) in grouped_std_modules(&tokens[at..]) {
            findings.push(format!("{}:{line}: std::{module}", file.display()));
        }
    }
    findings
}

/// What is forbidden about the thing that begins with the first of `tokens`.
fn forbidden(tokens: &[Token]) -> Option<String> {
    let word = tokens[0].text;
    let next = |n: usize| tokens.get(n).map_or("", |token| token.text);
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        // `1f64` is a float; `0xf64` is a number.
        let is_float = !word.starts_with("0x") && (word.ends_with("f32") || word.ends_with("f64"));
        return is_float.then(|| word.to_owned());
    }
    if WORDS.contains(&word) || WORD_PARTS.iter().any(|part| word.contains(part)) {
        return Some(word.to_owned());
    }
    if word == "rand" && next(1) == "::" {
        return Some("rand::".to_owned());
    }
    let in_std = word == "std" && next(1) == "::" && STD_MODULES.contains(&next(2));
    in_std.then(|| format!("std::{}", next(2)))
}

/// `std::{collections::BTreeMap, fs}` names `std::fs` too.
fn grouped_std_modules<'a>(tokens: &[Token<'a>]) -> Vec<(usize, &'a str)> {
    let is_group =
        tokens.len() > 3 && tokens[0].text == "std" && tokens[1].text == "::" && tokens[2].text == "{";
    let mut found = Vec::new();
    let mut depth = 0;
    for pair in if is_group { tokens[2..].windows(2) } else { [].windows(2) } {
        match pair[0].text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && matches!(pair[0].text, "{" | ",") && STD_MODULES.contains(&pair[1].text) {
            found.push((pair[1].line, pair[1].text));
        }
    }
    found
}

#[derive(Clone, Copy)]
struct Token<'a> {
    line: usize,
    text: &'a str,
}

/// Words and numbers, `::`, and every other sign by itself.
fn tokens(code: &str) -> Vec<Token<'_>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    for (line, text) in code.lines().enumerate() {
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push(Token { line: line + 1, text: &rest[..length] });
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// The source with its comments blanked and its lines kept. A `//` in a string begins no comment.
fn without_comments(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let (length, is_comment) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), true)
        } else if rest.starts_with("/*") {
            (block_comment_length(rest), true)
        } else if let Some(hashes) = raw_string_hashes(rest, before) {
            (raw_string_length(rest, hashes), false)
        } else if first == '"' {
            (quoted_length(rest, '"'), false)
        } else if first == '\'' && is_char(rest) {
            (quoted_length(rest, '\''), false)
        } else {
            (first.len_utf8(), false)
        };
        let piece = &rest[..length];
        if is_comment {
            // A blank at least, so that a comment parts two words.
            code.push(' ');
            code.extend(piece.chars().filter(|&c| c == '\n'));
        } else {
            code.push_str(piece);
        }
        before = piece.chars().next_back().unwrap_or(' ');
        rest = &rest[length..];
    }
    code
}

/// Block comments nest.
fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The hashes of a raw string that begins here with its `r`, as in `r#"…"#`, `br"…"`.
fn raw_string_hashes(rest: &str, before: char) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let is_prefixed = matches!(before, 'b' | 'c') || !(before.is_alphanumeric() || before == '_');
    let hashes = after.len() - after.trim_start_matches('#').len();
    (is_prefixed && after[hashes..].starts_with('"')).then_some(hashes)
}

fn raw_string_length(rest: &str, hashes: usize) -> usize {
    let open = 1 + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    rest[open..].find(&close).map_or(rest.len(), |at| open + at + close.len())
}

/// From a quote to its own, escapes passed over.
fn quoted_length(rest: &str, quote: char) -> usize {
    let mut signs = rest.char_indices().skip(1);
    while let Some((at, sign)) = signs.next() {
        if sign == '\\' {
            signs.next();
        } else if sign == quote {
            return at + 1;
        }
    }
    rest.len()
}

/// `'a'` and `'\n'` are characters; `'a` is a lifetime.
fn is_char(rest: &str) -> bool {
    let mut signs = rest.chars().skip(1);
    match (signs.next(), signs.next()) {
        (Some('\\'), _) => true,
        (_, after) => after == Some('\''),
    }
}

/// Every Rust file below `folder`, in the order of their names.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("the folder is readable").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates").join(name)
}

fn check(source: &str, expected: &[&str]) {
    assert_eq!(scan(Path::new("a.rs"), source), expected, "{source}");
}

#[test]
fn a_planted_violation_is_found_with_its_file_and_line() {
    check("fn a() {}\n\nfn b(rate: f64) {}\n", &["a.rs:3: f64"]);
    check("let a = 1.5f32;", &["a.rs:1: 5f32"]);
    check("let a = 1_f64;", &["a.rs:1: 1_f64"]);
    check("use std::collections::{HashMap, HashSet};", &["a.rs:1: HashMap", "a.rs:1: HashSet"]);
    check("type A = FxHashMap<u8, u8>;", &["a.rs:1: FxHashMap"]);
    check("use std::time::{Instant, SystemTime};", &["a.rs:1: Instant", "a.rs:1: SystemTime"]);
    for module in STD_MODULES {
        check(&format!("use std::{module};"), &[&format!("a.rs:1: std::{module}")]);
        check(&format!("\n::std :: {module}::x()"), &[&format!("a.rs:2: std::{module}")]);
        check(&format!("use std::{{mem,\n{module}::x}};"), &[&format!("a.rs:2: std::{module}")]);
    }
    check("let a = rand::random();", &["a.rs:1: rand::"]);
    check("getrandom(&mut bytes)", &["a.rs:1: getrandom"]);
    check("let a = \"// f64\"; // f32", &["a.rs:1: f64"]);
    check("let a = r#\" \" // f64\"#;", &["a.rs:1: f64"]);
    check("let a = ['\"', '\\'']; f64", &["a.rs:1: f64"]);
    check("/* a /* b */\n f32 */ f64", &["a.rs:2: f64"]);
    check("struct A<'a>(&'a f64); // '", &["a.rs:1: f64"]);
}

#[test]
fn a_planted_violation_on_disk_is_found() {
    let planted = tempfile::tempdir().expect("a folder");
    let below = planted.path().join("below");
    fs::create_dir(&below).expect("a folder below");
    fs::write(planted.path().join("a.rs"), "// f64\n").expect("written");
    fs::write(below.join("b.rs"), "\nuse std::thread;\n").expect("written");
    let found: Vec<String> = sources(planted.path())
        .iter()
        .flat_map(|file| scan(file, &fs::read_to_string(file).expect("readable")))
        .collect();
    assert_eq!(found, [format!("{}:2: std::thread", below.join("b.rs").display())]);
}

#[test]
fn what_is_harmless_passes() {
    check("// f64 HashMap\n/// Instant\n//! std::fs\n/* rand:: /* getrandom */ std::env */", &[]);
    check("let a = 0xf32; let b = 0x1f64; let c = 7u64;", &[]);
    check("let instant = Instantly; operand::x; my_std::fs; std::fmt; brand::x; strand::y;", &[]);
    check("use std::{collections::BTreeMap, fmt::{self, env}};\nuse ours::{fs, net};", &[]);
    check("fn a<'a>(b: &'a str) -> &'a str { b } // f64", &[]);
    check("let r = 1; let br = '\"'; // f64\nlet c = \"\\\"\"; // f64", &[]);
}
