//! From measurements to `docs/benchmarks.md`.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use crate::Result;
use crate::product::Product;
use crate::real::STEPS;
use crate::results::{self, Measured};

/// The page around the table.
const PAGE: &str = include_str!("../page.md");

/// What a page is made from.
#[derive(Args)]
pub struct Inputs {
    /// File with lines of JSON.
    #[arg(long)]
    results: PathBuf,
    /// The page to write.
    #[arg(long)]
    page: PathBuf,
    /// The commit that was measured.
    #[arg(long)]
    commit: String,
    /// The machine's load before the run.
    #[arg(long)]
    load: String,
}

/// Which of several values stands for all.
#[derive(Clone, Copy)]
enum Pick {
    P50,
    P99,
    Max,
    Mean,
}

/// What is promised of a row.
#[derive(Clone, Copy)]
enum Promise {
    Nothing,
    /// At most this.
    AtMost(f64),
    /// At most one part in so many of the peer's.
    PartOfPeers(f64),
    /// At least so many times the peer's.
    TimesPeers(f64),
}

struct Row {
    what: String,
    metric: &'static str,
    pick: Pick,
    unit: &'static str,
    promise: Promise,
}

/// Writes the page.
pub fn write(inputs: &Inputs) -> Result<()> {
    let measured = results::read(&inputs.results)?;
    let table: Vec<String> = rows(&measured).iter().map(|row| row.line(&measured)).collect();
    let page = PAGE
        .replace("@TABLE@", &table.join("\n"))
        .replace("@STEPS@", &steps(&measured))
        .replace("@LOAD@", &load(&measured))
        .replace("@MACHINE@", &machine()?)
        .replace("@DATE@", &Timestamp::now().strftime("%Y-%m-%d").to_string())
        .replace("@COMMIT@", &inputs.commit)
        .replace("@LOAD_BEFORE@", &inputs.load);
    std::fs::write(&inputs.page, page).map_err(|e| format!("{}: {e}", inputs.page.display()))?;
    Ok(())
}

fn rows(measured: &[Measured]) -> Vec<Row> {
    use Pick::{Max, Mean, P50, P99};
    use Promise::{AtMost, Nothing, PartOfPeers, TimesPeers};
    // What a part that was not run would have measured with is said without numbers.
    let one = |metric| find(measured, metric, Product::Paddock).and_then(|m| m.quantile(0.5));
    let words = |metric| one(metric).map_or_else(|| "many".to_owned(), number);
    let idle = format!("at rest for {} min: writes beyond the lease", words("idle_minutes"));
    let fill = format!("fake nodes: a pool of {} fills", words("fake_pool"));
    let cached = format!("memory with {} pods cached", words("cached_pods"));
    let row =
        |what: &str, metric, pick, unit, promise| Row { what: what.to_owned(), metric, pick, unit, promise };
    vec![
        row("warm start, one at a time, p50", "warm_ms", P50, "ms", PartOfPeers(4.0)),
        row("the same, p99", "warm_ms", P99, "ms", PartOfPeers(4.0)),
        row("the same from when the watcher saw the object, p50", "warm_from_seen_ms", P50, "ms", Nothing),
        row("15 at once from a pool of 20, p50", "burst_ms", P50, "ms", PartOfPeers(6.0)),
        row("the same, slowest", "burst_ms", Max, "ms", Nothing),
        row("a pool of 20 fills, p50", "fill_20_s", P50, "s", Nothing),
        row("writes for a session's life, refill included", "writes_per_life", Mean, "", AtMost(10.0)),
        row("Events beside them", "events_per_life", Mean, "", Nothing),
        row("writes to its objects before it is Ready", "writes_before_ready_own", Mean, "", AtMost(2.0)),
        row("all writes in that time, refill included", "writes_before_ready_all", Mean, "", Nothing),
        row(&idle, "idle_writes", Mean, "", AtMost(0.0)),
        row("at rest: processor time of a minute", "idle_cpu_ms_per_minute", Mean, "ms", Nothing),
        row("processor time of a session's life", "cpu_ms_per_life", Mean, "ms", Nothing),
        row("memory with a pool of 20", "rss_pool_20_mib", Mean, "MiB", Nothing),
        row("cold start, p50", "cold_ms", P50, "ms", Nothing),
        row("cold start: pod Ready → session Ready, p50", "lag_ms", P50, "ms", Nothing),
        row("leader killed (SIGKILL) → next session Ready, slowest", "killed_s", Max, "s", AtMost(3.0)),
        row("leader stopped (SIGTERM) → next session Ready, slowest", "stopped_s", Max, "s", AtMost(1.0)),
        row(&fill, "fake_fill_s", Mean, "s", Nothing),
        row("the same, processor time of a member", "fake_fill_cpu_ms_per_member", Mean, "ms", Nothing),
        row("fake nodes: highest rate with p99 < 500 ms", "cliff_per_s", Mean, "/s", TimesPeers(4.0)),
        row("fake nodes: the controller ended by itself", "restarts_fake", Mean, "times", Nothing),
        row(&cached, "rss_cached_mib", Mean, "MiB", AtMost(64.0)),
    ]
}

