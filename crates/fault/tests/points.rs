//! The list of failpoints is complete: each stands in the code once, and no branch in which something has gone wrong
//! is without one.
//!
//! What a branch is in which something has gone wrong is told by the form of the code: an error is made there, or
//! turned into another one, or passed over, or the thread panics. Assertions and `expect` are no such branches: they
//! say what cannot be, and stop whoever was wrong about it.

use pabal_fault::Point;
use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};

/// The crates whose branches are counted.
const CRATES: [&str; 2] = ["journal", "engine"];

/// Files that are left out, and why.
const LEFT_OUT: [(&str, &str); 2] = [
    ("journal/src/disk.rs", "what the machine's file system says goes to the journal, which counts it"),
    ("journal/src/sync.rs", "it makes threads and locks of one name, and no errors"),
];

/// What counts that a branch was taken. `wrong` is the replay's own, of the point that it is given.
const COUNTS: [&str; 4] = ["Point::", "reached(", "WriterGone::found", "(wrong)"];

/// What makes an error.
const MAKES: [&str; 3] = ["Err(", "Error::", "panic!("];
/// What makes one error of another, or of nothing.
const TURNS: [&str; 4] = [".map_err(", ".ok_or(", ".ok_or_else(", ".inspect_err("];
/// What passes over an error.
const PASSES: [&str; 8] =
    ["let _ =", ".ok()", ".is_err()", ".is_ok()", ".is_err_and(", "let Ok(", "drop(to.", ".unwrap_or(false)"];

/// Where something is passed over and nothing has gone wrong, or it is counted elsewhere: the file, how the line
/// begins, and why.
const PASSED: [(&str, &str, &str); 15] = [
    (
        "engine/src/snapshot.rs",
        "while !bytes.is_empty() && self.failed.is_ok()",
        "it is given back at the end",
    ),
    ("engine/src/snapshot.rs", "let sequence = name.strip_suffix()", "a name that is no snapshot's"),
    ("journal/src/segment.rs", "Err(error) if error.kind()", "else it is counted as not opened"),
    ("journal/src/supply.rs", "let _ = thread.join();", "what it could not make it has said"),
    ("journal/src/apart.rs", "let _ = self.back_to.send", "the scan has ended, and wants no memory any more"),
    (
        "journal/src/scan.rs",
        "let open = || self.disk.open",
        "it is opened again when it is read, and counted then",
    ),
    ("journal/src/buffer.rs", "let index = usize::try_from", "before the record: it is looked for elsewhere"),
    ("engine/src/request.rs", "let _ = to.send(answer", "whoever asked has gone away"),
    ("engine/src/engine.rs", "let _ = self.end();", "it is counted there, and nobody asks why"),
    ("engine/src/engine.rs", "recovery.quarantined =", "the writer's end is counted where it is found"),
    ("engine/src/machine.rs", "let _ = ", "nothing is done with it"),
    ("engine/src/writer.rs", "&& let Ok(done) = self.work", "the writer's end is counted where it is found"),
    ("engine/src/writer.rs", "let _ = spent.send(done);", "the core has gone, and its end is counted"),
    (
        "engine/src/writer.rs",
        "while let Ok(work) = works.recv()",
        "the core has gone, and its end is counted",
    ),
    (
        "engine/src/writer.rs",
        "None => Ok(self.spent.try_recv().ok())",
        "the next thing that is sent is counted",
    ),
];

struct Source {
    /// From the folder of the crates.
    name: String,
    /// Without tests, comments and what stands in quotes.
    code: String,
}

fn sources() -> Vec<Source> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder of the crates");
    let mut found = Vec::new();
    for name in CRATES {
        let mut folders = vec![crates.join(name).join("src")];
        while let Some(folder) = folders.pop() {
            let mut paths: Vec<PathBuf> =
                read_dir(&folder).expect("sources").map(|entry| entry.expect("a name").path()).collect();
            paths.sort();
            for path in paths {
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(crates).expect("within it").to_string_lossy().into_owned();
                let text = read_to_string(&path).expect("a source");
                let text = text.split("#[cfg(test)]").next().unwrap_or_default();
                let text = text.split("#[cfg(all(test").next().unwrap_or_default();
                found.push(Source { name, code: bare(text) });
            }
        }
    }
    assert!(found.len() > 20, "the sources are elsewhere");
    found
}

/// The same without comments and without what stands in quotes; every line stays where it is.
fn bare(text: &str) -> String {
    let (mut bare, mut rest) = (String::new(), text);
    while let Some(next) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if next == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.expect("a quote that ends") + 2
        } else if rest.starts_with("'\"'") {
            3
        } else {
            bare.push(next);
            next.len_utf8()
        };
        bare.extend(rest[..skip].chars().filter(|c| *c == '\n' && next != '\n'));
        rest = &rest[skip..];
    }
    bare
}

impl Source {
    fn is_left_out(&self) -> bool {
        LEFT_OUT.iter().any(|(name, _)| self.name == *name)
    }

