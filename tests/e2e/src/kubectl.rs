//! The real kubectl, as a user types it.

use std::time::Duration;

use serde_json::Value;

use crate::command::{self, Output};
use crate::environment::Environment;

/// One call of kubectl may take this long.
const LIMIT: Duration = Duration::from_secs(120);

/// kubectl with the admin's kubeconfig, in one namespace.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: std::path::PathBuf,
    namespace: String,
}

impl Kubectl {
    /// kubectl in the namespace of the release.
    pub fn new(env: &Environment) -> Self {
        Self { program: env.kubectl.clone(), namespace: env.namespace.clone() }
    }

    /// The same in another namespace.
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// The program, for what needs more than a call.
    pub fn program(&self) -> &std::path::Path {
        &self.program
    }

    /// The namespace calls are made in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// `kubectl -n <namespace> <args>`.
    pub async fn run(&self, args: &[&str]) -> Output {
        self.run_with_input(args, None).await
    }

    async fn run_with_input(&self, args: &[&str], input: Option<&str>) -> Output {
        let all: Vec<&str> = ["-n", &self.namespace].into_iter().chain(args.iter().copied()).collect();
        command::run(&self.program, &all, input, LIMIT).await
    }

    /// `kubectl apply -f -` of `object`.
    pub async fn apply(&self, object: &Value) -> Output {
        self.run_with_input(&["apply", "-f", "-"], Some(&object.to_string())).await
    }

    /// `kubectl apply --server-side -f -` of `object`.
    pub async fn apply_server_side(&self, object: &Value) -> Output {
        self.run_with_input(&["apply", "--server-side", "-f", "-"], Some(&object.to_string())).await
    }

    /// `kubectl exec <pod> -- <argv>`, in the pod's first container, which is the harness.
    pub async fn exec(&self, pod: &str, argv: &[&str]) -> Output {
        let all: Vec<&str> = ["exec", pod, "--"].into_iter().chain(argv.iter().copied()).collect();
        self.run(&all).await
    }

    /// `kubectl exec -i <pod> -- <argv>` with `input` on its standard input.
    pub async fn exec_with_input(&self, pod: &str, argv: &[&str], input: &str) -> Output {
        let all: Vec<&str> = ["exec", "-i", pod, "--"].into_iter().chain(argv.iter().copied()).collect();
        self.run_with_input(&all, Some(input)).await
    }

    /// `kubectl get <what> <name>`, split into the cells of the header and of the one row.
    ///
    /// # Panics
    /// When there is no such object.
    pub async fn row(&self, what: &str, name: &str) -> Row {
        let table = self.run(&["get", what, name]).await.succeeded();
        let mut lines = table.lines();
        let header = lines.next().unwrap_or_default().to_owned();
        let cells = lines.next().unwrap_or_default().to_owned();
        Row { header, cells }
    }
}

/// One line of a table that kubectl prints.
#[derive(Clone, Debug)]
pub struct Row {
    header: String,
    cells: String,
}

impl Row {
    /// The cell below the column's name; empty when the object has no such value.
    ///
    /// # Panics
    /// When the table has no such column.
    #[track_caller]
    pub fn cell(&self, column: &str) -> String {
        // Columns are aligned: a cell starts where its header does.
        let start = self
            .header
            .match_indices(column)
            .map(|(at, _)| at)
            .find(|at| {
                let before = self.header[..*at].chars().next_back();
                let after = self.header[at + column.len()..].chars().next();
                before.is_none_or(char::is_whitespace) && after.is_none_or(char::is_whitespace)
            })
            .unwrap_or_else(|| panic!("kubectl prints no column {column}:\n{}", self.header));
        let cell = self.cells.get(start..).unwrap_or_default();
        cell.split("   ").next().unwrap_or_default().trim().to_owned()
    }
}
