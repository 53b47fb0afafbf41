//! Scratch databases: what a list of migrations makes of an empty database, or of a dump of an older one.
//!
//! This is for the check of the schema's history and for tests; a store never comes near it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::error::{Error, Result};
use crate::migrations::{self, Migration};

/// What stands for a path in the errors of a database in memory.
const NOWHERE: &str = ":memory:";

/// A database in memory.
#[derive(Debug)]
pub struct Scratch {
    connection: Connection,
}

impl Scratch {
    /// Makes an empty database.
    pub fn empty() -> Result<Self> {
        let connection = Connection::open_in_memory().map_err(|error| at("make a scratch database", error))?;
        let scratch = Self { connection };
        scratch.execute("PRAGMA foreign_keys = ON;")?;
        Ok(scratch)
    }

    /// Makes a database from a dump ([`Scratch::dump`]).
    pub fn from_dump(dump: &str) -> Result<Self> {
        let scratch = Self::empty()?;
        // Rows come table by table, so a row may refer to one that comes later.
        scratch.execute("PRAGMA foreign_keys = OFF;")?;
        scratch.execute(dump)?;
        scratch.execute("PRAGMA foreign_keys = ON;")?;
        Ok(scratch)
    }

    /// Runs statements.
    pub fn execute(&self, sql: &str) -> Result<()> {
        self.connection
            .execute_batch(sql)
            .map_err(|error| at("run statements", error))
    }

    /// Returns the schema version.
    pub fn version(&self) -> Result<i64> {
        migrations::user_version(&self.connection).map_err(|error| at("read the schema version", error))
    }

    /// Applies those of `steps` that the database does not have yet, as opening does.
    pub fn migrate(&mut self, steps: &[Migration]) -> Result<()> {
        let from = self.version()?;
        let steps: Vec<&str> = steps.iter().map(|step| step.sql.as_str()).collect();
        migrations::apply_steps(&mut self.connection, Path::new(NOWHERE), from, &steps)
    }

    /// Returns the statements that make the schema, normalised: one form for one schema, whatever way led to it.
    ///
    /// Comments and the spacing of the original statements are gone, tables come first, each kind by name.
    pub fn schema(&self) -> Result<String> {
        let mut text = format!(
            "PRAGMA application_id = {};\nPRAGMA user_version = {};\n",
            self.id()?,
            self.version()?
        );
        let statements = self.strings(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'
             ORDER BY CASE type WHEN 'table' THEN 0 WHEN 'index' THEN 1 ELSE 2 END, tbl_name, name",
        )?;
        for statement in statements {
            text.push('\n');
            text.push_str(&normalise(&statement));
            text.push_str(";\n");
        }
        Ok(text)
    }

    /// Returns the schema and all rows as statements, from which [`Scratch::from_dump`] makes the database again.
    pub fn dump(&self) -> Result<String> {
        let mut text = self.schema()?;
        for table in self.tables()? {
            let order = self.columns(&table)?.len();
            let order: Vec<String> = (1..=order).map(|position| position.to_string()).collect();
            let sql = format!("SELECT * FROM {} ORDER BY {}", quoted(&table), order.join(", "));
            let mut statement = self
                .connection
                .prepare(&sql)
                .map_err(|error| at("dump a table", error))?;
            let columns = statement.column_count();
            let mut rows = statement.query([]).map_err(|error| at("dump a table", error))?;
            text.push('\n');
            while let Some(row) = rows.next().map_err(|error| at("dump a table", error))? {
                let mut values = Vec::new();
                for column in 0..columns {
                    values.push(literal(row.get_ref(column).map_err(|error| at("dump a table", error))?));
                }
                text.push_str("INSERT INTO ");
                text.push_str(&quoted(&table));
                text.push_str(" VALUES (");
                text.push_str(&values.join(", "));
                text.push_str(
                    ");
",
                );
            }
        }
        Ok(text)
    }

    /// Returns how many rows each table has.
    pub fn row_counts(&self) -> Result<BTreeMap<String, i64>> {
        let mut counts = BTreeMap::new();
        for table in self.tables()? {
            let sql = format!("SELECT count(*) FROM {}", quoted(&table));
            let count = self
                .connection
                .query_row(&sql, [], |row| row.get(0))
                .map_err(|error| at("count rows", error))?;
            counts.insert(table, count);
        }
        Ok(counts)
    }

    /// Returns a line for each fault of the file or of a reference between rows.
    pub fn faults(&self) -> Result<Vec<String>> {
        let mut faults = self.strings("SELECT * FROM pragma_integrity_check WHERE integrity_check <> 'ok'")?;
        faults.extend(self.strings(
            "SELECT 'a row of ' || \"table\" || ' refers to a row of ' || parent || ' that is not there'
             FROM pragma_foreign_key_check",
        )?);
        Ok(faults)
    }

