//! One `hosts.toml` (containerd, `docs/hosts.md`).

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use unlade_reference::Registry;
use url::Url;

use super::document::{Document, Table, Value, beside};
use super::{Capabilities, ClientCertificate, ConfigError, EndpointSettings, Role};

const HOST_KEYS: [&str; 7] = [
    "ca",
    "capabilities",
    "client",
    "dial_timeout",
    "header",
    "override_path",
    "skip_verify",
];

/// Reads a file into the servers of `registry`: each `[host."…"]` in the order of the file, then `server`.
pub(super) fn parse(document: Document<'_>, registry: &Registry) -> Result<Vec<EndpointSettings>, ConfigError> {
    let mut root = document.parse()?;
    let server = root.take("server");
    let hosts = root.take("host");
    let mut endpoints = Vec::new();
    if let Some(hosts) = hosts {
        for host in hosts.table()?.into_entries() {
            let (name, origin) = (host.key.clone(), host.origin());
            let span = host.span.clone();
            let wrong = |reason| document.invalid(&span, format!("host {name:?}: {reason}"));
            let mut table = host.table()?;
            let own_path = own_path(&mut table)?;
            let mut endpoint = EndpointSettings::new(base(&name, own_path).map_err(wrong)?, origin);
            endpoint.role = Role::Mirror;
            fill(&mut endpoint, table)?;
            endpoints.push(named(endpoint, registry));
        }
    }
    let own_path = own_path(&mut root)?;
    // Without a `server`, the settings beside it are the registry's own.
    let mut last = if let Some(server) = &server {
        let base = base(&server.string()?, own_path).map_err(|reason| server.invalid(reason))?;
        EndpointSettings::new(base, server.origin())
    } else {
        let mut standard = EndpointSettings::standard(registry)?;
        standard.origin = document.origin(&(0..0));
        standard
    };
    fill(&mut last, root)?;
    endpoints.push(named(last, registry));
    Ok(endpoints)
}

/// Takes `override_path`: whether the URL's path is all there is, so that no `/v2` is appended.
fn own_path(table: &mut Table<'_>) -> Result<bool, ConfigError> {
    table.take("override_path").map_or(Ok(false), |value| value.boolean())
}

/// Tells a server of another name which registry is meant.
fn named(mut endpoint: EndpointSettings, registry: &Registry) -> EndpointSettings {
    let host = endpoint.host();
    let bare = |name: &str| name.strip_suffix(":443").unwrap_or(name).to_owned();
    if bare(&host) != bare(registry.api_host()) && bare(&host) != bare(registry.as_str()) {
        endpoint.namespace = Some(registry.to_string());
    }
    endpoint
}

