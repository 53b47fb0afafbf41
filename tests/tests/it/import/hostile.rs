//! Archives that somebody has made to do harm, or that are just broken.

use std::fs::{self, File};
use std::io::Write as _;

use serde_json::json;
use tar::EntryType;
use unlade_oci::Digest;
use unlade_test_support::{Compression, Image, LayerBuilder};
use unlade_tests::Home;

use super::archive::Archive;
use super::{assert_sound, exported, import, small};

/// The archive of an image as a layout, changed.
fn changed(change: impl FnOnce(&mut Archive, &Image)) -> Archive {
    let image = small(Compression::Gzip);
    let (_from, _reference, path) = exported(&image, "oci-archive");
    let mut archive = Archive::read(&path);
    change(&mut archive, &image);
    archive
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn content<'a>(archive: &'a mut Archive, name: &str) -> &'a mut Vec<u8> {
    let entry = archive.entries.iter_mut().find(|entry| entry.name == name);
    &mut entry.unwrap().content
}

/// Imports into an empty store, which must fail with `code` and leave nothing but what a later import can use.
fn refused(what: &str, archive: &Archive, code: i32) -> String {
    let home = Home::new();
    let path = home.path("hostile.tar");
    archive.write(&path);
    let failed = import(&home, &path, &[]);
    assert_eq!(failed.code(), Some(code), "{what}: {failed}");
    let left = home.leftovers();
    assert!(left.staging.is_empty(), "{what}: {left:?}");
    assert!(home.images().is_empty(), "{what}");
    failed.stderr
}

#[test]
fn what_is_not_as_it_says_is_refused() {
    let cases: Vec<(&str, Archive, i32)> = vec![
        (
            "a layer with another byte",
            changed(|archive, image| content(archive, &blob(&image.layers[2]))[100] ^= 1),
            7,
        ),
        (
            "a layer that is not there",
            changed(|archive, image| archive.entries.retain(|entry| entry.name != blob(&image.layers[1]))),
            3,
        ),
        (
            "a manifest that is not there",
            changed(|archive, image| archive.entries.retain(|entry| entry.name != blob(&image.digest))),
            3,
        ),
        (
            "a configuration under the digest of another",
            changed(|archive, image| *content(archive, &blob(&image.config_digest)) = b"{}".to_vec()),
            7,
        ),
        (
            "an index that is none",
            changed(|archive, _| *content(archive, "index.json") = b"[]".to_vec()),
            8,
        ),
        (
            "an index of more than 4 MiB",
            changed(|archive, _| content(archive, "index.json").resize((4 << 20) + 1, b' ')),
            8,
        ),
        (
            "an index without entries",
            changed(|archive, _| {
                *content(archive, "index.json") = br#"{"schemaVersion": 2, "manifests": []}"#.to_vec();
            }),
            8,
        ),
        (
            "a name that is none",
            changed(|archive, image| {
                let annotations = json!({"org.opencontainers.image.ref.name": "../../etc/passwd:x"});
                let entry = json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 7,
                    "digest": image.digest, "annotations": annotations,
                });
                let index = json!({"schemaVersion": 2, "manifests": [entry]});
                *content(archive, "index.json") = index.to_string().into_bytes();
            }),
            6,
        ),
        ("nothing at all", Archive::default(), 8),
        (
            "neither the one form nor the other",
            changed(|archive, _| archive.entries.retain(|entry| entry.name != "index.json")),
            8,
        ),
    ];
    for (what, archive, code) in &cases {
        let told = refused(what, archive, *code);
        assert!(
            !told.contains("staging/"),
            "{what}: the stage is nobody's business: {told}"
        );
    }
}

