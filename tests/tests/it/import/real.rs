//! What other people's tools write, and what they read of ours.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use unlade_test_support::{Compression, write_layout};
use unlade_tests::{Home, real};

use super::{assert_sound, exported, imported, small};

/// The image as skopeo writes it in one of its forms.
fn skopeo(work: &Path, form: &str, name: &str, tag: &str) -> PathBuf {
    let source = work.join("source");
    write_layout(&source, &[("source", &small(Compression::Gzip))]).unwrap();
    let path = work.join(name);
    let target = format!("{form}:{}:{tag}", path.display());
    let source = format!("oci:{}:source", source.display());
    real::output_of(real::skopeo_command(work).args(["copy", &source, &target]));
    path
}

#[test]
fn real_skopeos_archives_are_imported_and_read_again() {
    let image = small(Compression::Gzip);
    for (form, tag) in [
        ("docker-archive", "example.com/small:1"),
        ("oci-archive", "example.com/small:1"),
        ("oci", "example.com/small:1"),
    ] {
        let work = tempfile::tempdir().unwrap();
        let path = skopeo(work.path(), form, "written", tag);
        let home = Home::new();
        let pulled = imported(&home, &path, &[]);
        assert_eq!(pulled.reference, "example.com/small:1", "{form}");
        if form != "docker-archive" {
            assert_eq!(pulled.manifest, image.digest.to_string(), "{form}");
        }
        assert_sound(&home);
        // What came in is found in the store, in place.
        let inspected = real::skopeo_inspect(&home, &pulled.reference);
        assert_eq!(inspected["Digest"], pulled.manifest, "{form}");
        assert_eq!(
            real::umoci_names(&home),
            std::slice::from_ref(&pulled.reference),
            "{form}"
        );
        // And what goes out again skopeo reads once more.
        for back in ["oci-archive", "docker-archive"] {
            let path = home.path(back);
            let export = home.unlade(["export", &pulled.reference, "--format", back, "-o"]);
            export.args([&path]).run().success();
            let source = format!("{back}:{}", path.display());
            let config = real::output_of(real::skopeo_command(work.path()).args(["inspect", "--config", &source]));
            assert!(config.contains(&image.diff_ids[0].to_string()), "{form} to {back}");
        }
    }
}

/// `umoci insert` of 0.4 leaves off everything behind the last byte of the last file, so that GNU tar refuses its layers.
#[test]
fn real_umocis_layers_without_an_end_are_imported() {
    let work = tempfile::tempdir().unwrap();
    let layout = work.path().join("layout");
    let image = format!("{}:1", layout.display());
    fs::write(work.path().join("file"), "x").unwrap();
    let umoci = |arguments: &[&str]| real::output_of(Command::new("umoci").current_dir(work.path()).args(arguments));
    umoci(&["init", "--layout", "layout"]);
    umoci(&["new", "--image", &image]);
    umoci(&["insert", "--rootless", "--image", &image, "file", "/usr/file"]);
    let home = Home::new();
    let pulled = imported(&home, &layout, &["--name", "example.com/inserted:1"]);
    assert_eq!(fs::read(pulled.directories[0].join("usr/file")).unwrap(), b"x");
    assert_sound(&home);
}

#[test]
fn privileged_real_podmans_archives_are_imported() {
    let image = small(Compression::Gzip);
    let (from, reference, archive) = exported(&image, "docker-archive");
    let work = tempfile::tempdir().unwrap();
    let podman = || {
        let at = |name: &str| work.path().join(name);
        let mut command = Command::new("podman");
        command.arg("--root").arg(at("root")).arg("--runroot").arg(at("run"));
        command.args(["--storage-driver", "vfs"]);
        command.env("HOME", work.path()).env("TMPDIR", work.path());
        command
    };
    real::output_of(podman().arg("load").arg("-i").arg(&archive));
    let original = from.pull(&reference);
    for form in ["docker-archive", "oci-archive", "oci-dir"] {
        let path = work.path().join(form);
        real::output_of(
            podman()
                .args(["save", "--format", form, "-o"])
                .arg(&path)
                .arg(&reference),
        );
        let home = Home::new();
        let pulled = if path.is_dir() {
            imported(&home, &path, &[])
        } else {
            // By way of a pipe, and compressed.
            let packed = super::archive::compressed(&path, Compression::Zstd);
            let import = home.unlade(["--format", "json", "import", "-"]);
            let finished = import.stdin_from(fs::File::open(packed).unwrap()).run();
            unlade_tests::Pulled::of(&finished.success().json())
        };
        assert_eq!(pulled.reference, reference, "{form}");
        assert_eq!(pulled.merged(), original.merged(), "{form}");
        assert_sound(&home);
        // There and back through a pipe.
        let (reader, writer) = io::pipe().unwrap();
        let mut load = podman().arg("load").stdin(reader).spawn().unwrap();
        let export = home.unlade(["export", &reference, "--format", "docker-archive", "-o", "-"]);
        export.stdout_to(writer).run().success();
        assert!(load.wait().unwrap().success(), "{form}");
    }
}
