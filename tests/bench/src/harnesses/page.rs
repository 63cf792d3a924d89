//! The page about the harnesses.

use jiff::Timestamp;

use super::{Figures, Run};
use crate::Result;
use crate::report::{machine, number};
use crate::results::quantile;

const PAGE: &str = include_str!("../../harnesses.md");

/// Writes it.
pub fn write(run: &Run, all: &[Figures]) -> Result<()> {
    let rows: Vec<String> = all.iter().map(row).collect();
    let text = PAGE
        .replace("@TABLE@", &rows.join("\n"))
        .replace("@ROUNDS@", &run.rounds.to_string())
        .replace("@MACHINE@", &machine()?)
        .replace("@DATE@", &Timestamp::now().strftime("%Y-%m-%d").to_string())
        .replace("@COMMIT@", &run.commit);
    std::fs::write(&run.page, text).map_err(|error| format!("{}: {error}", run.page.display()).into())
}

fn row(one: &Figures) -> String {
    let cells = [
        (&one.boot_s, "s"),
        (&one.ready_ms, "ms"),
        (&one.first_ms, "ms"),
        (&one.idle_mib, "MiB"),
        (&one.busy_mib, "MiB"),
    ];
    let cells: Vec<String> = cells.into_iter().map(|(values, unit)| cell(values, unit)).collect();
    format!("| {} | {} |", one.name, cells.join(" | "))
}

/// The median, and the largest.
fn cell(values: &[f64], unit: &str) -> String {
    match (quantile(values, 0.5), quantile(values, 1.0)) {
        (Some(median), Some(most)) => format!("{} / {} {unit}", number(median), number(most)),
        _ => "–".to_owned(),
    }
}
