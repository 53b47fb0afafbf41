//! Imports that are killed at any moment, and how much memory one takes.

use std::io::{PipeWriter, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tar::{Builder, Header};
use unlade_oci::{Algorithm, Hasher};
use unlade_test_support::{Compression, ImageBuilder, LayerBuilder};
use unlade_tests::Home;

use super::{assert_sound, exported, imported};
use crate::support::noise;

/// At how many moments an import is killed.
const MOMENTS: u32 = 20;
/// What an import of any size may take.
const MEMORY: u64 = 64 << 20;

#[test]
fn a_killed_import_leaves_nothing_that_the_next_does_not_mend() {
    let layer = |name: &str| {
        let files = (0..40).fold(LayerBuilder::new(), |layer, file| {
            layer.file(format!("{name}/{file}"), noise(&format!("{name}{file}"), 50_000))
        });
        files.build(Compression::Gzip)
    };
    let image = ImageBuilder::new().layers(["a", "b", "c", "d"].map(layer)).build();
    for form in ["oci-archive", "docker-archive", "oci-layout"] {
        let (_from, reference, path) = exported(&image, form);
        let home = Home::new();
        let since = Instant::now();
        imported(&home, &path, &[]);
        let whole = since.elapsed();
        home.unlade(["rm", &reference]).run().success();
        let mut killed = 0;
        for moment in 0..MOMENTS.div_ceil(3) {
            let mut import = home.unlade(["import"]).args([&path]).start();
            thread::sleep(whole * (3 * moment + 1) / MOMENTS);
            killed += u32::from(import.goes_on());
            drop(import);
            // Whatever moment that was: the next command works, and so does the same once more.
            let images = home.images();
            assert!(images.is_empty() || images == [reference.clone()], "{images:?}");
            let again = imported(&home, &path, &[]);
            assert!(again.directories.iter().all(|directory| directory.is_dir()));
            assert_sound(&home);
            home.unlade(["rm", &reference]).run().success();
            let left = home.leftovers();
            left.assert_nothing();
        }
        assert!(killed > 0, "{form}: no import was killed");
    }
}

/// Writes docker's archive of one layer that holds one file of zeros, without ever having it in memory.
fn write_zeros(out: PipeWriter, size: u64) {
    let mut header = Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    let block = vec![0; 1 << 20];
    let blocks = size >> 20;
    let end = [0; 1024];
    let mut diff_id = Hasher::new(Algorithm::Sha256);
    diff_id.update(header.as_bytes());
    (0..blocks).for_each(|_| diff_id.update(&block));
    diff_id.update(&end);
    let config = json!({
        "os": "linux", "architecture": "amd64", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id.finish()]},
    });
    let layer_size = 512 + size + 1024;
    let mut archive = Builder::new(out);
    let mut outer = Header::new_gnu();
    outer.set_size(layer_size);
    outer.set_mode(0o644);
    outer.set_path("layer.tar").unwrap();
    outer.set_cksum();
    let out = archive.get_mut();
    out.write_all(outer.as_bytes()).unwrap();
    out.write_all(header.as_bytes()).unwrap();
    for _ in 0..blocks {
        out.write_all(&block).unwrap();
    }
    out.write_all(&end).unwrap();
    // What describes an archive comes last, as it does with docker.
    let manifest = json!([{"Config": "config.json", "RepoTags": ["zeros:1"], "Layers": ["layer.tar"]}]);
    for (name, content) in [("config.json", config), ("manifest.json", manifest)] {
        let content = content.to_string();
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    archive.finish().unwrap();
}

#[test]
fn a_gibibyte_through_a_pipe_takes_little_memory() {
    let home = Home::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut import = home.unlade(["import", "-", "--no-extract"]).stdin_from(reader).start();
    let writing = thread::spawn(move || write_zeros(writer, 1 << 30));
    let mut peak = 0;
    while import.goes_on() {
        peak = import.peak_memory().unwrap_or_default().max(peak);
        thread::sleep(Duration::from_millis(10));
    }
    import.wait().success();
    writing.join().unwrap();
    assert!(peak > 0 && peak < MEMORY, "{peak} bytes");
    assert_eq!(home.images(), ["docker.io/library/zeros:1"]);
    home.leftovers().assert_nothing_half_done();
}
