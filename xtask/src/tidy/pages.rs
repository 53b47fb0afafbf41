//! Rules for the pages: the summary lists every one, links lead somewhere, the change log has a place for what is new.

use std::collections::{BTreeMap, BTreeSet};

/// A Markdown page: its path relative to the workspace, with `/`, and its text.
pub(crate) type Pages = BTreeMap<String, String>;

/// The book's table of contents.
const SUMMARY: &str = "docs/SUMMARY.md";

/// Checks all pages. `exists` tells whether a path relative to the workspace is there; each string is one complaint.
pub(crate) fn check(pages: &Pages, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut complaints = check_summary(pages);
    for (path, text) in pages {
        for (line, target) in links(text) {
            if let Err(reason) = check_link(path, &target, pages, exists) {
                complaints.push(format!("{path}:{line}: links to {target}: {reason}"));
            }
        }
    }
    complaints
}

/// Checks that a change log has a section for what is not released yet.
pub(crate) fn check_changelog(path: &str, text: &str) -> Vec<String> {
    let has_unreleased = text.lines().any(|line| line.trim_end() == "## [Unreleased]");
    if has_unreleased {
        Vec::new()
    } else {
        vec![format!("{path}: has no section \"## [Unreleased]\"")]
    }
}

fn check_summary(pages: &Pages) -> Vec<String> {
    let Some(summary) = pages.get(SUMMARY) else {
        return vec![format!("{SUMMARY}: does not exist")];
    };
    let listed: BTreeSet<String> = links(summary)
        .into_iter()
        .map(|(_, target)| resolve(SUMMARY, &target))
        .collect();
    pages
        .keys()
        .filter(|path| path.starts_with("docs/") && *path != SUMMARY && !listed.contains(*path))
        .map(|path| format!("{path}: is not listed in {SUMMARY}"))
        .collect()
}

fn check_link(from: &str, target: &str, pages: &Pages, exists: &dyn Fn(&str) -> bool) -> Result<(), String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (file, anchor) = match target.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (target, None),
    };
    let path = if file.is_empty() {
        from.to_owned()
    } else {
        resolve(from, file)
    };
    if !pages.contains_key(&path) && !exists(&path) {
        return Err("there is no such file".to_owned());
    }
    match (anchor, pages.get(&path)) {
        (Some(anchor), Some(page)) if !anchors(page).contains(anchor) => Err(format!("{path} has no such heading")),
        _ => Ok(()),
    }
}

/// Resolves a relative link of the page `from`; what would leave the workspace stays as it is and is found missing.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." if parts.pop().is_some() => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Returns the lines that are prose: fenced blocks are left out, numbers count from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((index + 1, line))
    })
}

/// Returns the targets of inline links, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let visible: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let mut rest = visible.as_str();
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let Some(end) = rest.find(')') else { break };
            let target = rest[..end].split_whitespace().next().unwrap_or_default();
            if !target.is_empty() {
                found.push((number, target.to_owned()));
            }
            rest = &rest[end..];
        }
    }
    found
}

/// Returns the names that links can give the headings of a page, as mdBook and GitHub make them.
fn anchors(text: &str) -> BTreeSet<String> {
    prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| {
            line.trim_start_matches('#')
                .trim()
                .chars()
                .filter_map(|c| match c {
                    ' ' => Some('-'),
                    '-' | '_' => Some(c),
                    c if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
                    _ => None,
                })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(pages: &[(&str, &str)]) -> Pages {
        pages
            .iter()
            .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
            .collect()
    }

    fn nothing_else(_: &str) -> bool {
        false
    }

    #[test]
    fn a_book_in_order_passes() {
        let pages = book(&[
            (
                "README.md",
                "[book](docs/store.md), [a part](docs/store.md#the-layout-of-a-store), [web](https://x.org/)",
            ),
            ("docs/SUMMARY.md", "- [Store](store.md)\n"),
            (
                "docs/store.md",
                "# The layout of a `store`\n[up](../README.md) [here](#the-layout-of-a-store)\n",
            ),
        ]);
        assert_eq!(check(&pages, &nothing_else), Vec::<String>::new());
    }

    #[test]
    fn every_page_is_in_the_summary() {
        let pages = book(&[("docs/SUMMARY.md", "# Summary\n"), ("docs/store.md", "# Store\n")]);
        assert_eq!(
            check(&pages, &nothing_else),
            ["docs/store.md: is not listed in docs/SUMMARY.md"]
        );
        assert_eq!(check(&book(&[]), &nothing_else), ["docs/SUMMARY.md: does not exist"]);
    }

    #[test]
    fn links_that_lead_nowhere_are_named_by_line() {
        let pages = book(&[
            ("docs/SUMMARY.md", "- [A](a.md)\n"),
            (
                "docs/a.md",
                "# A\n\n[x](b.md) and [y](a.md#nothing)\n[up](../../out.md)\n[code](../crates/oci)\n",
            ),
        ]);
        let exists = |path: &str| path == "crates/oci";
        assert_eq!(
            check(&pages, &exists),
            [
                "docs/a.md:3: links to b.md: there is no such file",
                "docs/a.md:3: links to a.md#nothing: docs/a.md has no such heading",
                "docs/a.md:4: links to ../../out.md: there is no such file",
            ]
        );
    }

    #[test]
    fn code_has_no_links() {
        let text = "`[a](b.md)` text\n```rust\n[c](d.md)\n# not a heading\n```\n[e](f.md \"title\")\n";
        assert_eq!(links(text), [(6, "f.md".to_owned())]);
        assert!(anchors(text).is_empty());
    }

    #[test]
    fn a_change_log_has_an_open_section() {
        assert!(check_changelog("CHANGELOG.md", "# Change log\n\n## [Unreleased]\n").is_empty());
        assert_eq!(
            check_changelog("CHANGELOG.md", "# Change log\n## [1.0.0]\n"),
            ["CHANGELOG.md: has no section \"## [Unreleased]\""]
        );
    }
}
