//! Tables of text: columns as wide as their widest cell.

use std::io::{self, Write};

/// Writes a table. The last column is not padded, so no line ends with blanks.
pub(crate) fn write<const N: usize>(
    out: &mut dyn Write,
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> io::Result<()> {
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows);
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    for line in lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_where_their_text_ends() {
        let mut out = Vec::new();
        let rows = [["long name", "x"], ["n", ""]].map(|row| row.map(str::to_owned));
        write(&mut out, ["NAME", "TAG"], rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME       TAG\nlong name  x\nn\n");
    }
}