    fn line(&self, at: usize) -> (usize, &str) {
        let begin = self.code[..at].rfind('\n').map_or(0, |end| end + 1);
        let end = self.code[at..].find('\n').map_or(self.code.len(), |end| at + end);
        (self.code[..at].matches('\n').count() + 1, self.code[begin..end].trim())
    }

    /// Where this stands, as a word of its own.
    fn places<'s>(&'s self, what: &'s str) -> impl Iterator<Item = usize> + 's {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        self.code
            .match_indices(what)
            .map(|(at, _)| at)
            .filter(move |at| !what.starts_with(word) || !self.code[..*at].ends_with(word))
    }

    /// The end of what this opens, or of the line where it opens nothing.
    fn closing(&self, at: usize) -> usize {
        let mut depth = 0;
        for (i, c) in self.code[at..].char_indices() {
            match c {
                '(' | '{' | '[' => depth += 1,
                ')' | '}' | ']' if depth <= 1 => return at + i + usize::from(depth == 1),
                ')' | '}' | ']' => depth -= 1,
                ',' | ';' | '\n' if depth == 0 => return at + i,
                '=' if depth == 0 => return at + i,
                _ => {}
            }
        }
        self.code.len()
    }

    /// Whether an error is looked for here, not made.
    fn is_pattern(&self, at: usize) -> bool {
        let (_, line) = self.line(at);
        let after = self.code[self.closing(at)..].trim_start_matches([')', '}']).trim_start();
        let assigned = after.starts_with('=') && !after.starts_with("==");
        line.contains("matches!(") || assigned || after.starts_with("if ") || after.starts_with('|')
    }

    /// Whether it is counted in this branch: from its block's beginning, or a few lines above, to the end of what is
    /// made.
    fn is_counted(&self, at: usize) -> bool {
        const LINES: usize = 8;
        let mut begin = 0;
        let mut depth = 0;
        for (i, c) in self.code[..at].char_indices().rev() {
            match c {
                '}' => depth += 1,
                '{' if depth == 0 => {
                    begin = i;
                    break;
                }
                '{' => depth -= 1,
                _ => {}
            }
        }
        let branch = &self.code[begin..self.closing(at).max(at)];
        let near: Vec<&str> = branch.lines().rev().take(LINES).collect();
        near.iter().any(|line| COUNTS.iter().any(|counts| line.contains(counts)))
    }

    /// Whether it is counted in the block that opens with this.
    fn is_counted_after(&self, at: usize) -> bool {
        let statement = self.code[at..].split(';').next().unwrap_or_default();
        let Some(open) = statement.find('{') else { return false };
        let block = &self.code[at + open..self.closing(at + open)];
        COUNTS.iter().any(|counts| block.contains(counts))
    }
}

#[test]
fn every_point_stands_in_the_code_once() {
    let sources = sources();
    let mut wrong = Vec::new();
    for point in Point::ALL {
        let name = format!("Point::{point:?}");
        let ends = |source: &Source, at: usize| {
            !source.code[at + name.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
        };
        let found: Vec<String> = sources
            .iter()
            .flat_map(|source| source.places(&name).map(move |at| (source, at)))
            .filter(|(source, at)| ends(source, *at))
            .map(|(source, at)| format!("{}:{}", source.name, source.line(at).0))
            .collect();
        if found.len() != 1 {
            wrong.push(format!("{name} stands in {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_branch_in_which_something_has_gone_wrong_is_counted() {
    let mut wrong = Vec::new();
    let mut passed = PASSED.map(|_| false);
    for source in sources().iter().filter(|source| !source.is_left_out()) {
        let mut add = |at: usize, what: &str| {
            let (number, line) = source.line(at);
            wrong.push(format!("{}:{number}: {what}: {line}", source.name));
        };
        for at in MAKES.iter().flat_map(|what| source.places(what)) {
            let made = &source.code[at..source.closing(at)];
            // One that was made before, and is handed on.
            let handed_on = made
                .strip_prefix("Err(")
                .and_then(|inner| inner.strip_suffix(')'))
                .is_some_and(|inner| inner.chars().all(|c| c.is_lowercase()));
            // A function that makes one counts by itself; so does a type's name.
            let names =
                made.strip_prefix("Error::").is_some_and(|rest| rest.starts_with(|c: char| c.is_lowercase()));
            if !handed_on && !names && !source.is_pattern(at) && !source.is_counted(at) {
                add(at, "an error that is not counted");
            }
        }
        for at in TURNS.iter().flat_map(|what| source.places(what)) {
            let turned = &source.code[at..source.closing(at)];
            if !COUNTS.iter().any(|counts| turned.contains(counts)) {
                add(at, "an error that is turned into another, and not counted");
            }
        }
        for at in PASSES.iter().flat_map(|what| source.places(what)) {
            let (_, line) = source.line(at);
            let known =
                PASSED.iter().position(|(name, begins, _)| source.name == *name && line.starts_with(begins));
            match known {
                Some(known) => passed[known] = true,
                None if source.is_counted(at) || source.is_counted_after(at) => {}
                None => add(at, "an error that is passed over"),
            }
        }
    }
    for ((name, begins, _), seen) in PASSED.iter().zip(passed) {
        if !seen {
            wrong.push(format!("{name} does not have `{begins}` any more"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