#[test]
fn names_and_links_never_leave_the_archive() {
    let home = Home::new();
    let outside = home.path("outside");
    fs::write(&outside, "secret").unwrap();
    let secret = outside.to_str().unwrap();
    for (kind, target) in [
        (EntryType::Symlink, secret),
        (EntryType::Link, secret),
        (EntryType::Symlink, "../../../../../../../../etc/passwd"),
        (EntryType::Symlink, "config.json"),
        (EntryType::Char, ""),
        (EntryType::Fifo, ""),
        (EntryType::Directory, ""),
    ] {
        let mut archive = Archive::default();
        archive.link("config.json", kind, target);
        archive.file(
            "manifest.json",
            br#"[{"Config": "config.json", "RepoTags": ["x:1"], "Layers": []}]"#,
        );
        let told = refused(&format!("{kind:?} to {target}"), &archive, 8);
        assert!(told.contains("which it does not have"), "{told}");
        for name in ["/etc/passwd", "../../../etc/passwd", secret] {
            let mut archive = Archive::default();
            let manifest = json!([{"Config": name, "RepoTags": ["x:1"], "Layers": []}]);
            archive.file("manifest.json", manifest.to_string().as_bytes());
            refused(name, &archive, 8);
        }
    }
    // Files with such names go nowhere, and an image beside them is imported.
    let archive = changed(|archive, _| {
        for name in [
            "../../../outside",
            "/outside",
            "blobs/sha256/../../../outside",
            "./.././outside",
        ] {
            archive.file(name, b"overwritten");
        }
        archive.link("blobs", EntryType::Symlink, "/");
        archive.link("blobs/sha256", EntryType::Symlink, secret);
    });
    let path = home.path("names.tar");
    archive.write(&path);
    import(&home, &path, &[]).success();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "secret");
    assert!(!home.store().join("outside").exists());
    assert_sound(&home);
}

#[test]
fn what_is_cut_off_or_garbage_is_refused() {
    let (_from, _reference, path) = exported(&small(Compression::Gzip), "oci-archive");
    let whole = fs::read(&path).unwrap();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        fs::write(&path, &whole).unwrap();
        let packed = super::archive::compressed(&path, compression);
        let bytes = fs::read(&packed).unwrap();
        for length in [bytes.len() / 3, bytes.len() / 2] {
            let home = Home::new();
            let cut = home.path("cut");
            fs::write(&cut, &bytes[..length]).unwrap();
            import(&home, &cut, &[]).failure(8);
            home.leftovers().assert_nothing();
        }
    }
    for (bytes, said) in [
        (&b""[..], "it is empty"),
        (&[b'Z'; 600], "no tar archive"),
        (b"\xfd7zXZ\0\0\0", "compressed with xz; decompress it first"),
        (b"BZh91AY&SY", "compressed with bzip2"),
    ] {
        let home = Home::new();
        let garbage = home.path("garbage");
        fs::write(&garbage, bytes).unwrap();
        let failed = import(&home, &garbage, &[]).failure(8);
        assert!(failed.stderr.contains(said), "{failed}");
        home.leftovers().assert_nothing();
    }
}

#[test]
fn what_grows_without_end_is_stopped() {
    let home = Home::new();
    let zeros = LayerBuilder::new()
        .file("zeros", vec![0; 64 << 20])
        .build(Compression::Gzip);
    let bomb = home.path("bomb");
    fs::write(&bomb, &zeros.bytes).unwrap();
    for (option, limit) in [("--max-total-raw-bytes", "8M"), ("--max-ratio", "100")] {
        let failed = import(&home, &bomb, &[option, limit]).failure(8);
        let hint = failed.error()["hint"].to_string();
        assert!(hint.contains(option), "{hint}");
        home.leftovers().assert_nothing();
    }
    // A file with holes would be any amount of work for a few bytes.
    let sparse = LayerBuilder::new()
        .gnu_sparse("config.json", 1 << 32, &[(0, b"x")])
        .tar();
    let path = home.path("sparse.tar");
    File::create(&path).unwrap().write_all(&sparse).unwrap();
    let failed = import(&home, &path, &[]).failure(8);
    assert!(failed.stderr.contains("has holes"), "{failed}");
    home.leftovers().assert_nothing();
}

#[test]
fn a_layout_with_links_and_pipes_is_read_no_further_than_itself() {
    let image = small(Compression::Gzip);
    let (_from, _reference, path) = exported(&image, "oci-layout");
    let blob = path.join(blob(&image.layers[0]));
    let elsewhere = path.with_extension("elsewhere");
    fs::rename(&blob, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &blob).unwrap();
    let home = Home::new();
    let failed = import(&home, &path, &[]);
    assert_eq!(
        failed.code(),
        Some(9),
        "a blob that is a link is not followed: {failed}"
    );
    fs::remove_file(&blob).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &blob,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert_eq!(import(&home, &path, &[]).code(), Some(3), "and a pipe is no blob");
    fs::remove_file(&blob).unwrap();
    fs::rename(&elsewhere, &blob).unwrap();
    import(&home, &path, &[]).success();
    assert_sound(&home);
}
