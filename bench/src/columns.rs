//! Tables of text: columns as wide as what is in them.

use std::fmt::Write as _;

/// A table under construction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns {
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// A table with a heading for each column.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()] }
    }

    /// Adds a row, with a cell for each column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Headings and rows.
    pub(crate) fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }
}

impl std::fmt::Display for Columns {
    /// The first column to the left, numbers and what is under a number's heading to the right.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let width = |column| {
            let widths = self.rows.iter().map(|row| cell(row, column).chars().count());
            widths.max().unwrap_or(0)
        };
        for row in &self.rows {
            let mut line = String::from(" ");
            for column in 0..count {
                let (text, width) = (cell(row, column), width(column));
                if is_number(&self.rows, column) {
                    write!(line, " {text:>width$} ")?;
                } else {
                    write!(line, " {text:<width$} ")?;
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Whether every cell below the heading begins as a number does, or is empty.
pub(crate) fn is_number(rows: &[Vec<String>], column: usize) -> bool {
    let mut cells = rows.iter().skip(1).filter_map(|row| row.get(column));
    let number = |text: &String| {
        text.is_empty() || text == "-" || text.starts_with(|c: char| c.is_ascii_digit())
    };
    cells.all(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_left_and_numbers_right() {
        let mut columns = Columns::new(&["stage", "rate", ""]);
        columns.row(["digest".into(), "1 GB/s".into(), "alone".into()]);
        columns.row(["cut".into(), "12 GB/s".into(), String::new()]);
        let expected = "  stage      rate\n  digest   1 GB/s  alone\n  cut     12 GB/s\n";
        assert_eq!(columns.to_string(), expected);
    }
}
