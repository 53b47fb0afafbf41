//! A real image: Debian with nginx, made by mmdebstrap, through a real registry.

use std::path::{Path, PathBuf};

use unlade_tests::{Home, Pulled, RealRegistry, real};

use crate::all_ways::assert_as_the_model;
use crate::ordinary_user::assert_as_root_but_for_rights;

/// What the image is known by.
const NGINX_FILES: [&str; 3] = [
    "etc/nginx/nginx.conf",
    "etc/nginx/conf.d/default.conf",
    "usr/sbin/nginx",
];

fn assert_has_nginx(pulled: &Pulled) {
    assert_eq!(pulled.directories.len(), 3);
    for file in NGINX_FILES {
        let holders: Vec<&Path> = pulled
            .directories
            .iter()
            .map(PathBuf::as_path)
            .filter(|directory| directory.join(file).is_file())
            .collect();
        assert_eq!(
            holders,
            [&pulled.directories[1]],
            "{file} is in the second layer and in no other"
        );
    }
}

/// One test, since what takes time is to have the image at all.
#[test]
fn privileged_real_debian_is_the_same_in_all_ways_and_in_the_model_and_what_umoci_unpacks() {
    let (registry, layout) = (RealRegistry::start(), real::debian_layout());
    let (root, user) = (Home::new(), Home::of_nobody());
    let reference = registry.push_layout(&layout, "latest", "debian");
    let (as_root, as_user) = (root.pull(&reference), user.pull(&reference));
    for pulled in [&as_root, &as_user] {
        assert_has_nginx(pulled);
    }
    assert_as_root_but_for_rights(&as_user, &as_root);

    let tree = assert_as_the_model(&root, &user, &reference, &layout, "latest");
    assert!(tree.len() > 5000, "{} paths", tree.len());
    let umoci = real::reference_tree(&registry, "debian", "latest", go_architecture());
    tree.assert_same(&umoci);

    root.leftovers().assert_nothing_half_done();
    user.unlade(["rm", &reference]).run().success();
    user.leftovers().assert_nothing();
}

/// The image is for the machine that it was made on.
fn go_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    }
}
