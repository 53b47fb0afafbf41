//! Tables for people.

/// Lines up `rows` below `head`: the first column to the left, the others to the right.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain(head.get(column).map(|cell| cell.chars().count()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let pad = |(column, (cell, width)): (usize, (&str, &usize))| match column {
            0 => format!("  {cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        };
        let padded: String = cells.zip(&widths).enumerate().map(pad).collect();
        padded.trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["unlade".to_owned(), "1.5".to_owned()],
            vec!["a".to_owned(), "10.25".to_owned()],
        ];
        assert_eq!(
            table(&["what", "ms"], &rows),
            "  what       ms\n  unlade    1.5\n  a       10.25\n"
        );
    }
}
