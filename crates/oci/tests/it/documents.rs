//! Manifests, indexes and configurations.

use std::error::Error as _;

use bytes::Bytes;
use serde_json::{Value, json};
use unlade_oci::{
    Algorithm, Descriptor, Digest, DigestError, Document, DocumentError, ErrorClass, MAX_MANIFEST_BYTES, Manifest,
    MediaType, Parsed, parse_config, parse_manifest,
};

use crate::{bytes, descriptor, index, manifest, with};

#[track_caller]
fn parse(document: &Value) -> Parsed {
    parse_manifest(bytes(document), None, None).unwrap_or_else(|error| panic!("{error}: {document}"))
}

#[track_caller]
fn parse_image(document: &Value) -> Document<Manifest> {
    match parse(document) {
        Parsed::Manifest(manifest) => manifest,
        Parsed::Index(_) => panic!("an index: {document}"),
    }
}

#[track_caller]
fn refuse(document: &Value, content_type: Option<&str>) -> DocumentError {
    let content_type = content_type.map(MediaType::new);
    match parse_manifest(bytes(document), content_type.as_ref(), None) {
        Ok(parsed) => panic!("{document} was read as {:?}", parsed.media_type()),
        Err(error) => error,
    }
}

#[test]
fn bytes_are_kept_as_they_are() {
    let text = Bytes::from(format!(
        "\n {{ \"layers\" : [ ],\t\"unknown\": 1e3, \"config\":{} }}\r\n",
        descriptor(&MediaType::OCI_CONFIG, "c")
    ));
    let parsed = parse_manifest(text.clone(), None, None).unwrap();
    assert_eq!(parsed.bytes(), &text);
    assert_eq!(parsed.digest(), &Digest::sha256(&text));
    let descriptor = parsed.descriptor();
    assert_eq!(
        (descriptor.size, &descriptor.digest),
        (text.len() as u64, parsed.digest())
    );

    let sha512 = Digest::of(Algorithm::Sha512, &text);
    assert_eq!(parse_manifest(text, None, Some(&sha512)).unwrap().digest(), &sha512);
}

#[test]
fn parts_of_a_manifest() {
    let document = with(manifest(), "annotations", json!({"a": "b"}));
    let document = with(document, "subject", descriptor(&MediaType::OCI_MANIFEST, "s"));
    let image = parse_image(&document);
    assert_eq!(image.config.digest, Digest::sha256("config"));
    let layers: Vec<_> = image
        .layers
        .iter()
        .map(|layer| (layer.media_type.clone(), layer.size))
        .collect();
    assert_eq!(layers, [(MediaType::OCI_LAYER_GZIP, 1), (MediaType::OCI_LAYER_ZSTD, 1)]);
    assert_eq!(image.annotations["a"], "b");
    assert_eq!(image.subject.as_ref().unwrap().digest, Digest::sha256("s"));
    assert!(image.is_image().is_ok());
}