    fn id(&self) -> Result<i64> {
        self.connection
            .query_row("PRAGMA application_id", [], |row| row.get(0))
            .map_err(|error| at("read the application id", error))
    }

    fn tables(&self) -> Result<Vec<String>> {
        self.strings("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
    }

    fn columns(&self, table: &str) -> Result<Vec<String>> {
        self.strings(&format!(
            "SELECT name FROM pragma_table_info({})",
            literal(ValueRef::Text(table.as_bytes()))
        ))
    }

    fn strings(&self, sql: &str) -> Result<Vec<String>> {
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.connection.prepare(sql)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        };
        read().map_err(|error| at("read a scratch database", error))
    }
}

fn at(operation: &'static str, error: rusqlite::Error) -> Error {
    Error::sqlite(Path::new(NOWHERE), operation, Duration::ZERO, error)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(value) => value.to_string(),
        ValueRef::Real(value) => format!("{value:?}"),
        ValueRef::Text(value) => format!("'{}'", String::from_utf8_lossy(value).replace('\'', "''")),
        ValueRef::Blob(value) => {
            let mut text = String::from("X'");
            for byte in value {
                // Writing to a string cannot fail.
                write!(text, "{byte:02X}").unwrap_or_default();
            }
            text.push('\'');
            text
        }
    }
}

/// Removes comments and needless spaces from one statement, and puts each column or constraint of a table on a line.
///
/// Text between quotes stays as it is.
fn normalise(statement: &str) -> String {
    let mut text = String::new();
    let mut depth = 0_usize;
    let mut characters = statement.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\'' | '"' | '`' => {
                text.push(character);
                for inner in characters.by_ref() {
                    text.push(inner);
                    if inner == character {
                        break;
                    }
                }
            }
            '-' if characters.peek() == Some(&'-') => {
                for inner in characters.by_ref() {
                    if inner == '\n' {
                        break;
                    }
                }
                space(&mut text);
            }
            '/' if characters.peek() == Some(&'*') => {
                let mut previous = ' ';
                characters.next();
                for inner in characters.by_ref() {
                    if previous == '*' && inner == '/' {
                        break;
                    }
                    previous = inner;
                }
                space(&mut text);
            }
            '(' => {
                depth += 1;
                text.push('(');
                if depth == 1 {
                    text.push_str("\n    ");
                }
            }
            ')' => {
                depth = depth.saturating_sub(1);
                text.truncate(text.trim_end().len());
                text.push_str(if depth == 0 { "\n)" } else { ")" });
            }
            ',' => {
                text.truncate(text.trim_end().len());
                text.push_str(if depth == 1 { ",\n    " } else { ", " });
            }
            character if character.is_whitespace() => space(&mut text),
            character => text.push(character),
        }
    }
    text.truncate(text.trim_end().len());
    text
}

fn space(text: &mut String) {
    if !text.is_empty() && !text.ends_with([' ', '(']) {
        text.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_one_schema() {
        let tidy = "CREATE TABLE t (\n    a TEXT NOT NULL DEFAULT ' -- ( , ',\n    b INTEGER CHECK (b IN (0, 1)),\n    \
                    PRIMARY KEY (a, b)\n) STRICT";
        for text in [
            "CREATE TABLE t (a TEXT NOT NULL DEFAULT ' -- ( , ', b INTEGER CHECK (b IN (0, 1)), PRIMARY KEY (a, b)) STRICT",
            "CREATE TABLE t ( -- why\n a  TEXT NOT NULL DEFAULT ' -- ( , ' /* a, b */,\n b INTEGER\nCHECK (b IN (0,1)),\n\n \
             PRIMARY KEY (a,b) ) STRICT",
        ] {
            assert_eq!(normalise(text), tidy);
        }
    }

    #[test]
    fn a_dump_makes_the_database_again() {
        let scratch = Scratch::empty().unwrap();
        scratch
            .execute(
                "CREATE TABLE child (x INTEGER REFERENCES parent (x), y ANY) STRICT;
                 CREATE TABLE parent (x INTEGER PRIMARY KEY) STRICT; CREATE INDEX i ON child (y);
                 INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 'it''s'), (1, X'00FF'), (NULL, NULL);
                 PRAGMA user_version = 3;",
            )
            .unwrap();
        let dump = scratch.dump().unwrap();
        let again = Scratch::from_dump(&dump).unwrap();
        assert_eq!(again.dump().unwrap(), dump);
        assert_eq!(again.version().unwrap(), 3);
        assert_eq!(
            again.row_counts().unwrap(),
            BTreeMap::from([("child".to_owned(), 3), ("parent".to_owned(), 1)])
        );
        assert!(again.faults().unwrap().is_empty());
        again.execute("PRAGMA foreign_keys = OFF; DELETE FROM parent").unwrap();
        assert_eq!(again.faults().unwrap().len(), 2);
    }
}
