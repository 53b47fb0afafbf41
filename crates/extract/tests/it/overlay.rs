//! What the kernel's overlayfs makes of layer directories, where the tests may mount.

use std::io;

use unlade_test_support::{LayerBuilder, TreeSnapshot};

use crate::sandbox::Sandbox;

fn stack() -> [LayerBuilder; 3] {
    let lowest = LayerBuilder::new()
        .dir("./", 0o755)
        .dir("d", 0o755)
        .file("d/kept", "1")
        .file("d/gone", "1")
        .dir("o", 0o755)
        .file("o/hidden", "1")
        .dir("r", 0o755)
        .file("r/hidden", "1")
        .dir("t", 0o755)
        .dir("t/u", 0o755)
        .file("t/u/hidden", "1")
        .file("f", "1")
        .symlink("l", "d");
    let middle = LayerBuilder::new()
        .dir("./", 0o755)
        .dir("d", 0o700)
        .whiteout("d/gone")
        .whiteout("d/never-was")
        .dir("o", 0o755)
        .opaque("o")
        .whiteout("o/ghost")
        .file("o/new", "2")
        .whiteout("r")
        .dir("r", 0o711)
        .whiteout("r/ghost")
        .whiteout("t")
        .whiteout("t/u")
        .whiteout("f")
        .file("f", "22")
        .whiteout("l");
    let highest = LayerBuilder::new()
        .dir("./", 0o755)
        .dir("d", 0o750)
        .file("d/gone", "333")
        .dir_with("t", 0o755, |entry| entry.xattr("trusted.overlay.opaque", "y").mtime(5))
        .file("t/new", "3")
        .file("l", "now a file");
    [lowest, middle, highest]
}

#[test]
fn the_kernel_sees_what_the_layers_say() {
    let sandboxes = stack().map(|layer| {
        let sandbox = Sandbox::new();
        sandbox.extract(&layer).unwrap();
        sandbox
    });
    let layers: Vec<_> = sandboxes.iter().map(Sandbox::target).collect();
    let expected = [".", "d", "d/gone", "d/kept", "f", "l", "o", "o/new", "r", "t", "t/new"];
    let paths = |tree: &TreeSnapshot| -> Vec<String> {
        tree.iter()
            .map(|(path, _)| String::from_utf8_lossy(path).into_owned())
            .collect()
    };
    assert_eq!(paths(&TreeSnapshot::merged(&layers)), expected);
    match TreeSnapshot::overlay_merged(&layers) {
        Ok(tree) => {
            assert_eq!(paths(&tree), expected);
            let size = |path: &str| tree.get(path).unwrap().size;
            assert_eq!((size("d/gone"), size("d/kept"), size("f")), (3, 1, 2));
            assert_eq!(
                (tree.get("d").unwrap().mode, tree.get("r").unwrap().mode),
                (0o750, 0o711)
            );
            assert_eq!(tree.get("t").unwrap().mtime, (5, 0));
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
            ) =>
        {
            eprintln!("left out: this user cannot mount an overlay: {error}");
        }
        Err(error) => panic!("{error}"),
    }
}
