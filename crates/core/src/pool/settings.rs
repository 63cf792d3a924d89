//! What a pool's annotations ask for. The standard's schema stays as published, so Paddock's own knobs are
//! annotations; a value that makes no sense changes nothing and is told once.

use std::collections::BTreeSet;

use paddock_api::SandboxWarmPool;
use paddock_api::labels::{MAX_REPLICAS, MAX_UNAVAILABLE, MIN_REPLICAS, TARGET_SPARE};

use crate::ids::annotation;

/// A pool as large as the schema allows.
const LARGEST: usize = 10_000;

/// A number, or a share of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    Count(usize),
    Percent(usize),
}

impl Amount {
    fn parse(text: &str) -> Option<Self> {
        match text.trim().strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|p| *p <= 100).map(Self::Percent),
            None => count(text).map(Self::Count),
        }
    }

    /// The amount, with a share rounded down.
    pub(super) fn rounded_down(self, whole: usize) -> usize {
        match self {
            Self::Count(n) => n,
            Self::Percent(percent) => whole * percent / 100,
        }
    }

    /// The amount, with a share rounded up.
    pub(super) fn rounded_up(self, whole: usize) -> usize {
        match self {
            Self::Count(n) => n,
            Self::Percent(percent) => (whole * percent).div_ceil(100),
        }
    }
}

fn count(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|n| *n <= LARGEST)
}

/// Bounds and aim of a pool that follows demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scaling {
    pub(super) min: usize,
    pub(super) max: usize,
    /// Members beyond what demand asks for; a share is one of the sessions in use.
    pub(super) spare: Amount,
}

/// What the annotations ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) max_unavailable: Amount,
    /// Absent: the size is `spec.replicas`.
    pub(super) scaling: Option<Scaling>,
}

/// The last values that made sense, and what was said about others.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    max_unavailable: Option<Amount>,
    min: Option<usize>,
    max: Option<usize>,
    spare: Option<Amount>,
    told: BTreeSet<String>,
}

/// Reads the annotations of `pool`. The messages are for people, each given once.
pub(super) fn read(pool: &SandboxWarmPool, memory: &mut Memory) -> (Settings, Vec<String>) {
    let mut problems = BTreeSet::new();
    let amount = "a number up to 10000 or a share like 25%";
    let of = |key| annotation(&pool.metadata, key).map(|text| (key, text));
    keep(&mut memory.max_unavailable, of(MAX_UNAVAILABLE), Amount::parse, amount, &mut problems);
    keep(&mut memory.min, of(MIN_REPLICAS), count, "a number up to 10000", &mut problems);
    keep(&mut memory.max, of(MAX_REPLICAS), count, "a number up to 10000", &mut problems);
    keep(&mut memory.spare, of(TARGET_SPARE), Amount::parse, amount, &mut problems);

    let scaling = memory.max.map(|max| {
        let min = memory.min.unwrap_or(0);
        if min > max {
            problems.insert(format!(
                "{MIN_REPLICAS} is {min}, more than {MAX_REPLICAS}, which is {max}; the pool never has more than {max}"
            ));
        }
        Scaling { min: min.min(max), max, spare: memory.spare.unwrap_or(Amount::Count(1)) }
    });
    if scaling.is_none() {
        for key in [MIN_REPLICAS, TARGET_SPARE] {
            if of(key).is_some() {
                problems.insert(format!(
                    "{key} has no effect without {MAX_REPLICAS}; until then spec.replicas is the pool's size"
                ));
            }
        }
    }
    let news = problems.difference(&memory.told).cloned().collect();
    memory.told = problems;
    let max_unavailable = memory.max_unavailable.unwrap_or(Amount::Percent(25));
    (Settings { max_unavailable, scaling }, news)
}

/// Takes a value over if it makes sense; without the annotation there is none.
fn keep<T: Copy>(
    value: &mut Option<T>,
    found: Option<(&str, &str)>,
    parse: impl FnOnce(&str) -> Option<T>,
    what: &str,
    problems: &mut BTreeSet<String>,
) {
    let Some((key, text)) = found else {
        *value = None;
        return;
    };
    match parse(text) {
        Some(parsed) => *value = Some(parsed),
        None => {
            let text: String = text.chars().take(40).collect();
            problems.insert(format!("{key} is {text:?}, but must be {what}; it is ignored"));
        }
    }
}

/// True when the pool's size may follow demand.
pub(crate) fn follows_demand(pool: &SandboxWarmPool) -> bool {
    annotation(&pool.metadata, MAX_REPLICAS).is_some()
}

#[cfg(test)]
mod tests {
    use paddock_api::pool::{SandboxWarmPoolSpec, TemplateRef};

    use super::*;

    fn pool(annotations: &[(&str, &str)]) -> SandboxWarmPool {
        let mut pool = SandboxWarmPool::new(
            "p",
            SandboxWarmPoolSpec {
                replicas: 4,
                sandbox_template_ref: TemplateRef { name: "t".into() },
                update_strategy: Default::default(),
            },
        );
        let owned = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        pool.metadata.annotations = Some(owned.collect());
        pool
    }

    #[test]
    fn without_annotations_the_size_is_the_spec_s_and_a_quarter_may_be_unavailable() {
        let (settings, problems) = read(&pool(&[]), &mut Memory::default());
        assert_eq!(settings, Settings { max_unavailable: Amount::Percent(25), scaling: None });
        assert!(problems.is_empty());
    }

    #[test]
    fn numbers_and_shares_are_read() {
        let asked =
            [(MAX_REPLICAS, "20"), (MIN_REPLICAS, " 2"), (TARGET_SPARE, "10%"), (MAX_UNAVAILABLE, "3")];
        let (settings, problems) = read(&pool(&asked), &mut Memory::default());
        let scaling = settings.scaling.unwrap();
        assert_eq!((scaling.min, scaling.max, scaling.spare), (2, 20, Amount::Percent(10)));
        assert_eq!(settings.max_unavailable, Amount::Count(3));
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!((scaling.spare.rounded_up(11), scaling.spare.rounded_down(11)), (2, 1));
    }

    #[test]
    fn nonsense_keeps_the_last_good_value_and_is_told_once() {
        let mut memory = Memory::default();
        read(&pool(&[(MAX_REPLICAS, "9")]), &mut memory);
        let bad = pool(&[(MAX_REPLICAS, "many"), (MAX_UNAVAILABLE, "101%")]);
        let (settings, problems) = read(&bad, &mut memory);
        assert_eq!(settings.scaling.map(|s| s.max), Some(9));
        assert_eq!(settings.max_unavailable, Amount::Percent(25));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("paddock.dev/max-replicas is \"many\""), "{problems:?}");
        assert!(read(&bad, &mut memory).1.is_empty());
        read(&pool(&[]), &mut memory);
        assert_eq!(read(&bad, &mut memory).0.scaling, None, "the annotation was taken away in between");
    }

    #[test]
    fn bounds_that_contradict_each_other_are_told() {
        let (settings, problems) =
            read(&pool(&[(MAX_REPLICAS, "2"), (MIN_REPLICAS, "5")]), &mut Memory::default());
        assert_eq!(settings.scaling.map(|s| (s.min, s.max)), Some((2, 2)));
        assert_eq!(problems.len(), 1);
        let (settings, problems) = read(&pool(&[(MIN_REPLICAS, "5")]), &mut Memory::default());
        assert_eq!(settings.scaling, None);
        assert_eq!(problems.len(), 1);
    }
}
