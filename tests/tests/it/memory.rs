//! How much memory a pull takes.

use std::fs;
use std::io::Write as _;

use unlade_test_support::{Compression, FakeRegistry, ImageBuilder, Layer, LayerBuilder};
use unlade_tests::Home;
use zstd::stream::raw::CParameter;

/// What a pull of any image may take.
const MEMORY: u64 = 64 << 20;
/// The base-2 logarithm of the largest window that zstd takes unless it is told to.
const WINDOW_LOG: u32 = 23;
const LAYERS: u8 = 16;

/// Files of each layer, all of whose names are remembered.
const FILES: u32 = 500;

/// Returns a layer whose decompressor needs all of its window.
fn wide(number: u8) -> Layer {
    let content = vec![number; 10 << 20];
    let large = LayerBuilder::new().file(format!("{number}"), content);
    let raw = (0..FILES)
        .fold(large, |layer, file| layer.file(format!("d/{file}"), "small"))
        .tar();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG)).unwrap();
    encoder.write_all(&raw).unwrap();
    Layer::new(encoder.finish().unwrap().into(), Compression::Zstd, raw)
}

#[test]
fn many_layers_with_large_windows_take_little_memory() {
    let registry = FakeRegistry::start();
    let image = ImageBuilder::new().layers((0..LAYERS).map(wide)).build();
    registry.push("wide", "1", &image);
    let home = Home::new();
    let config = home.path("config.toml");
    fs::write(&config, "workers = 16\n").unwrap();
    let pull = home.unlade(["pull", &registry.reference("wide", "1")]);
    let (pull, peak) = pull.env("UNLADE_CONFIG", &config).start().wait_for_peak();
    pull.success();
    assert!(peak > 0 && peak < MEMORY, "{peak} bytes");
}
