//! Layers: what the builder writes is what a reader of tar reads.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};
use unlade_oci::{Compression, Digest};
use unlade_test_support::{ImageBuilder, IndexBuilder, LayerBuilder};

/// Type, mode, uid, content, PAX records.
type Seen = (EntryType, u32, u64, Vec<u8>, Vec<String>);

/// Reads the entries of an archive, by path.
fn read(archive: &[u8]) -> BTreeMap<Vec<u8>, Seen> {
    let mut archive = Archive::new(archive);
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let pax = entry.pax_extensions().unwrap().map_or_else(Vec::new, |records| {
            records
                .map(|record| {
                    let record = record.unwrap();
                    format!(
                        "{}={}",
                        record.key().unwrap(),
                        String::from_utf8_lossy(record.value_bytes())
                    )
                })
                .collect()
        });
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        let seen = (
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            content,
            pax,
        );
        found.insert(entry.path_bytes().into_owned(), seen);
    }
    found
}

#[test]
fn round_trip_through_a_reader() {
    let long = format!("long/{}", "n".repeat(200));
    let builder = LayerBuilder::new()
        .dir("etc", 0o755)
        .file_with("etc/shadow", "root", |entry| {
            entry.mode(0o4640).owner(7, 42).xattr("user.a", b"\0\xff")
        })
        .file_with("old", "", |entry| entry.mtime_nanos(-1, 250_000_000))
        .file_with("rich", "", |entry| entry.owner(3_000_000_000, 0))
        .file(&long, "long")
        .file_with(
            format!("{long}-gnu"),
            "long",
            unlade_test_support::Entry::gnu_long_names,
        )
        .symlink(b"link-\xff", "etc")
        .char_device("null", 1, 3)
        .whiteout("etc/motd")
        .opaque("var");
    let seen = read(&builder.tar());

    let shadow = &seen[b"etc/shadow".as_slice()];
    assert_eq!(
        (shadow.0, shadow.1, shadow.2, shadow.3.as_slice()),
        (EntryType::Regular, 0o4640, 7, b"root".as_slice())
    );
    assert_eq!(shadow.4, ["SCHILY.xattr.user.a=\0\u{fffd}"]);
    assert_eq!(seen[b"old".as_slice()].4, ["mtime=-0.750000000"]);
    assert_eq!(seen[b"rich".as_slice()].4, ["uid=3000000000"]);
    assert_eq!(seen[long.as_bytes()].3, b"long");
    assert_eq!(seen[format!("{long}-gnu").as_bytes()].3, b"long");
    assert_eq!(seen[b"link-\xff".as_slice()].0, EntryType::Symlink);
    assert_eq!(seen[b"null".as_slice()].0, EntryType::Char);
    assert!(seen.contains_key(b"etc/.wh.motd".as_slice()) && seen.contains_key(b"var/.wh..wh..opq".as_slice()));
}

#[test]
fn sparse_files_read_back_with_their_holes() {
    let pieces: Vec<(u64, &[u8])> = (0..30).map(|number| (number * 4096, [b'd'; 512].as_slice())).collect();
    let tar = LayerBuilder::new()
        .gnu_sparse("sparse", 200_000, &pieces)
        .file("next", "n")
        .tar();
    let seen = read(&tar);
    let content = &seen[b"sparse".as_slice()].3;
    assert_eq!(content.len(), 200_000);
    for (at, data) in pieces {
        let at = usize::try_from(at).unwrap();
        assert_eq!(&content[at..at + 512], data);
        assert!(content[at + 512..at + 4096].iter().all(|byte| *byte == 0));
    }
    assert_eq!(seen[b"next".as_slice()].3, b"n");
}

#[test]
fn compressions_hold_the_archive() {
    let builder = LayerBuilder::new().file("a", "a".repeat(5000)).after_end("tail");
    let raw = builder.tar();
    assert!(raw.ends_with(b"tail"));

    for gzip in [builder.build(Compression::Gzip), builder.multi_member_gzip(3)] {
        let mut inflated = Vec::new();
        MultiGzDecoder::new(gzip.bytes.as_ref())
            .read_to_end(&mut inflated)
            .unwrap();
        assert_eq!(inflated, raw);
        assert_eq!(gzip.diff_id, Digest::sha256(&raw));
    }
    for zstd in [builder.build(Compression::Zstd), builder.multi_frame_zstd(3)] {
        assert_eq!(zstd::decode_all(zstd.bytes.as_ref()).unwrap(), raw);
        assert_eq!(zstd.digest, Digest::sha256(&zstd.bytes));
    }
    assert_eq!(builder.build(Compression::None).bytes, raw);
    let members = builder.multi_member_gzip(3).bytes;
    assert_eq!(
        members.windows(3).filter(|window| *window == b"\x1f\x8b\x08").count(),
        3
    );
}

#[test]
fn documents_name_what_they_hold() {
    let layer = LayerBuilder::new().file("a", "a").build(Compression::Gzip);
    let image = ImageBuilder::new()
        .platform("linux/arm/v7")
        .layer(layer.clone())
        .env("A=1")
        .env("B=2")
        .build();
    let manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    assert_eq!(manifest["layers"][0]["digest"], layer.digest.to_string());
    assert_eq!(manifest["config"]["digest"], Digest::sha256(&image.config).to_string());
    let config: serde_json::Value = serde_json::from_slice(&image.config).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"][0], layer.diff_id.to_string());
    assert_eq!(
        (&config["variant"], &config["config"]["Env"][1]),
        (&"v7".into(), &"B=2".into())
    );

    let index = IndexBuilder::new().image(&image).attestation(&image, &image).build();
    let document: serde_json::Value = serde_json::from_slice(&index.bytes).unwrap();
    assert_eq!(document["manifests"][0]["platform"]["variant"], "v7");
    assert_eq!(
        document["manifests"][1]["annotations"]["vnd.docker.reference.digest"],
        image.digest.to_string()
    );
    assert_eq!(index.manifests.len(), 2);
}
