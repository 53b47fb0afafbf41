//! Images from a real registry, compared with what umoci makes of them, path for path.
//!
//! Three trees must be the same: layer directories merged by the kernel's overlayfs, the same merged by the rules written
//! out, and the reference: skopeo's copy of the image, unpacked layer by layer by umoci. Same means: path, type, mode,
//! owner, modification time to the nanosecond, size, content, link target, device number, extended attributes, and which
//! paths share an inode.

use std::path::PathBuf;

use unlade_test_support::{Artifact, NodeKind, TreeSnapshot, fixtures};
use unlade_tests::{Home, Pulled, RealRegistry, real};

/// Merges the layers in both ways, which must give the same, and returns that.
pub(crate) fn merged(pulled: &Pulled) -> TreeSnapshot {
    let by_rule = pulled.merged().without_root();
    let by_kernel = TreeSnapshot::overlay_merged(&without_repeats(&pulled.directories))
        .unwrap()
        .without_root();
    by_rule.assert_same(&by_kernel);
    by_kernel
}

/// Leaves out what comes again further up. The kernel refuses a directory that is there twice, and the upper one hides
/// the lower one whole, whatever is between them.
fn without_repeats(directories: &[PathBuf]) -> Vec<&PathBuf> {
    let comes_again = |at: usize| directories[at + 1..].contains(&directories[at]);
    (0..directories.len())
        .filter(|at| !comes_again(*at))
        .map(|at| &directories[at])
        .collect()
}

/// Pulls what was pushed and returns its merged tree.
fn pull(home: &Home, registry: &RealRegistry, name: &str, artifact: &dyn Artifact) -> TreeSnapshot {
    let reference = registry.push(name, "latest", artifact);
    let pulled = home.pull(&reference);
    assert_eq!(
        pulled.manifest,
        artifact.digest().to_string(),
        "the registry keeps the bytes"
    );
    let tree = merged(&pulled);
    assert!(tree.len() > 2, "{tree:?}");
    tree
}

fn reference(registry: &RealRegistry, name: &str) -> TreeSnapshot {
    real::reference_tree(registry, name, "latest", "amd64").without_root()
}

#[test]
fn privileged_real_web_image_is_what_umoci_unpacks() {
    let (registry, home) = (RealRegistry::start(), Home::new());
    let tree = pull(&home, &registry, "web", &fixtures::web());
    tree.assert_same(&reference(&registry, "web"));
    // Docker's form of the same image has other documents and the same layers; skopeo turns it into OCI's for umoci.
    let tree = pull(&home, &registry, "docker", &fixtures::web_docker());
    tree.assert_same(&reference(&registry, "docker"));
    assert_eq!(home.leftovers().layers.len(), 3);
}

#[test]
fn privileged_real_sixty_layers_are_what_umoci_unpacks() {
    let (registry, home) = (RealRegistry::start(), Home::new());
    let tree = pull(&home, &registry, "many", &fixtures::many());
    tree.assert_same(&reference(&registry, "many"));
}

#[test]
fn privileged_real_empty_layers_are_what_umoci_unpacks() {
    let (registry, home) = (RealRegistry::start(), Home::new());
    let tree = pull(&home, &registry, "empty", &fixtures::empty_layers());
    tree.assert_same(&reference(&registry, "empty"));
}

#[test]
fn privileged_real_every_entry_type_is_what_umoci_unpacks() {
    let (registry, home) = (RealRegistry::start(), Home::new());
    let tree = pull(&home, &registry, "types", &fixtures::all_entry_types());
    // Go's archive/tar reads a PAX record with an empty value as POSIX says for pax: as if it were not there. An attribute
    // may be empty, though, and GNU tar, which writes such records, reads them as that.
    let empty = tree.get("xattrs/empty").expect("a file with an empty attribute");
    assert_eq!(empty.xattrs[b"user.empty".as_slice()], b"");
    let tree = tree.without_xattrs("user.empty");
    tree.assert_same(&reference(&registry, "types"));
}

#[test]
fn privileged_real_every_platform_of_an_index_is_what_umoci_unpacks() {
    let (registry, home) = (RealRegistry::start(), Home::new());
    let name = registry.push("platforms", "latest", &fixtures::platforms());
    for (platform, architecture) in [("linux/amd64", "amd64"), ("linux/arm64", "arm64"), ("linux/386", "386")] {
        let tree = merged(&home.pull_with(&name, &["--platform", platform]));
        let content = &tree.get("platform").expect("the file that names the platform").content;
        assert!(content.is_some());
        let reference = real::reference_tree(&registry, "platforms", "latest", architecture);
        tree.assert_same(&reference.without_root());
    }
}

/// What an ordinary user can compare, too.
#[test]
fn real_web_image_has_the_content_that_umoci_unpacks() {
    let (registry, home) = (RealRegistry::start(), Home::new());
    let name = registry.push("web", "latest", &fixtures::web());
    let comparable = |tree: TreeSnapshot| tree.without_root().without_owners().without_xattrs("");
    let tree = comparable(home.pull(&name).merged());
    let reference = comparable(real::reference_tree(&registry, "web", "latest", "amd64"));
    tree.assert_same(&reference);
    let files = tree.iter().filter(|(_, node)| node.kind == NodeKind::File).count();
    assert!(files > 5, "{tree:?}");
}

#[test]
fn real_registry_tells_tags_and_digests() {
    let (registry, home) = (RealRegistry::start(), Home::new());
    let web = fixtures::web();
    let name = registry.push("team/web", "one", &web);
    registry.push("team/web", "two", &fixtures::platforms());
    let repository = name.strip_suffix(":one").unwrap();
    let tags = home.unlade(["tags", repository]).run().success();
    assert_eq!(tags.stdout.lines().collect::<Vec<_>>(), ["one", "two"], "{tags}");
    let resolved = home.unlade(["resolve", &name]).run().success();
    assert!(resolved.stdout.contains(&web.digest().to_string()), "{resolved}");
    let missing = registry.reference("team/web", "three");
    let error = home
        .unlade(["--format", "json", "pull", &missing])
        .run()
        .failure(3)
        .error();
    assert_eq!(error["class"], "not-found");
}
