//! The edges between the workspace's crates: as built, as written in `docs/architecture.md`, and how they differ.
//!
//! All of it works on values, so that the tests can make up a workspace. The one place that asks Cargo is
//! [`Edges::of_workspace`].

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};

/// The page that lists the edges, as messages name it.
pub(crate) const PAGE: &str = "docs/architecture.md";

/// The comment that stands before the table of edges.
const TABLE_MARK: &str = "<!-- edges";
/// The comment that stands before the drawing of the layers.
const DRAWING_MARK: &str = "<!-- layers";

/// Packages that may use the test crate in their build proper, since they are never part of the product.
const NOT_PRODUCT: [&str; 4] = ["xtask", "unlade-tests", "unlade-fuzz", "unlade-pieces"];
/// The crate of fakes and builders.
const TEST_SUPPORT: &str = "unlade-test-support";

/// For each package, the workspace packages that it names in its manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edges {
    /// `[dependencies]` and `[build-dependencies]`; every package is a key.
    normal: BTreeMap<String, BTreeSet<String>>,
    /// `[dev-dependencies]` that are not also in `normal`; every package is a key.
    dev: BTreeMap<String, BTreeSet<String>>,
}

impl Edges {
    /// Asks Cargo for the edges of the workspace at `root`, without looking at anything outside of it.
    pub(crate) fn of_workspace(root: &std::path::Path) -> Result<Self> {
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .no_deps()
            .exec()
            .context("cargo metadata cannot read the workspace")?;
        let members: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
        let mut edges = Self::default();
        for package in &metadata.packages {
            edges.add_package(&package.name);
            for dependency in &package.dependencies {
                if !members.contains(dependency.name.as_str()) {
                    continue;
                }
                match dependency.kind {
                    DependencyKind::Development => edges.add_dev(&package.name, &dependency.name),
                    _ => edges.add_normal(&package.name, &dependency.name),
                }
            }
        }
        edges.settle();
        Ok(edges)
    }

    fn add_package(&mut self, package: &str) {
        self.normal.entry(package.to_owned()).or_default();
        self.dev.entry(package.to_owned()).or_default();
    }

    fn add_normal(&mut self, from: &str, to: &str) {
        self.add_package(from);
        self.normal.entry(from.to_owned()).or_default().insert(to.to_owned());
    }

    fn add_dev(&mut self, from: &str, to: &str) {
        self.add_package(from);
        self.dev.entry(from.to_owned()).or_default().insert(to.to_owned());
    }

    /// Forgets the edges for tests that the build proper has as well.
    fn settle(&mut self) {
        for (package, dev) in &mut self.dev {
            if let Some(normal) = self.normal.get(package) {
                dev.retain(|to| !normal.contains(to));
            }
        }
    }

    /// Returns the packages, in order.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &str> {
        self.normal.keys().map(String::as_str)
    }

    /// Returns the longest chain that leads from a package nobody uses to `package`, both included.
    ///
    /// The longest, since it shows how far up an edge of `package` is felt. Among equals the first in the alphabet.
    fn chain_to<'a>(&'a self, package: &'a str) -> Vec<&'a str> {
        self.chain_to_avoiding(package, &mut Vec::new())
    }

    fn chain_to_avoiding<'a>(&'a self, package: &'a str, below: &mut Vec<&'a str>) -> Vec<&'a str> {
        below.push(package);
        let mut best: Vec<&str> = Vec::new();
        for (user, uses) in &self.normal {
            // Cargo refuses cycles, made-up input may have them.
            if !uses.contains(package) || below.contains(&user.as_str()) {
                continue;
            }
            let chain = self.chain_to_avoiding(user, below);
            if chain.len() > best.len() || (chain.len() == best.len() && chain < best) {
                best = chain;
            }
        }
        below.pop();
        best.push(package);
        best
    }
}

/// What `docs/architecture.md` says about the crates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Documented {
    /// The table of edges.
    pub(crate) edges: Edges,
    /// The drawing, uppermost line first: package names.
    pub(crate) layers: Vec<Vec<String>>,
    /// The directories that have a section of the code map, in order: `crates/oci`.
    pub(crate) sections: Vec<String>,
}

