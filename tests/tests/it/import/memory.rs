//! How much memory an import takes.

use std::io::{PipeWriter, Write as _};
use std::thread;

use serde_json::json;
use tar::{Builder, Header};
use unlade_oci::{Algorithm, Hasher};
use unlade_tests::Home;

/// What an import of any size may take.
const MEMORY: u64 = 64 << 20;

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
    let import = home.unlade(["import", "-", "--no-extract"]).stdin_from(reader).start();
    let writing = thread::spawn(move || write_zeros(writer, 1 << 30));
    let (import, peak) = import.wait_for_peak();
    import.success();
    writing.join().unwrap();
    assert!(peak > 0 && peak < MEMORY, "{peak} bytes");
    assert_eq!(home.images(), ["docker.io/library/zeros:1"]);
    home.leftovers().assert_nothing_half_done();
}
