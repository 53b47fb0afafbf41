//! Disks that become full at any point of a pull: the right error, nothing half done, and all is well when there is room.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use unlade_test_support::{Compression, Fault, Gate, Image, ImageBuilder, Layer, LayerBuilder};
use unlade_tests::{Filesystem, Finished, Home, Kind};

use crate::crashes::assert_whole;
use crate::support::{SOON, fat_layer, image_of, ingested, noise, serve, wait_until};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Layers that are fifty times as large once they are extracted, so that nobody can know beforehand.
fn compressible() -> Image {
    let layer = |at: usize| -> Layer {
        let block = noise(&format!("block-{at}"), 4 << 10);
        let layer = LayerBuilder::new().dir("files", 0o755);
        (0..16)
            .fold(layer, |layer, file| {
                layer.file(format!("files/{at}-{file}"), block.repeat(64))
            })
            .build(Compression::Gzip)
    };
    (0..4).map(layer).fold(ImageBuilder::new(), ImageBuilder::layer).build()
}

/// The error says where, what is free, and what is needed.
pub(crate) fn assert_says_what_is_needed(failed: Finished, disk: &Path) {
    let failed = failed.failure(9);
    let error = failed.error();
    assert_eq!(error["class"], "storage", "{failed}");
    let text = format!("{} {}", error["message"], error["causes"]);
    assert!(text.contains(disk.to_str().unwrap()), "{failed}");
    assert!(text.contains("bytes are free, and an estimated "), "{failed}");
    assert!(!error["hint"].is_null(), "{failed}");
}

#[test]
fn privileged_a_disk_may_become_full_at_any_point_of_an_extraction() {
    let (_registry, reference) = serve(&compressible());
    for step in 0..10 {
        // 16 MiB are extracted.
        let filesystem = Filesystem::new(Kind::Tmpfs, 2 * MIB + step * 1600 * KIB);
        let home = Home::with_store(filesystem.path().join("store"));
        let pull = home.unlade(["--format", "json", "pull", &reference]).run();
        assert_says_what_is_needed(pull, &filesystem.path());
        // Blobs that have arrived are kept, and so are layers that are whole.
        assert!(home.leftovers().staging.is_empty(), "{:?}", home.leftovers());
        assert!(home.images().is_empty());
        filesystem.resize(64 * MIB);
        home.pull(&reference);
        assert_whole(&home, &format!("step {step}"));
    }
}

#[test]
fn privileged_a_disk_may_become_full_during_an_import_or_a_pull_of_all_platforms() {
    let (_registry, reference) = serve(&compressible());
    let from = Home::new();
    from.pull(&reference);
    for form in ["oci-layout", "oci-archive"] {
        let path = from.path(form);
        let path = path.to_str().unwrap();
        from.unlade(["export", &reference, "--format", form, "-o", path])
            .run()
            .success();
        let filesystem = Filesystem::new(Kind::Tmpfs, 4 * MIB);
        let home = Home::with_store(filesystem.path().join("store"));
        let import = home.unlade(["--format", "json", "import", path]).run();
        assert_says_what_is_needed(import, &filesystem.path());
        let left = home.leftovers();
        assert!(left.staging.is_empty() && !left.ingest.is_empty(), "{form}: {left:?}");
        let import = ["--format", "json", "import", path, "--discard-partial"];
        assert_says_what_is_needed(home.unlade(import).run(), &filesystem.path());
        let left = home.leftovers();
        assert!(left.staging.is_empty() && left.ingest.is_empty(), "{form}: {left:?}");
        filesystem.resize(64 * MIB);
        home.unlade(["import", path]).run().success();
        assert_whole(&home, form);
    }

    // Blobs alone are known beforehand.
    let layer = fat_layer("fat", 8 << 20);
    let (registry, reference) = serve(&image_of(&layer));
    let filesystem = Filesystem::new(Kind::Tmpfs, 4 * MIB);
    let home = Home::with_store(filesystem.path().join("store"));
    let pull = ["--format", "json", "pull", "--platform", "all", &reference];
    let refused = home.unlade(pull).run().failure(9);
    let message = refused.error()["message"].to_string();
    assert!(message.contains("bytes free, and an estimated "), "{refused}");
    assert_eq!(registry.blob_bytes_served(&layer.digest), 0);
}