impl Documented {
    /// Reads the page. Fails with a sentence if a part is missing.
    pub(crate) fn parse(page: &str) -> Result<Self> {
        let edges = parse_table(page)?;
        let layers = parse_drawing(page)?;
        let sections = page
            .lines()
            .filter_map(|line| line.strip_prefix("### `"))
            .filter_map(|rest| rest.split('`').next())
            .map(str::to_owned)
            .collect();
        Ok(Self {
            edges,
            layers,
            sections,
        })
    }
}

/// Reads the rows of the table: package, what it uses, what only its tests use.
fn parse_table(page: &str) -> Result<Edges> {
    let mut lines = page
        .lines()
        .skip_while(|line| !line.starts_with(TABLE_MARK))
        .skip(1)
        .peekable();
    lines
        .peek()
        .with_context(|| format!("{PAGE} has no table of edges after a comment {TABLE_MARK} …"))?;
    let mut edges = Edges::default();
    for line in lines
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
    {
        let mut cells = line.trim_matches('|').split('|').map(code_words);
        let Some(package) = cells.next().and_then(|words| words.into_iter().next()) else {
            continue; // The heading and the rule below it.
        };
        edges.add_package(&package);
        for to in cells.next().unwrap_or_default() {
            edges.add_normal(&package, &to);
        }
        for to in cells.next().unwrap_or_default() {
            edges.add_dev(&package, &to);
        }
    }
    Ok(edges)
}

/// Reads the lines of the drawing, each the crates of one height, as package names.
fn parse_drawing(page: &str) -> Result<Vec<Vec<String>>> {
    let mut lines = page
        .lines()
        .skip_while(|line| !line.starts_with(DRAWING_MARK))
        .skip(1)
        .peekable();
    lines
        .peek()
        .with_context(|| format!("{PAGE} has no drawing of the layers after a comment {DRAWING_MARK} …"))?;
    Ok(lines
        .skip_while(|line| !line.starts_with("```"))
        .skip(1)
        .take_while(|line| !line.starts_with("```"))
        .map(|line| line.split_whitespace().map(package_of_directory).collect::<Vec<_>>())
        .filter(|line| !line.is_empty())
        .collect())
}

/// Returns the package that lives in `crates/<directory>`.
fn package_of_directory(directory: &str) -> String {
    if directory == "cli" {
        "unlade".to_owned()
    } else {
        format!("unlade-{directory}")
    }
}

/// Returns what stands between back-ticks in one cell.
fn code_words(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Compares the edges as built with those documented; each string is one complaint.
pub(crate) fn compare(built: &Edges, documented: &Edges) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in built.packages() {
        if !documented.normal.contains_key(package) {
            complaints.push(format!("{package}: exists, and has no row in the table of {PAGE}"));
        }
    }
    for package in documented.packages() {
        if !built.normal.contains_key(package) {
            complaints.push(format!(
                "{package}: has a row in the table of {PAGE}, and does not exist"
            ));
        }
    }
    for (built_of, documented_of, what) in [
        (&built.normal, &documented.normal, ""),
        (&built.dev, &documented.dev, " (for its tests)"),
    ] {
        for (from, to) in missing_in(built_of, documented_of) {
            let chain = built.chain_to(from);
            let felt = if chain.len() > 1 {
                format!(" ({} -> {to})", chain.join(" -> "))
            } else {
                String::new()
            };
            complaints.push(format!("{from} -> {to}{what}: not in {PAGE}{felt}"));
        }
        for (from, to) in missing_in(documented_of, built_of) {
            complaints.push(format!(
                "{from} -> {to}{what}: in {PAGE}, and no manifest has it any more"
            ));
        }
    }
    complaints
}

/// Returns those of `edges` that `others` lacks, for the packages that both know.
fn missing_in<'a>(
    edges: &'a BTreeMap<String, BTreeSet<String>>,
    others: &'a BTreeMap<String, BTreeSet<String>>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    edges
        .iter()
        .filter_map(|(from, tos)| Some((from, tos, others.get(from)?)))
        .flat_map(|(from, tos, known)| {
            tos.iter()
                .filter(|to| !known.contains(*to))
                .map(move |to| (from.as_str(), to.as_str()))
        })
}

