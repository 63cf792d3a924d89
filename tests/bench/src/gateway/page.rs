//! The page about the gateway.

use jiff::Timestamp;

use super::{Figures, RATE, Run, TERMINALS};
use crate::Result;
use crate::report::{machine, number};
use crate::results::quantile;

const PAGE: &str = include_str!("../../gateway.md");

/// Writes it.
pub fn write(run: &Run, figures: &[Figures]) -> Result<()> {
    let text = PAGE
        .replace("@HEAD@", &row("", figures, |one| one.name.to_owned()))
        .replace("@TABLE@", &table(run.held, figures).join("\n"))
        .replace("@ROUNDS@", &run.rounds.to_string())
        .replace("@RATE@", &number(RATE))
        .replace("@MACHINE@", &machine()?)
        .replace("@DATE@", &Timestamp::now().strftime("%Y-%m-%d").to_string())
        .replace("@COMMIT@", &run.commit);
    std::fs::write(&run.page, text).map_err(|error| format!("{}: {error}", run.page.display()).into())
}

fn table(held: usize, figures: &[Figures]) -> Vec<String> {
    let direct = |share| figures.first().and_then(|direct| quantile(&direct.times, share));
    let at = |share: f64| move |one: &Figures| with(quantile(&one.times, share).map(|ms| ms * 1000.0), "µs");
    let added = |share: f64| {
        move |one: &Figures| {
            let own = quantile(&one.times, share).filter(|_| one.name != "direct");
            with(own.zip(direct(share)).map(|(own, direct)| (own - direct) * 1000.0), "µs")
        }
    };
    let nginx = figures.iter().find(|one| one.name == "nginx").and_then(|nginx| quantile(&nginx.cpu_us, 0.5));
    vec![
        row("p50", figures, at(0.5)),
        row("added p50", figures, added(0.5)),
        row("p99", figures, at(0.99)),
        row("added p99", figures, added(0.99)),
        row("processor time of a request", figures, |one| with(quantile(&one.cpu_us, 0.5), "µs")),
        row("the same, beside nginx", figures, |one| {
            let ratio = quantile(&one.cpu_us, 0.5).zip(nginx).map(|(own, nginx)| own / nginx);
            ratio.map_or_else(dash, |ratio| format!("{ratio:.2}"))
        }),
        row("most requests a second", figures, |one| with(quantile(&one.most_per_s, 0.5), "")),
        row(&format!("memory of each of {held} waiting turns"), figures, |one| with(one.turn_kib, "KiB")),
        row(&format!("memory of each of {held} idle streams"), figures, |one| with(one.stream_kib, "KiB")),
        row(&format!("memory of each of {TERMINALS} idle terminals"), figures, |one| {
            with(one.terminal_kib, "KiB")
        }),
    ]
}

fn row(what: &str, figures: &[Figures], cell: impl Fn(&Figures) -> String) -> String {
    let cells: Vec<String> = figures.iter().map(cell).collect();
    format!("| {what} | {} |", cells.join(" | "))
}

fn with(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(dash, |value| format!("{} {unit}", number(value)).trim_end().to_owned())
}

fn dash() -> String {
    "–".to_owned()
}