/// Makes the base of an API of what stands for a server: a URL, or a host alone, which means https.
fn base(text: &str, own_path: bool) -> Result<Url, String> {
    let full = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let mut url = Url::parse(&full).map_err(|error| format!("not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("not an http or https URL".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL may not hold credentials".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a server's URL ends with its path".to_owned());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    let path = if own_path || path.ends_with("/v2") {
        path
    } else {
        path + "/v2"
    };
    url.set_path(&format!("{path}/"));
    Ok(url)
}

fn fill(endpoint: &mut EndpointSettings, mut table: Table<'_>) -> Result<(), ConfigError> {
    let path = table.document().path;
    if let Some(value) = table.take("capabilities") {
        endpoint.capabilities = capabilities(&value)?;
    }
    if let Some(value) = table.take("ca") {
        endpoint.tls.ca = value.strings()?.iter().map(|text| beside(path, text)).collect();
    }
    if let Some(value) = table.take("client") {
        let pairs = client(&value)?.into_iter();
        endpoint.tls.client = pairs
            .map(|(certificate, key)| ClientCertificate {
                certificate: beside(path, &certificate),
                key: key.map(|key| beside(path, &key)),
            })
            .collect();
    }
    if let Some(value) = table.take("skip_verify") {
        endpoint.tls.skip_verify = value.boolean()?;
    }
    if let Some(value) = table.take("dial_timeout") {
        let text = value.string()?;
        let time =
            duration(&text).ok_or_else(|| value.invalid(format_args!("{text:?} is no duration such as 1m30s")))?;
        endpoint.connect_timeout = (!time.is_zero()).then_some(time);
    }
    if let Some(value) = table.take("header") {
        for header in value.table()?.into_entries() {
            let name: HeaderName = header.key.parse().map_err(|_| header.invalid("not a header name"))?;
            for text in header.strings()? {
                let mut value = HeaderValue::from_str(&text).map_err(|_| header.invalid("not a header value"))?;
                value.set_sensitive(true);
                endpoint.headers.append(&name, value);
            }
        }
    }
    table.finish(&HOST_KEYS)
}

/// Reads `capabilities`. What this program never does (`push`) may stand there.
fn capabilities(value: &Value<'_>) -> Result<Capabilities, ConfigError> {
    let names = value.strings()?;
    if names.is_empty() {
        return Ok(Capabilities::default());
    }
    let mut capabilities = Capabilities {
        pull: false,
        resolve: false,
    };
    for name in names {
        match name.to_ascii_lowercase().as_str() {
            "pull" => capabilities.pull = true,
            "resolve" => capabilities.resolve = true,
            "push" | "referrers" => {}
            _ => {
                let known = "known: pull, resolve, push, referrers";
                return Err(value.invalid(format_args!("unknown capability {name:?}; {known}")));
            }
        }
    }
    Ok(capabilities)
}

/// Reads `client`: a file with both, or a list of such files and of pairs of certificate and key.
fn client(value: &Value<'_>) -> Result<Vec<(String, Option<String>)>, ConfigError> {
    let Some(items) = value.items() else {
        return Ok(vec![(value.string()?, None)]);
    };
    let pair = |item: &Value<'_>| match <[String; 2]>::try_from(item.strings()?) {
        Ok([certificate, key]) => Ok((certificate, (!key.is_empty()).then_some(key))),
        Err(mut one) if one.len() == 1 => Ok((one.remove(0), None)),
        Err(_) => Err(item.invalid("a certificate and its key are wanted")),
    };
    items.iter().map(pair).collect()
}