/// A filesystem on which nothing can be written, before a pull and in between: the error says where, and what only reads works.
#[test]
fn privileged_real_a_store_on_a_filesystem_that_became_read_only_can_be_read() {
    let (_registry, reference) = serve(&image_of(&fat_layer("one", 200_000)));
    let (_other, second) = serve(&image_of(&fat_layer("two", 200_000)));
    let filesystem = Filesystem::new(Kind::Ext4, 64 * MIB);
    let home = Home::with_store(filesystem.path().join("store"));
    home.pull(&reference);
    filesystem.set_read_only(true);
    for command in [["pull", &second], ["rm", &reference], ["prune", "--all"]] {
        let arguments = ["--format", "json"].into_iter().chain(command);
        let failed = home.unlade(arguments).run().failure(9);
        let error = failed.error();
        assert_eq!(error["class"], "storage", "{failed}");
        let text = format!("{} {}", error["message"], error["causes"]);
        assert!(text.contains(filesystem.path().to_str().unwrap()), "{failed}");
    }
    assert_eq!(home.images(), std::slice::from_ref(&reference));
    assert!(!home.pull(&reference).asked_registry);
    home.unlade(["verify", "--deep"]).run().success();
    filesystem.set_read_only(false);
    home.pull(&second);
    assert_whole(&home, "writable again");
}

/// Takes all room but `spare` bytes. Returns the file that has it.
fn fill(filesystem: &Filesystem, spare: u64) -> std::path::PathBuf {
    let path = filesystem.path().join("filler");
    let mut file = File::create(&path).unwrap();
    let block = vec![1; 64 << 10];
    while file.write_all(&block).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(spare)).unwrap();
    file.sync_all().unwrap();
    path
}

#[test]
fn privileged_real_a_disk_may_become_full_at_any_point_of_a_download() {
    let layer = fat_layer("fat", 8 << 20);
    let size = layer.size();
    let filesystem = Filesystem::new(Kind::Ext4, 64 * MIB);
    for step in 0..10 {
        let (registry, reference) = serve(&image_of(&layer));
        let gate = Gate::new();
        let held = size * (step + 1) / 12;
        registry.fault(Fault::on_blob(&layer.digest).nth(1).hold_after(held, &gate));
        let home = Home::with_store(filesystem.path().join(format!("store-{step}")));
        let discard = step % 3 == 2;
        let mut command = home.unlade(["--format", "json", "pull", &reference]);
        if discard {
            command = command.args(["--discard-partial"]);
        }
        let pull = command.start();
        assert!(gate.wait_reached(SOON), "{}", pull.stderr());
        wait_until("it has arrived", || ingested(&home) + 256 * KIB >= held);
        let filler = fill(&filesystem, step * 64 * KIB);
        gate.open();
        assert_says_what_is_needed(pull.wait(), &filesystem.path());
        let left = home.leftovers();
        assert!(left.staging.is_empty() && left.layers.is_empty(), "{left:?}");
        assert_eq!(left.ingest.is_empty(), discard, "{left:?}");

        fs::remove_file(filler).unwrap();
        registry.clear();
        home.pull(&reference);
        let again = registry.blob_bytes_served(&layer.digest);
        let expected = if discard { size } else { size - held + 512 * KIB };
        assert!(
            again <= expected,
            "step {step}: {again} of {size} bytes, {held} were there"
        );
        assert_whole(&home, &format!("step {step}"));
        fs::remove_dir_all(home.store()).unwrap();
    }
}

#[test]
fn privileged_what_cannot_fit_elsewhere_is_refused_before_it_is_fetched() {
    let layer = fat_layer("fat", 8 << 20);
    let (registry, reference) = serve(&image_of(&layer));
    let small = Filesystem::new(Kind::Tmpfs, 4 * MIB);
    let home = Home::new();
    let layers = small.path().join("layers");
    let pull = home
        .unlade(["--format", "json", "pull", &reference, "-L", layers.to_str().unwrap()])
        .run();
    assert_eq!(pull.code(), Some(9), "{pull}");
    let message = pull.error()["message"].to_string();
    assert!(message.contains(layers.to_str().unwrap()), "{pull}");
    assert_eq!(registry.blob_bytes_served(&layer.digest), 0);
    // The blob alone fits.
    home.unlade(["pull", &reference, "--no-extract"]).run().success();
}
