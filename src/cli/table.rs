//! Plain tables: columns, no frames, so that they can be read and cut by other tools too.

use comfy_table::{CellAlignment, Table, presets};

/// How a column is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows under a heading.
pub(super) struct Columns {
    table: Table,
}

impl Columns {
    /// An empty table; headings are written in capitals.
    pub(super) fn new<const N: usize>(columns: [(&str, Align); N]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(columns.map(|(heading, _)| heading.to_uppercase()));
        for (column, (_, align)) in table.column_iter_mut().zip(columns) {
            let alignment = match align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            };
            column.set_cell_alignment(alignment);
            column.set_padding((0, 2));
        }
        Self { table }
    }

    /// Adds a row of as many cells as there are columns.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.table.add_row(cells);
    }

    /// The lines, without trailing blanks.
    pub(super) fn lines(&self) -> Vec<String> {
        self.table.lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut columns = Columns::new([("name", Align::Left), ("rows", Align::Right)]);
        columns.row(["a".into(), "1,234".into()]);
        columns.row(["longer".into(), "5".into()]);
        assert_eq!(columns.lines(), ["NAME     ROWS", "a       1,234", "longer      5"]);
    }
}
