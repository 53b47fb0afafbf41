//! How many requests a pull makes: no more than there are things to be had.

use std::collections::BTreeMap;
use std::time::Duration;

use unlade_test_support::{Artifact, FakeRegistry, Fault, Image, ImageBuilder, IndexBuilder, Recorded, TokenAuth};
use unlade_tests::Home;

use crate::support::fat_layer;

/// An image of that many layers.
fn image(layers: usize) -> Image {
    (0..layers)
        .fold(ImageBuilder::new(), |image, number| {
            image.layer(fat_layer(&format!("layer {number}"), 20_000))
        })
        .build()
}

/// Returns what was asked for since the last look: method, what it is, and the status, with how often.
fn asked(registry: &FakeRegistry, images: &[&Image]) -> Vec<(String, usize)> {
    let kind = |request: &Recorded| {
        let last = request.path.rsplit('/').next().unwrap_or_default().to_owned();
        let is_one_of = |of: fn(&Image) -> Vec<String>| images.iter().any(|image| of(image).contains(&last));
        if request.path == "/token" {
            "token"
        } else if !request.path.contains("/blobs/") {
            if last.starts_with("sha256:") { "manifest" } else { "tag" }
        } else if is_one_of(|image| vec![image.config_digest.to_string()]) {
            "configuration"
        } else if is_one_of(|image| image.layers.iter().map(ToString::to_string).collect()) {
            "layer"
        } else {
            "blob"
        }
    };
    let mut counts = BTreeMap::new();
    for request in registry.requests() {
        let line = format!("{} {} {}", request.method, kind(&request), request.status);
        *counts.entry(line).or_default() += 1;
    }
    registry.clear();
    counts.into_iter().collect()
}

fn expected(lines: &[(&str, usize)]) -> Vec<(String, usize)> {
    let mut lines: Vec<_> = lines.iter().map(|(line, count)| ((*line).to_owned(), *count)).collect();
    lines.sort();
    lines
}

/// What a registry may want before it gives anything, and what that costs once.
const ACCESS: [(&str, &[(&str, usize)]); 4] = [
    ("nothing", &[]),
    ("a token", &[("GET tag 401", 1), ("GET token 200", 1)]),
    ("a token of a login", &[("GET tag 401", 1), ("GET token 200", 1)]),
    ("a password", &[("GET tag 401", 1)]),
];

/// Returns a home that has what the registry wants.
fn home_for(access: &str, registry: &FakeRegistry) -> Home {
    match access {
        "nothing" => registry.require_nothing(),
        "a token" => registry.require_token(TokenAuth::new()),
        "a token of a login" => registry.require_token(TokenAuth::new().user("alice", "hunter2")),
        _ => registry.require_basic("alice", "hunter2"),
    }
    let home = Home::new();
    if access.contains("login") || access.contains("password") {
        let login = home.unlade(["login", &registry.host(), "-u", "alice", "--password-stdin"]);
        login.stdin("hunter2").run().success();
    }
    registry.clear();
    home
}

#[test]
fn each_thing_is_asked_for_once_whatever_the_registry_wants() {
    let image = image(5);
    let index = IndexBuilder::new().image(&image).build();
    for (access, first) in ACCESS {
        for is_index in [false, true] {
            let artifact: &dyn Artifact = if is_index { &index } else { &image };
            let by_digest: &[_] = if is_index { &[("GET manifest 200", 1)] } else { &[] };
            let registry = FakeRegistry::start();
            registry.push("app", "1", artifact);
            let home = home_for(access, &registry);
            home.pull(&registry.reference("app", "1"));
            let content = [("GET tag 200", 1), ("GET configuration 200", 1), ("GET layer 200", 5)];
            let expected = expected(&[first, by_digest, &content].concat());
            assert_eq!(asked(&registry, &[&image]), expected, "{access}");
        }
    }
}

#[test]
fn what_the_store_has_is_not_asked_for() {
    let (old, new) = (image(3), image(4));
    for (access, first) in ACCESS {
        let registry = FakeRegistry::start();
        registry.push("app", "1", &IndexBuilder::new().image(&old).build());
        registry.push_untagged("app", &new);
        let home = home_for(access, &registry);
        let reference = registry.reference("app", "1");
        home.pull(&reference);
        registry.clear();

        // That a name still stands for the same is asked in a way that does not count as a pull.
        let refused: Vec<_> = first
            .iter()
            .map(|(line, count)| (line.replace("GET tag", "HEAD tag"), *count))
            .collect();
        let refused: Vec<_> = refused.iter().map(|(line, count)| (line.as_str(), *count)).collect();
        home.pull_with(&reference, &["--policy", "always"]);
        let same = expected(&[&refused[..], &[("HEAD tag 200", 1)]].concat());
        assert_eq!(asked(&registry, &[&old]), same, "{access}");

        // It stands for something else, which shares three layers with what is there.
        registry.tag("app", "1", &new.digest);
        home.pull_with(&reference, &["--policy", "always"]);
        let changed = [
            ("HEAD tag 200", 1),
            ("GET tag 200", 1),
            ("GET configuration 200", 1),
            ("GET layer 200", 1),
        ];
        assert_eq!(
            asked(&registry, &[&new]),
            expected(&[&refused[..], &changed].concat()),
            "{access}"
        );

        // By digest there is nothing to ask.
        let by_digest = format!("{}/app@{}", registry.host(), new.digest);
        home.pull_with(&by_digest, &["--policy", "always"]);
        assert_eq!(asked(&registry, &[&new]), [], "{access}");
    }
}

#[test]
fn images_of_one_command_share_token_and_layers() {
    let (one, two) = (image(3), image(5));
    let registry = FakeRegistry::start();
    registry.push("app", "1", &one);
    registry.push("app", "2", &two);
    let home = home_for("a token", &registry);
    let references = [registry.reference("app", "1"), registry.reference("app", "2")];
    let pull = home.unlade(["pull", &references[0], &references[1]]);
    pull.run().success();
    let all = [
        ("GET tag 401", 1),
        ("GET token 200", 1),
        ("GET tag 200", 2),
        ("GET configuration 200", 2),
        ("GET layer 200", 5),
    ];
    assert_eq!(asked(&registry, &[&one, &two]), expected(&all));
}

#[test]
fn limits_are_those_of_all_images_of_a_command_together() {
    for (options, most) in [
        (&["--max-connections", "2"][..], 2),
        (&["--max-connections", "6", "--max-connections-per-host", "1"], 1),
        (&[], 6),
    ] {
        let registry = FakeRegistry::start();
        // Each has layers of its own, and all of them want to come at once.
        registry.fault(Fault::on_blobs().delay(Duration::from_millis(50)));
        let names = ["a", "b", "c"];
        let references = names.map(|name| {
            let layers = (0..4).map(|number| fat_layer(&format!("{name}{number}"), 10_000));
            registry.push(name, "1", &ImageBuilder::new().layers(layers).build());
            registry.reference(name, "1")
        });
        let home = Home::new();
        let pull = home.unlade(["pull"]).args(&references).args(options).run();
        pull.success();
        let peak = registry.peak_blob_requests();
        assert!(peak <= most, "{peak} with {options:?}");
        assert_eq!(home.images().len(), 3);
    }
}