/// The document, what the transport says, and the type it is in the end.
#[test]
fn statements_that_agree() {
    let docker = |document: Value, own: &MediaType| with(document, "mediaType", own.as_str());
    let docker_config = with(manifest(), "config", descriptor(&MediaType::DOCKER_CONFIG, "c"));
    for (document, content_type, expected) in [
        (manifest(), None, MediaType::OCI_MANIFEST),
        (index(), None, MediaType::OCI_INDEX),
        (manifest(), Some("application/json"), MediaType::OCI_MANIFEST),
        (index(), Some("text/plain; charset=utf-8"), MediaType::OCI_INDEX),
        (index(), Some("application/octet-stream"), MediaType::OCI_INDEX),
        (manifest(), Some(""), MediaType::OCI_MANIFEST),
        (docker_config, None, MediaType::DOCKER_MANIFEST),
        (
            manifest(),
            Some("application/vnd.docker.distribution.manifest.v2+json"),
            MediaType::DOCKER_MANIFEST,
        ),
        (
            index(),
            Some("application/vnd.docker.distribution.manifest.list.v2+json"),
            MediaType::DOCKER_LIST,
        ),
        (
            docker(manifest(), &MediaType::DOCKER_MANIFEST),
            None,
            MediaType::DOCKER_MANIFEST,
        ),
        (
            docker(index(), &MediaType::DOCKER_LIST),
            Some("application/json"),
            MediaType::DOCKER_LIST,
        ),
        (
            docker(manifest(), &MediaType::OCI_MANIFEST),
            Some("Application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
            MediaType::OCI_MANIFEST,
        ),
        (with(index(), "mediaType", Value::Null), None, MediaType::OCI_INDEX),
        (with(index(), "mediaType", ""), None, MediaType::OCI_INDEX),
        (
            with(index(), "mediaType", "application/json"),
            None,
            MediaType::OCI_INDEX,
        ),
        // What is null is not there.
        (
            with(manifest(), "manifests", Value::Null),
            None,
            MediaType::OCI_MANIFEST,
        ),
        (with(manifest(), "layers", Value::Null), None, MediaType::OCI_MANIFEST),
        (
            json!({"mediaType": MediaType::OCI_INDEX, "manifests": null}),
            None,
            MediaType::OCI_INDEX,
        ),
        (
            with(manifest(), "schemaVersion", Value::Null),
            None,
            MediaType::OCI_MANIFEST,
        ),
    ] {
        let content_type = content_type.map(MediaType::new);
        let parsed = parse_manifest(bytes(&document), content_type.as_ref(), None)
            .unwrap_or_else(|error| panic!("{error}: {document}"));
        assert_eq!(parsed.media_type(), &expected, "{document}");
        assert_eq!(matches!(parsed, Parsed::Index(_)), expected.is_index(), "{document}");
    }
}

#[test]
fn statements_that_contradict() {
    let typed = |document: Value, media_type: &MediaType| with(document, "mediaType", media_type.as_str());
    let index_type = Some("application/vnd.oci.image.index.v1+json");
    for (document, content_type, message) in [
        (
            manifest(),
            index_type,
            "the Content-Type (or descriptor) says application/vnd.oci.image.index.v1+json and the document's shape says manifest",
        ),
        (
            typed(index(), &MediaType::OCI_MANIFEST),
            None,
            "the mediaType says application/vnd.oci.image.manifest.v1+json and the document's shape says index",
        ),
        (
            typed(manifest(), &MediaType::OCI_MANIFEST),
            index_type,
            "the Content-Type (or descriptor) says application/vnd.oci.image.index.v1+json and the document's mediaType says \
             application/vnd.oci.image.manifest.v1+json",
        ),
        (
            typed(manifest(), &MediaType::OCI_MANIFEST),
            Some("application/vnd.docker.distribution.manifest.v2+json"),
            "the Content-Type (or descriptor) says application/vnd.docker.distribution.manifest.v2+json and the document's mediaType \
             says application/vnd.oci.image.manifest.v1+json",
        ),
    ] {
        let error = refuse(&document, content_type);
        assert_eq!(
            (error.to_string().as_str(), error.class()),
            (message, ErrorClass::Rejected)
        );
    }
}

#[test]
fn two_documents_in_one() {
    let both = |name: &str, value: Value| refuse(&with(index(), name, value), None).to_string();
    let says =
        |first, second| format!("the document has both {first:?} and {second:?}, so it could be read in two ways");
    assert_eq!(both("layers", json!([])), says("layers", "manifests"));
    assert_eq!(
        both("config", descriptor(&MediaType::OCI_CONFIG, "c")),
        says("config", "manifests")
    );
    assert_eq!(both("fsLayers", json!([])), says("fsLayers", "manifests"));
    let image_and_schema1 = refuse(&with(manifest(), "fsLayers", json!([])), None);
    assert_eq!(image_and_schema1.to_string(), says("fsLayers", "layers"));

    // Which of two equal members counts differs from client to client.
    let twice = Bytes::from(r#"{"manifests": [], "manifests": []}"#);
    let error = parse_manifest(twice, None, None).unwrap_err();
    assert!(
        error
            .source()
            .unwrap()
            .to_string()
            .starts_with("duplicate field `manifests`"),
        "{error:?}"
    );
}

#[test]
fn schema_1() {
    let document = json!({"schemaVersion": 1, "name": "a", "fsLayers": [{"blobSum": "x"}], "history": []});
    let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    for (document, content_type) in [
        (document.clone(), None),
        (document, Some(signed)),
        (json!({"schemaVersion": 1}), None),
        (json!({"mediaType": signed}), None),
        (json!({"fsLayers": []}), None),
    ] {
        let error = refuse(&document, content_type);
        assert!(matches!(error, DocumentError::Schema1), "{error:?}: {document}");
    }
}

#[test]
fn neither_manifest_nor_index() {
    type Check = fn(&DocumentError) -> bool;
    let table: [(Value, Option<&str>, Check); 8] = [
        (json!({}), None, |error| matches!(error, DocumentError::UnknownShape)),
        (json!({"errors": [{"code": "UNKNOWN"}]}), None, |error| {
            matches!(error, DocumentError::UnknownShape)
        }),
        (json!({"mediaType": MediaType::OCI_MANIFEST}), None, |error| {
            matches!(error, DocumentError::UnknownShape)
        }),
        (json!({"schemaVersion": 2, "layers": []}), None, |error| {
            matches!(error, DocumentError::NoConfig)
        }),
        (with(index(), "schemaVersion", 3), None, |error| {
            matches!(error, DocumentError::SchemaVersion { version: 3 })
        }),
        (manifest(), Some("text/html"), |error| {
            matches!(error, DocumentError::UnsupportedType { .. })
        }),
        (
            json!({"mediaType": MediaType::OCI_ARTIFACT_MANIFEST, "blobs": []}),
            None,
            |error| matches!(error, DocumentError::UnsupportedType { .. }),
        ),
        (with(index(), "manifests", 5), None, |error| {
            matches!(error, DocumentError::Json { document: "index", .. })
        }),
    ];
    for (document, content_type, check) in table {
        let error = refuse(&document, content_type);
        assert!(check(&error), "{error:?}: {document}");
        assert_eq!(error.class(), ErrorClass::Rejected);
    }
}

#[test]
fn what_is_no_json_object() {
    for text in [
        "",
        "[]",
        "[2, \"\", [], [], {}]",
        "null",
        "\"x\"",
        "{",
        "{} {}",
        "\u{feff}{}",
        "garbage",
    ] {
        let error = parse_manifest(text.into(), None, None).unwrap_err();
        assert!(matches!(error, DocumentError::Json { .. }), "{text:?}: {error:?}");
    }
    // A struct must not be filled from an array within a document either.
    let nested = with(index(), "manifests", json!([["application/x", Digest::sha256("x"), 1]]));
    assert!(matches!(refuse(&nested, None), DocumentError::Json { .. }));
}

#[test]
fn a_web_page() {
    let page = Bytes::from_static(b"\r\n<!DOCTYPE html><html><title>Log in</title>");
    // The page is told of even where the digest would not match.
    for expected in [None, Some(Digest::sha256("x"))] {
        let error = parse_manifest(page.clone(), None, expected.as_ref()).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Network);
        assert!(
            error
                .to_string()
                .starts_with("a web page came where a manifest or index was due"),
            "{error}"
        );
    }
}

#[test]
fn another_digest() {
    let document = bytes(&manifest());
    let expected = Digest::sha256("x");
    let error = parse_manifest(document.clone(), None, Some(&expected)).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity);
    let actual = Digest::sha256(&document);
    assert_eq!(
        error.to_string(),
        format!("the manifest or index has the digest {actual}, {expected} was expected")
    );
}

