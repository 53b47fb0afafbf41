//! A JSON object whose members can be changed while all others stay as they were written.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object, in their order, each value as the text that it was.
///
/// A file of logins has settings of other programs in it. Numbers that no Rust type holds, members that occur twice and
/// the order of members are theirs, so what is not changed is not understood either.
#[derive(Debug, Default)]
pub(crate) struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

impl Members {
    pub(crate) fn get(&self, name: &str) -> Option<&RawValue> {
        // Of members with one name, parsers take the last.
        let mut members = self.0.iter().rev();
        members.find(|(own, _)| own == name).map(|(_, value)| &**value)
    }

    /// Sets a member in its place, or adds it at the end.
    pub(crate) fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().rev().find(|(own, _)| own == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Removes the members whose name is `doomed`, and returns these names.
    pub(crate) fn remove(&mut self, doomed: impl Fn(&str) -> bool) -> Vec<String> {
        let mut removed = Vec::new();
        self.0.retain(|(name, _)| {
            let goes = doomed(name);
            if goes {
                removed.push(name.clone());
            }
            !goes
        });
        removed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes the object, a member on each line, as docker does; `depth` is how far it stands inside another.
    pub(crate) fn text(&self, depth: usize) -> String {
        if self.0.is_empty() {
            return "{}".to_owned();
        }
        let (inside, outside) = ("\t".repeat(depth + 1), "\t".repeat(depth));
        let members: Vec<_> = self
            .0
            .iter()
            .map(|(name, value)| format!("{inside}{}: {}", serde_json::Value::from(name.as_str()), value.get()))
            .collect();
        format!("{{\n{}\n{outside}}}", members.join(",\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays_as_it_was() {
        let text =
            "{\n\t\"z\": {\"b\": 1,   \"a\": 123456789012345678901234567890.10},\n\t\"a\": null,\n\t\"ä\\n\": []\n}";
        let mut members: Members = serde_json::from_str(text).unwrap();
        assert_eq!(members.text(0), text);
        members.set("a", RawValue::from_string("7".into()).unwrap());
        members.set("new", RawValue::from_string("8".into()).unwrap());
        assert_eq!(
            members.text(0),
            text.replace("null", "7").replace("[]\n", "[],\n\t\"new\": 8\n")
        );
        assert_eq!(members.remove(|name| name == "z"), ["z"]);
        assert!(members.get("z").is_none() && members.get("a").unwrap().get() == "7");
        assert_eq!(Members::default().text(3), "{}");
    }
}
