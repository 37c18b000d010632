//! Tables and lists for people.

use std::io::{self, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use dyad_units::Bytes;

/// A table without lines: columns are two blanks apart, the head is in capitals.
pub struct Columns {
    table: Table,
    indent: usize,
}

impl Columns {
    /// A table with these heads; one that begins with `>` makes a column of numbers, aligned to the right.
    pub fn new(heads: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(heads.iter().map(|head| head.trim_start_matches('>')));
        Self::aligned(table, heads)
    }

    /// Names to the left, values to the right, no heads.
    pub fn pairs() -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        Self { table, indent: 0 }
    }

    /// Begins every line with blanks.
    pub fn indented(mut self, by: usize) -> Self {
        self.indent = by;
        self
    }

    fn aligned(mut table: Table, heads: &[&str]) -> Self {
        for (at, _) in heads.iter().enumerate().filter(|(_, head)| head.starts_with('>')) {
            if let Some(column) = table.column_mut(at) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { table, indent: 0 }
    }

    /// Adds a row. Names may come from hosts, so what could steer a terminal is taken out.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.table.add_row(cells.iter().map(|cell| harmless(cell)));
    }

    /// The lines, without blanks at their ends.
    pub fn finish(&self) -> String {
        let mut text = String::new();
        let pad = " ".repeat(self.indent);
        for line in self.table.lines() {
            // The style pads every cell by one blank on both sides.
            text.push_str(&pad);
            text.push_str(line.strip_prefix(' ').unwrap_or(&line).trim_end());
            text.push('\n');
        }
        text
    }
}

/// The text with everything that is not printable replaced.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Prints to the standard output; a reader that has gone away (`| head`) is no failure.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Bytes in binary units.
pub fn size(bytes: u64) -> String {
    Bytes::new(bytes).to_string()
}

/// A length of time in its two largest units.
pub fn time(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// `1 host`, `2 hosts`.
pub fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// Mean of a sum of microseconds, or a dash.
pub fn mean_micros(sum: u64, operations: u64) -> String {
    match sum.checked_div(operations) {
        Some(mean) => format!("{mean} µs"),
        None => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Columns, count, harmless, time};

    #[test]
    fn times_are_told_in_their_two_largest_units() {
        for (seconds, told) in [(0, "0 s"), (61, "1 min"), (3725, "1 h 2 min"), (93_784, "1 d 2 h")] {
            assert_eq!(time(seconds), told);
        }
        assert_eq!((count(1, "host"), count(0, "host")), ("1 host".into(), "0 hosts".into()));
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(harmless("iqn.\u{1b}[2Jx\n"), "iqn.?[2Jx?");
    }

    #[test]
    fn columns_line_up_and_lines_end_where_the_text_does() {
        let mut columns = Columns::new(&["NAME", ">SIZE"]);
        columns.row(["a".into(), "1 GiB".into()]);
        columns.row(["longer".into(), "12".into()]);
        assert_eq!(columns.finish(), "NAME     SIZE\na       1 GiB\nlonger     12\n");
    }
}
