//! The power goes at any moment: what is called complete is whole, what was lost is made again, and nothing that is empty by
//! the loss is taken for content.
//!
//! The filesystems are real ones that are stopped as a power loss stops them. How many moments there are is set by
//! `UNLADE_TEST_POWER_LOSSES`, for each filesystem; `UNLADE_TEST_SEED` gives the moments of an earlier run again.

use std::fs::{self, File};
use std::path::Path;

use unlade_test_support::{Compression, FakeRegistry, Image, ImageBuilder, Layer, LayerBuilder, TreeSnapshot};
use unlade_tests::{Command, Filesystem, Home, Kind, Pulled, Random, count};

use crate::crashes::assert_whole;
use crate::support::noise;

const LOSSES: u32 = 40;

/// A layer of small files, which are what a power loss empties first.
fn layer(name: &str) -> Layer {
    let layer = LayerBuilder::new().dir("etc", 0o755).dir("usr", 0o755);
    let layer = (0..24).fold(layer, |layer, at| {
        layer.file(
            format!("usr/{name}-{at}"),
            noise(&format!("{name}-{at}"), 3_000 + 700 * at),
        )
    });
    layer.file("etc/name", name).build(Compression::Gzip)
}

fn image(name: &str, layers: usize) -> Image {
    let layers = (0..layers).map(|at| layer(&format!("{name}-{at}")));
    layers
        .fold(ImageBuilder::new().layer(layer("base")), ImageBuilder::layer)
        .build()
}

/// What the kernel has written by itself when the power goes.
fn write_out_some(store: &Path, random: &mut Random) -> &'static str {
    let sync = |path: &Path| {
        // It may not be there yet.
        if let Ok(file) = File::open(path) {
            drop(file.sync_all());
        }
    };
    let each_in = |name: &str, keep: &mut dyn FnMut() -> bool| {
        for entry in fs::read_dir(store.join(name)).into_iter().flatten().flatten() {
            if keep() {
                sync(&entry.path());
            }
        }
    };
    match random.below(6) {
        0 => "nothing",
        // A journal takes all names with it, and not what is in the files.
        1 => {
            sync(&store.join("metadata.db-wal"));
            "the names and the database"
        }
        2 => {
            each_in("layers", &mut || true);
            "the names"
        }
        3 => {
            sync(&store.join("metadata.db-wal"));
            each_in("blobs/sha256", &mut || random.below(2) == 0);
            "the names, the database and some blobs"
        }
        4 => {
            each_in("blobs/sha256", &mut || random.below(3) > 0);
            each_in("ingest", &mut || true);
            "the names and most blobs"
        }
        _ => {
            let root = File::open(store).expect("a store");
            rustix::fs::syncfs(&root).expect("a filesystem that can be flushed");
            "everything"
        }
    }
}

struct Scene {
    registry: FakeRegistry,
    /// What was pulled some time ago.
    old: String,
    /// What is being pulled.
    new: String,
    /// The merged trees of both, as they must be.
    trees: Vec<(String, TreeSnapshot)>,
}

impl Scene {
    fn new() -> Self {
        let registry = FakeRegistry::start();
        registry.push("old", "latest", &image("old", 2));
        registry.push("new", "latest", &image("new", 5));
        let (old, new) = (registry.reference("old", "latest"), registry.reference("new", "latest"));
        let elsewhere = Home::new();
        let tree = |name: &String| (name.clone(), elsewhere.pull(name).merged());
        let trees = [&old, &new].into_iter().map(tree).collect();
        Self {
            registry,
            old,
            new,
            trees,
        }
    }

    fn assert_is_whole(&self, name: &str, pulled: &Pulled, what: &str) {
        let (_, tree) = self.trees.iter().find(|(other, _)| other == name).unwrap();
        let differences = tree.diff(&pulled.merged());
        let (first, many) = (differences.first(), differences.len());
        assert!(
            many == 0,
            "{what}: {name} is not what it should be: {first:?} and more, {many} in all"
        );
    }

