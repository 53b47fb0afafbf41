//! What is refused, and how the error points at it.

use unlade_oci::{DigestError, ErrorClass};
use unlade_reference::{ParseError, Part, Problem, Reference, Registry, Repository, Tag};

use crate::{HEX_64, SHA256};

#[track_caller]
fn refuse(text: &str) -> ParseError {
    match text.parse::<Reference>() {
        Ok(reference) => panic!("{text:?} was read as {reference}"),
        Err(error) => error,
    }
}

#[track_caller]
fn check<const N: usize>(table: [(&str, Part, usize, Problem); N]) {
    for (text, part, position, problem) in table {
        let error = refuse(text);
        assert_eq!(
            (error.part(), error.position(), error.problem()),
            (part, position, &problem),
            "{text:?}"
        );
        assert_eq!((error.text(), error.class()), (text, ErrorClass::Invalid));
    }
}

const fn character(found: char) -> Problem {
    Problem::Character { found }
}

const fn separator(found: char) -> Problem {
    Problem::Separator { found }
}

#[test]
fn wholes() {
    use Part::Whole;
    check([
        ("", Whole, 0, Problem::Empty),
        ("https://ghcr.io/a/b", Whole, 5, Problem::Scheme),
        ("docker://alpine:3", Whole, 6, Problem::Scheme),
        (HEX_64, Whole, 0, Problem::ImageId),
    ]);
}

#[test]
fn repositories() {
    use Part::Repository;
    use Problem::{EmptyComponent, Uppercase};
    check([
        (":tag", Repository, 0, Problem::Empty),
        ("@sha256:0", Repository, 0, Problem::Empty),
        ("localhost/", Repository, 10, Problem::Empty),
        ("localhost:5000/:x", Repository, 15, Problem::Empty),
        ("/a", Repository, 0, EmptyComponent),
        ("a/", Repository, 2, EmptyComponent),
        ("a//b", Repository, 2, EmptyComponent),
        ("ghcr.io/a//b", Repository, 10, EmptyComponent),
        ("Alpine", Repository, 0, Uppercase { found: 'A' }),
        ("alpIne:3", Repository, 3, Uppercase { found: 'I' }),
        (
            "test:5000/Uppercase/lowercase:tag",
            Repository,
            10,
            Uppercase { found: 'U' },
        ),
        ("ghcr.io/a/É", Repository, 10, Uppercase { found: 'É' }),
        (" alpine", Repository, 0, character(' ')),
        ("alpine ", Repository, 6, character(' ')),
        ("alpine\n", Repository, 6, character('\n')),
        ("aa/asdf$$^/aa", Repository, 7, character('$')),
        ("\u{430}lpine", Repository, 0, character('\u{430}')),
        ("[::1]", Repository, 0, character('[')),
        ("a/[::1]/b", Repository, 2, character('[')),
        ("-a", Repository, 0, separator('-')),
        ("a-", Repository, 1, separator('-')),
        ("a--/b", Repository, 2, separator('-')),
        ("a..b", Repository, 2, separator('.')),
        ("x/a.", Repository, 3, separator('.')),
        ("a___b", Repository, 3, separator('_')),
        ("a._b", Repository, 2, separator('_')),
        ("a-_b", Repository, 2, separator('_')),
        ("x/_a", Repository, 2, separator('_')),
        ("x/a__", Repository, 4, separator('_')),
    ]);
}

#[test]
fn registries() {
    use Part::Registry;
    use Problem::{EmptyComponent, Ipv6, Port};
    check([
        ("foo_bar.com:8080/x", Registry, 3, character('_')),
        ("a./b", Registry, 2, EmptyComponent),
        (".io/a", Registry, 0, EmptyComponent),
        ("a..io/b", Registry, 2, EmptyComponent),
        ("-a.io/b", Registry, 0, separator('-')),
        ("a-.io/b", Registry, 1, separator('-')),
        ("a.io-/b", Registry, 4, separator('-')),
        ("a.io:/b", Registry, 5, Port),
        ("a.io:x/b", Registry, 5, Port),
        ("a.io:0/b", Registry, 5, Port),
        ("a.io:65536/b", Registry, 5, Port),
        ("a.io:+80/b", Registry, 5, Port),
        ("a.io:1:2/b", Registry, 5, Port),
        ("aa:bb/c", Registry, 3, Port),
        (":5000/a", Registry, 0, EmptyComponent),
        ("ex ample.com/a", Registry, 2, character(' ')),
        ("ex\u{e4}mple.com/a", Registry, 2, character('\u{e4}')),
        ("[::1/a", Registry, 0, Ipv6),
        ("[:::1]/a", Registry, 1, Ipv6),
        ("[1:2:3:4:5:6:7:8:9]/a", Registry, 1, Ipv6),
        ("[fe80::1%eth0]:5000/a", Registry, 1, Ipv6),
        ("[2001:db8:3:4::192.0.2.33]/a", Registry, 1, Ipv6),
        ("[]:5000/a", Registry, 1, Ipv6),
        ("[::1]x:5000/a", Registry, 0, Ipv6),
        ("[::1]:x/a", Registry, 6, Port),
        ("::1/a", Registry, 0, EmptyComponent),
    ]);
}

