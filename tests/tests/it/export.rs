//! Images out of the store: that others read what we write, and that nothing in it has changed.

use std::fs;
use std::path::Path;
use std::process::Command;

use unlade_test_support::{Compression, ImageBuilder, Layer, TreeSnapshot, fixtures};
use unlade_tests::{Home, real};

use crate::support::serve;

/// A home that has the image, and its reference.
fn home(image: &unlade_test_support::Image) -> (Home, String) {
    let (_registry, reference) = serve(image);
    let home = Home::new();
    home.pull(&reference);
    (home, reference)
}

fn export(home: &Home, reference: &str, form: &str, name: &str) -> std::path::PathBuf {
    let path = home.path(name);
    let command = home.unlade(["export", reference, "--format", form, "-o"]).args([&path]);
    command.run().success();
    path
}

#[test]
fn an_archive_is_whole_or_not_there_and_always_the_same() {
    let (home, reference) = home(&fixtures::web());
    let one = export(&home, &reference, "oci-archive", "one.tar");
    let two = export(&home, &reference, "oci-archive", "two.tar");
    assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
    let piped = home.path("piped.tar");
    // A blob with a byte changed is found, and no archive is left.
    let blob = fixtures::web().layers[0].clone();
    let path = home.store().join("blobs/sha256").join(blob.hex());
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    for form in ["oci-archive", "docker-archive", "oci-layout"] {
        let command = home
            .unlade(["export", &reference, "--format", form, "-o"])
            .args([&piped]);
        let code = command.run().code();
        assert!(matches!(code, Some(9 | 12)), "{form}: {code:?}");
        assert!(!piped.exists(), "{form}");
    }
    let beside = fs::read_dir(home.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let beside: Vec<_> = beside.filter(|name| name.to_string_lossy().starts_with('.')).collect();
    assert!(beside.is_empty(), "{beside:?}");

    fs::remove_file(&path).unwrap();
    let missing = home.unlade(["export", &reference, "-o"]).args([&piped]).run();
    assert_eq!(missing.code(), Some(3), "{missing}");
}

#[test]
fn a_root_filesystem_is_always_the_same_archive() {
    let (home, reference) = home(&fixtures::web());
    let one = export(&home, &reference, "tar", "one.tar");
    // Another store, extracted at another time; and no blob is needed.
    let (other, its_reference) = self::home(&fixtures::web());
    other.unlade(["prune", "--blobs"]).run().success();
    let two = export(&other, &its_reference, "tar", "two.tar");
    assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
    let listed = Command::new("tar")
        .arg("--list")
        .arg("--file")
        .arg(&one)
        .output()
        .unwrap();
    assert!(listed.status.success());
    let listed = String::from_utf8(listed.stdout).unwrap();
    let names: Vec<&str> = listed.lines().collect();
    assert_eq!(names[0], "./");
    assert!(!listed.contains(".wh."), "{listed}");

    let layers = fs::read_dir(home.store().join("layers")).unwrap();
    for layer in layers {
        fs::remove_dir_all(layer.unwrap().path()).unwrap();
    }
    let path = home.path("three.tar");
    let missing = home
        .unlade(["export", &reference, "--format", "tar", "-o"])
        .args([&path])
        .run();
    assert_eq!(missing.code(), Some(3), "{missing}");
    assert!(!path.exists());
}

#[test]
fn privileged_a_root_filesystem_as_an_archive_is_the_unpacked_one() {
    let (home, reference) = home(&fixtures::all_entry_types());
    let (unpacked, extracted) = (home.path("unpacked"), home.path("extracted"));
    home.unlade(["unpack", &reference]).args([&unpacked]).run().success();
    let archive = export(&home, &reference, "tar", "rootfs.tar");
    fs::create_dir(&extracted).unwrap();
    let done = Command::new("tar")
        .args([
            "--extract",
            "--preserve-permissions",
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
        ])
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(&extracted)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    TreeSnapshot::of(&extracted).assert_same(&TreeSnapshot::of(&unpacked));

    // It is a layer, too, and gives the same tree again.
    let tar = fs::read(&archive).unwrap();
    let image = ImageBuilder::new()
        .layer(Layer::from_tar(tar, Compression::None))
        .build();
    let (_registry, flat) = serve(&image);
    home.pull(&flat);
    let again = home.path("again");
    home.unlade(["unpack", &flat]).args([&again]).run().success();
    TreeSnapshot::of(&again).assert_same(&TreeSnapshot::of(&unpacked));
}

#[test]
fn wrong_usage_is_told() {
    let (home, reference) = home(&fixtures::web());
    let layout = home
        .unlade(["export", &reference, "--format", "oci-layout", "-o", "-"])
        .run();
    assert_eq!(layout.code(), Some(2), "{layout}");
    let images = home.unlade(["images", "--format", "oci-layout"]).run();
    assert_eq!(images.code(), Some(2), "{images}");
    let full = home.path("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("file"), "").unwrap();
    let into = home
        .unlade(["export", &reference, "--format", "oci-layout", "-o"])
        .args([&full])
        .run();
    assert_eq!(into.code(), Some(9), "{into}");
    assert!(full.join("file").is_file());
}

fn skopeo(work: &Path, arguments: &[&str]) -> String {
    real::output_of(real::skopeo_command(work).args(arguments))
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn real_others_read_what_is_exported_and_the_digests_stay() {
    for image in [fixtures::web(), fixtures::web_zstd(), fixtures::web_plain()] {
        let (home, reference) = home(&image);
        let archive = export(&home, &reference, "oci-archive", "image.tar");
        let layout = export(&home, &reference, "oci-layout", "layout");
        let docker = export(&home, &reference, "docker-archive", "docker.tar");
        let work = tempfile::tempdir().unwrap();
        for source in [
            format!("oci-archive:{}:{reference}", archive.display()),
            format!("oci:{}:{reference}", layout.display()),
        ] {
            let inspected = json(&skopeo(work.path(), &["inspect", &source]));
            assert_eq!(inspected["Digest"], image.digest.to_string(), "{source}");
            let copy = work.path().join("copy");
            let target = format!("dir:{}", copy.display());
            skopeo(work.path(), &["copy", "--preserve-digests", &source, &target]);
            for layer in &image.layers {
                assert!(copy.join(layer.hex()).is_file(), "{source}");
            }
            fs::remove_dir_all(copy).unwrap();
        }
        let listed = real::output_of(Command::new("umoci").arg("ls").arg("--layout").arg(&layout));
        assert_eq!(listed.trim(), reference);

        let source = format!("docker-archive:{}", docker.display());
        let config = json(&skopeo(work.path(), &["inspect", "--config", &source]));
        assert_eq!(
            config["rootfs"]["diff_ids"].as_array().unwrap().len(),
            image.diff_ids.len()
        );
        // Copied to another form skopeo writes the configuration anew.
        let copy = format!("dir:{}", work.path().join("docker").display());
        skopeo(work.path(), &["copy", &source, &copy]);
        let inspected = json(&skopeo(work.path(), &["inspect", "--raw", &copy]));
        assert_eq!(inspected["config"]["digest"], image.config_digest.to_string());
    }
}

#[test]
fn privileged_real_podman_loads_what_is_exported() {
    let image = fixtures::web();
    let (home, reference) = home(&image);
    let work = tempfile::tempdir().unwrap();
    let podman = |arguments: &[&str]| {
        let at = |name: &str| work.path().join(name);
        let mut command = Command::new("podman");
        command.arg("--root").arg(at("root")).arg("--runroot").arg(at("run"));
        command.args(["--storage-driver", "vfs"]).args(arguments);
        real::output_of(command.env("HOME", work.path()).env("TMPDIR", work.path()))
    };
    for (form, name) in [("docker-archive", "docker.tar"), ("oci-archive", "oci.tar")] {
        let archive = export(&home, &reference, form, name);
        podman(&["load", "-i", archive.to_str().unwrap()]);
        let inspected = json(&podman(&["image", "inspect", &reference]));
        assert_eq!(inspected[0]["Id"], image.config_digest.hex(), "{form}");
        podman(&["rmi", &reference]);
    }
}
