//! `unlade unpack` from the outside: what it takes, what it prints, and what it says when it cannot.

use std::fs;

use serde_json::json;

use crate::sandbox::{Sandbox, files, image, platform, registry};

#[test]
fn what_is_missing_is_pulled_and_no_layer_directory_is_made() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let name = format!("{}/x:1", registry.host());
    let text = sandbox.steady_path(&sandbox.ok(&format!("unpack {name} rootfs")));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "HOME/rootfs");
    // Only who is no root cannot set owners.
    assert!(
        lines[1..].iter().all(|line| line.starts_with("  owners recorded")),
        "{text}"
    );
    assert_eq!(files(&sandbox.path("rootfs")), ["lower: below", "upper: above"]);
    assert!(sandbox.entries("layers").is_empty());
    assert_eq!(sandbox.ok("images").lines().count(), 2, "the image is in the store");

    registry.clear();
    sandbox.ok(&format!("unpack {name} again --policy never"));
    assert!(registry.requests().is_empty());
}

#[test]
fn json_tells_what_it_was_made_from() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let name = format!("{}/x:1", registry.host());
    sandbox.ok(&format!("pull {name}"));
    let result = sandbox.json(&format!("unpack {name} rootfs --format json"));
    assert_eq!(
        result,
        json!({
            "reference": name,
            "digest": image().digest.to_string(),
            "platform": unlade_oci::Platform::host().to_string(),
            "path": sandbox.path("rootfs").to_str().unwrap(),
            "source": "directories",
            "entries": 3,
            "notes": result["notes"],
        })
    );
    assert!(result["notes"].is_object());
    let kept = sandbox.json(&format!("unpack {name} kept --keep-dirlinks --format json"));
    assert_eq!(kept["source"], "blobs");
}

#[test]
fn what_to_start_is_written_to_a_file() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let name = format!("{}/x:1", registry.host());
    sandbox.ok(&format!("unpack {name} rootfs --image-config rootfs.json"));
    let written: serde_json::Value = serde_json::from_slice(&fs::read(sandbox.path("rootfs.json")).unwrap()).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&image().config).unwrap();
    assert_eq!(
        written,
        json!({
            "reference": name,
            "digest": image().digest.to_string(),
            "platform": platform(),
            "rootfs": sandbox.path("rootfs").to_str().unwrap(),
            "command": ["/bin/true"],
            "environment": ["PATH=/bin"],
            "user": null,
            "working_directory": null,
            "config": config,
        })
    );
    let ran = sandbox.run(&format!("unpack {name} other --image-config no/such/file"));
    assert_eq!(ran.code, Some(9), "{}", ran.stderr);
}

#[test]
fn a_directory_in_use_is_an_error_that_names_the_way_out() {
    let (sandbox, registry) = (Sandbox::new(), registry());
    let name = format!("{}/x:1", registry.host());
    fs::create_dir(sandbox.path("rootfs")).unwrap();
    fs::write(sandbox.path("rootfs/mine"), "").unwrap();
    let ran = sandbox.run(&format!("unpack {name} rootfs"));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(9), ""));
    assert_eq!(
        sandbox.steady_path(&ran.stderr).lines().collect::<Vec<_>>(),
        [
            "error: HOME/rootfs is there already and is not an empty directory",
            "hint: --replace puts the new tree in its place, in one step"
        ]
    );
    assert!(registry.requests().is_empty(), "it is found out first");
    sandbox.ok(&format!("unpack {name} rootfs --replace"));
    assert!(!sandbox.path("rootfs/mine").exists());

    let ran = sandbox.run(&format!("unpack {name} elsewhere --max-raw-bytes 100"));
    assert_eq!(ran.code, Some(8));
    assert!(ran.stderr.contains("--max-raw-bytes"), "{}", ran.stderr);
    assert!(!sandbox.path("elsewhere").exists());
    let ran = sandbox.run(&format!("unpack {name} elsewhere --hardlink --keep-dirlinks"));
    assert_eq!(ran.code, Some(2));
}
