//! The dialects of tar: long names, large numbers, sparse files, global headers, ends.

use tar::{EntryType, Header};
use unlade_extract::Note;
use unlade_test_support::{Entry, LayerBuilder, NodeKind};

use crate::sandbox::{Sandbox, extracted, is_root};

#[test]
fn names_are_bytes() {
    let long = vec![b'n'; 255];
    for name in [
        &b"latin-\xe9"[..],
        b"new\nline",
        b"tab\there",
        "日本語".as_bytes(),
        b"back\\slash",
        b" ",
        &long,
    ] {
        let (_, tree) = extracted(&LayerBuilder::new().file(name, "x"));
        assert_eq!(tree.node(name).size, 1, "{}", name.escape_ascii());
    }
}

#[test]
fn long_names_of_both_dialects() {
    let path = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let target = "t".repeat(300);
    for gnu in [true, false] {
        let dialect = |entry: Entry| if gnu { entry.gnu_long_names() } else { entry };
        let (_, tree) = extracted(
            &LayerBuilder::new()
                .entry(&dialect(Entry::file(&path, "x")))
                .entry(&dialect(Entry::symlink("link", &target)))
                .file("short", "x"),
        );
        assert_eq!(tree.node(&path).size, 1);
        assert_eq!(tree.node("link").link_target.as_deref(), Some(target.as_bytes()));
        assert!(tree.has("short"));
    }
}

#[test]
fn pax_comes_before_gnu_and_gnu_before_the_header() {
    let gnu = Entry::file("g".repeat(120), "x").gnu_long_names();
    let (_, tree) = extracted(&LayerBuilder::new().entry(&gnu.clone().pax("path", "pax")).entry(&gnu));
    assert_eq!(tree.paths(), ["g".repeat(120), "pax".to_owned()]);
}

#[test]
fn the_prefix_of_ustar_and_of_star() {
    let mut ustar = Header::new_ustar();
    ustar.set_entry_type(EntryType::Regular);
    ustar.set_mode(0o644);
    ustar.set_size(0);
    ustar.set_uid(0);
    ustar.set_gid(0);
    ustar.set_mtime(0);
    ustar.as_old_mut().name[..4].copy_from_slice(b"name");
    let mut star = ustar.clone();
    ustar.as_ustar_mut().unwrap().prefix[..6].copy_from_slice(b"prefix");
    ustar.set_cksum();
    let prefix = &mut star.as_ustar_mut().unwrap().prefix;
    prefix[..4].copy_from_slice(b"star");
    prefix[131..142].copy_from_slice(b"00000000000");
    star.as_mut_bytes()[508..].copy_from_slice(b"tar\0");
    star.set_cksum();
    let (_, tree) = extracted(&LayerBuilder::new().raw_entry(&ustar, b"").raw_entry(&star, b""));
    assert!(tree.has("prefix/name") && tree.has("star/name"), "{:?}", tree.paths());
}

#[test]
fn pax_size_counts_not_that_of_the_header() {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.as_old_mut().name[..1].copy_from_slice(b"f");
    header.set_cksum();
    let mut records = Header::new_ustar();
    records.set_entry_type(EntryType::XHeader);
    records.set_size(13);
    records.set_cksum();
    let layer = LayerBuilder::new()
        .raw_entry(&records, b"13 size=1000\n")
        .raw_entry(&header, &[7; 1000]);
    let (_, tree) = extracted(&layer.file("after", "x"));
    assert_eq!((tree.node("f").size, tree.node("after").size), (1000, 1));
}

#[test]
fn numbers_in_base_256() {
    let entry = Entry::file("f", "x")
        .base256()
        .owner(3_000_000_000, 2_500_000_000)
        .mtime(1 << 33);
    let (_, tree) = extracted(&LayerBuilder::new().entry(&entry));
    assert_eq!(tree.node("f").mtime.0, 1 << 33);
    if is_root() {
        assert_eq!((tree.node("f").uid, tree.node("f").gid), (3_000_000_000, 2_500_000_000));
    }
}

#[test]
fn global_headers_hold_for_what_follows() {
    let layer = LayerBuilder::new()
        .file_with("before", "x", |entry| entry.mtime(1))
        .pax_global(&[("mtime", "77.5"), ("comment", "0123456789abcdef")])
        .file_with("after", "x", |entry| entry.mtime(1))
        .entry(&Entry::file("own", "x").pax("mtime", "5"));
    let (report, tree) = extracted(&layer);
    assert_eq!(tree.node("before").mtime, (1, 0));
    assert_eq!(tree.node("after").mtime, (77, 500_000_000));
    assert_eq!(tree.node("own").mtime, (5, 0));
    assert_eq!(report.entries, 3);
}

#[test]
fn old_types() {
    // Before ustar, the type of a regular file was NUL, and a directory was one whose name ends in a slash.
    let v7 = |name: &str, mode: u32, size: u64| {
        let mut header = Header::new_old();
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkflag = [0];
        header.set_cksum();
        header
    };
    let layer = LayerBuilder::new()
        .entry(&Entry::new("contiguous", EntryType::Continuous).content("xyz"))
        .raw_entry(&v7("v7", 0o644, 2), b"xy")
        .raw_entry(&v7("v7-dir/", 0o750, 0), b"");
    let (_, tree) = extracted(&layer);
    assert_eq!(
        (tree.node("contiguous").kind, tree.node("contiguous").size),
        (NodeKind::File, 3)
    );
    assert_eq!((tree.node("v7").kind, tree.node("v7").size), (NodeKind::File, 2));
    assert_eq!(
        (tree.node("v7-dir").kind, tree.node("v7-dir").mode),
        (NodeKind::Directory, 0o750)
    );
}