impl Row {
    fn line(&self, measured: &[Measured]) -> String {
        let get = |product| find(measured, self.metric, product).and_then(|m| self.pick.of(m));
        let (ours, theirs) = (get(Product::Paddock), get(Product::Peer));
        let n = find(measured, self.metric, Product::Paddock).map_or(0, |m| m.values.len());
        let what = if n > 1 { format!("{} (n={n})", self.what) } else { self.what.clone() };
        let ratio = match (ours, theirs) {
            (Some(ours), Some(theirs)) if theirs.abs() > f64::EPSILON => format!("{:.2}", ours / theirs),
            _ => "–".to_owned(),
        };
        let reached = match self.promise.reached(ours, theirs) {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "–",
        };
        let (ours, theirs) = (self.show(ours), self.show(theirs));
        format!("| {what} | {ours} | {theirs} | {ratio} | {} | {reached} |", self.promise.words(self.unit))
    }

    fn show(&self, value: Option<f64>) -> String {
        value.map_or_else(|| "not measured".to_owned(), |value| with_unit(&number(value), self.unit))
    }
}

impl Pick {
    fn of(self, measured: &Measured) -> Option<f64> {
        match self {
            Self::P50 => measured.quantile(0.5),
            Self::P99 => measured.quantile(0.99),
            Self::Max => measured.quantile(1.0),
            Self::Mean => {
                let n = measured.values.len();
                (n > 0).then(|| measured.values.iter().sum::<f64>() / n as f64)
            }
        }
    }
}

impl Promise {
    fn words(self, unit: &str) -> String {
        match self {
            Self::Nothing => "–".to_owned(),
            Self::AtMost(limit) => format!("≤ {}", with_unit(&number(limit), unit)),
            Self::PartOfPeers(parts) => format!("≤ 1/{parts:.0} of the peer's"),
            Self::TimesPeers(times) => format!("≥ {times:.0} × the peer's"),
        }
    }

    fn reached(self, ours: Option<f64>, theirs: Option<f64>) -> Option<bool> {
        match self {
            Self::Nothing => None,
            Self::AtMost(limit) => Some(ours? <= limit),
            Self::PartOfPeers(parts) => Some(ours? * parts <= theirs?),
            Self::TimesPeers(times) => Some(ours? >= theirs? * times),
        }
    }
}

/// What a warm start of Paddock is made of.
fn steps(measured: &[Measured]) -> String {
    let names = [
        "the request, until the controller's first write reaches the API server",
        "that write: the Sandbox becomes the session's (the pod is activated beside it)",
        "until the second write reaches the API server",
        "that write: the session is Ready",
        "until the watcher sees it",
    ];
    let line = |(metric, name): (&str, &str)| {
        let median = find(measured, metric, Product::Paddock).and_then(|m| m.quantile(0.5));
        format!(
            "| {name} | {} |",
            median.map_or_else(|| "not measured".to_owned(), |ms| format!("{} ms", number(ms)))
        )
    };
    let lines: Vec<String> = STEPS.into_iter().zip(names).map(line).collect();
    lines.join("\n")
}

/// Each rate of load, both beside each other.
fn load(measured: &[Measured]) -> String {
    let mut rates: Vec<(f64, &str)> = Vec::new();
    for m in measured {
        let rate = m.metric.strip_prefix("load_").and_then(|rest| rest.strip_suffix("_per_s_ms"));
        if let Some(rate) = rate.and_then(|rate| rate.parse().ok())
            && !rates.iter().any(|(_, metric)| *metric == m.metric)
        {
            rates.push((rate, &m.metric));
        }
    }
    rates.sort_by(|a, b| a.0.total_cmp(&b.0));
    let cell = |metric: &str, product| {
        let tries: Vec<String> = measured
            .iter()
            .filter(|m| m.metric == metric && m.product == product)
            .filter_map(|m| Some(format!("{} / {}", number(m.quantile(0.5)?), number(m.quantile(0.99)?))))
            .collect();
        if tries.is_empty() { "–".to_owned() } else { tries.join(", again ") }
    };
    let line = |(rate, metric): &(f64, &str)| {
        format!("| {rate:.0} | {} | {} |", cell(metric, Product::Paddock), cell(metric, Product::Peer))
    };
    let lines: Vec<String> = rates.iter().map(line).collect();
    if lines.is_empty() { "| not measured | | |".to_owned() } else { lines.join("\n") }
}

/// The last measurement counts, for a run may be repeated in part.
fn find<'a>(measured: &'a [Measured], metric: &str, product: Product) -> Option<&'a Measured> {
    measured.iter().rfind(|m| m.metric == metric && m.product == product)
}

/// A number with as many digits as mean something.
pub fn number(value: f64) -> String {
    if value.abs() >= 100.0 || value.fract().abs() < 0.005 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn with_unit(number: &str, unit: &str) -> String {
    match unit {
        "" | "/s" => format!("{number}{unit}"),
        _ => format!("{number} {unit}"),
    }
}

/// What the machine is.
pub fn machine() -> Result<String> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
    let models: Vec<&str> = cpuinfo
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|p| p.1))
        .collect();
    let meminfo = std::fs::read_to_string("/proc/meminfo")?;
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or("0 kB");
    let kib: f64 = total.trim().trim_end_matches("kB").trim().parse()?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "{} cores ({}), {:.0} GiB, Linux {}",
        models.len(),
        models.first().unwrap_or(&"unknown"),
        kib / 1024.0 / 1024.0,
        kernel.trim()
    ))
}
