//! Root filesystems: where their data is, and what `unpack` makes of layers that meet, and what umoci does.

use unlade_test_support::{Compression, ImageBuilder, LayerBuilder, TreeSnapshot, write_layout};
use unlade_tests::{Filesystem, Home, Kind, real};

use crate::support::{fat_layer, serve};

/// Where the filesystem can, the data of an unpacked tree is that of the store; elsewhere it is a copy.
#[test]
fn privileged_real_data_is_shared_where_the_filesystem_can() {
    const BYTES: usize = 24 << 20;
    let image = ImageBuilder::new().layer(fat_layer("fat", BYTES)).build();
    let (_registry, reference) = serve(&image);
    for (kind, shares) in [(Kind::Xfs, true), (Kind::Ext4, false)] {
        let filesystem = Filesystem::new(kind, 512 << 20);
        let home = Home::with_store(filesystem.path().join("store"));
        let pulled = home.pull(&reference);
        let before = filesystem.free();
        let target = filesystem.path().join("rootfs");
        home.unlade(["unpack", &reference]).args([&target]).run().success();
        let taken = before.saturating_sub(filesystem.free());
        assert_eq!(taken < BYTES as u64 / 2, shares, "{kind:?}: {taken} bytes were taken");
        let (in_store, unpacked) = (pulled.directories[0].join("fat"), target.join("fat"));
        assert!(std::fs::read(&in_store).unwrap() == std::fs::read(&unpacked).unwrap());
        // It is a copy all the same: what is written to it does not show in the store.
        std::fs::write(&unpacked, "changed").unwrap();
        home.unlade(["verify", "--deep"]).run().success();
    }
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
