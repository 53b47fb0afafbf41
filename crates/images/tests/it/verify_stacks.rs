//! Layer directories that depend on the layers below: what was changed in them is found, named, and made good.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use unlade_extract::{Limits, Progress};
use unlade_images::{Damage, Depth, Image, Lost, Mending, StoreOptions, Verification};
use unlade_sys::Dir;
use unlade_test_support::{Compression, LayerBuilder};

use crate::support::{Fixture, bring_in, image, overwrite, reference};

fn base() -> LayerBuilder {
    LayerBuilder::new()
        .dir("usr", 0o755)
        .dir("usr/lib", 0o750)
        .symlink("lib", "usr/lib")
        .file("usr/lib/old", "old")
        .file("usr/lib/gone", "gone")
        .file("usr/large", vec![7; 100_000])
        .dir("cache", 0o755)
        .file("cache/entry", "x")
}

/// Depends on [`base`] in every way: parents through a link, a hard link to a file below, a removal through a link, a
/// directory that is cleared without being declared.
fn top() -> LayerBuilder {
    LayerBuilder::new()
        .file("lib/new", "new")
        .file("lib/more", vec![3; 50_000])
        .hardlink("second", "usr/large")
        .whiteout("lib/gone")
        .opaque("cache")
}

fn chained(fixture: &Fixture) -> Image {
    let layers = [base(), top()].map(|layer| layer.build(Compression::Gzip));
    let brought = bring_in(&fixture.store, "app", &image(&layers), true);
    let chained: Vec<_> = brought.layers.iter().map(|layer| layer.chain_id.is_some()).collect();
    assert_eq!(chained, [false, true]);
    brought
}

fn differences(verification: &Verification) -> Vec<String> {
    let told = |damage: &Damage| match &damage.kind {
        unlade_images::DamageKind::Directory {
            problem: unlade_images::DirectoryProblem::Differs { differences, .. },
            ..
        } => differences.iter().map(ToString::to_string).collect(),
        other => vec![other.to_string()],
    };
    verification.damage.iter().flat_map(told).collect()
}

/// Changes what is in a directory and puts the directory's time back, which is not what is looked for.
fn change(directory: &Path, change: fn(&Path)) {
    let before = fs::metadata(directory).unwrap().modified().unwrap();
    change(directory);
    let times = FileTimes::new().set_modified(before);
    File::open(directory).unwrap().set_times(times).unwrap();
}

/// Writes other content into a file and leaves its time as it was.
fn rewrite(path: &Path, content: &[u8]) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, content).unwrap();
    let times = FileTimes::new().set_modified(before);
    File::open(path).unwrap().set_times(times).unwrap();
}

/// In which directory, what is done, and what is found.
type Change = (&'static str, fn(&Path), &'static str);

const CHANGES: [Change; 10] = [
    (
        "usr/lib",
        |lib| rewrite(&lib.join("new"), b"NEW"),
        "usr/lib/new has other content",
    ),
    (
        "",
        |root| rewrite(&root.join("second"), b"short"),
        "second has other content",
    ),
    (
        "usr/lib",
        |lib| fs::set_permissions(lib.join("more"), Permissions::from_mode(0o600)).unwrap(),
        "usr/lib/more has another mode",
    ),
    // That of the layer below.
    (
        "usr",
        |usr| fs::set_permissions(usr.join("lib"), Permissions::from_mode(0o755)).unwrap(),
        "usr/lib has another mode",
    ),
    (
        "usr/lib",
        |lib| fs::remove_file(lib.join("more")).unwrap(),
        "usr/lib/more is missing",
    ),
    (
        "usr/lib",
        |lib| fs::write(lib.join("extra"), "").unwrap(),
        "usr/lib/extra is not in the layer",
    ),
    (
        "usr/lib",
        |lib| fs::remove_file(lib.join("gone")).unwrap(),
        "usr/lib/gone is missing",
    ),
    (
        "usr/lib",
        |lib| {
            fs::remove_file(lib.join("new")).unwrap();
            symlink("more", lib.join("new")).unwrap();
        },
        "usr/lib/new is of another type",
    ),
    (
        "usr/lib",
        |lib| {
            let lib = Dir::open(lib).unwrap();
            lib.set_xattr("new".as_ref(), "user.unlade".as_ref(), b"1").unwrap();
        },
        "usr/lib/new differs in the attribute user.unlade",
    ),
    (
        "cache",
        |cache| {
            let cache = Dir::open(cache).unwrap();
            for name in ["trusted.overlay.opaque", "user.overlay.opaque"] {
                // Users may not touch the one, and root has not set the other.
                cache.remove_own_xattr(name.as_ref()).unwrap_or_default();
            }
        },
        "cache differs in the attribute trusted.overlay.opaque",
    ),
];