/// Checks that the documented edges point downward in the drawing, and that tests' crates stay out of the product.
pub(crate) fn check_layers(documented: &Documented) -> Vec<String> {
    let mut height = BTreeMap::new();
    for (line, packages) in documented.layers.iter().enumerate() {
        for package in packages {
            height.insert(package.as_str(), line);
        }
    }
    let mut complaints = Vec::new();
    for (from, tos) in &documented.edges.normal {
        if from.starts_with("unlade") && !NOT_PRODUCT.contains(&from.as_str()) && from != TEST_SUPPORT {
            if !height.contains_key(from.as_str()) {
                complaints.push(format!("{from}: is not in the drawing of {PAGE}"));
            }
            for to in tos
                .iter()
                .filter(|to| *to == TEST_SUPPORT || NOT_PRODUCT.contains(&to.as_str()))
            {
                complaints.push(format!("{from} -> {to}: only tests may use it, as a dev-dependency"));
            }
        }
        for to in tos {
            if let (Some(upper), Some(lower)) = (height.get(from.as_str()), height.get(to.as_str()))
                && upper >= lower
            {
                complaints.push(format!(
                    "{from} -> {to}: does not point downward in the drawing of {PAGE}"
                ));
            }
        }
    }
    complaints
}

/// Checks that the code map has exactly one section for each crate's directory.
pub(crate) fn check_sections(documented: &Documented, directories: &BTreeSet<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    for section in &documented.sections {
        if !seen.insert(section.clone()) {
            complaints.push(format!("{section}: has two sections in {PAGE}"));
        } else if !directories.contains(section) {
            complaints.push(format!("{section}: has a section in {PAGE}, and does not exist"));
        }
    }
    for directory in directories.difference(&seen) {
        complaints.push(format!(
            "{directory}: exists, and has no section \"### `{directory}`\" in {PAGE}"
        ));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_TEXT: &str = "\
# Architecture

<!-- layers: read by `cargo xtask tidy` -->
```text
cli
pull
images
reference  sys
oci
```

<!-- edges: read by `cargo xtask tidy` -->

| package | uses | only its tests use | why |
|---|---|---|---|
| `unlade` | `unlade-pull` | `unlade-test-support` | it is the top, see `docs` |
| `unlade-pull` | `unlade-images` | | |
| `unlade-images` | `unlade-reference`, `unlade-sys` | | |
| `unlade-reference` | `unlade-oci` | | |
| `unlade-sys` | | | |
| `unlade-oci` | | | |
| `unlade-test-support` | `unlade-oci` | | |

### `crates/oci`
### `crates/sys`
";

    fn documented() -> Documented {
        Documented::parse(PAGE_TEXT).unwrap()
    }

    #[test]
    fn the_page_is_read() {
        let page = documented();
        assert_eq!(page.layers[0], ["unlade"]);
        assert_eq!(page.layers[3], ["unlade-reference", "unlade-sys"]);
        assert_eq!(page.sections, ["crates/oci", "crates/sys"]);
        assert_eq!(page.edges.packages().count(), 7);
        assert!(page.edges.normal["unlade-images"].contains("unlade-sys"));
        assert!(page.edges.dev["unlade"].contains("unlade-test-support"));
        assert!(page.edges.normal["unlade"].len() == 1, "the reasons are not edges");
    }

    #[test]
    fn a_page_without_table_or_drawing_is_an_error() {
        assert!(Documented::parse("# Architecture\n").is_err());
        let no_table = PAGE_TEXT.replace("<!-- edges", "<!-- other");
        assert!(
            Documented::parse(&no_table)
                .unwrap_err()
                .to_string()
                .contains("no table of edges")
        );
    }

    #[test]
    fn what_is_documented_passes() {
        let page = documented();
        assert_eq!(compare(&page.edges, &page.edges), Vec::<String>::new());
        assert_eq!(check_layers(&page), Vec::<String>::new());
    }

    #[test]
    fn an_edge_that_is_not_documented_is_named_with_its_chain() {
        let page = documented();
        let mut built = page.edges.clone();
        built.add_normal("unlade-reference", "unlade-sys");
        assert_eq!(
            compare(&built, &page.edges),
            ["unlade-reference -> unlade-sys: not in docs/architecture.md \
              (unlade -> unlade-pull -> unlade-images -> unlade-reference -> unlade-sys)"]
        );
    }

    #[test]
    fn an_edge_from_the_top_has_no_chain_to_show() {
        let page = documented();
        let mut built = page.edges.clone();
        built.add_normal("unlade", "unlade-sys");
        assert_eq!(
            compare(&built, &page.edges),
            ["unlade -> unlade-sys: not in docs/architecture.md"]
        );
    }

    #[test]
    fn an_edge_of_the_tests_counts_too() {
        let page = documented();
        let mut built = page.edges.clone();
        built.add_dev("unlade-oci", "unlade-sys");
        let complaints = compare(&built, &page.edges);
        assert_eq!(complaints.len(), 1);
        assert!(
            complaints[0].starts_with("unlade-oci -> unlade-sys (for its tests): not in"),
            "{complaints:?}"
        );
    }

    #[test]
    fn a_stale_edge_is_named() {
        let page = documented();
        let mut built = page.edges.clone();
        built.normal.get_mut("unlade-images").unwrap().remove("unlade-sys");
        assert_eq!(
            compare(&built, &page.edges),
            ["unlade-images -> unlade-sys: in docs/architecture.md, and no manifest has it any more"]
        );
    }

    #[test]
    fn packages_are_held_against_the_table_both_ways() {
        let page = documented();
        let mut built = page.edges.clone();
        built.add_package("unlade-new");
        built.normal.remove("unlade-sys");
        let complaints = compare(&built, &page.edges);
        assert!(
            complaints
                .iter()
                .any(|c| c.starts_with("unlade-new: exists, and has no row")),
            "{complaints:?}"
        );
        assert!(
            complaints.iter().any(|c| c.starts_with("unlade-sys: has a row")),
            "{complaints:?}"
        );
    }

    #[test]
    fn an_edge_that_the_build_has_too_is_not_one_of_the_tests() {
        let mut edges = Edges::default();
        edges.add_normal("a", "b");
        edges.add_dev("a", "b");
        edges.settle();
        assert!(edges.dev["a"].is_empty());
    }

    #[test]
    fn upward_and_sideways_edges_are_refused_even_when_listed() {
        let mut page = documented();
        page.edges.add_normal("unlade-oci", "unlade-pull");
        page.edges.add_normal("unlade-reference", "unlade-sys");
        assert_eq!(
            check_layers(&page),
            [
                "unlade-oci -> unlade-pull: does not point downward in the drawing of docs/architecture.md",
                "unlade-reference -> unlade-sys: does not point downward in the drawing of docs/architecture.md",
            ]
        );
    }

    #[test]
    fn fakes_stay_out_of_the_product() {
        let mut page = documented();
        page.edges.add_normal("unlade-sys", "unlade-test-support");
        page.edges.add_normal("xtask", "unlade-test-support");
        assert_eq!(
            check_layers(&page),
            ["unlade-sys -> unlade-test-support: only tests may use it, as a dev-dependency"]
        );
    }

    #[test]
    fn a_crate_that_the_drawing_forgets_is_named() {
        let mut page = documented();
        page.layers.pop();
        assert_eq!(
            check_layers(&page),
            ["unlade-oci: is not in the drawing of docs/architecture.md"]
        );
    }

    #[test]
    fn a_cycle_in_made_up_input_ends() {
        let mut edges = Edges::default();
        edges.add_normal("a", "b");
        edges.add_normal("b", "a");
        edges.add_normal("c", "b");
        assert_eq!(edges.chain_to("a"), ["c", "b", "a"]);
    }

    #[test]
    fn sections_and_directories_agree() {
        let page = documented();
        let directories: BTreeSet<String> = ["crates/oci", "xtask"].map(str::to_owned).into();
        let complaints = check_sections(&page, &directories);
        assert_eq!(
            complaints,
            [
                "crates/sys: has a section in docs/architecture.md, and does not exist",
                "xtask: exists, and has no section \"### `xtask`\" in docs/architecture.md",
            ]
        );
    }
}
