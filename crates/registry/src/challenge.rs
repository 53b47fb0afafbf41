//! `WWW-Authenticate`: which proof a server asks for (RFC 9110, 11.6.1).

use http::{HeaderMap, header};

/// One challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token of the token server at `realm`.
    Bearer {
        realm: Option<String>,
        service: Option<String>,
        scope: Option<String>,
        error: Option<String>,
    },
    /// A name and a password.
    Basic,
    /// A scheme that no registry client speaks, lower case.
    Other(String),
}

impl Challenge {
    /// Returns the challenges of a response, in order: there may be several headers and several in each.
    pub(crate) fn all(headers: &HeaderMap) -> Vec<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
        // Bytes above ASCII can only stand in quoted texts, none of which we compare.
        values
            .flat_map(|value| parse(&String::from_utf8_lossy(value.as_bytes())))
            .collect()
    }

    /// Tells whether the challenge says that the token was good but does not reach far enough.
    pub(crate) fn is_insufficient_scope(&self) -> bool {
        matches!(self, Self::Bearer { error: Some(error), .. } if error.eq_ignore_ascii_case("insufficient_scope"))
    }

    fn new(scheme: &str, parameters: &[(String, String)]) -> Self {
        let get = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.clone())
        };
        match scheme.to_ascii_lowercase().as_str() {
            "bearer" => Self::Bearer {
                realm: get("realm"),
                service: get("service"),
                scope: get("scope"),
                error: get("error"),
            },
            "basic" => Self::Basic,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// Parses one header's value.
///
/// The grammar is a list of lists with the same comma for both, so a word is a scheme unless an equals sign follows.
fn parse(value: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut current: Option<(String, Vec<(String, String)>)> = None;
    let mut cursor = Cursor(value);
    while let Some(word) = cursor.word() {
        if cursor.eat_equals() {
            let value = cursor.value();
            if let Some((_, parameters)) = &mut current {
                parameters.push((word.to_owned(), value));
            }
        } else {
            challenges.extend(
                current
                    .take()
                    .map(|(scheme, parameters)| Challenge::new(&scheme, &parameters)),
            );
            cursor.skip_token68();
            current = Some((word.to_owned(), Vec::new()));
        }
    }
    challenges.extend(current.map(|(scheme, parameters)| Challenge::new(&scheme, &parameters)));
    challenges
}

/// What is left of the header.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    /// Takes the next scheme or parameter name.
    fn word(&mut self) -> Option<&'a str> {
        let rest = self.0.trim_start_matches(|c: char| !is_token(c));
        let end = rest.find(|c| !is_token(c)).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    fn eat_equals(&mut self) -> bool {
        let Some(rest) = self.0.trim_start().strip_prefix('=') else {
            return false;
        };
        self.0 = rest.trim_start();
        true
    }

    /// Takes a parameter's value: quoted, or everything up to the next comma or blank. (The latter may strictly hold only
    /// token characters, but there are servers that leave a URL unquoted.)
    fn value(&mut self) -> String {
        let Some(quoted) = self.0.strip_prefix('"') else {
            let end = self.0.find([',', ' ', '\t']).unwrap_or(self.0.len());
            let (value, rest) = self.0.split_at(end);
            self.0 = rest;
            return value.to_owned();
        };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    self.0 = &quoted[at + 1..];
                    return value;
                }
                '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                c => value.push(c),
            }
        }
        self.0 = "";
        value
    }

    /// Passes over the one opaque word that may follow a scheme instead of parameters (`Negotiate YII=`).
    fn skip_token68(&mut self) {
        let Some(rest) = self.0.strip_prefix(' ') else {
            return;
        };
        let rest = rest.trim_start();
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "-._~+/".contains(c)))
            .unwrap_or(rest.len());
        let after = rest[end..].trim_start_matches('=').trim_start();
        if end > 0 && (after.is_empty() || after.starts_with(',')) {
            self.0 = after;
        }
    }
}

/// Tells whether a character may stand in a token (RFC 9110, 5.6.2).
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: Some(realm.to_owned()),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
            error: None,
        }
    }

    #[test]
    fn table() {
        let hub = bearer(
            "https://auth.docker.io/token",
            Some("registry.docker.io"),
            Some("repository:a/b:pull,push"),
        );
        let table = [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                vec![hub.clone()],
            ),
            (
                r#"Bearer realm="https://nvcr.io/proxy_auth""#,
                vec![bearer("https://nvcr.io/proxy_auth", None, None)],
            ),
            (
                r#"bearer  REALM = "https://x/t" , service=y"#,
                vec![bearer("https://x/t", Some("y"), None)],
            ),
            (
                "Bearer realm=https://x/t,service=y",
                vec![bearer("https://x/t", Some("y"), None)],
            ),
            (r#"Basic realm="a, \"b\", Bearer c""#, vec![Challenge::Basic]),
            ("Basic", vec![Challenge::Basic]),
            (
                r#"Basic realm="x", Bearer realm="https://x/t""#,
                vec![Challenge::Basic, bearer("https://x/t", None, None)],
            ),
            (
                r#"Bearer realm="https://x/t", Basic realm="x""#,
                vec![bearer("https://x/t", None, None), Challenge::Basic],
            ),
            (
                r#"Negotiate YII+/a==, Basic realm="x""#,
                vec![Challenge::Other("negotiate".into()), Challenge::Basic],
            ),
            (
                r#"Negotiate, Basic realm="x""#,
                vec![Challenge::Other("negotiate".into()), Challenge::Basic],
            ),
            (r#"Bearer realm="https://x/t"#, vec![bearer("https://x/t", None, None)]),
            ("", vec![]),
            (",,= \"", vec![]),
        ];
        for (header, expected) in table {
            assert_eq!(parse(header), expected, "{header}");
        }
    }

    #[test]
    fn several_headers() {
        let mut headers = HeaderMap::new();
        headers.append(header::WWW_AUTHENTICATE, r#"Basic realm="x""#.parse().unwrap());
        headers.append(
            header::WWW_AUTHENTICATE,
            r#"Bearer realm="https://x/t",error="insufficient_scope""#.parse().unwrap(),
        );
        let challenges = Challenge::all(&headers);
        assert_eq!(challenges[0], Challenge::Basic);
        assert!(challenges[1].is_insufficient_scope());
    }
}
