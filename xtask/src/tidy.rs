//! `cargo xtask tidy`: rules of the repository that neither the compiler nor a lint checks.
//!
//! The modules below hold one kind of rule each, over values; this file finds the files and prints the complaints.

mod contract;
mod edges;
mod manifests;
mod pages;
mod sources;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use edges::{Documented, Edges};

/// The directories that hold Rust code of ours.
const CODE: [&str; 3] = ["crates", "xtask", "tests"];
/// Pages outside the book.
const LOOSE_PAGES: [&str; 3] = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];

/// Runs every check over the workspace at `root`; fails if there is a complaint, after printing all of them.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut complaints = check_crates(root)?;
    complaints.extend(check_sources(root)?);
    complaints.extend(check_pages(root)?);
    complaints.extend(check_contract(root)?);
    for complaint in &complaints {
        println!("{complaint}");
    }
    match complaints.len() {
        0 => println!("tidy: nothing to complain about"),
        1 => bail!("tidy: 1 complaint"),
        count => bail!("tidy: {count} complaints"),
    }
    Ok(())
}

/// The crates, their edges and their manifests.
fn check_crates(root: &Path) -> Result<Vec<String>> {
    let page = read(root, edges::PAGE)?;
    let documented = Documented::parse(&page)?;
    let mut complaints = edges::compare(&Edges::of_workspace(root)?, &documented.edges);
    complaints.extend(edges::check_layers(&documented));
    let directories = crate_directories(root)?;
    complaints.extend(edges::check_sections(&documented, &directories));
    for directory in &directories {
        let path = format!("{directory}/Cargo.toml");
        complaints.extend(manifests::check(&path, &read(root, &path)?));
    }
    Ok(complaints)
}

fn crate_directories(root: &Path) -> Result<BTreeSet<String>> {
    let mut directories = BTreeSet::from(["tests".to_owned(), "xtask".to_owned()]);
    for path in files(root, "crates", "toml")? {
        if let Some(directory) = path.strip_suffix("/Cargo.toml") {
            directories.insert(directory.to_owned());
        }
    }
    Ok(directories)
}

fn check_sources(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for directory in CODE {
        for path in files(root, directory, "rs")? {
            complaints.extend(sources::check(&path, &read(root, &path)?));
        }
    }
    Ok(complaints)
}

/// The page that names tests.
fn check_contract(root: &Path) -> Result<Vec<String>> {
    let mut tests = BTreeSet::new();
    for directory in CODE {
        for path in files(root, directory, "rs")? {
            tests.extend(contract::tests_in(&read(root, &path)?));
        }
    }
    Ok(contract::check(&read(root, contract::PAGE)?, &tests))
}

fn check_pages(root: &Path) -> Result<Vec<String>> {
    let mut pages = pages::Pages::new();
    for path in files(root, "docs", "md")?
        .into_iter()
        .chain(LOOSE_PAGES.map(str::to_owned))
    {
        let text = read(root, &path)?;
        pages.insert(path, text);
    }
    let mut complaints = pages::check(&pages, &|path| root.join(path).exists());
    complaints.extend(pages::check_changelog("CHANGELOG.md", &pages["CHANGELOG.md"]));
    Ok(complaints)
}

/// Returns the files below `directory` with that extension, relative to `root`, in order.
fn files(root: &Path, directory: &str, extension: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(root.join(&directory)).with_context(|| format!("cannot list {directory}"))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {directory}"))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                bail!("{directory} has a name that is not UTF-8: {}", name.display())
            };
            let path = format!("{directory}/{name}");
            let kind = entry.file_type().with_context(|| format!("cannot look at {path}"))?;
            if kind.is_dir() && name != "target" && !name.starts_with('.') {
                open.push(path);
            } else if kind.is_file() && Path::new(name).extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read(root: &Path, path: &str) -> Result<String> {
    fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))
}
