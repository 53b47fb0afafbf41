//! Rules for the manifests: every crate inherits the lints, and versions stand in one place.

use toml::{Table, Value};

/// The tables of a manifest that name dependencies.
const DEPENDENCY_TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Checks one crate's manifest. `path` is for the messages; each string is one complaint.
pub(crate) fn check(path: &str, manifest: &str) -> Vec<String> {
    let manifest: Table = match manifest.parse() {
        Ok(table) => table,
        Err(error) => return vec![format!("{path}: is not TOML: {}", error.message())],
    };
    let mut complaints = Vec::new();
    if !inherits(manifest.get("lints")) {
        complaints.push(format!(
            "{path}: does not inherit the lints; add [lints] workspace = true"
        ));
    }
    check_dependencies(path, "", &manifest, &mut complaints);
    if let Some(Value::Table(targets)) = manifest.get("target") {
        for (target, table) in targets {
            if let Value::Table(table) = table {
                check_dependencies(path, &format!("target.{target}."), table, &mut complaints);
            }
        }
    }
    complaints
}

fn check_dependencies(path: &str, prefix: &str, manifest: &Table, complaints: &mut Vec<String>) {
    for name in DEPENDENCY_TABLES {
        let Some(Value::Table(dependencies)) = manifest.get(name) else {
            continue;
        };
        for (dependency, value) in dependencies.iter().filter(|(_, value)| !inherits(Some(value))) {
            let found = match value {
                Value::String(version) => format!("version {version:?}"),
                _ => "its own source".to_owned(),
            };
            complaints.push(format!(
                "{path}: [{prefix}{name}] gives {dependency} {found}; say workspace = true, and put it into \
                 [workspace.dependencies]"
            ));
        }
    }
}

fn inherits(value: Option<&Value>) -> bool {
    value
        .and_then(|value| value.get("workspace"))
        .and_then(Value::as_bool)
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[package]\nname = \"a\"\n[lints]\nworkspace = true\n[dependencies]\nserde.workspace = true\n\
                        hyper = { workspace = true, features = [\"server\"] }\n";

    #[test]
    fn a_manifest_that_inherits_passes() {
        assert_eq!(check("a/Cargo.toml", GOOD), Vec::<String>::new());
    }

    #[test]
    fn lints_are_inherited() {
        let complaints = check("a/Cargo.toml", "[package]\nname = \"a\"\n");
        assert_eq!(
            complaints,
            ["a/Cargo.toml: does not inherit the lints; add [lints] workspace = true"]
        );
    }

    #[test]
    fn versions_outside_the_workspace_are_named() {
        let manifest = format!(
            "{GOOD}[dev-dependencies]\ninsta = \"1\"\n[target.'cfg(unix)'.dependencies]\nnix = {{ version = \"1\" }}\n"
        );
        let complaints = check("a/Cargo.toml", &manifest);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].starts_with("a/Cargo.toml: [dev-dependencies] gives insta version \"1\";"));
        assert!(complaints[1].starts_with("a/Cargo.toml: [target.cfg(unix).dependencies] gives nix its own source;"));
    }

    #[test]
    fn a_broken_manifest_is_a_complaint() {
        assert!(check("a/Cargo.toml", "[package\n")[0].starts_with("a/Cargo.toml: is not TOML"));
    }
}
