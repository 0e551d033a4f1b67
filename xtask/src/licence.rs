//! Licence expressions, as `Cargo.toml` has them: SPDX ids with `OR`, `AND`, `WITH` and parentheses.
//!
//! `AND` binds tighter than `OR`. An exception makes a licence of its own: `Apache-2.0 WITH LLVM-exception` is
//! allowed only where the list says exactly that, as with cargo-deny. `/` is how old crates wrote `OR`.
//! What cannot be read is an error, never "allowed".

/// Whether `expression` can be satisfied with the licences in `allow` alone.
pub fn is_allowed(expression: &str, allow: &[String]) -> Result<bool, String> {
    let tokens = tokens(expression);
    let mut parser = Parser { tokens: &tokens, allow };
    let allowed = parser.any()?;
    match parser.tokens {
        [] => Ok(allowed),
        [token, ..] => Err(format!("`{token}` is not expected there")),
    }
}

struct Parser<'a> {
    tokens: &'a [String],
    allow: &'a [String],
}

impl Parser<'_> {
    /// `all (OR all)*`. Both sides are always read, so that a mistake on either is found.
    fn any(&mut self) -> Result<bool, String> {
        let mut allowed = self.all()?;
        while self.take("OR") || self.take("/") {
            allowed |= self.all()?;
        }
        Ok(allowed)
    }

    /// `single (AND single)*`
    fn all(&mut self) -> Result<bool, String> {
        let mut allowed = self.single()?;
        while self.take("AND") {
            allowed &= self.single()?;
        }
        Ok(allowed)
    }

    /// `( any )`, or `id`, or `id WITH exception`
    fn single(&mut self) -> Result<bool, String> {
        if self.take("(") {
            let allowed = self.any()?;
            return if self.take(")") { Ok(allowed) } else { Err("a `(` is not closed".into()) };
        }
        let mut licence = self.id()?;
        if self.take("WITH") {
            licence = format!("{licence} WITH {}", self.id()?);
        }
        Ok(self.allow.contains(&licence))
    }

    fn id(&mut self) -> Result<String, String> {
        let (first, rest) = self.tokens.split_first().ok_or("a licence is missing at the end")?;
        if matches!(first.as_str(), "OR" | "AND" | "WITH" | "/" | "(" | ")") {
            return Err(format!("a licence is missing before `{first}`"));
        }
        self.tokens = rest;
        Ok(first.clone())
    }

    fn take(&mut self, token: &str) -> bool {
        match self.tokens.split_first() {
            Some((first, rest)) if first == token => {
                self.tokens = rest;
                true
            }
            _ => false,
        }
    }
}

fn tokens(expression: &str) -> Vec<String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " / ");
    spaced.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(expression: &str) -> Result<bool, String> {
        let allow = ["MIT", "Apache-2.0", "Unicode-3.0", "Zlib", "GPL-2.0 WITH Classpath-exception-2.0"];
        is_allowed(expression, &allow.map(String::from))
    }

    #[test]
    fn allowed() {
        for expression in [
            "MIT",
            " MIT ",
            "MIT OR GPL-3.0",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "Apache-2.0 / MIT",
            "GPL-3.0/MIT",
            "MIT AND Zlib",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "(MIT OR GPL-3.0)AND(Zlib)",
            "GPL-3.0 AND BSD-2-Clause OR MIT",
            "MIT OR GPL-3.0 AND BSD-2-Clause",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
            "GPL-2.0 WITH Classpath-exception-2.0",
            "((MIT))",
        ] {
            assert_eq!(judge(expression), Ok(true), "{expression}");
        }
    }

    #[test]
    fn not_allowed() {
        for expression in [
            "GPL-3.0",
            "mit",
            "MIT-0",
            "MIT+",
            "MIT AND GPL-3.0",
            "GPL-3.0 AND MIT",
            "(MIT OR Apache-2.0) AND GPL-3.0",
            "GPL-3.0 AND (BSD-2-Clause OR MIT)",
            "Apache-2.0 WITH LLVM-exception",
            "GPL-2.0",
            "GPL-2.0 OR MIT AND GPL-3.0",
        ] {
            assert_eq!(judge(expression), Ok(false), "{expression}");
        }
    }

    #[test]
    fn not_readable() {
        for expression in [
            "",
            "()",
            "MIT OR",
            "OR MIT",
            "MIT AND",
            "MIT WITH",
            "MIT WITH OR",
            "MIT Zlib",
            "(MIT",
            "MIT)",
            "MIT//Zlib",
        ] {
            assert!(judge(expression).is_err(), "{expression}");
        }
    }
}
