//! The contract on what extraction does: each of its statements names the tests that hold it.
//!
//! A statement is an item of a list, or a row of a table. Its tests are in a comment at its end, which readers of the book do
//! not see: `<!-- tests: one_test, another_test -->`.

use std::collections::BTreeSet;

/// The page that is a contract.
pub(crate) const PAGE: &str = "docs/extraction.md";

const BEGIN: &str = "<!-- tests:";
const END: &str = "-->";

/// Checks that every statement names tests, and that those are there. Each string is one complaint.
pub(crate) fn check(page: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    for Statement { line, text, is_bound } in statements(page) {
        let named = named_tests(&text);
        if is_bound && named.is_empty() {
            complaints.push(format!("{PAGE}:{line}: names no test, as in \"{BEGIN} name {END}\""));
        }
        for name in named.iter().filter(|name| !tests.contains(*name)) {
            complaints.push(format!("{PAGE}:{line}: names the test {name}, which is not there"));
        }
    }
    complaints
}

/// Returns the names of the tests in a source file.
pub(crate) fn tests_in(source: &str) -> impl Iterator<Item = String> {
    let mut follows = false;
    source.lines().filter_map(move |line| {
        let line = line.trim();
        if line == "#[test]" || line.starts_with("#[tokio::test") {
            follows = true;
            return None;
        }
        let (_, rest) = line.split_once("fn ").filter(|_| follows)?;
        follows = false;
        rest.split_once('(').map(|(name, _)| name.to_owned())
    })
}

struct Statement {
    /// Where it begins, counted from 1.
    line: usize,
    text: String,
    /// Whether it has to name tests.
    is_bound: bool,
}

/// Takes a page apart: items of lists and rows of tables without their heads, and the paragraphs between, which may name tests.
fn statements(page: &str) -> Vec<Statement> {
    let lines: Vec<&str> = page.lines().collect();
    let mut found: Vec<Statement> = Vec::new();
    let mut continues = false;
    let mut is_paragraph = false;
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with("## ") {
            continues = false;
            is_paragraph = false;
            continue;
        }
        let is_row = line.starts_with('|');
        let is_head = is_row && (is_rule(line) || lines.get(at + 1).is_some_and(|next| is_rule(next)));
        let begins = line.starts_with("- ") || is_row && !is_head;
        if begins {
            found.push(Statement {
                line: at + 1,
                text: (*line).to_owned(),
                is_bound: true,
            });
            continues = !is_row;
            is_paragraph = false;
        } else if continues && line.starts_with(' ') || is_paragraph && !is_row && !line.is_empty() {
            if let Some(last) = found.last_mut() {
                last.text.push(' ');
                last.text.push_str(line);
            }
        } else {
            continues = false;
            is_paragraph = !line.is_empty() && !is_row;
            found.push(Statement {
                line: at + 1,
                text: (*line).to_owned(),
                is_bound: false,
            });
        }
    }
    found
}

fn is_rule(line: &str) -> bool {
    line.starts_with("|-") || line.starts_with("| -")
}

fn named_tests(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let (list, behind) = after.split_once(END).unwrap_or((after, ""));
        names.extend(
            list.split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty()),
        );
        rest = behind;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tests() -> BTreeSet<String> {
        let source =
            "#[test]\nfn one() {}\n\n    #[tokio::test(flavor = \"x\")]\n    async fn two() {}\nfn helper() {}\n";
        tests_in(source).collect()
    }

    #[test]
    fn tests_are_found_by_their_attribute() {
        assert_eq!(tests(), ["one", "two"].map(str::to_owned).into());
    }

    #[test]
    fn a_page_in_order_passes() {
        let page = "## A\n\nText, and\n\n- first\n  and on. <!-- tests: one,\n  two -->\n- second <!-- tests: two -->\n\n\
                    | a | b |\n|---|---|\n| c | d <!-- tests: one --> |\n";
        assert_eq!(check(page, &tests()), [""; 0]);
    }

    #[test]
    fn every_name_in_a_paragraph_is_looked_up() {
        let page = "## A\n\nText.\n<!-- tests: one,\nthree,\ntwo -->\n- first\n<!-- tests: four -->\n";
        assert_eq!(
            check(page, &tests()),
            [
                "docs/extraction.md:3: names the test three, which is not there",
                "docs/extraction.md:7: names no test, as in \"<!-- tests: name -->\"",
                "docs/extraction.md:8: names the test four, which is not there"
            ]
        );
    }

    #[test]
    fn statements_without_tests_and_tests_that_are_gone_are_named() {
        let page = "## A\n- first\n- second <!-- tests: three -->\n\n| a |\n|---|\n| b |\n";
        assert_eq!(
            check(page, &tests()),
            [
                "docs/extraction.md:2: names no test, as in \"<!-- tests: name -->\"",
                "docs/extraction.md:3: names the test three, which is not there",
                "docs/extraction.md:7: names no test, as in \"<!-- tests: name -->\""
            ]
        );
    }
}
