//! Denied tools, as Claude Code and the SDK around it call them.

use paddock_runnerapi::{Denial, Tool};

/// Rules that no mode of permissions undoes.
pub(super) fn of(denied: &[Denial]) -> Vec<String> {
    denied.iter().flat_map(rules).collect()
}

fn rules(denial: &Denial) -> Vec<String> {
    let tools: &[&str] = match (denial.tool, &denial.pattern) {
        (Tool::Shell, Some(pattern)) => return vec![format!("Bash({pattern})")],
        (Tool::Shell, None) => &["Bash"],
        (Tool::Edit, _) => &["Edit", "Write", "NotebookEdit"],
        (Tool::Read, _) => &["Read", "Glob", "Grep"],
        (Tool::Fetch, _) => &["WebFetch"],
        (Tool::Search, _) => &["WebSearch"],
    };
    tools.iter().map(|tool| (*tool).to_owned()).collect()
}