    /// Uses what is in the store after the loss, in one way or the other, and then pulls.
    fn assert_recovers(&self, home: &Home, repair: bool, what: &str) {
        if repair {
            let report = home.unlade(["verify", "--deep", "--repair"]).run();
            assert_eq!(report.code(), Some(0), "{what}: {report}");
        }
        for name in [&self.old, &self.new] {
            let local = home
                .unlade(["--format", "json", "pull", "--policy", "never", name])
                .run();
            match local.code() {
                Some(0) => self.assert_is_whole(name, &Pulled::of(&local.json()), what),
                // Not complete: said, and not used.
                code => {
                    assert_eq!(code, Some(3), "{what}: {local}");
                    assert!(!repair || !home.images().contains(name), "{what}: {local}");
                }
            }
        }
        for name in [&self.old, &self.new] {
            let pulled = home.unlade(["--format", "json", "pull", name]).run();
            assert_eq!(pulled.code(), Some(0), "{what}: {pulled}");
            self.assert_is_whole(name, &Pulled::of(&pulled.json()), what);
        }
        assert_whole(home, what);
    }
}

fn start_anew(home: &mut Home, boot: &str) {
    home.set_boot(boot);
    match fs::remove_dir_all(home.store()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
}

fn lose_power_at_any_moment(kind: Kind) {
    let scene = Scene::new();
    let mut filesystem = Filesystem::new(kind, 400 << 20);
    let mut home = Home::with_store(filesystem.path().join("store"));
    start_anew(&mut home, "measured");
    home.pull(&scene.old);
    let whole = home.unlade(["pull", &scene.new]).run().success().took;
    let mut random = Random::new();
    // A third of them are after the end of the pull.
    let moments = random.moments(count("UNLADE_TEST_POWER_LOSSES", LOSSES), whole.mul_f64(1.5));
    for (at, after) in moments.iter().enumerate() {
        start_anew(&mut home, &format!("boot {at} before"));
        home.pull(&scene.old);
        write_out_some(home.store(), &mut random);
        let running = home.unlade(["pull", &scene.new]).start();
        std::thread::sleep(*after);
        let written = write_out_some(home.store(), &mut random);
        filesystem.cut_power();
        drop(running);
        filesystem.mount_again();
        home.set_boot(&format!("boot {at} after"));
        let what = format!(
            "{kind:?}, loss {at}, {after:?} after the start of a pull of {whole:?}, written out: {written}, seed {}",
            random.seed()
        );
        scene.assert_recovers(&home, at % 2 == 0, &what);
    }
}

#[test]
fn privileged_real_power_is_lost_at_any_moment_on_ext4() {
    lose_power_at_any_moment(Kind::Ext4);
}

#[test]
fn privileged_real_power_is_lost_at_any_moment_on_xfs() {
    lose_power_at_any_moment(Kind::Xfs);
}

fn pull_durably(home: &Home, name: &str) -> Command {
    home.unlade(["pull", "--durability", "sync", name])
}

/// Who waits for the disk has nothing to repair, whenever the power goes, and has what was said to be done.
#[test]
fn privileged_real_what_waited_for_the_disk_survives_a_power_loss() {
    let scene = Scene::new();
    for kind in [Kind::Ext4, Kind::Xfs] {
        let mut filesystem = Filesystem::new(kind, 400 << 20);
        let mut home = Home::with_store(filesystem.path().join("store"));
        start_anew(&mut home, "measured");
        let whole = pull_durably(&home, &scene.old).run().success().took;
        let mut random = Random::new();
        let losses = count("UNLADE_TEST_POWER_LOSSES", LOSSES).div_ceil(8);
        for (at, after) in random.moments(losses, whole.mul_f64(2.0)).into_iter().enumerate() {
            let what = format!(
                "{kind:?}, loss {at}, after {after:?} of {whole:?}, seed {}",
                random.seed()
            );
            start_anew(&mut home, &format!("boot {at} before"));
            pull_durably(&home, &scene.old).run().success();
            let mut running = pull_durably(&home, &scene.new).start();
            std::thread::sleep(after);
            let ended = running.has_succeeded();
            filesystem.cut_power();
            drop(running);
            filesystem.mount_again();
            home.set_boot(&format!("boot {at} after"));
            let report = home.unlade(["verify", "--deep"]).run();
            assert_eq!(report.code(), Some(0), "{what}: {report}");
            scene.registry.clear();
            let mut names = vec![&scene.old];
            names.extend(ended.then_some(&scene.new));
            for name in names {
                let local = home
                    .unlade(["--format", "json", "pull", "--policy", "never", name])
                    .run();
                assert_eq!(local.code(), Some(0), "{what}: {local}");
                scene.assert_is_whole(name, &Pulled::of(&local.json()), &what);
            }
            assert!(scene.registry.requests().is_empty(), "{what}");
            scene.assert_recovers(&home, false, &what);
        }
    }
}
