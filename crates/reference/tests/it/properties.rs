//! Laws that hold for every text.

use proptest::prelude::*;
use unlade_oci::{Algorithm, Digest};
use unlade_reference::{Defaults, ParseError, Reference, Registry, Repository, Tag};

/// Texts that keep to the grammar, with and without each part.
fn valid() -> impl Strategy<Value = String> {
    let registry = "([a-zA-Z0-9]{1,3}(-{1,2}[a-z0-9]{1,3})?\\.[a-zA-Z]{2,3}|localhost|[A-Z]{1,4}|\\[::[0-9a-fA-F]{1,4}\\])(:[1-9][0-9]{0,3})?/|[a-z]{1,4}:[1-9][0-9]{0,3}/|(index\\.)?docker\\.io/|sandboxes\\.io/|";
    let path =
        "([a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}/){0,3}[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}";
    let tag = "(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,9})?";
    let digest = prop_oneof![
        Just(String::new()),
        any::<u8>().prop_map(|seed| format!("@{}", Digest::sha256([seed]))),
        any::<u8>().prop_map(|seed| format!("@{}", Digest::of(Algorithm::Sha512, [seed]))),
    ];
    (registry, path, tag, digest).prop_map(|(registry, path, tag, digest)| {
        // Without a registry, a dot in the first component would make it one.
        let path = if registry.is_empty() {
            path.replace('.', "_")
        } else {
            path
        };
        format!("{registry}{path}{tag}{digest}")
    })
}

fn defaults() -> impl Strategy<Value = Defaults> {
    let registry =
        || "[a-z]{1,3}\\.example(:[1-9][0-9]{0,3})?".prop_map(|text| text.parse::<Registry>().expect("a host"));
    prop_oneof![
        Just(Defaults::standard()),
        Just(Defaults::without_aliases()),
        registry().prop_map(|registry| Defaults::standard().with_default_registry(registry)),
        (registry(), registry()).prop_map(|(from, to)| {
            Defaults::standard()
                .with_alias(Registry::docker_hub(), from.clone())
                .with_alias(from, to)
        }),
    ]
}

fn check_error(error: &ParseError, text: &str) -> Result<(), TestCaseError> {
    prop_assert_eq!(error.text(), text);
    prop_assert!(error.position() <= text.len());
    prop_assert!(text.is_char_boundary(error.position()));
    prop_assert!(!error.to_string().contains('\n'));
    prop_assert_eq!(error.pointer().lines().count(), 2);
    Ok(())
}

proptest! {
    #[test]
    fn parse_and_display_are_inverse(text in valid(), defaults in defaults()) {
        let reference = Reference::parse(&text, &defaults).unwrap();
        let canonical = reference.to_string();
        prop_assert_eq!(&Reference::parse(&canonical, &defaults).unwrap(), &reference);
        prop_assert_eq!(&Reference::parse(&canonical, &Defaults::without_aliases()).unwrap(), &reference);
        prop_assert_eq!(Reference::parse(&canonical, &defaults).unwrap().to_string(), canonical);

        let json = serde_json::to_string(&reference).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Reference>(&json).unwrap(), &reference);

        let repository = reference.repository();
        prop_assert_eq!(&Repository::parse(&repository.to_string(), &defaults).unwrap(), repository);
        prop_assert_eq!(&repository.registry().to_string().parse::<Registry>().unwrap(), repository.registry());
        prop_assert_eq!(&Repository::new(repository.registry().clone(), repository.path()).unwrap(), repository);
    }

    #[test]
    fn the_familiar_form_means_the_same(text in valid()) {
        let reference = Reference::parse(&text, &Defaults::standard()).unwrap();
        prop_assert_eq!(reference.familiar().parse::<Reference>().unwrap(), reference);
    }

    #[test]
    fn there_is_always_a_tag_or_a_digest(text in valid()) {
        let reference: Reference = text.parse().unwrap();
        prop_assert!(reference.tag().is_some() || reference.digest().is_some());
    }

    #[test]
    fn no_text_panics(text in prop_oneof![".{0,60}", "[a-zA-Zé/:@\\[\\]._ -]{0,30}", "[a-z./:@-]{0,12}sha256:[0-9a-fG]{0,70}"]) {
        match text.parse::<Reference>() {
            Ok(reference) => prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference),
            Err(error) => check_error(&error, &text)?,
        }
        if let Err(error) = text.parse::<Repository>() {
            check_error(&error, &text)?;
        }
        if let Err(error) = text.parse::<Registry>() {
            check_error(&error, &text)?;
        }
        if let Err(error) = text.parse::<Tag>() {
            check_error(&error, &text)?;
        }
    }

    /// One wrong byte in a good text is either another good text or found at or before the end.
    #[test]
    fn a_damaged_text_is_pointed_at(text in valid(), at in any::<prop::sample::Index>(), by in any::<char>()) {
        let mut damaged = text.clone();
        damaged.insert(at.index(text.len() + 1), by);
        match damaged.parse::<Reference>() {
            Ok(reference) => prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference),
            Err(error) => check_error(&error, &damaged)?,
        }
    }
}
