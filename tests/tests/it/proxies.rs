//! Registries that are reached through a proxy alone: the command in one network namespace, they in another.

use std::fs;

use unlade_test_support::fixtures;
use unlade_tests::{FarSide, Home, RealProxy, RealRegistry};

/// A home that sends `localhost` to the proxy too, since the registry is on the loopback interface of the far side.
fn home() -> Home {
    let home = Home::new();
    let config = home.path("home/.config/unlade");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("config.toml"), "[proxy]\nloopback = true\n").unwrap();
    home
}

#[test]
fn privileged_real_proxies_lead_where_nothing_else_does() {
    let sides = FarSide::new();
    let registry = RealRegistry::start_in(sides.far());
    let reference = registry.push("team/web", "1", &fixtures::web());
    let http = RealProxy::tinyproxy(&sides, Some(("me", "hunter2")));
    let socks = RealProxy::microsocks(&sides, Some(("me", "hunter2")));

    let direct = sides.near(home().unlade(["pull", &reference, "--no-proxy"]));
    direct
        .env("ALL_PROXY", format!("http://me:hunter2@{}", http.host()))
        .run()
        .failure(5);

    for (scheme, proxy) in [("http", &http), ("socks5h", &socks), ("socks5", &socks)] {
        let pull = |login: &str| {
            let home = home();
            let pull = sides.near(home.unlade(["pull", &reference]));
            let variable = format!("{scheme}://{login}{}", proxy.host());
            (pull.env("http_proxy", variable).run(), home)
        };
        let (finished, home) = pull("me:hunter2@");
        finished.success();
        home.leftovers().assert_nothing_half_done();

        let proxy = format!("the proxy {scheme}://{}", proxy.host());
        let finished = pull("").0.failure(4);
        assert!(
            finished.stderr.contains(&format!("{proxy} wants a login")),
            "{finished}"
        );
        // tinyproxy answers a wrong login with 401, as if it were the registry.
        let finished = pull("me:hunter3@").0.failure(4);
        assert!(finished.stderr.contains(&proxy), "{finished}");
        assert!(!finished.stderr.contains("hunter"), "{finished}");
    }
    assert!(http.log().contains("/v2/team/web/blobs/sha256:"), "{}", http.log());
}
