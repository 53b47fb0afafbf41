//! Names of entries: cleaned, checked, whiteouts told apart.

/// Longest component that a filesystem of Linux holds.
const COMPONENT_BYTES: usize = 255;

/// Prefix of a file that hides the rest of its name in the layers below (image-spec, `layer.md`, *Whiteouts*).
const WHITEOUT: &[u8] = b".wh.";
/// Prefix of aufs' own files.
const AUFS: &[u8] = b".wh..wh.";
/// The file that hides all that the layers below have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What cleaning did to a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cleaned {
    /// It had a leading slash.
    pub(super) absolute: bool,
    /// It had a `..` component.
    pub(super) parent: bool,
    /// It ended in a slash.
    pub(super) trailing_slash: bool,
}

/// Cleans `name` into `path`: no leading or trailing slash, no empty or `.` component, and each `..` takes away the
/// component before it, or nothing at the root.
pub(super) fn clean(name: &[u8], path: &mut Vec<u8>) -> Result<Cleaned, String> {
    path.clear();
    if name.is_empty() {
        return Err("it has no name".to_owned());
    }
    if name.contains(&0) {
        return Err("its name holds a NUL byte".to_owned());
    }
    let mut cleaned = Cleaned {
        absolute: name[0] == b'/',
        trailing_slash: name.ends_with(b"/"),
        ..Cleaned::default()
    };
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                cleaned.parent = true;
                let keep = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                path.truncate(keep);
            }
            component if component.len() > COMPONENT_BYTES => {
                return Err(format!(
                    "its name has a component of {} bytes, 255 are possible",
                    component.len()
                ));
            }
            component => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(component);
            }
        }
    }
    Ok(cleaned)
}

/// What a cleaned path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Itself.
    Entry,
    /// It hides this path.
    Whiteout,
    /// It hides what is in this directory.
    Opaque,
    /// Bookkeeping of aufs, without meaning.
    Aufs,
}

/// Tells whiteouts apart. For those, `path` becomes the path that is hidden, or the opaque directory.
pub(super) fn meaning(raw_name: &[u8], path: &mut Vec<u8>) -> Result<Meaning, String> {
    // The names that a cleaned path no longer shows: `.wh.` before nothing, before `.` and before `..`.
    let raw_last = raw_name
        .split(|byte| *byte == b'/')
        .rfind(|component| !component.is_empty());
    if matches!(raw_last, Some(b".wh." | b".wh.." | b".wh...")) {
        return Err("it is a whiteout of no name, of `.` or of `..`".to_owned());
    }
    // By far the most names have no `.wh.` in them.
    if !path.windows(WHITEOUT.len()).any(|window| window == WHITEOUT) {
        return Ok(Meaning::Entry);
    }
    let last_at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let parents = path[..last_at].split(|byte| *byte == b'/');
    if parents.clone().any(|component| component.starts_with(AUFS)) {
        return Ok(Meaning::Aufs);
    }
    if parents.clone().any(|component| component.starts_with(WHITEOUT)) {
        return Err("it lies below a whiteout".to_owned());
    }
    let last = &path[last_at..];
    if last == OPAQUE {
        path.truncate(last_at.saturating_sub(1));
        Ok(Meaning::Opaque)
    } else if last.starts_with(AUFS) {
        Ok(Meaning::Aufs)
    } else if last.starts_with(WHITEOUT) {
        path.drain(last_at..last_at + WHITEOUT.len());
        Ok(Meaning::Whiteout)
    } else {
        Ok(Meaning::Entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(name: &str) -> String {
        let mut path = Vec::new();
        clean(name.as_bytes(), &mut path).unwrap();
        String::from_utf8(path).unwrap()
    }

    #[test]
    fn cleaning() {
        for (name, path) in [
            ("a/b", "a/b"),
            ("./a", "a"),
            ("/a", "a"),
            ("//a//b/", "a/b"),
            (".", ""),
            ("./", ""),
            ("/", ""),
            ("..", ""),
            ("../../a", "a"),
            ("a/../b", "b"),
            ("a/b/../../..", ""),
            ("a/b/..", "a"),
            ("...", "..."),
            ("a/.../b", "a/.../b"),
        ] {
            assert_eq!(cleaned(name), path, "{name}");
        }
        assert!(clean(b"", &mut Vec::new()).is_err());
        assert!(clean(b"a\0b", &mut Vec::new()).is_err());
        assert!(clean(&[b'x'; 256], &mut Vec::new()).is_err());
        assert!(clean(&[b'x'; 255], &mut Vec::new()).is_ok());
    }

    #[test]
    fn whiteouts() {
        for (name, expected, hidden) in [
            ("a", Meaning::Entry, "a"),
            ("a/.wh.b", Meaning::Whiteout, "a/b"),
            (".wh.b", Meaning::Whiteout, "b"),
            (".wh.b/", Meaning::Whiteout, "b"),
            ("a/.wh..wh..opq", Meaning::Opaque, "a"),
            (".wh..wh..opq", Meaning::Opaque, ""),
            (".wh..wh.plnk", Meaning::Aufs, ".wh..wh.plnk"),
            ("a/.wh..wh.aufs", Meaning::Aufs, "a/.wh..wh.aufs"),
            (".wh..wh.plnk/1.2", Meaning::Aufs, ".wh..wh.plnk/1.2"),
            ("a/x.wh.y", Meaning::Entry, "a/x.wh.y"),
            (".wh....", Meaning::Whiteout, "..."),
        ] {
            let mut path = Vec::new();
            clean(name.as_bytes(), &mut path).unwrap();
            assert_eq!(meaning(name.as_bytes(), &mut path).unwrap(), expected, "{name}");
            assert_eq!(path, hidden.as_bytes(), "{name}");
        }
        for name in [
            ".wh.",
            "a/.wh.",
            ".wh..",
            "a/.wh...",
            "a/.wh../",
            ".wh.a/b",
            "a/.wh.b/c",
        ] {
            let mut path = Vec::new();
            clean(name.as_bytes(), &mut path).unwrap();
            assert!(meaning(name.as_bytes(), &mut path).is_err(), "{name}");
        }
    }
}