#[test]
fn too_large() {
    let limit = usize::try_from(MAX_MANIFEST_BYTES).unwrap();
    let padded = |size: usize| {
        let mut text = manifest().to_string();
        text.push_str(&" ".repeat(size - text.len()));
        Bytes::from(text)
    };
    assert!(parse_manifest(padded(limit), None, None).is_ok());
    let error = parse_manifest(padded(limit + 1), None, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the manifest or index has 4194305 bytes, the limit is 4194304"
    );
    assert_eq!(error.class(), ErrorClass::Rejected);
}

#[test]
fn the_place_of_a_bad_descriptor_is_told() {
    let mut document = manifest();
    document["layers"][1]["digest"] = json!("sha256:../../etc/passwd");
    let error = refuse(&document, None);
    assert_eq!(error.to_string(), "layers[1] has an invalid digest");
    let source = error.source().unwrap().downcast_ref::<DigestError>().unwrap();
    assert_eq!(
        source,
        &DigestError::NotHex {
            position: 7,
            found: '.'
        }
    );

    let mut document = index();
    document["manifests"][0]["size"] = json!(u64::MAX);
    assert_eq!(
        refuse(&document, None).to_string(),
        format!("manifests[0] has the size {}, no file can be that large", u64::MAX)
    );
}

#[test]
fn artifacts_say_what_they_are() {
    let check = |document: Value, artifact_type: &str| {
        let error = parse_image(&document).is_image().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("this is not a container image but an artifact of type {artifact_type:?}")
        );
        assert_eq!(error.class(), ErrorClass::Rejected);
    };
    let helm = MediaType::new("application/vnd.cncf.helm.config.v1+json");
    check(with(manifest(), "config", descriptor(&helm, "c")), helm.as_str());
    let empty = with(manifest(), "config", descriptor(&MediaType::OCI_EMPTY, "{}"));
    check(
        with(empty.clone(), "artifactType", "application/vnd.example.sbom"),
        "application/vnd.example.sbom",
    );
    check(with(empty, "artifactType", ""), "application/vnd.oci.empty.v1+json");
    // Attestations and signatures give their configuration the type of an image's.
    let in_toto = MediaType::new("application/vnd.in-toto+json");
    check(
        with(manifest(), "layers", json!([descriptor(&in_toto, "a")])),
        in_toto.as_str(),
    );

    let encrypted = MediaType::new("application/vnd.oci.image.layer.v1.tar+gzip+encrypted");
    let encrypted = with(manifest(), "layers", json!([descriptor(&encrypted, "a")]));
    assert!(matches!(
        parse_image(&encrypted).is_image(),
        Err(DocumentError::Encrypted { position: 0, .. })
    ));

    for config in ["application/octet-stream", "application/json", "text/html", ""] {
        let old = with(manifest(), "config", descriptor(&MediaType::new(config), "c"));
        assert!(parse_image(&old).is_image().is_ok(), "{config}");
    }
}

