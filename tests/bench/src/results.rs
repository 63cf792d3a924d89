//! What was measured: a line of JSON for each number or list of numbers, written as soon as it is known.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::product::Product;

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// What, one of [`crate::report`]'s rows or a detail of one.
    pub metric: String,
    /// Of whom.
    pub product: Product,
    /// Every single value, in the order they were taken.
    pub values: Vec<f64>,
}

impl Measured {
    /// The value below which `share` of all are.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        quantile(&self.values, share)
    }
}

/// The value below which `share` of `values` are.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    // Nearest rank: of 40 values the 99th percentile is the largest.
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(last)).copied()
}

/// The file that results go to.
pub struct Results(Mutex<File>);

impl Results {
    /// Goes on in `path`.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self(Mutex::new(File::options().create(true).append(true).open(path)?)))
    }

    /// Writes a measurement down, and tells it.
    pub fn put(&self, metric: &str, product: Product, values: Vec<f64>) -> Result<()> {
        let measured = Measured { metric: metric.to_owned(), product, values };
        let n = measured.values.len();
        let at = |share| measured.quantile(share).unwrap_or(f64::NAN);
        if n == 1 {
            eprintln!("    {metric}, {}: {:.1}", product.name(), at(0.5));
        } else {
            let (p50, p99) = (at(0.5), at(0.99));
            eprintln!("    {metric}, {}: p50 {p50:.1}, p99 {p99:.1}, n={n}", product.name());
        }
        let line = serde_json::to_string(&measured)?;
        let mut file = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        writeln!(file, "{line}")?;
        Ok(())
    }
}

/// All measurements of a file.
pub fn read(path: &Path) -> Result<Vec<Measured>> {
    let text = std::fs::read_to_string(path)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
