//! Sums what test programs print, so that many programs end in one line.
//!
//! The exit code stays the judge: a run that cargo calls failed is never summed to "0 failed", whatever was printed.

use std::fmt;
use std::ops::AddAssign;

/// Tests counted by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
}

impl Tally {
    /// One check that passed or failed.
    pub fn one(passed: bool) -> Self {
        Self { passed: u64::from(passed), failed: u64::from(!passed), ignored: 0 }
    }

    /// The same, or one that cannot be made on this machine: it counts as ignored, and the last line has it neither as
    /// passed nor as failed.
    pub fn perhaps(passed: Option<bool>) -> Self {
        passed.map_or(Self { ignored: 1, ..Self::default() }, Self::one)
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 {
            write!(f, ", {} ignored", self.ignored)?;
        }
        Ok(())
    }
}

/// The output of a run of `cargo test`, line by line.
#[derive(Default)]
pub struct Sum {
    tally: Tally,
    /// A test program said "running N tests" and has not said its result yet.
    open: bool,
}

impl Sum {
    /// Takes one line of standard output.
    pub fn line(&mut self, line: &str) {
        let line = line.trim_end();
        if begins(line) {
            self.lose_open();
            self.open = true;
        } else if let Some(tally) = result(line) {
            self.tally += tally;
            self.open = false;
        }
    }

    /// The sum, once the output has ended and `succeeded` is what the exit code said.
    pub fn close(mut self, succeeded: bool) -> Tally {
        self.lose_open();
        // It did not compile, or a program died before its first test: there is no line to count, yet it failed.
        if !succeeded && self.tally.failed == 0 {
            self.tally.failed = 1;
        }
        self.tally
    }

    /// A program that was killed or aborted half-way prints no result; it counts as one failure.
    fn lose_open(&mut self) {
        self.tally.failed += u64::from(self.open);
        self.open = false;
    }
}

/// `running 3 tests`
fn begins(line: &str) -> bool {
    line.strip_prefix("running ")
        .and_then(|rest| rest.strip_suffix(" tests").or(rest.strip_suffix(" test")))
        .is_some_and(|count| count.parse::<u64>().is_ok())
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
fn result(line: &str) -> Option<Tally> {
    let rest = line.strip_prefix("test result: ")?;
    let counts = rest.strip_prefix("ok. ").or_else(|| rest.strip_prefix("FAILED. "))?;
    let count = |what: &str| {
        counts.split("; ").find_map(|part| part.strip_suffix(what)?.strip_suffix(' ')?.parse::<u64>().ok())
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(output: &str, succeeded: bool, passed: u64, failed: u64, ignored: u64) {
        let mut sum = Sum::default();
        output.lines().for_each(|line| sum.line(line));
        assert_eq!(sum.close(succeeded), Tally { passed, failed, ignored }, "{output}");
    }

    const OK: &str = "running 2 tests\ntest a ... ok\ntest b ... ok\n\ntest result: ok. 2 passed; 0 failed; 1 \
                      ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
    const BAD: &str = "running 1 test\ntest c ... FAILED\n\ntest result: FAILED. 4 passed; 3 failed; 0 ignored; \
                       0 measured; 0 filtered out; finished in 0.01s\n";

    #[test]
    fn programs_are_summed() {
        check(OK, true, 2, 0, 1);
        check(&format!("{OK}{OK}"), true, 4, 0, 2);
        check(&format!("{OK}{BAD}{OK}"), false, 8, 3, 2);
        check("running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored", true, 0, 0, 0);
    }

    #[test]
    fn a_program_that_dies_is_a_failure() {
        check("running 5 tests\ntest a ... ok\n", false, 0, 1, 0);
        check(&format!("running 5 tests\n{OK}"), false, 2, 1, 1);
        check(&format!("{BAD}running 5 tests\n"), false, 4, 4, 0);
    }

    #[test]
    fn the_exit_code_is_the_judge() {
        check("", false, 0, 1, 0);
        check(OK, false, 2, 1, 1);
        check(BAD, false, 4, 3, 0);
    }

    #[test]
    fn other_lines_do_not_count() {
        check(
            "running late\nrunning x tests\ntest result: unknown\ntest result: ok. two passed",
            true,
            0,
            0,
            0,
        );
        check("    test result: ok. 9 passed; 0 failed; 0 ignored", true, 0, 0, 0);
        check("all doctests ran in 0.10s; merged doctests compilation took 0.05s", true, 0, 0, 0);
    }
}
