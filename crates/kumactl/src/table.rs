//! Tables: a header, which is always there, and a line per row.

/// Spaces between the widest cell of a column and the next column.
const PADDING: usize = 3;

/// Formats a table. The last column is not padded.
pub(crate) fn table<T: AsRef<str>>(header: &[T], rows: &[Vec<String>]) -> String {
    let header: Vec<&str> = header.iter().map(AsRef::as_ref).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(header.get(column).map(|title| title.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut table = String::new();
    let body = rows.iter().map(|row| row.iter().map(String::as_str).collect());
    for row in std::iter::once(header.clone()).chain(body) {
        let last = row.len().saturating_sub(1);
        for (column, cell) in row.iter().enumerate() {
            table.push_str(cell);
            if column < last {
                let fill = widths.get(column).map_or(0, |width| width.saturating_sub(cell.chars().count()));
                table.extend(std::iter::repeat_n(' ', fill + PADDING));
            }
        }
        table.push('\n');
    }
    table
}

/// Replaces line breaks, control characters and format characters: a cell is one line and must control neither the
/// terminal nor the direction of the text.
pub(crate) fn one_line(cell: &str) -> String {
    cell.chars().map(|c| if kuma_model::steers(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_three_spaces_apart_and_the_last_is_not_padded() {
        let rows = [
            vec!["default".to_owned(), "web-1".to_owned(), "service=wéb".to_owned()],
            vec!["m".to_owned(), String::new(), "x".to_owned()],
        ];
        assert_eq!(
            table(&["MESH", "NAME", "TAGS"], &rows),
            "MESH      NAME    TAGS\n\
             default   web-1   service=wéb\n\
             m                 x\n"
        );
    }

    #[test]
    fn the_header_is_there_without_rows() {
        assert_eq!(table(&["MESH", "NAME"], &[]), "MESH   NAME\n");
    }

    #[test]
    fn a_cell_stays_on_its_line() {
        assert_eq!(
            table(&["A", "B"], &[vec!["x\ny".to_owned(), "\u{1b}[1m".to_owned()]]),
            "A     B\nx\u{fffd}y   \u{fffd}[1m\n"
        );
    }
}
