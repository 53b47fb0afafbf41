-- Sample rows of schema version 1: what the check of the history carries through every later migration.
-- Two names of one image, a second image that shares a layer with it, nested indexes, a layer extracted against its
-- stack, a blob and a lease that no image needs.

INSERT INTO blobs (digest, media_type, size, synced, boot_id, created_at) VALUES
    ('sha256:0000000000000000000000000000000000000000000000000000000000000000', 'application/vnd.oci.image.manifest.v1+json', 2, 1, 'boot-1', 1700000000000),
    ('sha256:2222222222222222222222222222222222222222222222222222222222222222', 'application/vnd.oci.image.config.v1+json', 2, 1, 'boot-1', 1700000000000),
    ('sha256:6666666666666666666666666666666666666666666666666666666666666666', 'application/vnd.oci.image.layer.v1.tar+gzip', 100, 1, 'boot-1', 1700000000000),
    ('sha256:7777777777777777777777777777777777777777777777777777777777777777', 'application/vnd.oci.image.layer.v1.tar+zstd', 200, 0, 'boot-2', 1700000000001),
    ('sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 'application/octet-stream', 300, 0, 'boot-2', 1700000000002);

INSERT INTO indexes (digest, media_type, size, artifact_type, subject_digest, annotations, created_at, raw) VALUES
    ('sha256:4444444444444444444444444444444444444444444444444444444444444444', 'application/vnd.oci.image.index.v1+json', 2, NULL, NULL, '{}', 1700000000000, X'7B7D'),
    ('sha256:5555555555555555555555555555555555555555555555555555555555555555', 'application/vnd.oci.image.index.v1+json', 2, 'application/example', 'sha256:1111111111111111111111111111111111111111111111111111111111111111', '{"k":"v"}', 1700000000000, X'7B7D');

INSERT INTO index_entries (index_digest, position, digest, media_type, size, has_platform, os, architecture, variant,
    os_version, os_features, artifact_type, urls, annotations) VALUES
    ('sha256:4444444444444444444444444444444444444444444444444444444444444444', 0, 'sha256:5555555555555555555555555555555555555555555555555555555555555555', 'application/vnd.oci.image.index.v1+json', 2, 0, NULL, NULL, NULL, NULL, '[]', NULL, '[]', '{}'),
    ('sha256:5555555555555555555555555555555555555555555555555555555555555555', 0, 'sha256:0000000000000000000000000000000000000000000000000000000000000000', 'application/vnd.oci.image.manifest.v1+json', 2, 1, 'linux', 'arm64', 'v9', NULL, '[]', NULL,
        '[]', '{}'),
    ('sha256:5555555555555555555555555555555555555555555555555555555555555555', 1, 'sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', 'application/vnd.oci.image.manifest.v1+json', 300, 1, 'unknown', 'unknown', NULL, NULL, '[]',
        NULL, '[]', '{"vnd.docker.reference.type":"attestation-manifest"}');

INSERT INTO configs (digest, media_type, size, created, author, architecture, variant, os, os_version, os_features,
    docker_version, comment, container, parent, hostname, domainname, user, attach_stdin, attach_stdout, attach_stderr,
    tty, open_stdin, stdin_once, exposed_ports, env, cmd, healthcheck, args_escaped, image, volumes, working_dir,
    entrypoint, network_disabled, mac_address, on_build, labels, stop_signal, stop_timeout, shell, memory, memory_swap,
    cpu_shares, history, rootfs_type, diff_ids, created_at, raw) VALUES
    ('sha256:2222222222222222222222222222222222222222222222222222222222222222', 'application/vnd.oci.image.config.v1+json', 2, '2024-01-02T03:04:05Z', 'someone', 'arm64', 'v9', 'linux',
        '1', '["f"]', '27', 'c', 'abc', 'p', 'h', 'd', 'u:g', 1, 0, 1, 1, 0, 1, '{"80/tcp":{}}', '["A=b"]', '["c"]',
        '{"Test":["CMD","t"]}', 1, 'i', '{"/v":{}}', '/w', '["e"]', 1, '02:42', '["RUN x"]', '{"l":"it''s"}', 'SIGINT', 9,
        '["/bin/sh","-c"]', 1, -1, 2, '[{"created_by":"x"}]', 'layers', '["sha256:9999999999999999999999999999999999999999999999999999999999999999","sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]',
        1700000000000, X'7B7D'),
    ('sha256:3333333333333333333333333333333333333333333333333333333333333333', 'application/vnd.docker.container.image.v1+json', 2, NULL, NULL, 'amd64', NULL, 'linux', NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '["sha256:9999999999999999999999999999999999999999999999999999999999999999"]',
        1700000000000, X'7B7D');

INSERT INTO manifests (digest, media_type, size, config_digest, config_media_type, config_size, artifact_type,
    subject_digest, layer_count, compressed_size, annotations, created_at, raw) VALUES
    ('sha256:0000000000000000000000000000000000000000000000000000000000000000', 'application/vnd.oci.image.manifest.v1+json', 2, 'sha256:2222222222222222222222222222222222222222222222222222222222222222', 'application/vnd.oci.image.config.v1+json', 2, NULL, NULL, 2,
        300, '{"k":"v"}', 1700000000000, X'7B7D'),
    ('sha256:1111111111111111111111111111111111111111111111111111111111111111', 'application/vnd.docker.distribution.manifest.v2+json', 2, 'sha256:3333333333333333333333333333333333333333333333333333333333333333', 'application/vnd.docker.container.image.v1+json', 2,
        NULL, NULL, 1, 100, '{}', 1700000000000, X'7B7D');

INSERT INTO layers (diff_id, raw_size, entries, is_empty, summary, created_at) VALUES
    ('sha256:9999999999999999999999999999999999999999999999999999999999999999', 1000, 10, 0, '{"implied_parents":[]}', 1700000000000),
    ('sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 2000, 20, 0, '{"implied_parents":["lib"]}', 1700000000000),
    ('sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 1024, 0, 1, '{}', 1700000000000);

INSERT INTO layer_blobs (blob_digest, diff_id, compression, media_type, size) VALUES
    ('sha256:6666666666666666666666666666666666666666666666666666666666666666', 'sha256:9999999999999999999999999999999999999999999999999999999999999999', 'gzip', 'application/vnd.oci.image.layer.v1.tar+gzip', 100),
    ('sha256:7777777777777777777777777777777777777777777777777777777777777777', 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'zstd', 'application/vnd.oci.image.layer.v1.tar+zstd', 200),
    ('sha256:8888888888888888888888888888888888888888888888888888888888888888', 'sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'none', 'application/vnd.oci.image.layer.v1.tar', 1024);

INSERT INTO manifest_layers (manifest_digest, position, blob_digest, diff_id, media_type, size, chain_id) VALUES
    ('sha256:0000000000000000000000000000000000000000000000000000000000000000', 0, 'sha256:6666666666666666666666666666666666666666666666666666666666666666', 'sha256:9999999999999999999999999999999999999999999999999999999999999999', 'application/vnd.oci.image.layer.v1.tar+gzip', 100, NULL),
    ('sha256:0000000000000000000000000000000000000000000000000000000000000000', 1, 'sha256:7777777777777777777777777777777777777777777777777777777777777777', 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'application/vnd.oci.image.layer.v1.tar+zstd', 200, 'sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc'),
    ('sha256:1111111111111111111111111111111111111111111111111111111111111111', 0, 'sha256:6666666666666666666666666666666666666666666666666666666666666666', 'sha256:9999999999999999999999999999999999999999999999999999999999999999', 'application/vnd.docker.image.rootfs.diff.tar.gzip', 100, NULL);

INSERT INTO layer_directories (id, diff_id, chain_id, root_path, form, name, entries, synced, boot_id, created_at) VALUES
    (1, 'sha256:9999999999999999999999999999999999999999999999999999999999999999', '', CAST('layers' AS BLOB), 'overlay', 'sha256-one.extracted', 10, 1, 'boot-1', 1700000000000),
    (2, 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', CAST('layers' AS BLOB), 'overlay', 'sha256-stack.extracted', 20, 0, 'boot-2', 1700000000000),
    (3, 'sha256:9999999999999999999999999999999999999999999999999999999999999999', '', CAST('/srv/layers' AS BLOB), 'oci', 'sha256-one.extracted', 10, 0, 'boot-2', 1700000000000);

INSERT INTO images (id, registry, repository, tag, digest, platform, index_digest, manifest_digest, pulled_at,
    last_used_at) VALUES
    (1, 'docker.io', 'library/app', 'latest', NULL, 'linux/arm64/v9', 'sha256:4444444444444444444444444444444444444444444444444444444444444444', 'sha256:0000000000000000000000000000000000000000000000000000000000000000', 1700000000000, 1700000000000),
    (2, 'docker.io', 'library/app', '1', 'sha256:4444444444444444444444444444444444444444444444444444444444444444', 'linux/arm64/v9', 'sha256:4444444444444444444444444444444444444444444444444444444444444444', 'sha256:0000000000000000000000000000000000000000000000000000000000000000', 1700000000000, 1700000000001),
    (3, 'localhost:5000', 'other', 'v2', NULL, 'linux/amd64', NULL, 'sha256:1111111111111111111111111111111111111111111111111111111111111111', 1700000000000, 1700000000002);

INSERT INTO leases (id, holder_pid, holder_started, holder_namespace, boot_id, created_at, expires_at) VALUES
    (1, 4242, 123456, 'pid:[4026531836]', 'boot-2', 1700000000000, 1700003600000);

INSERT INTO lease_items (lease_id, kind, digest) VALUES (1, 'blob', 'sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd'), (1, 'layer', 'sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb');