#[test]
fn configurations() {
    let diff_ids = ["a", "b"].map(Digest::sha256);
    let document =
        bytes(&json!({"os": "linux", "architecture": "x86_64", "rootfs": {"type": "layers", "diff_ids": diff_ids}}));
    let good = Descriptor::new(MediaType::OCI_CONFIG, Digest::sha256(&document), document.len() as u64);
    let config = parse_config(document.clone(), &good).unwrap();
    assert_eq!(
        (config.bytes(), config.digest(), config.media_type()),
        (&document, &good.digest, &MediaType::OCI_CONFIG)
    );
    assert_eq!(config.platform().to_string(), "linux/amd64");
    assert_eq!(config.diff_ids, diff_ids);

    let image = parse_image(&manifest());
    assert!(image.check_against_config(&config).is_ok());
    let one_layer = parse_image(&with(
        manifest(),
        "layers",
        json!([descriptor(&MediaType::OCI_LAYER, "a")]),
    ));
    let error = one_layer.check_against_config(&config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the manifest has 1 layers and the image configuration has 2 diff IDs"
    );

    let short = Descriptor {
        size: good.size - 1,
        ..good.clone()
    };
    let error = parse_config(document.clone(), &short).unwrap_err();
    assert!(
        matches!(error, DocumentError::SizeMismatch { .. }) && error.class() == ErrorClass::Integrity,
        "{error}"
    );
    let other = Descriptor {
        digest: Digest::sha256("x"),
        ..good
    };
    assert_eq!(
        parse_config(document, &other).unwrap_err().class(),
        ErrorClass::Integrity
    );

    let array = Bytes::from_static(b"[]");
    let descriptor = Descriptor::new(MediaType::OCI_CONFIG, Digest::sha256(&array), 2);
    assert!(matches!(
        parse_config(array, &descriptor),
        Err(DocumentError::Json { .. })
    ));
}

/// What `oci-spec` reads and this crate reads is the same.
#[test]
fn oci_spec_agrees() {
    let mut list = index();
    list["manifests"][0]["platform"] = json!({"os": "linux", "architecture": "arm64", "variant": "v8"});
    let Parsed::Index(list) = parse(&list) else {
        panic!("an index is one")
    };
    let theirs = list.to_spec().unwrap();
    assert_eq!(
        theirs.manifests()[0].digest().to_string(),
        list.manifests[0].digest.to_string()
    );
    let platform = theirs.manifests()[0].platform().as_ref().unwrap();
    assert_eq!(
        platform.variant(),
        &list.manifests[0].platform.as_ref().unwrap().variant
    );

    let image = parse_image(&manifest());
    let theirs = image.to_spec().unwrap();
    let sizes: Vec<_> = theirs.layers().iter().map(oci_spec::image::Descriptor::size).collect();
    assert_eq!(sizes, image.layers.iter().map(|layer| layer.size).collect::<Vec<_>>());

    let document = bytes(&json!({
        "os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [Digest::sha256("a")]},
        "config": {"Env": ["A=b"], "Cmd": ["sh"], "ExposedPorts": {"80/tcp": {}}}, "history": [{"created_by": "ADD"}],
    }));
    let descriptor = Descriptor::new(MediaType::OCI_CONFIG, Digest::sha256(&document), document.len() as u64);
    let ours = parse_config(document, &descriptor).unwrap();
    let theirs = ours.to_spec().unwrap();
    let config = theirs.config().as_ref().unwrap();
    assert_eq!(config.env().as_ref(), Some(&ours.config.env));
    assert_eq!(config.cmd().as_ref(), Some(&ours.config.cmd));
    assert_eq!(config.exposed_ports().as_ref(), Some(&ours.config.exposed_ports));
    assert_eq!(theirs.rootfs().diff_ids(), &[Digest::sha256("a").to_string()]);
}
