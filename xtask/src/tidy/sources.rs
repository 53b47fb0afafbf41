//! Rules for Rust files that no lint checks.

/// The most lines a Rust file may have.
pub(crate) const MAX_LINES: usize = 800;

/// The one directory whose code may be `unsafe`.
const UNSAFE_HOME: &str = "crates/sys/";

/// Texts that code must not contain, each with what to do instead.
const FORBIDDEN: [(&str, &str); 5] = [
    ("#[should_panic", "a test asserts what comes back, and names the error"),
    (
        "#[ignore",
        "a test that cannot run everywhere gets the prefix of its tier, see CONTRIBUTING.md",
    ),
    ("todo!", "what is not built is not called"),
    ("unimplemented!", "what is not built is not called"),
    ("dbg!", "print nothing from a library, use tracing"),
];

/// How the reason of an ignored test begins if it is no test, but what a test starts as a second process.
const OTHER_PROCESS: &str = "#[ignore = \"the other process of ";

/// Checks one file. `path` is relative to the workspace, with `/`; each string is one complaint.
pub(crate) fn check(path: &str, source: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !source.starts_with("//!") {
        complaints.push(format!("{path}:1: does not open with `//!` and what the file is for"));
    }
    let lines = source.lines().count();
    if lines > MAX_LINES {
        complaints.push(format!(
            "{path}: has {lines} lines, more than {MAX_LINES}; split it by noun"
        ));
    }
    let code = code_only(source);
    for (index, (line, original)) in code.lines().zip(source.lines()).enumerate() {
        let number = index + 1;
        let is_other_process = original.trim_start().starts_with(OTHER_PROCESS);
        for (text, instead) in FORBIDDEN {
            if has_token(line, text) && !is_other_process {
                complaints.push(format!("{path}:{number}: has `{text}`: {instead}"));
            }
        }
        if !path.starts_with(UNSAFE_HOME) && has_token(line, "unsafe") {
            complaints.push(format!("{path}:{number}: has `unsafe`: only {UNSAFE_HOME} may"));
        }
    }
    complaints
}

/// Tells whether `token` stands in `line` and is not merely a part of a longer word.
fn has_token(line: &str, token: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(token).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + token.len()..].chars().next();
        let open_before = token.starts_with(is_word) && before.is_some_and(is_word);
        let open_after = token.ends_with(is_word) && after.is_some_and(is_word);
        !open_before && !open_after
    })
}

/// Returns `source` with comments, strings and character literals blanked out, lines kept.
///
/// Not a full lexer: it knows the forms that hide text from a reader (nested block comments, raw strings, escapes),
/// and tells a lifetime from a character by the closing quote.
pub(crate) fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => end_of_line(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => end_of_block_comment(&chars, at),
            '"' => end_of_string(&chars, at + 1),
            'r' if !ends_in_word(&out) => end_of_raw_string(&chars, at),
            '\'' => end_of_char(&chars, at),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Tells whether an `r` that follows would be the end of a longer word; `b` and `c` may stand before a raw string.
fn ends_in_word(text: &str) -> bool {
    let mut back = text.chars().rev();
    match back.next() {
        Some('b' | 'c') => back.next().is_some_and(|c| c.is_alphanumeric() || c == '_'),
        Some(c) => c.is_alphanumeric() || c == '_',
        None => false,
    }
}

fn end_of_line(chars: &[char], at: usize) -> usize {
    chars[at..]
        .iter()
        .position(|&c| c == '\n')
        .map_or(chars.len(), |length| at + length)
}

fn end_of_block_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

fn end_of_string(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// Returns `at` itself if no raw string begins there.
fn end_of_raw_string(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return at;
    }
    let mut from = at + 2 + hashes;
    while from < chars.len() {
        if chars[from] == '"' && chars[from + 1..].iter().take_while(|&&c| c == '#').count() >= hashes {
            return from + 1 + hashes;
        }
        from += 1;
    }
    chars.len()
}

/// Returns `at` itself if a lifetime begins there.
fn end_of_char(chars: &[char], at: usize) -> usize {
    if chars.get(at + 1) == Some(&'\\') {
        let close = chars.iter().skip(at + 3).position(|&c| c == '\'');
        return close.map_or(chars.len(), |length| at + 3 + length + 1);
    }
    if chars.get(at + 2) == Some(&'\'') { at + 3 } else { at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_file_passes() {
        let source = "//! What this is for.\n\n/// Unsafe words in docs: unsafe, todo!\nfn safe() {}\n";
        assert_eq!(check("crates/oci/src/lib.rs", source), Vec::<String>::new());
    }

    #[test]
    fn a_file_says_what_it_is_for() {
        let complaints = check("crates/oci/src/lib.rs", "use std::fmt;\n");
        assert_eq!(
            complaints,
            ["crates/oci/src/lib.rs:1: does not open with `//!` and what the file is for"]
        );
    }

    #[test]
    fn a_long_file_is_named_with_its_length() {
        let source = format!("//! Long.\n{}", "\n".repeat(MAX_LINES));
        assert_eq!(
            check("a.rs", &source),
            ["a.rs: has 801 lines, more than 800; split it by noun"]
        );
        let source = format!("//! Long.\n{}", "\n".repeat(MAX_LINES - 1));
        assert_eq!(check("a.rs", &source), Vec::<String>::new());
    }

    #[test]
    fn forbidden_code_is_named_by_line() {
        for (code, what) in [
            ("#[should_panic(expected = \"x\")]", "`#[should_panic`"),
            ("#[ignore]", "`#[ignore`"),
            ("    todo!()", "`todo!`"),
            ("unimplemented!(\"x\")", "`unimplemented!`"),
            ("dbg!(x);", "`dbg!`"),
        ] {
            let complaints = check("a.rs", &format!("//! A.\n\n{code}\n"));
            assert_eq!(complaints.len(), 1, "{code}");
            assert!(
                complaints[0].starts_with(&format!("a.rs:3: has {what}: ")),
                "{complaints:?}"
            );
        }
    }

    #[test]
    fn what_a_test_starts_as_another_process_may_be_ignored() {
        let source = "//! A.\n    #[ignore = \"the other process of a_lock_is_seen\"]\n#[ignore = \"slow\"]\n";
        let complaints = check("a.rs", source);
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].starts_with("a.rs:3: has `#[ignore`"), "{complaints:?}");
    }

    #[test]
    fn unsafe_code_has_one_home() {
        let source = "//! A.\nfn f() { unsafe { g() } }\n#[expect(unsafe_code, reason = \"x\")]\nfn unsafely() {}\n";
        assert_eq!(check("crates/sys/src/a.rs", source), Vec::<String>::new());
        assert_eq!(
            check("crates/system/src/a.rs", source),
            ["crates/system/src/a.rs:2: has `unsafe`: only crates/sys/ may"]
        );
    }

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        for (source, code) in [
            ("a // todo!\nb", "a         \nb"),
            ("a /* x /* y */\n z */ b", "a             \n      b"),
            ("f(\"to\\\"do!\\\\\") g", "f(           ) g"),
            ("f(r#\"a\"b\"#) g", "f(        ) g"),
            ("br\"x\" g", "b     g"),
            ("for\"x\"", "for   "),
            ("'\"' x", "    x"),
            ("'\\'' x", "     x"),
            ("'\\u{1F600}' x", "            x"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            ("\"open", "     "),
            ("r#type", "r#type"),
        ] {
            assert_eq!(code_only(source), code, "{source}");
        }
    }
}