#[test]
fn tags() {
    use Part::Tag;
    check([
        ("a:", Tag, 2, Problem::Empty),
        ("alpine:x y", Tag, 8, character(' ')),
        ("alpine:.x", Tag, 7, character('.')),
        ("alpine:-x", Tag, 7, character('-')),
        ("alpine:a:b", Tag, 8, character(':')),
        ("ghcr.io/a:b/c", Tag, 11, character('/')),
        ("alpine:\u{3b2}", Tag, 7, character('\u{3b2}')),
    ]);
}

#[test]
fn digests() {
    use Part::Digest;
    check([
        // A reference is no URL: there is no user in it.
        (
            "user:pass@ghcr.io/a",
            Digest,
            19,
            Problem::Digest(DigestError::NoSeparator),
        ),
        ("a@", Digest, 2, Problem::Empty),
        ("a:b@", Digest, 4, Problem::Empty),
        ("a@sha256", Digest, 8, Problem::Digest(DigestError::NoSeparator)),
        (
            "a@md5:0123",
            Digest,
            2,
            Problem::Digest(DigestError::UnknownAlgorithm {
                algorithm: "md5".into(),
            }),
        ),
        ("a@sha256:0G", Digest, 10, character('G')),
        ("a@b@c", Digest, 5, Problem::Digest(DigestError::NoSeparator)),
    ]);
}

#[test]
fn too_long() {
    let check = |text: &str, part, position, limit| {
        let error = refuse(text);
        let found = (error.part(), error.position(), error.problem().clone());
        assert_eq!(found, (part, position, Problem::TooLong { limit }), "{text}");
    };
    check(
        &format!("ghcr.io/{}", "a".repeat(256)),
        Part::Repository,
        "ghcr.io/".len() + 255,
        255,
    );
    check(&"a".repeat(248), Part::Repository, 247, 255);
    check(&format!("a:{}", "b".repeat(129)), Part::Tag, 130, 128);

    let short = &SHA256[..SHA256.len() - 1];
    assert_eq!(refuse(&format!("a@{short}")).position(), 2 + short.len());
    assert_eq!(refuse(&format!("a@{SHA256}00")).position(), 2 + SHA256.len());
}

#[test]
fn a_registry_alone() {
    let problem = |text: &str| text.parse::<Registry>().unwrap_err().problem().clone();
    assert_eq!(problem(""), Problem::Empty);
    assert_eq!(problem("registry"), Problem::NotARegistry);
    assert_eq!(problem("ghcr.io/a"), Problem::Character { found: '/' });
}

#[test]
fn a_repository_alone_has_no_tag() {
    let error = "alpine:3".parse::<Repository>().unwrap_err();
    assert_eq!(
        (error.position(), error.problem()),
        (6, &Problem::Character { found: ':' })
    );
    assert_eq!("ghcr.io/a@x".parse::<Repository>().unwrap_err().position(), 9);
}

#[test]
fn sentences() {
    for (text, sentence) in [
        (
            "alpine:x y",
            "invalid reference \"alpine:x y\": the tag has ' ' at position 8; \
             a tag is made of letters, digits, '_', '.' and '-'",
        ),
        (
            "Alpine",
            "invalid reference \"Alpine\": the repository has the upper-case letter 'A' at position 0; \
             the name of a repository is all lower-case",
        ),
        (
            "\u{430}lpine",
            "invalid reference \"\u{430}lpine\": the repository has '\u{430}' (U+0430) at position 0; \
             a repository is made of lower-case letters, digits, '.', '_', '-' and '/'",
        ),
        (
            "a..b",
            "invalid reference \"a..b\": the repository has '.' at position 2, where a letter or digit is due; \
             components are joined by '.', '_', '__' or any number of '-'",
        ),
        (
            "a@sha256:00",
            "invalid reference \"a@sha256:00\": the digest is wrong at position 11: \
             a sha256 digest has 64 hexadecimal digits, this has 2",
        ),
        (
            "",
            "invalid reference \"\": the text at position 0 is empty; \
             a reference has the form [registry/]repository[:tag][@digest]",
        ),
        (
            "ghcr.io:port/a",
            "invalid reference \"ghcr.io:port/a\": the registry has no valid port at position 8; \
             a port is a number from 1 to 65535",
        ),
    ] {
        assert_eq!(refuse(text).to_string(), sentence);
    }
    let error = "registry".parse::<Registry>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid registry \"registry\": a name without '.', ':' or upper-case letter would be read as part of a \
         repository; a port makes it a registry, as in registry:443"
    );
    assert!(
        "".parse::<Tag>()
            .unwrap_err()
            .to_string()
            .starts_with("invalid tag \"\": the tag at position 0 is empty")
    );
}

#[test]
fn the_caret_stands_below_the_fault() {
    for (text, picture) in [
        ("alpine:x y", "alpine:x y\n        ^"),
        ("alpine:", "alpine:\n       ^"),
        ("Alpine", "Alpine\n^"),
        ("alpine\u{1b}[2J", "alpine\\u{1b}[2J\n      ^"),
        ("\u{e9}/b c", "\\u{e9}/b c\n^"),
        ("a:b\u{430}", "a:b\\u{430}\n   ^"),
        ("a:\u{430}", "a:\\u{430}\n  ^"),
    ] {
        assert_eq!(refuse(text).pointer(), picture);
    }
}
