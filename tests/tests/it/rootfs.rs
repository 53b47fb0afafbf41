//! Root filesystems: the same tree from an overlay mount, from layer directories and from blobs, by root and by others, and
//! the tree that umoci makes.

use std::path::{Path, PathBuf};

use unlade_test_support::{Compression, ImageBuilder, LayerBuilder, TreeSnapshot, fixtures, write_layout};
use unlade_tests::{Home, RealRegistry, real};

use crate::support::serve;

/// Unpacks an image below the home: from what is there if it was pulled, else from its blobs.
fn unpack(home: &Home, reference: &str, name: &str, source: &str) -> PathBuf {
    let target = home.path("home").join(name);
    let command = home.unlade(["--format", "json", "unpack", reference]).args([&target]);
    let result = command.run().success().json();
    assert_eq!(result["source"], source);
    target
}

/// A mount, until it is dropped.
struct Mounted<'a> {
    home: &'a Home,
    target: PathBuf,
}

impl<'a> Mounted<'a> {
    fn of(home: &'a Home, reference: &str) -> Self {
        let target = home.path("mounted");
        home.unlade(["mount", reference]).args([&target]).run().success();
        Self { home, target }
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ended = self.home.unlade(["umount"]).args([&self.target]).run();
    }
}

/// Makes an image into a tree in all ways, which must give the same, and returns it.
fn three_ways(reference: &str) -> TreeSnapshot {
    let (pulled, kept) = (Home::new(), Home::new());
    pulled.pull(reference);
    let from_directories = TreeSnapshot::of(unpack(&pulled, reference, "rootfs", "directories"));
    let from_blobs = TreeSnapshot::of(unpack(&kept, reference, "rootfs", "blobs"));
    from_directories.assert_same(&from_blobs);
    let mounted = Mounted::of(&pulled, reference);
    // The time of a directory that a layer merely implies is that of the layer in a mount.
    let shown = TreeSnapshot::of(&mounted.target).without_dir_mtimes();
    shown.assert_same(&from_directories.clone().without_dir_mtimes());
    drop(mounted);
    assert!(std::fs::read_dir(pulled.path("mounted")).unwrap().next().is_none());
    from_directories
}

/// The same as an ordinary user: unpacked in both ways, and mounted for a command in a namespace.
fn three_ways_as_nobody(reference: &str) {
    let (pulled, kept) = (Home::of_nobody(), Home::of_nobody());
    pulled.pull(reference);
    let from_directories = unpack(&pulled, reference, "rootfs", "directories");
    let from_blobs = TreeSnapshot::of(unpack(&kept, reference, "rootfs", "blobs"));
    TreeSnapshot::of(&from_directories).assert_same(&from_blobs);

    let refused = pulled
        .unlade(["mount", reference])
        .args([&pulled.path("home/mounted")])
        .run();
    assert_eq!(refused.code(), Some(9), "{refused}");
    assert!(refused.stderr.contains("-- COMMAND"), "{refused}");
    let listed = |command: unlade_tests::Finished| {
        let mut lines: Vec<String> = command.success().stdout.lines().map(ToOwned::to_owned).collect();
        lines.sort();
        assert!(lines.len() > 2, "{lines:?}");
        lines
    };
    // Times of directories are left out as above, and so are owners, who are nobody's all. Names are bytes, which `sed`
    // escapes.
    let find = |target: &Path| {
        let script =
            r#"cd "$1" && find . -not -type d -printf '%P %y %m %s %T@ %l\n' -o -printf '%P %y %m\n' | sed -n 'l 0'"#;
        ["sh", "-euc", script, "sh", target.to_str().unwrap()].map(ToOwned::to_owned)
    };
    let target = pulled.path("home/mounted");
    let mounted = pulled
        .unlade(["mount", reference])
        .args([&target])
        .args(["--"])
        .args(find(&target));
    // In a namespace of the same kind every directory can be read.
    let unpacked = pulled
        .unlade(["mount", reference])
        .args([&target])
        .args(["--"])
        .args(find(&from_directories));
    assert_eq!(listed(mounted.run()), listed(unpacked.run()));
    assert!(std::fs::read_dir(&target).unwrap().next().is_none());
    let failed = pulled
        .unlade(["mount", reference])
        .args([&target])
        .args(["--", "sh", "-c", "exit 42"])
        .run();
    assert_eq!(failed.code(), Some(42), "{failed}");
}

#[test]
fn privileged_every_entry_type_is_the_same_in_all_ways() {
    let (_registry, reference) = serve(&fixtures::all_entry_types());
    three_ways(&reference);
    three_ways_as_nobody(&reference);
}

#[test]
fn privileged_sixty_layers_are_the_same_in_all_ways() {
    let (_registry, reference) = serve(&fixtures::many());
    three_ways(&reference);
    three_ways_as_nobody(&reference);
}