/// Reads a duration as Go writes it: `300ms`, `1.5s`, `1m30s`.
fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let end = unit
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(unit.len());
        let factor = match &unit[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number * factor;
        rest = &unit[end..];
    }
    (!text.is_empty())
        .then(|| Duration::try_from_secs_f64(seconds).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(registry: &str, text: &str) -> Result<Vec<EndpointSettings>, String> {
        let document = Document {
            path: Path::new("/c/x/hosts.toml"),
            text,
        };
        parse(document, &registry.parse().unwrap()).map_err(|error| error.to_string())
    }

    fn urls(registry: &str, text: &str) -> Vec<String> {
        let endpoints = read(registry, text).unwrap().into_iter();
        endpoints.map(|endpoint| endpoint.base.to_string()).collect()
    }

    #[test]
    fn hosts_stand_in_the_order_of_the_file_and_the_server_last() {
        let text = r#"
server = "https://registry-1.docker.io"
[host."https://z.example"]
[host."https://a.example".header]
  x = "1"
[host."m.example:5000"]
"#;
        let expected = [
            "https://z.example/v2/",
            "https://a.example/v2/",
            "https://m.example:5000/v2/",
            "https://registry-1.docker.io/v2/",
        ];
        assert_eq!(urls("docker.io", text), expected);
        let lines = read("docker.io", text)
            .unwrap()
            .into_iter()
            .map(|endpoint| endpoint.origin.to_string());
        let expected = [
            "/c/x/hosts.toml:3",
            "/c/x/hosts.toml:4",
            "/c/x/hosts.toml:6",
            "/c/x/hosts.toml:2",
        ];
        assert!(lines.eq(expected));
    }

    #[test]
    fn without_a_server_it_is_the_registry() {
        assert_eq!(urls("docker.io", ""), ["https://registry-1.docker.io/v2/"]);
        assert_eq!(urls("ghcr.io", "skip_verify = true"), ["https://ghcr.io/v2/"]);
        assert_eq!(urls("localhost:5000", ""), ["http://localhost:5000/v2/"]);
        assert!(read("ghcr.io", "skip_verify = true").unwrap()[0].tls.skip_verify);
    }

    #[test]
    fn paths() {
        let table = [
            ("server = 'http://m.example'", "http://m.example/v2/"),
            ("server = 'https://m.example/v2'", "https://m.example/v2/"),
            ("server = 'https://m.example/v2/'", "https://m.example/v2/"),
            ("server = 'https://m.example/hub'", "https://m.example/hub/v2/"),
            (
                "server = 'https://m.example/v2/hub'\noverride_path = true",
                "https://m.example/v2/hub/",
            ),
            (
                "server = 'https://m.example'\noverride_path = true",
                "https://m.example/",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(urls("ghcr.io", text), [expected], "{text}");
        }
    }

    #[test]
    fn another_host_is_told_which_registry_is_meant() {
        let text = "[host.'https://ghcr.io']\n[host.'https://m.example']\n[host.'https://ghcr.io:443']";
        let spaces: Vec<_> = read("ghcr.io", text)
            .unwrap()
            .into_iter()
            .map(|endpoint| endpoint.namespace)
            .collect();
        assert_eq!(spaces, [None, Some("ghcr.io".to_owned()), None, None]);
        let hub = read("docker.io", "server = 'https://registry-1.docker.io'").unwrap();
        assert_eq!(hub[0].namespace, None);
    }

    #[test]
    fn what_can_be_set() {
        let text = r#"
[host."https://m.example"]
  capabilities = ["pull"]
  ca = ["ca.pem", "/etc/b.pem"]
  client = [["c.pem", "k.pem"], "both.pem", ["alone.pem", ""]]
  skip_verify = true
  dial_timeout = "1m1.5s"
  header = { x-a = "1", x-b = ["2", "3"] }
"#;
        let endpoint = read("ghcr.io", text).unwrap().remove(0);
        assert_eq!(
            endpoint.capabilities,
            Capabilities {
                pull: true,
                resolve: false
            }
        );
        assert_eq!(endpoint.tls.ca, [Path::new("/c/x/ca.pem"), Path::new("/etc/b.pem")]);
        let pair = |certificate: &str, key: Option<&str>| ClientCertificate {
            certificate: Path::new("/c/x").join(certificate),
            key: key.map(|key| Path::new("/c/x").join(key)),
        };
        let pairs = [
            pair("c.pem", Some("k.pem")),
            pair("both.pem", None),
            pair("alone.pem", None),
        ];
        assert_eq!(endpoint.tls.client, pairs);
        assert!(endpoint.tls.skip_verify);
        assert_eq!(endpoint.connect_timeout, Some(Duration::from_millis(61_500)));
        assert_eq!(endpoint.headers.get_all("x-b").iter().count(), 2);
        assert_eq!(endpoint.headers["x-a"], "1");
        assert!(
            !format!("{endpoint:?}").contains("\"1\""),
            "header values may be secrets"
        );
        let single = read("ghcr.io", "ca = 'a.pem'\nclient = 'c.pem'\ncapabilities = []")
            .unwrap()
            .remove(0);
        assert_eq!(single.tls.ca, [Path::new("/c/x/a.pem")]);
        assert_eq!(single.tls.client, [pair("c.pem", None)]);
        assert_eq!(single.capabilities, Capabilities::default());
    }

    #[test]
    fn what_is_wrong_has_a_line() {
        let table = [
            ("server = ", 1, "must be quoted"),
            ("\nservr = 'x'", 2, "unknown key \"servr\""),
            (
                "[host.'https://m.example']\n capabilties = ['pull']",
                2,
                "unknown key \"capabilties\"",
            ),
            ("capabilities = ['pull', 'fetch']", 1, "unknown capability \"fetch\""),
            (
                "\n\nskip_verify = 'yes'",
                3,
                "true or false is wanted, not a value of type string",
            ),
            ("server = 'ftp://m.example'", 1, "not an http or https URL"),
            ("server = 'https://u:hunter2@m.example'", 1, "may not hold credentials"),
            ("\n[host.'https://a b']", 2, "not a URL"),
            ("client = [['a', 'b', 'c']]", 1, "a certificate and its key"),
            ("dial_timeout = '5'", 1, "no duration"),
            ("host = 'm.example'", 1, "a table is wanted"),
            ("[header]\n'a b' = '1'", 2, "not a header name"),
            ("[host.'m.example']\nserver = 'x'", 2, "unknown key \"server\""),
        ];
        for (text, line, part) in table {
            let error = read("ghcr.io", text).unwrap_err();
            assert!(
                error.starts_with(&format!("/c/x/hosts.toml:{line}: ")),
                "{text}: {error}"
            );
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