#[test]
fn every_change_in_a_directory_on_top_of_others_is_found_and_made_good() {
    let fixture = Fixture::new();
    let brought = chained(&fixture);
    let directory = brought.layers[1].directory.clone().unwrap();
    for (within, how, expected) in CHANGES {
        change(&directory.join(within), how);
        let quick = fixture.store.verify(Depth::Quick).unwrap();
        assert_eq!(differences(&quick), [""; 0], "{expected}");
        let verification = fixture.store.verify(Depth::Deep).unwrap();
        assert_eq!(differences(&verification), [expected]);
        assert_eq!(verification.damage[0].images, [reference("app")]);
        mend(&fixture, &verification);
        let verification = fixture.store.verify(Depth::Deep).unwrap();
        assert_eq!(differences(&verification), [""; 0], "{expected}");
        assert_eq!((verification.directories, verification.not_compared), (3, 0));
    }
    fs::remove_dir_all(&directory).unwrap();
    let verification = fixture.store.verify(Depth::Quick).unwrap();
    assert_eq!(verification.damage.len(), 1);
    mend(&fixture, &verification);
    assert_eq!(differences(&fixture.store.verify(Depth::Deep).unwrap()), [""; 0]);
}

/// Makes the directory again that was found damaged.
fn mend(fixture: &Fixture, verification: &Verification) {
    let mendings = fixture.store.set_aside(verification).unwrap();
    let [Mending::BringIn(lost)] = &mendings[..] else {
        panic!("{mendings:?}")
    };
    let Lost::Stack(stack) = &**lost else {
        panic!("no stack: {lost:?}")
    };
    assert_eq!(stack.layers.len(), 2);
    let layers: Vec<_> = stack.layers.iter().map(|(blob, diff_id)| (blob, diff_id)).collect();
    stack
        .store
        .stack(&layers, &Limits::default(), &Progress::new())
        .unwrap();
}

#[test]
fn what_lies_on_top_of_something_damaged_is_looked_at_when_that_is_whole_again() {
    let fixture = Fixture::new();
    let brought = chained(&fixture);
    let [below, above] = [0, 1].map(|at: usize| brought.layers[at].directory.clone().unwrap());
    rewrite(&below.join("usr/large"), &vec![8; 100_000]);
    rewrite(&above.join("second"), b"short");
    let verification = fixture.store.verify(Depth::Deep).unwrap();
    assert_eq!(differences(&verification), ["usr/large has other content"]);
    assert_eq!(verification.not_compared, 1);
    rewrite(&below.join("usr/large"), &vec![7; 100_000]);
    let verification = fixture.store.verify(Depth::Deep).unwrap();
    assert_eq!(differences(&verification), ["second has other content"]);
}

#[test]
fn directories_of_every_form_and_at_every_place_are_compared() {
    let fixture = Fixture::new();
    chained(&fixture);
    let layers = [base(), top()].map(|layer| layer.build(Compression::Gzip));
    let elsewhere = fixture.directory().join("elsewhere");
    for (layer_path, whiteouts) in [
        (None, unlade_extract::Whiteouts::Oci),
        (Some(elsewhere), unlade_extract::Whiteouts::Overlay),
    ] {
        let options = StoreOptions {
            layer_path,
            whiteouts,
            ..StoreOptions::at(fixture.store.root())
        };
        let store = unlade_images::Store::open_under_boot(&options, crate::support::BOOT.to_owned()).unwrap();
        bring_in(&store, "app", &image(&layers), true);
    }
    let verification = fixture.store.verify(Depth::Deep).unwrap();
    assert_eq!(differences(&verification), [""; 0]);
    assert_eq!((verification.directories, verification.not_compared), (9, 0));
}

#[test]
fn a_directory_on_top_of_others_whose_blob_is_damaged_is_not_compared() {
    let fixture = Fixture::new();
    let brought = chained(&fixture);
    let top: &unlade_images::Layer = &brought.layers[1];
    overwrite(
        &fixture.store.blobs().path(&top.blob),
        &vec![0; usize::try_from(top.size).unwrap()],
    );
    let verification = fixture.store.verify(Depth::Deep).unwrap();
    assert_eq!(verification.damage.len(), 1, "{:?}", verification.damage);
    assert!(verification.damage[0].kind.to_string().contains(&top.blob.to_string()));
    // Its own directory, and the one on top of the other.
    assert_eq!(verification.not_compared, 2);
}