#[test]
fn a_size_without_data_is_ignored_and_counted() {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(4096);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.as_old_mut().name[..1].copy_from_slice(b"d");
    header.set_cksum();
    let (report, tree) = extracted(&LayerBuilder::new().raw_entry(&header, b"").file("d/f", "x"));
    assert_eq!(tree.node("d/f").size, 1);
    assert_eq!(report.summary.count(Note::SizeIgnored), 1);
}

#[test]
fn the_end() {
    let (report, _) = extracted(&LayerBuilder::new().file("f", "x").no_end_marker());
    assert_eq!(report.summary.count(Note::EndMarkerMissing), 1);
    let (report, _) = extracted(&LayerBuilder::new().file("f", "x").no_end_marker().raw_bytes([0; 512]));
    assert_eq!(report.summary.count(Note::EndMarkerMissing), 1);
    // As `umoci insert` of 0.4 leaves it: nothing at all behind the last byte of the last file.
    let mut tar = LayerBuilder::new().file("f", "x").no_end_marker().tar();
    tar.truncate(513);
    let (report, tree) = extracted(&LayerBuilder::new().raw_bytes(tar).no_end_marker());
    assert_eq!(report.summary.count(Note::EndMarkerMissing), 1);
    assert_eq!(tree.node("f").size, 1);
    let (report, tree) = extracted(&LayerBuilder::new().file("f", "x").after_end([0; 9000]));
    assert!(report.summary.notes.keys().all(|note| *note != Note::BytesAfterEnd));
    assert_eq!(tree.paths(), ["f"]);
    let (report, tree) = extracted(&LayerBuilder::new().after_end(LayerBuilder::new().file("f", "x").tar()));
    assert_eq!(report.summary.count(Note::BytesAfterEnd), 1);
    assert!(report.is_empty && tree.paths().is_empty());
}

#[test]
fn names_that_were_altered_are_counted() {
    let (report, _) = extracted(&LayerBuilder::new().file("/a", "x").file("b/../c", "x").file("./d", "x"));
    assert_eq!(
        (
            report.summary.count(Note::NameAbsolute),
            report.summary.count(Note::NameWithParent)
        ),
        (1, 1)
    );
}

/// Runs of data with holes before, between and behind, the last run not a whole block.
fn pieces() -> (u64, Vec<(u64, Vec<u8>)>) {
    let mut pieces: Vec<(u64, Vec<u8>)> = (0..40_u8)
        .map(|number| (65_536 * (u64::from(number) + 1), vec![number + 1; 4096]))
        .collect();
    pieces.push((5 << 20, vec![0xee; 100]));
    (8 << 20, pieces)
}

fn assert_sparse(sandbox: &Sandbox, name: &str) {
    use std::os::unix::fs::MetadataExt as _;
    let (size, pieces) = pieces();
    let path = sandbox.target().join(name);
    let mut expected = vec![0; usize::try_from(size).unwrap()];
    for (at, data) in &pieces {
        let at = usize::try_from(*at).unwrap();
        expected[at..at + data.len()].copy_from_slice(data);
    }
    assert!(std::fs::read(&path).unwrap() == expected, "{name}");
    let stat = std::fs::metadata(&path).unwrap();
    assert!(
        stat.blocks() * 512 < size / 4,
        "{name} has {} bytes of blocks",
        stat.blocks() * 512
    );
}

#[test]
fn sparse_files_of_all_formats_get_their_holes_again() {
    let (size, pieces) = pieces();
    let borrowed: Vec<(u64, &[u8])> = pieces.iter().map(|(at, data)| (*at, data.as_slice())).collect();
    let data: Vec<u8> = pieces.iter().flat_map(|(_, data)| data.clone()).collect();
    let map: Vec<String> = pieces.iter().map(|(at, data)| format!("{at},{}", data.len())).collect();
    let zero = |offset_key: &str, length_key: &str| {
        pieces.iter().fold(
            Entry::file("v0", &data).pax("GNU.sparse.size", size.to_string()),
            |entry, (at, data)| {
                entry
                    .pax(offset_key, at.to_string())
                    .pax(length_key, data.len().to_string())
            },
        )
    };
    let layer = LayerBuilder::new()
        .gnu_sparse("old", size, &borrowed)
        .pax_sparse("v1", size, &borrowed)
        .entry(&zero("GNU.sparse.offset", "GNU.sparse.numbytes"))
        .entry(
            &Entry::file("GNUSparseFile.0/x", &data)
                .pax("GNU.sparse.name", "v01")
                .pax("GNU.sparse.size", size.to_string())
                .pax("GNU.sparse.map", map.join(",")),
        )
        .file("after", "x");
    let sandbox = Sandbox::new();
    sandbox.extract(&layer).unwrap();
    for name in ["old", "v1", "v0", "v01"] {
        assert_sparse(&sandbox, name);
    }
    assert_eq!(sandbox.tree().node("after").size, 1);
}

#[test]
fn a_file_that_is_one_hole() {
    // Not by way of a snapshot, which would read them.
    let sandbox = Sandbox::new();
    sandbox
        .extract(
            &LayerBuilder::new()
                .pax_sparse("a", 1 << 40, &[])
                .gnu_sparse("b", 1 << 32, &[]),
        )
        .unwrap();
    let size = |name: &str| std::fs::metadata(sandbox.target().join(name)).unwrap().len();
    assert_eq!((size("a"), size("b")), (1 << 40, 1 << 32));
}