#[test]
fn privileged_real_debian_is_the_same_in_all_ways_and_what_umoci_unpacks() {
    let registry = RealRegistry::start();
    let reference = registry.push_layout(&real::debian_layout(), "latest", "debian");
    let tree = three_ways(&reference);
    assert!(tree.len() > 5000, "{} paths", tree.len());
    let architecture = unlade_oci::Platform::host().architecture.clone();
    let umoci = real::reference_tree(&registry, "debian", "latest", &architecture);
    tree.without_root().assert_same(&umoci.without_root());
    three_ways_as_nobody(&reference);
}

/// What umoci does with a layer on top of [`base`].
enum Umoci {
    /// The same.
    Agrees,
    /// Something else, or it fails: see `docs/extraction.md`. This is what unlade does.
    Differs(Outcome),
}

enum Outcome {
    Has(&'static str),
    Refused,
}

fn base() -> LayerBuilder {
    LayerBuilder::new()
        .dir("./", 0o755)
        .dir("usr", 0o755)
        .dir("usr/lib", 0o755)
        .file("usr/lib/old", "old")
        .symlink("lib", "usr/lib")
        .dir("etc", 0o700)
        .file("etc/old", "old")
        .file("file", "file")
}

fn layers_that_meet() -> Vec<(&'static str, LayerBuilder, Umoci)> {
    use Outcome::{Has, Refused};
    use Umoci::{Agrees, Differs};
    let layer = LayerBuilder::new;
    vec![
        (
            "a whiteout after",
            layer().dir("etc", 0o755).file("etc/old", "new").whiteout("etc/old"),
            Agrees,
        ),
        (
            "a whiteout before",
            layer().dir("etc", 0o755).whiteout("etc/old").file("etc/old", "new"),
            Agrees,
        ),
        (
            "a marker after",
            layer().dir("etc", 0o755).file("etc/new", "").opaque("etc"),
            Agrees,
        ),
        (
            "a marker before",
            layer().dir("etc", 0o755).opaque("etc").file("etc/new", ""),
            Agrees,
        ),
        ("a whiteout through a link", layer().whiteout("lib/old"), Agrees),
        ("a marker through a link", layer().opaque("lib"), Agrees),
        ("an entry through a link", layer().file("lib/new", "new"), Agrees),
        ("a whiteout of nothing", layer().whiteout("no/such"), Agrees),
        (
            "two whiteouts in each other",
            layer().whiteout("etc").whiteout("etc/old"),
            Agrees,
        ),
        (
            "a directory made again",
            layer().dir("etc", 0o755).whiteout("etc").file("etc/new", ""),
            Agrees,
        ),
        (
            "a link made a directory",
            layer()
                .whiteout("lib")
                .dir("lib", 0o755)
                .opaque("lib")
                .file("lib/new", ""),
            Agrees,
        ),
        (
            "the same, the marker last",
            layer().dir("lib", 0o755).file("lib/new", "").opaque("lib"),
            Agrees,
        ),
        (
            "the same, the marker first",
            layer().opaque("lib").dir("lib", 0o755).file("lib/new", ""),
            Differs(Has("usr/lib/old")),
        ),
        ("a directory over a link", layer().dir("lib", 0o755), Agrees),
        (
            "a directory over a file",
            layer().dir("file", 0o755).file("file/x", ""),
            Agrees,
        ),
        (
            "a parent over a file",
            layer().file("file/x", ""),
            Differs(Has("file/x")),
        ),
        ("a file over a directory", layer().file("usr", ""), Agrees),
        (
            "a hard link to a lower layer",
            layer().hardlink("hard", "usr/lib/old"),
            Agrees,
        ),
        (
            "a hard link to what goes",
            layer().hardlink("hard", "file").whiteout("file"),
            Differs(Refused),
        ),
        (
            "a hard link to what went",
            layer().whiteout("file").hardlink("hard", "file"),
            Differs(Refused),
        ),
    ]
}

#[test]
fn privileged_real_layers_that_meet_are_what_umoci_unpacks() {
    for (what, top, umoci) in layers_that_meet() {
        let image = ImageBuilder::new()
            .layer(base().build(Compression::Gzip))
            .layer(top.build(Compression::Gzip))
            .build();
        let (_registry, reference) = serve(&image);
        let home = Home::new();
        let target = home.path("rootfs");
        let unpacked = home.unlade(["unpack", &reference]).args([&target]).run();
        match umoci {
            Umoci::Differs(Outcome::Refused) => assert_eq!(unpacked.code(), Some(8), "{what}: {unpacked}"),
            Umoci::Differs(Outcome::Has(path)) => {
                unpacked.success();
                assert!(TreeSnapshot::of(&target).get(path).is_some(), "{what}");
            }
            Umoci::Agrees => {
                unpacked.success();
                let layout = home.path("layout");
                write_layout(&layout, &[("reference", &image)]).unwrap();
                let work = home.path("theirs");
                std::fs::create_dir(&work).unwrap();
                let theirs = real::unpack(&layout, "reference", &work).without_dir_mtimes();
                let lines = TreeSnapshot::of(&target).without_dir_mtimes().diff(&theirs);
                assert!(lines.is_empty(), "{what}:\n{}", lines.join("\n"));
            }
        }
    }
}
