//! Bytes from a stranger never do more than fail.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;
use unlade_oci::{Compression, Descriptor, Digest, MediaType, Parsed, parse_config, parse_manifest};

use crate::{index, manifest};

/// Returns JSON values that use the members of documents.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z:0-9]{0,8}".prop_map(Value::from),
        any::<u8>().prop_map(|seed| Value::from(Digest::sha256([seed]).to_string())),
        prop::sample::select(MediaType::ACCEPTED_MANIFESTS.to_vec()).prop_map(|name| Value::from(name.as_str())),
    ];
    let names = [
        "schemaVersion",
        "mediaType",
        "manifests",
        "layers",
        "config",
        "fsLayers",
        "annotations",
        "subject",
        "digest",
        "size",
        "platform",
        "os",
        "architecture",
        "rootfs",
        "type",
        "diff_ids",
        "history",
        "Labels",
        "Cmd",
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(prop::sample::select(names.to_vec()), inner, 0..6)
                .prop_map(|map| map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

fn parse_everything(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let bytes = Bytes::from(bytes);
    if let Ok(parsed) = parse_manifest(bytes.clone(), None, None) {
        prop_assert_eq!(parsed.bytes(), &bytes);
        prop_assert_eq!(parsed.digest(), &Digest::sha256(&bytes));
        // What was found to be its type can be said of it again.
        let again = parse_manifest(bytes.clone(), Some(parsed.media_type()), Some(parsed.digest()));
        prop_assert!(matches!(again, Ok(again) if again == parsed));
    }
    let descriptor = Descriptor::new(MediaType::OCI_CONFIG, Digest::sha256(&bytes), bytes.len() as u64);
    if let Ok(config) = parse_config(bytes.clone(), &descriptor) {
        prop_assert_eq!(config.bytes(), &bytes);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let compression = Compression::of_magic(&bytes);
        prop_assert_eq!(compression, Compression::of_magic(&bytes[..bytes.len().min(Compression::MAGIC_LEN)]));
        parse_everything(bytes)?;
    }

    #[test]
    fn any_json(value in json_value()) {
        parse_everything(value.to_string().into_bytes())?;
    }

    #[test]
    fn a_damaged_document(is_index in any::<bool>(), at in any::<prop::sample::Index>(), by in any::<u8>()) {
        let mut bytes = if is_index { index() } else { manifest() }.to_string().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = by;
        parse_everything(bytes)?;
    }

    #[test]
    fn media_types_are_read_back(text in "\\PC{0,40}") {
        let media_type = MediaType::new(&text);
        prop_assert_eq!(MediaType::new(media_type.as_str()), media_type.clone());
        let claims = media_type.compression_hint().is_some() || media_type.is_foreign_layer();
        prop_assert!(!claims || media_type.is_layer());
    }

    #[test]
    fn digests_are_read_back(seed in any::<[u8; 8]>()) {
        let digest = Digest::sha256(seed);
        prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
    }
}

/// JSON may nest deeper than a stack.
#[test]
fn nesting() {
    let deep = format!("{{\"x\": {}", "[".repeat(1 << 20));
    assert!(parse_manifest(deep.into(), None, None).is_err());
    let nothing = Bytes::from_static(br#"{"manifests": []}"#);
    assert!(matches!(parse_manifest(nothing, None, None), Ok(Parsed::Index(index)) if index.manifests.is_empty()));
}
